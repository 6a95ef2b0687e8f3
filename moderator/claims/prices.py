"""Prices that were said, held against the price record of a passport.

An own former price may not exceed the lowest deal of the seven days before the comparison, or
the last deal where there was none (明码标价和禁止价格欺诈规定 第十六条). The record is read as of
its own day, not as of today, so that a recording is judged alike whenever it is checked: where its
last price is that of the room, the comparison began with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from moderator.claims.amounts import Amount, amounts_in
from moderator.claims.passports import Price, PricePoint

BEFORE_DAYS = 7
ROUNDING_YUAN = 1.0
"""第二十一条（三）: 舍零取整 is no fraud."""
ROUNDING_TENTHS = 0.5
"""Of a discount in tenths (折)."""
LEAST_SHARE = 0.3
"""A figure smaller than this share of the price is no price: 今天就三块 is three pieces."""
LABEL_REACH = 8
"""Characters between 原价 and its figure."""

_TENTHS = re.compile(r"(?P<said>\d(?:\.\d)?|[一二两三四五六七八九](?:点?[一二三四五六七八九])?)折")
_TENTH = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"两": 2}

Answer = tuple[bool, str]
"""Whether the record agrees, and both figures."""


class PriceFacts:
    def __init__(self, words: Mapping[str, Any]) -> None:
        self._words = {name: tuple(map(str, terms)) for name, terms in words.items()}

    def of_market(self, text: str) -> bool:
        """Whether the words compare with what others charge, of which no own record tells."""
        return self._has("lowest_anywhere", text)

    def answer(self, words: str, sentence: str, price: Price) -> Answer | None:
        """Contradiction or agreement of the claim `words` (in `sentence`) with `price`.

        None where the record says nothing of it: what another shop charges, what a gift is worth.
        """
        if self._has("gift", words):
            return None
        answers = list(self._compared(words, price))
        answers += self._reduced(words, price)
        if self._has("lowest", words):
            answers += self._lowest(words + "，" + sentence, price)
        for agrees, why in answers:
            if not agrees:
                return agrees, why
        if answers and not self._has("elsewhere", words):
            return answers[0]
        if self._has("now_softened", sentence):
            return None
        return self._asked_now(words, price)

    def _compared(self, words: str, price: Price) -> Iterable[Answer]:
        for label, amount in self._labelled(words):
            if label == "former":
                answer = _former(amount.value, price)
            elif price.list is None:
                answer = None
            else:
                answer = (
                    amount.value <= price.list + ROUNDING_YUAN,
                    f"说标价 {amount.value:g} 元，档案标价为 {price.list:g} 元",
                )
            if answer is not None:
                yield answer

    def _labelled(self, words: str) -> Iterable[tuple[str, Amount]]:
        """Amounts after 原价 or 吊牌价; and the first of two where the second is today's."""
        amounts = amounts_in(words)
        spoken_for: set[int] = set()
        for name in ("marked", "former", "elsewhere"):
            for _, end in self._places(name, words):
                after = [a for a in amounts if end <= a.begin <= end + LABEL_REACH]
                if after and after[0].begin not in spoken_for:
                    spoken_for.add(after[0].begin)
                    between = words[end : after[0].begin]
                    if name != "elsewhere" and not self._has("now", between):
                        yield name, after[0]
        if len(amounts) >= 2 and not spoken_for:
            first, second = amounts[0], amounts[1]
            if self._has("now", words[first.end : second.begin]) and first.value > second.value:
                yield "former", first

    def _reduced(self, words: str, price: Price) -> Iterable[Answer]:
        """直降三百, 打三折: against the difference of the recorded prices."""
        base = _base(price)
        if base is None or price.live is None or base <= 0:
            return
        saved = base - price.live
        for _, end in self._places("reduced_by", words):
            after = [a for a in amounts_in(words) if end <= a.begin <= end + 3]
            if after:
                value = after[0].value
                yield (
                    value <= saved + ROUNDING_YUAN,
                    f"说优惠 {value:g} 元，档案由 {base:g} 元到 {price.live:g} 元，"
                    f"相差 {saved:g} 元",
                )
                break
        for match in _TENTHS.finditer(words):
            said = _tenths(match["said"])
            actual = price.live / base * 10
            yield (
                said >= actual - ROUNDING_TENTHS,
                f"说打 {said:g} 折，档案由 {base:g} 元到 {price.live:g} 元，约 {actual:.1f} 折",
            )

    def _lowest(self, text: str, price: Price) -> Iterable[Answer]:
        known = [point.price for point in price.history]
        if price.lowest_30d is not None:
            known.append(price.lowest_30d)
        if not known or price.live is None:
            return
        month = self._has("lowest_month", text)
        lowest = price.lowest_30d if month and price.lowest_30d is not None else min(known)
        if price.live > lowest:
            span = "30 天" if lowest == price.lowest_30d else "记录中的"
            yield False, f"说是最低价，直播价 {price.live:g} 元高于{span}最低价 {lowest:g} 元"
        elif not self.of_market(text) and (month or price.history):
            yield True, f"直播价 {price.live:g} 元不高于记录中的最低价 {lowest:g} 元"

    def _asked_now(self, words: str, price: Price) -> Answer | None:
        """Today's price said lower than it is (第二十条（一）)."""
        if price.live is None:
            return None
        for _, end in self._places("now", words):
            after = [a for a in amounts_in(words) if end <= a.begin <= end + 4]
            said = after[0].value if after else price.live
            if LEAST_SHARE * price.live <= said < price.live - ROUNDING_YUAN:
                return False, f"说今天 {said:g} 元，档案直播价为 {price.live:g} 元"
        return None

    def _has(self, name: str, text: str) -> bool:
        return any(word in text for word in self._words.get(name, ()))

    def _places(self, name: str, text: str) -> list[tuple[int, int]]:
        """Where the words of one kind stand, the longest at a place only, in order."""
        found: list[tuple[int, int]] = []
        for word in sorted(self._words.get(name, ()), key=len, reverse=True):
            for match in re.finditer(re.escape(word), text):
                if all(match.end() <= b or e <= match.start() for b, e in found):
                    found.append(match.span())
        return sorted(found)


