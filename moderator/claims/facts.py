"""What was said, held against what the product's passport records.

A record that says otherwise makes a claim a violation, one that says the same makes it lawful, and
one that speaks of something else does neither. The words are data
(`rules/<jurisdiction>/facts.yaml`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from moderator.claims.amounts import numbers_in
from moderator.claims.ingredients import IngredientFacts
from moderator.claims.normalise import is_han, normalise
from moderator.claims.origins import OriginFacts
from moderator.claims.passports import DOCUMENT_NAMES, Document, Passport
from moderator.claims.prices import PriceFacts

GRANTED = ("special_cosmetic", "health_food")
"""Registrations that say which functions they were granted for."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a passport says of a claim. `why` shows what was said beside what is recorded."""

    agrees: bool
    why: str


class FactBook:
    """Holds claims against passports with the words of one rule pack."""

    def __init__(self, words: Mapping[str, Any]) -> None:
        self._prices = PriceFacts(words.get("price", {}))
        self._origins = OriginFacts(words.get("places", {}))
        self._ingredients = IngredientFacts(words.get("materials", ()), words.get("free_of", ()))
        self._families: dict[str, dict[str, tuple[str, ...]]] = {
            kind: {name: tuple(map(str, cues)) for name, cues in families.items()}
            for kind, families in words.get("functions", {}).items()
        }
        self._whole = tuple(map(str, words.get("whole_scope", ())))

    def contradiction(
        self, kind: str, words: str, passport: Passport, sentence: str = ""
    ) -> str | None:
        """How `words` contradict the record of this kind, or None when it has no other say.

        `kind` is a document kind; `origin_proof` and `test_report` ask after the origin and the
        ingredients that the passport itself names.
        """
        held = self._hold(kind, words, passport, sentence or words)
        return held.why if held is not None and not held.agrees else None

    def hold(
        self, kinds: Iterable[str], words: str, sentence: str, passport: Passport
    ) -> Held | None:
        """What the passport's own figures say: the first contradiction, else an agreement."""
        agreed = None
        for kind in dict.fromkeys(kinds):
            held = self._hold(kind, words, passport, sentence)
            if held is not None and not held.agrees:
                return held
            agreed = agreed or held
        return agreed

    def _hold(self, kind: str, words: str, passport: Passport, sentence: str) -> Held | None:
        if kind == "stock_record":
            return _stock(words, passport)
        answer = None
        if kind == "price_record":
            answer = self._prices.answer(words, sentence, passport.price)
        elif kind == "origin_proof":
            answer = self._origins.answer(words, passport.origin)
        elif kind == "test_report":
            answer = self._ingredients.answer(words, sentence, passport.ingredients)
        elif kind in GRANTED:
            answer = self._beyond_grant(kind, words, passport)
        return Held(*answer) if answer is not None else None

    def proves(
        self,
        kind: str,
        passport: Passport,
        words: str = "",
        sentence: str = "",
        on: date | None = None,
    ) -> bool:
        """Whether a document of this kind, valid and about what was said, is in the passport."""
        return any(
            document.kind == kind
            and not document.expired(on)
            and self.covers(document, words, sentence)
            for document in passport.documents()
        )

    def covers(self, document: Document, words: str, sentence: str = "") -> bool:
        """Whether a document is about the claim. One that names no scope covers its product."""
        if document.kind == "price_record" and self._prices.of_market(words + sentence):
            return self._prices.of_market(document.scope + document.title)
        limits = [*document.functions, *([document.scope] if document.scope else [])]
        if not limits or not words:
            return True
        scope = normalise("，".join(limits)).text
        if any(word in scope for word in self._whole):
            return True
        asked = self._families_of(document.kind, words)
        if asked:
            return bool(asked & self._families_of(document.kind, scope))
        told = scope + "，" + normalise(document.title).text
        return bool(_pairs(words) & _pairs(told) or _pairs(sentence) & _pairs(told))

    def expired(self, kinds: Iterable[str], passport: Passport, on: date | None = None) -> str:
        """The documents of these kinds that are out of date, for the explanation."""
        return "、".join(
            f"{DOCUMENT_NAMES[document.kind][0]}已于 {document.valid_until} 到期"
            for document in passport.documents()
            if document.kind in set(kinds) and document.expired(on)
        )

    def _beyond_grant(self, kind: str, words: str, passport: Passport) -> tuple[bool, str] | None:
        """A contradiction where a registration was granted, and for other functions only."""
        asked = self._families_of(kind, words)
        documents = [d for d in passport.documents() if d.kind == kind and not d.expired()]
        granted: set[str] = set()
        named: list[str] = []
        for document in documents:
            limits = [*document.functions, *([document.scope] if document.scope else [])]
            if not limits:
                return None
            named += limits
            granted |= self._families_of(kind, normalise("，".join(limits)).text)
        if not documents or not asked or not granted or asked & granted:
            return None
        recorded = "、".join(dict.fromkeys(named))
        return (
            False,
            f"说的是{'、'.join(sorted(asked))}，{DOCUMENT_NAMES[kind][0]}批准的是{recorded}",
        )

    def _families_of(self, kind: str, text: str) -> set[str]:
        families = self._families.get(kind, {})
        return {name for name, cues in families.items() if any(cue in text for cue in cues)}


def _stock(words: str, passport: Passport) -> Held | None:
    said = numbers_in(words)
    stock = max((d.quantity for d in passport.documents() if d.quantity is not None), default=None)
    if stock is None or not said:
        return None
    if said[-1] < stock:
        return Held(False, f"说只有 {said[-1]:g}，库存记录为 {stock:g}")
    return Held(True, f"说有 {said[-1]:g}，库存记录为 {stock:g}")


def _pairs(text: str) -> set[str]:
    """Neighbouring Chinese characters, by which two short texts are of the same thing."""
    return {one + other for one, other in pairwise(text) if is_han(one) and is_han(other)}
