"""What stands around a claim: negation, warning, the law quoted, a question.

The words are data (`rules/<jurisdiction>/context.yaml`); this file knows how far they reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import regex

from moderator.claims.normalise import SENTENCE_ENDS

SENTENCE_REACH_CHARS = 32
"""Speech often has no punctuation: a sentence is never taken as longer than this each way."""
ASKED_CHARS = 8
"""More words than that after 有人问 are the host's own."""


@dataclass(frozen=True, slots=True)
class Around:
    """A claim's sentence: `text[begin:end]`, with the claim at `claim_begin:claim_end`."""

    text: str
    begin: int
    end: int
    claim_begin: int
    claim_end: int

    @property
    def sentence(self) -> str:
        return self.text[self.begin : self.end]

    @property
    def before(self) -> str:
        return self.text[self.begin : self.claim_begin]

    @property
    def after(self) -> str:
        return self.text[self.claim_end : self.end]


def around(text: str, begin: int, end: int) -> Around:
    """The sentence that holds `text[begin:end]`."""
    low = max(0, begin - SENTENCE_REACH_CHARS)
    high = min(len(text), end + SENTENCE_REACH_CHARS)
    start = max((text.rfind(mark, low, begin) + 1 for mark in SENTENCE_ENDS), default=0) or low
    stops = [at for mark in SENTENCE_ENDS if (at := text.find(mark, end, high)) >= 0]
    stop = min(stops) + 1 if stops else high
    return Around(text, max(start, low), stop, begin, end)


class ContextReader:
    """Reads a claim's surroundings with the words of one rule pack."""

    def __init__(self, words: dict[str, Any]) -> None:
        self._negated_before = _compile(words.get("negated_before", ()), tail=True)
        self._negated_after = _compile(words.get("negated_after", ()), head=True)
        self._not_negation = _compile(words.get("not_negation", ()))
        self._warned_before = _compile(words.get("warned_before", ()), tail=True)
        self._asked_before = _compile(words.get("asked_before", ()), tail=True)
        self._warned_after = _compile(words.get("warned_after", ()), head=True)
        self._rules_quoted = _compile(words.get("rules_quoted", ()))
        self._negated_inside = _compile(words.get("negated_inside", ()))
        self._mention = _compile(words.get("mention", ()))
        self._lesson = _compile(words.get("lesson", ()))
        self._question = _compile(words.get("question", ()))
        self._corrected = _compile(words.get("corrected", ()))

    def negated(self, place: Around) -> bool:
        """The claim is denied: 不敢说全网最低, 最好的我不敢讲."""
        before = (
            self._not_negation.sub(_blank, place.before) if self._not_negation else place.before
        )
        if self._negated_before and self._negated_before.search(before):
            return True
        if self._negated_after and self._negated_after.match(place.after):
            return True
        inside = place.text[place.claim_begin : place.claim_end]
        return bool(self._negated_inside and self._negated_inside.search(inside))

    def spoken_of(self, place: Around, in_quotes: bool) -> bool:
        """The words themselves are the subject, as in a lesson, in the news or before a court.

        `in_quotes` says that they stand in quotation marks where they were written.
        """
        if self._lesson and self._lesson.search(place.sentence):
            return True
        return bool(in_quotes and self._mention and self._mention.search(place.sentence))

    def warned(self, place: Around) -> bool:
        """Viewers are warned of the claim, or a rule that forbids it or a viewer's question is
        quoted."""
        if self._warned_before and self._warned_before.search(place.before):
            return True
        words = place.text[place.claim_begin : place.claim_end]
        short = len(words) <= ASKED_CHARS and "，" not in words
        if short and self._asked_before and self._asked_before.search(place.before):
            return True
        if self._warned_after and self._warned_after.match(place.after):
            return True
        return bool(self._rules_quoted and self._rules_quoted.search(place.sentence))

    def asked(self, place: Around) -> bool:
        """The sentence is a question."""
        return bool(self._question and self._question.search(place.sentence))

    def corrected(self, place: Around) -> bool:
        """The host takes it back at once: 口误, 说错了."""
        return bool(self.correction_in(place.text[place.claim_end :]))

    def correction_in(self, text: str) -> str:
        """The words near the beginning of `text` that take back what was said just before."""
        if self._corrected is None:
            return ""
        found = self._corrected.search(text[:SENTENCE_REACH_CHARS])
        return found.group() if found else ""


def _compile(alternatives: Any, *, head: bool = False, tail: bool = False) -> Any:
    if not alternatives:
        return None
    body = "|".join(f"(?:{one})" for one in alternatives)
    return regex.compile(f"(?:{body}){'$' if tail else ''}" if not head else f"(?:{body})")


def _blank(match: Any) -> str:
    return "＿" * len(match.group())
