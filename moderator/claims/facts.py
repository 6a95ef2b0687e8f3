"""Numbers that were said, held against what the product passport records."""

from __future__ import annotations

import re

from moderator.claims.passports import Passport

_NUMBER = re.compile(r"\d+(?:\.\d+)?|[零一二两三四五六七八九十百千万]+")
_DIGITS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}


def numbers_in(text: str) -> list[float]:
    """Every number in `text`, in order, in digits or Chinese numerals (九十九, 一万二, 一百二)."""
    found = []
    for match in _NUMBER.finditer(text):
        word = match.group()
        value = float(word) if word[0].isdigit() else _chinese_number(word)
        if value is not None:
            found.append(value)
    return found


def contradiction(kind: str, words: str, passport: Passport) -> str | None:
    """How `words` contradict the record of this kind, or None when they agree with it."""
    said = numbers_in(words)
    if kind == "stock_record":
        stock = max(
            (d.quantity for d in passport.documents() if d.quantity is not None), default=None
        )
        if stock is not None and said and said[-1] < stock:
            return f"说只有 {said[-1]:g}，库存记录为 {stock:g}"
    if kind == "price_record":
        recorded = recorded_prices(passport)
        if said and recorded and max(said) > max(recorded):
            return f"说的价格 {max(said):g} 高于记录中的最高价 {max(recorded):g}"
        lowest = passport.price.lowest_30d
        if not said and lowest is not None and (passport.price.live or 0) > lowest:
            return f"直播价 {passport.price.live:g} 高于 30 天最低价 {lowest:g}"
    return None


def recorded_prices(passport: Passport) -> list[float]:
    """Yuan: the marked price, the lowest of 30 days, and the history."""
    price = passport.price
    known = [price.list, price.lowest_30d, *(point.price for point in price.history)]
    return [value for value in known if value is not None]


def proves(kind: str, passport: Passport) -> bool:
    """Whether the passport carries proof of this kind; prices are a price record themselves."""
    return passport.has(kind) or (kind == "price_record" and bool(recorded_prices(passport)))


def _chinese_number(word: str) -> float | None:
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
