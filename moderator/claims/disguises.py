"""Words that a host disguises, written out before the rules look: 国家J, 高xue压, 降某糖.

What is common is listed (`rules/<jurisdiction>/morphs.yaml`, `near_glyphs.yaml`). The rest is made
from the terms of the rules: one character as pinyin or as its first letter, or hidden behind 某 or
什么. Disguises with letters in them are looked for only in text that mixes letters and characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import ahocorasick
import regex

from moderator.claims.normalise import Rewritten, is_han, normalise
from moderator.claims.phonetics import reading

_MIXED = regex.compile(r"[a-z]\p{Han}|\p{Han}[a-z]|[a-z]{8}")
_HOLES = ("某", "某某", "什么")
_SHORTEST_ALL_PINYIN = 8
"""Letters. A word wholly in pinyin that is shorter could be English: `danger`, `women`."""


class Disguises:
    """Finds disguised words in normalised text. Read-only after construction."""

    def __init__(
        self,
        listed: Iterable[Mapping[str, Any]],
        near_glyphs: Mapping[str, str],
        terms: Iterable[str] = (),
        hidden: Iterable[str] = (),
    ) -> None:
        """`terms` may stand in letters; `hidden` (illnesses, organs) also with a hole in them."""
        self._terms = frozenset(term for term in terms if len(term) >= 2 and _all_han(term))
        plain = dict(_holed(hidden))
        plain |= {alike: (term, "nearglyph") for alike, term in near_glyphs.items()}
        plain |= dict(_written(listed))
        self._listed = _automaton(plain)
        self._plain = plain

    def find(self, text: str) -> list[Rewritten]:
        """Disguises in `text`, left to right, none overlapping; `original` holds the meaning."""
        automaton = self._with_letters if _MIXED.search(text) else self._listed
        if not len(automaton) or next(automaton.iter(text), None) is None:
            return []
        return [
            Rewritten(last + 1 - length, last + 1, means, kind)
            for last, (length, means, kind) in automaton.iter_long(text)
            if not _inside_a_word(text, last + 1 - length, last + 1)
        ]

    @cached_property
    def _with_letters(self) -> ahocorasick.Automaton:
        return _automaton({**dict(_lettered(self._terms)), **self._plain})


_Variant = tuple[str, tuple[str, str]]
"""A disguise, and what it means with its kind."""


def _written(entries: Iterable[Mapping[str, Any]]) -> Iterator[_Variant]:
    for entry in entries:
        heard, means = entry["heard"], str(entry["means"])
        for word in heard if isinstance(heard, list) else [heard]:
            key = normalise(str(word)).text
            if key and key != means:
                yield key, (means, str(entry.get("kind", "code")))


def _lettered(terms: Iterable[str]) -> Iterator[_Variant]:
    """One character of a term as pinyin (治yu), of three or more also as its initial (国家j), and
    the whole in pinyin (guojiaji)."""
    for term in sorted(terms):
        spelled = reading(term)
        for at, sound in enumerate(spelled):
            yield term[:at] + sound + term[at + 1 :], (term, "pinyin")
            if len(term) >= 3:
                yield term[:at] + sound[0] + term[at + 1 :], (term, "initial")
        if len("".join(spelled)) >= _SHORTEST_ALL_PINYIN and len(term) >= 3:
            yield "".join(spelled), (term, "pinyin")


def _holed(terms: Iterable[str]) -> Iterator[_Variant]:
    """An inner character behind 某 or 什么 (高某压, 糖什么病), or one put between two (降某糖)."""
    for term in sorted(terms):
        for hole in _HOLES:
            for at in range(1, len(term) - 1):
                yield term[:at] + hole + term[at + 1 :], (term, "hole")
            if len(term) == 2 and hole != "什么":  # 治什么病 is a question
                yield term[0] + hole + term[1], (term, "hole")


def _automaton(variants: Mapping[str, tuple[str, str]]) -> ahocorasick.Automaton:
    found = ahocorasick.Automaton()
    for heard, (means, kind) in variants.items():
        found.add_word(heard, (len(heard), means, kind))
    if len(found):
        found.make_automaton()
    return found


def _inside_a_word(text: str, begin: int, end: int) -> bool:
    """Whether letters at an edge of `text[begin:end]` go on outside it: 治yu in 治yummy."""
    return (_letter(text, begin) and _letter(text, begin - 1)) or (
        _letter(text, end - 1) and _letter(text, end)
    )


def _letter(text: str, at: int) -> bool:
    return 0 <= at < len(text) and "a" <= text[at] <= "z"


def _all_han(term: str) -> bool:
    return all(map(is_han, term))