def _former(value: float, price: Price) -> Answer | None:
    points = _dated(price.history)
    if points:
        ceiling, since = _lowest_before(points, price.live)
        return (
            value <= ceiling + ROUNDING_YUAN,
            f"说原来卖 {value:g} 元，此前 {BEFORE_DAYS} 日内最低成交价为 {ceiling:g} 元"
            f"（{since} 起）",
        )
    recorded = [p for p in (price.list, price.lowest_30d, price.live) if p is not None]
    recorded += [point.price for point in price.history]
    if recorded and value > max(recorded) + ROUNDING_YUAN:
        return False, f"说原来卖 {value:g} 元，高于记录中的最高价 {max(recorded):g} 元"
    if price.lowest_30d is not None and value <= price.lowest_30d:
        return True, f"说原来卖 {value:g} 元，不高于 30 天最低价 {price.lowest_30d:g} 元"
    return None


def _base(price: Price) -> float | None:
    """What a discount is taken from: the larger of the marked price and the deals before."""
    points = _dated(price.history)
    known = [price.list] if price.list is not None else []
    if points:
        known.append(_lowest_before(points, price.live)[0])
    return max(known, default=None)


def _lowest_before(points: list[tuple[date, float]], live: float | None) -> tuple[float, date]:
    """The lowest price in force in the seven days before the comparison, and since when."""
    until = points[-1][0] + timedelta(days=1)
    if len(points) > 1 and points[-1][1] == live:
        until = points[-1][0]
        points = points[:-1]
    since = until - timedelta(days=BEFORE_DAYS)
    started = [point for point in points if point[0] <= since]
    in_force = [point for point in points if point[0] > since] + started[-1:]
    day, value = min(in_force, key=lambda point: point[1])
    return value, day


def _dated(history: Iterable[PricePoint]) -> list[tuple[date, float]]:
    dated = []
    for point in history:
        try:
            dated.append((date.fromisoformat(point.date), point.price))
        except ValueError:
            return []
    return sorted(dated)


def _tenths(said: str) -> float:
    if said[0].isdigit():
        return float(said)
    digits = [_TENTH[c] for c in said if c in _TENTH]
    return digits[0] + (digits[1] / 10 if len(digits) > 1 else 0.0)
