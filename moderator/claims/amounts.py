"""Numbers as hosts say them: in digits or Chinese numerals, of yuan and of per cent."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NUMBER = re.compile(r"\d+(?:\.\d+)?|[零一二两三四五六七八九十百千万]+")
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_PIECES = "瓶盒袋件斤箱个支条双套罐包片颗粒台只份组单位名天年月日号次种样杯碗克人口楼层折"
_WHOLE = re.compile(r"百分百|百分之一?百|100%")
_PER_CENT = re.compile(
    r"百分之(?P<chinese>[零一二两三四五六七八九十]+(?:点[零一二三四五六七八九]+)?|\d+(?:\.\d+)?)"
    r"|(?P<digits>\d+(?:\.\d+)?)%"
)


@dataclass(frozen=True, slots=True)
class Amount:
    """A number that is no count of pieces: `text[begin:end]`."""

    value: float
    begin: int
    end: int


def numbers_in(text: str) -> list[float]:
    """Every number in `text`, in order, in digits or Chinese numerals (九十九, 一万二, 一百二)."""
    found = []
    for match in _NUMBER.finditer(text):
        value = _value(match.group())
        if value is not None:
            found.append(value)
    return found


def amounts_in(text: str) -> list[Amount]:
    """Numbers that can be prices: not 三瓶, not 八折, not 30%. 九块九 is 9.9."""
    found: list[Amount] = []
    after_point = -1
    for match in _NUMBER.finditer(text):
        word, begin, end = match.group(), match.start(), match.end()
        if begin == after_point:
            continue
        if _counts_pieces(text, end):
            if len(word) < 2 or word[-1] != "一" or word[-2] in "十百千万":
                continue
            word, end = word[:-1], end - 1  # 一百二十九一盒
        value = _value(word)
        of_hundred = text[end : end + 1] == "%" or text[max(0, begin - 3) : begin] == "百分之"
        if value is None or of_hundred:
            continue
        if text[end : end + 1] in ("块", "元"):
            change = _NUMBER.match(text, end + 1)
            if change and len(change.group()) == 1 and not _counts_pieces(text, change.end()):
                tenths = _value(change.group())
                if tenths is not None and tenths < 10:
                    value, after_point, end = value + tenths / 10, change.start(), change.end()
        found.append(Amount(value, begin, end))
    return found


def _counts_pieces(text: str, at: int) -> bool:
    following = text[at : at + 1]
    return following != "" and following in _PIECES and text[at : at + 2] != "包邮"


def per_cents_in(text: str) -> list[Amount]:
    """Percentages, a hundred among them: 百分之九十, 90%, 百分百."""
    found = [Amount(100.0, m.start(), m.end()) for m in _WHOLE.finditer(text)]
    for match in _PER_CENT.finditer(text):
        if any(a.begin <= match.start() < a.end for a in found):
            continue
        said = match["digits"] or match["chinese"]
        whole, _, part = said.partition("点")
        value = _value(whole)
        if value is None:
            continue
        if part:
            value += float("0." + "".join(str(_DIGITS[c]) for c in part))
        found.append(Amount(value, match.start(), match.end()))
    return sorted(found, key=lambda amount: amount.begin)


def _value(word: str) -> float | None:
    if word[0].isdigit():
        return float(word)
    return _chinese_number(word)


def _chinese_number(word: str) -> float | None:
    if len(word) > 2 and word[0] == "万":
        word = word[1:]  # 卖一百二, heard as 万一百二
    total = section = digit = 0
    last_unit = 1
    for char in word:
        if char in _DIGITS:
            digit = _DIGITS[char]
        elif char == "万":
            total, section, digit = (total + (section + digit or 1)) * 10_000, 0, 0
            last_unit = 10_000
        else:
            section += (digit or 1) * _UNITS[char]
            digit, last_unit = 0, _UNITS[char]
    # 一百二 is 120 and 一万二 is 12,000: a bare last digit counts in the next lower unit.
    if digit and last_unit >= 100 and len(word) >= 2 and "零" not in word:
        digit *= last_unit // 10
    return float(total + section + digit)
