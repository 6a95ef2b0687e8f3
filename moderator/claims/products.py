"""Which product the talk is about: a passport named in it, else a category inferred.

An inferred category may accuse (a disease claim about what is plainly a tea) and never
acquits: only a passport does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ahocorasick

from moderator.claims.passports import Passport

CUE_MEMORY = 40
"""Cues remembered from earlier talk; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class ProductView:
    """What is known of the product at one moment.

    `passport` is set when exactly one fits; `possible` are all on sale. `known` are their
    categories; empty when there is no passport at all. `inferred` comes from the talk.
    """

    passport: Passport | None = None
    possible: tuple[Passport, ...] = ()
    known: frozenset[str] = frozenset()
    inferred: str | None = None
    confidence: float = 0.0

    @property
    def category(self) -> str | None:
        """The category a passport proves, or None."""
        if self.passport is not None and self.passport.category != "other":
            return self.passport.category
        return None


class ProductTracker:
    """Follows one session: feed it each text in order, it says what is on sale now."""

    def __init__(self, passports: Sequence[Passport], cues: CategoryCues) -> None:
        self._passports = list(passports)
        self._cues = cues
        self._current: Passport | None = passports[0] if len(passports) == 1 else None
        self._recent: list[str] = []

    def see(self, text: str) -> ProductView:
        """The view that holds for `text` (normalised), which may itself name the product."""
        self._current = self._named_in(text)
        found = self._cues.find(text)
        self._recent = (self._recent + found)[-CUE_MEMORY:]
        return self._view(self._current, found)

    def peek(self, text: str) -> ProductView:
        """As `see`, without remembering `text`."""
        return self._view(self._named_in(text), self._cues.find(text))

    def with_cues(self, cues: CategoryCues) -> ProductTracker:
        """The same session under other cues."""
        tracker = ProductTracker(self._passports, cues)
        tracker._current, tracker._recent = self._current, list(self._recent)
        return tracker

    def _named_in(self, text: str) -> Passport | None:
        if len(self._passports) > 1:
            return _last_named(text, self._passports) or self._current
        return self._current

    def _view(self, current: Passport | None, found: list[str]) -> ProductView:
        inferred, confidence = _favourite(found or self._recent)
        return ProductView(
            passport=current,
            possible=tuple(self._passports),
            known=frozenset(p.category for p in self._passports if p.category != "other"),
            inferred=inferred,
            confidence=confidence,
        )


class CategoryCues:
    """Words that give a product's category away (`rules/<jurisdiction>/products.yaml`)."""

    def __init__(self, cues: dict[str, tuple[str, ...]]) -> None:
        self._automaton = ahocorasick.Automaton()
        for category, words in cues.items():
            for word in words:
                self._automaton.add_word(word.lower(), (len(word), category))
        self._empty = not len(self._automaton)
        if not self._empty:
            self._automaton.make_automaton()

    def find(self, text: str) -> list[str]:
        """Categories in the order their cues appear; the longest cue at a place wins."""
        if self._empty:
            return []
        return [category for _, (_, category) in self._automaton.iter_long(text)]


def _last_named(text: str, passports: Iterable[Passport]) -> Passport | None:
    places = [
        (text.rfind(name.lower()), passport)
        for passport in passports
        for name in passport.known_as()
    ]
    at, passport = max(places, key=lambda place: place[0], default=(-1, None))
    return passport if at >= 0 else None


def _favourite(cues: Sequence[str]) -> tuple[str | None, float]:
    if not cues:
        return None, 0.0
    category, count = Counter(cues).most_common(1)[0]
    return category, round(count / (len(cues) + 1), 3)
