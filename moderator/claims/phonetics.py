"""Terms found by sound: what the recogniser misheard and what a host disguises.

Each Chinese character becomes one code character for its toneless syllable with the
usual confusions folded together (zh/z ch/c sh/s, n/l, an/ang en/eng in/ing, f/h), so
that one Aho-Corasick pass over the coded text finds every term by sound. A hit is then
scored by how far its syllables really are from the term's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import ahocorasick
from pypinyin import Style, lazy_pinyin

from moderator.claims.normalise import is_han

CONFUSED_SYLLABLE_COST = 0.12
"""What one folded (not identical) syllable takes from the score, divided by the term's length."""


@dataclass(frozen=True, slots=True)
class SoundHit:
    """`text[begin:end]` sounds like `term`; `score` in 0–1, 1 for the same toneless syllables."""

    begin: int
    end: int
    term: str
    score: float


class SoundIndex:
    """All terms that may be found by sound. `find` is read-only and thread-safe.

    `everyday` are ordinary words that sound like a term (敌意 like 第一): what was written as
    one of them was most likely meant so.
    """

    def __init__(self, terms: Iterable[str], everyday: Iterable[str] = ()) -> None:
        self._everyday = frozenset(everyday)
        self._automaton = ahocorasick.Automaton()
        self._terms = sorted({t for t in terms if len(t) >= 2 and all(is_han(c) for c in t)})
        for term in self._terms:
            for sounds in {sound_of(term), _phrase_sound(term)}:
                known = self._automaton.get(sounds, None)
                self._automaton.add_word(sounds, (*(known or ()), term))
        self._empty = not self._terms
        if not self._empty:
            self._automaton.make_automaton()

    def find(self, text: str) -> list[SoundHit]:
        """Hits that are not the term itself, best first at each place, none overlapping."""
        if self._empty:
            return []
        hits: list[SoundHit] = []
        for last, terms in self._automaton.iter(sound_of(text)):
            for term in terms:
                begin = last + 1 - len(term)
                heard = text[begin : last + 1]
                if heard == term or heard in self._everyday:
                    continue
                hits.append(SoundHit(begin, last + 1, term, _score(heard, term)))
        return _apart(hits)


def sound_of(text: str) -> str:
    """One code character for each Chinese character's folded syllable; the rest unchanged."""
    return text.translate(_SOUNDS)


@cache
def syllable(char: str) -> str:
    """The character's most usual toneless syllable, as pypinyin gives it."""
    return lazy_pinyin(char, style=Style.NORMAL)[0]


_F_TO_H = {"a": "ua", "o": "uo", "ei": "ui", "an": "uan", "en": "un", "ang": "uang", "ou": "ou"}


@cache
def fold(syllable_: str) -> str:
    """The syllable with the usual confusions folded together.

    Mergers of southern Mandarin and of Whisper alike: retroflex with dental sibilants,
    n- with l-, -ng with -n, f- with hu-.
    """
    s = syllable_
    for retroflex, dental in (("zh", "z"), ("ch", "c"), ("sh", "s")):
        if s.startswith(retroflex):
            s = dental + s[2:]
            break
    if s.startswith("n") and len(s) > 1 and s[1] != "g":
        s = "l" + s[1:]
    elif s.startswith("f"):
        s = "h" + _F_TO_H.get(s[1:], s[1:])
    if s.endswith("ng") and not s.endswith("ong"):
        s = s[:-1]
    return s


class _SoundTable(dict[int, str]):
    """Code point → the code character of its folded syllable (private use area)."""

    def __init__(self) -> None:
        super().__init__()
        self._ids: dict[str, str] = {}

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = coded = self.coded(syllable(char)) if is_han(char) else char
        return coded

    def coded(self, toneless: str) -> str:
        return self._ids.setdefault(fold(toneless), chr(0xE000 + len(self._ids)))


_SOUNDS = _SoundTable()


def _phrase_sound(term: str) -> str:
    """The term read as a phrase, which settles polyphones (银行 yin hang)."""
    return "".join(_SOUNDS.coded(s) for s in lazy_pinyin(term, style=Style.NORMAL))


def _score(heard: str, term: str) -> float:
    reading = lazy_pinyin(term, style=Style.NORMAL)
    confused = sum(
        1
        for char, own, other in zip(heard, reading, term, strict=True)
        if syllable(char) != own and char != other
    )
    return 1.0 - CONFUSED_SYLLABLE_COST * confused


def _apart(hits: list[SoundHit]) -> list[SoundHit]:
    hits.sort(key=lambda h: (-(h.end - h.begin), -h.score, h.begin))
    kept: list[SoundHit] = []
    for hit in hits:
        if all(hit.end <= k.begin or hit.begin >= k.end for k in kept):
            kept.append(hit)
    return sorted(kept, key=lambda h: h.begin)
