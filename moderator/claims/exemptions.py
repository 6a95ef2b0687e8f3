"""Uses of words that the law itself exempts, held against a match.

They are data (`rules/<jurisdiction>/exemptions.yaml`), each with its article.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from moderator.claims.context import Around
from moderator.claims.normalise import normalise
from moderator.claims.patterns import Pattern, compile_pattern
from moderator.claims.rules import Exemption, Rule


@dataclass(frozen=True, slots=True)
class _Compiled:
    exemption: Exemption
    covering: tuple[Pattern, ...]
    sentence: tuple[Pattern, ...]


class ExemptionsOfLaw:
    def __init__(
        self, exemptions: Iterable[Exemption], lexicons: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._by_category: dict[str, list[_Compiled]] = {}
        for one in exemptions:
            compiled = _Compiled(
                one,
                tuple(compile_pattern(r.source, lexicons, r.place) for r in one.covering),
                tuple(compile_pattern(r.source, lexicons, r.place) for r in one.sentence),
            )
            for category in one.categories:
                self._by_category.setdefault(category, []).append(compiled)

    @property
    def patterns(self) -> Iterator[Pattern]:
        for compiled in self._by_category.values():
            for one in compiled:
                yield from (*one.covering, *one.sentence)

    def applies(self, rule: Rule, place: Around, names: Iterable[str]) -> str | None:
        """Which exemption covers the claim, with its article and the words that show it.

        `names` are those of the products on sale. Raises PatternTimeout.
        """
        for one in self._of(rule):
            shown = _covers(one, place, names)
            if shown is not None:
                return f"{one.exemption.cited}：“{shown}”"
        return None

    def considered(self, rule: Rule) -> list[str]:
        """Those that were looked at, by name and article, when none applies."""
        return [one.exemption.cited for one in self._of(rule)]

    def _of(self, rule: Rule) -> list[_Compiled]:
        known = self._by_category.get(rule.category, [])
        allowed = rule.unless.exemptions
        return [one for one in known if allowed is None or one.exemption.id in allowed]


def _covers(one: _Compiled, place: Around, names: Iterable[str]) -> str | None:
    for pattern in one.covering:
        for begin, end in pattern.find(place.sentence):
            if place.begin + begin < place.claim_end and place.claim_begin < place.begin + end:
                return place.sentence[begin:end]
    for pattern in one.sentence:
        for begin, end in pattern.find(place.sentence):
            return place.sentence[begin:end]
    if one.exemption.product_name:
        for name in names:
            said = normalise(name).text
            at = place.text.find(said, max(0, place.claim_begin - len(said)))
            if said and 0 <= at <= place.claim_begin and place.claim_end <= at + len(said):
                return name
    return None
