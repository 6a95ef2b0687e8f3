"""Terms found by sound: what the recogniser misheard and what a host disguises.

Each Chinese character becomes one code character for its toneless syllable with the
usual confusions folded together (zh/z ch/c sh/s, n/l, an/ang en/eng in/ing, f/h), so
that one Aho-Corasick pass over the coded text finds every term by sound. A hit is then
scored by how far its syllables really are from the term's.

Speech is also searched loosely: in a term of four syllables or more one may be wrong or missing,
in one of three one may be a mistake that the recogniser was measured to make
(`rules/<jurisdiction>/misheard.yaml`), and in either one may be said twice. There the recogniser's
own confidence weighs in: a syllable that it was sure of is hardly another one. Where it was unsure
of what it wrote, ordinary words and words of two syllables may be terms too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache

import ahocorasick
from pypinyin import Style, lazy_pinyin

from moderator.claims.normalise import is_han

CONFUSED_SYLLABLE_COST = 0.12
"""What one folded (not identical) syllable takes from the score, divided by the term's length."""
WRONG_SYLLABLE_COST = 2.4
"""What a wholly different syllable takes from the score, divided by the term's length."""
DROPPED_DISTANCE, DOUBLED_DISTANCE = 0.5, 0.15
CERTAINTY_WEIGHT = 0.4
"""How much of the score goes where the recogniser was wholly certain of the wrong syllable."""
UNKNOWN_CERTAINTY = 0.5
LEAST_LOOSE_SCORE = 0.6
UNSURE = 0.6
"""Mean confidence below which what was written may be another word of the same sound."""
LONGEST_BESIDE = 2
"""Characters on either side of a likeness within which an ordinary word may hold it."""
LOOSE_SYLLABLES = 4
LEARNED_SYLLABLES = 3
LEARNED_DISTANCE = 0.3
"""Distance of syllables that the recogniser was measured to take for one another."""

Misheard = Mapping[str, Mapping[str, float]]
"""Folded syllable said → folded syllable written → in what share of the times it was said."""


@dataclass(frozen=True, slots=True)
class SoundHit:
    """`text[begin:end]` sounds like `term`; `score` in 0–1, 1 for the same toneless syllables.

    `loose` hits have a syllable that is wrong, missing or said twice.
    """

    begin: int
    end: int
    term: str
    score: float
    loose: bool = False


class SoundIndex:
    """All terms that may be found by sound. `find` is read-only and thread-safe.

    `everyday` are ordinary words that sound like a term (敌意 like 第一) or in which something does
    (国家机关): what was written as one of them was most likely meant so. `spoken` are further
    terms, looked for in speech alone and where the recogniser was unsure.
    """

    def __init__(
        self,
        terms: Iterable[str],
        everyday: Iterable[str] = (),
        misheard: Misheard | None = None,
        spoken: Iterable[str] = (),
    ) -> None:
        self._everyday = frozenset(everyday)
        self._terms = frozenset(t for t in terms if len(t) >= 2 and all(is_han(c) for c in t))
        self._automaton = _automaton(self._terms)
        self._empty = not self._terms
        self._every = self._terms | {t for t in spoken if len(t) >= 2 and all(map(is_han, t))}
        self._misheard = misheard or {}

    # What only speech needs is made when speech first comes.
    @cached_property
    def _spoken(self) -> ahocorasick.Automaton:
        return _automaton(self._every)

    @cached_property
    def _loose(self) -> _LooseIndex:
        return _LooseIndex(sorted(self._every), self._misheard)

    def find(self, text: str) -> list[SoundHit]:
        """Hits that are not the term itself, best first at each place, none overlapping."""
        if self._empty:
            return []
        return _apart(
            hit
            for hit in _alike(self._automaton, text, sound_of(text))
            if not self._is_everyday(text, hit)
        )

    def find_loosely(self, text: str, certainty: Sequence[float] | None = None) -> list[SoundHit]:
        """As `find`, and with one syllable wrong, missing or doubled.

        `certainty` is the recogniser's confidence in each character of `text` (0–1).
        """
        if self._empty:
            return []
        coded = sound_of(text)
        loose = [
            hit
            for hit in self._loose.find(text, coded, certainty)
            if not self._is_everyday(text, hit)
        ]
        return _apart([*self._unsure(text, coded, certainty), *loose])

    def _unsure(
        self, text: str, coded: str, certainty: Sequence[float] | None
    ) -> Iterator[SoundHit]:
        """What sounds alike and is a term of all channels, or was written with doubt."""
        for hit in _alike(self._spoken, text, coded):
            if hit.term in self._terms and not self._is_everyday(text, hit):
                yield hit
            elif certainty is not None:
                sure = sum(certainty[hit.begin : hit.end]) / (hit.end - hit.begin)
                if sure < UNSURE:
                    yield replace(hit, score=hit.score * (1.0 - CERTAINTY_WEIGHT * sure))

    def _is_everyday(self, text: str, hit: SoundHit) -> bool:
        """Whether the place is, or lies in, an ordinary word."""
        return any(
            text[begin:end] in self._everyday
            for begin in range(max(0, hit.begin - LONGEST_BESIDE), hit.begin + 1)
            for end in range(hit.end, min(len(text), hit.end + LONGEST_BESIDE) + 1)
        )


def _automaton(terms: Iterable[str]) -> ahocorasick.Automaton:
    """Folded sounds → the terms that have them; polyphones by their usual and their own reading."""
    found = ahocorasick.Automaton()
    for term in sorted(terms):
        for sounds in {sound_of(term), _phrase_sound(term)}:
            found.add_word(sounds, (*found.get(sounds, ()), term))
    if len(found):
        found.make_automaton()
    return found


def _alike(automaton: ahocorasick.Automaton, text: str, coded: str) -> Iterator[SoundHit]:
    for last, terms in automaton.iter(coded):
        for term in terms:
            begin = last + 1 - len(term)
            heard = text[begin : last + 1]
            if heard != term:
                yield SoundHit(begin, last + 1, term, _score(heard, term))


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A stretch of a term without errors; `wrong` is the syllable of the term that may differ,
    None where the whole stretch is the term with one syllable missing or doubled."""

    term: str
    sounds: str
    offset: int
    wrong: int | None
    distance: float = 0.0


class _LooseIndex:
    """Terms with one error, found from the longest stretch beside the error."""

    def __init__(self, terms: Iterable[str], misheard: Misheard) -> None:
        anchors: dict[str, list[_Anchor]] = {}
        for term in terms:
            if len(term) < LEARNED_SYLLABLES:
                continue
            sounds = _phrase_sound(term)
            for stretch, anchor in _anchors(term, sounds, misheard):
                anchors.setdefault(stretch, []).append(anchor)
        self._automaton = ahocorasick.Automaton()
        for stretch, found in anchors.items():
            self._automaton.add_word(stretch, tuple(found))
        self._empty = not anchors
        if not self._empty:
            self._automaton.make_automaton()

    def find(self, text: str, coded: str, certainty: Sequence[float] | None) -> Iterator[SoundHit]:
        if self._empty:
            return
        for last, anchors in self._automaton.iter(coded):
            for anchor in anchors:
                hit = _loose_hit(anchor, last, text, coded, certainty)
                if hit is not None:
                    yield hit


def _anchors(term: str, sounds: str, misheard: Misheard) -> Iterator[tuple[str, _Anchor]]:
    count = len(sounds)
    if count >= LOOSE_SYLLABLES:
        for wrong in range(count):
            before, after = sounds[:wrong], sounds[wrong + 1 :]
            if len(before) >= len(after):
                yield before, _Anchor(term, sounds, 0, wrong)
            else:
                yield after, _Anchor(term, sounds, wrong + 1, wrong)
            # A missing end is a shorter term; only what is missing inside tells.
            if 0 < wrong < count - 1 and count > LOOSE_SYLLABLES:
                yield before + after, _Anchor(term, sounds, 0, None, DROPPED_DISTANCE)
    else:
        for wrong, own in enumerate(lazy_pinyin(term, style=Style.NORMAL)):
            for written in misheard.get(fold(own), ()):
                stretch = sounds[:wrong] + _SOUNDS.coded(written) + sounds[wrong + 1 :]
                yield stretch, _Anchor(term, sounds, 0, None, LEARNED_DISTANCE)
    for twice in range(count):
        stretch = sounds[: twice + 1] + sounds[twice:]
        yield stretch, _Anchor(term, sounds, 0, None, DOUBLED_DISTANCE)


def _loose_hit(
    anchor: _Anchor, last: int, text: str, coded: str, certainty: Sequence[float] | None
) -> SoundHit | None:
    count = len(anchor.sounds)
    if anchor.wrong is None:
        # The stretch is the whole of what was heard: one more, one fewer, or as many syllables.
        end = last + 1
        length = (
            count + (anchor.distance == DOUBLED_DISTANCE) - (anchor.distance == DROPPED_DISTANCE)
        )
        begin, distance, doubted = end - length, anchor.distance, range(end - length, end)
    else:
        stretch = anchor.wrong if anchor.offset == 0 else count - anchor.offset
        begin = last + 1 - stretch - anchor.offset
        end = begin + count
        at = begin + anchor.wrong
        if (
            begin < 0
            or end > len(coded)
            or not is_han(text[at])
            or coded[at] == anchor.sounds[anchor.wrong]
        ):
            return None
        if coded[begin:at] != anchor.sounds[: anchor.wrong]:
            return None
        if coded[at + 1 : end] != anchor.sounds[anchor.wrong + 1 :]:
            return None
        own = reading(anchor.term)[anchor.wrong]
        distance = syllable_distance(fold(own), fold(syllable(text[at])))
        doubted = range(at, at + 1)
    if begin < 0 or text[begin:end] == anchor.term:
        return None
    sure = (
        UNKNOWN_CERTAINTY
        if certainty is None
        else sum(certainty[i] for i in doubted) / len(doubted)
    )
    score = (1.0 - WRONG_SYLLABLE_COST * distance / count) * (1.0 - CERTAINTY_WEIGHT * sure)
    if score < LEAST_LOOSE_SCORE:
        return None
    return SoundHit(begin, end, anchor.term, round(score, 3), loose=True)


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


@lru_cache(1 << 12)
def syllable_distance(one: str, other: str) -> float:
    """How different two folded syllables sound, 0 (the same) to 1; half for what they begin with,
    half for what they end with. Sounds made at the same place of the mouth are near."""
    (first, rest), (other_first, other_rest) = _split(one), _split(other)
    initials = 0.0 if first == other_first else 0.4 if _near(first, other_first) else 1.0
    finals = 0.0 if rest == other_rest else 0.4 if _vowels_near(rest, other_rest) else 1.0
    return 0.5 * initials + 0.5 * finals


_PLACES = ("bpmh", "dtl", "gkh", "jqx", "zcsr", "jz", "qc", "xs")
"""Initials (after folding) that are made at the same place, or that Whisper mixes up."""


def _split(folded: str) -> tuple[str, str]:
    return (folded[0], folded[1:]) if folded[:1] in "bpmdtlgkhjqxzcsryw" else ("", folded)


def _near(one: str, other: str) -> bool:
    return any(one in place and other in place for place in _PLACES if one and other)


def _vowels_near(one: str, other: str) -> bool:
    # The same ending (ian/an), or the same vowels with another ending (ia/ian, ei/e).
    return one[-1:] == other[-1:] or one[:1] == other[:1]


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


def coded_syllable(toneless: str) -> str:
    """The code character of a syllable, as in `sound_of`."""
    return _SOUNDS.coded(toneless)


def _phrase_sound(term: str) -> str:
    """The term read as a phrase, which settles polyphones (银行 yin hang)."""
    return "".join(map(_SOUNDS.coded, reading(term)))


@cache
def reading(term: str) -> tuple[str, ...]:
    """The syllables of a term. Every pack that is loaded asks for the same few thousand."""
    return tuple(lazy_pinyin(term, style=Style.NORMAL))


def _score(heard: str, term: str) -> float:
    own_reading = reading(term)
    confused = sum(
        1
        for char, own, other in zip(heard, own_reading, term, strict=True)
        if syllable(char) != own and char != other
    )
    return 1.0 - CONFUSED_SYLLABLE_COST * confused


def _apart(hits: Iterable[SoundHit]) -> list[SoundHit]:
    kept: list[SoundHit] = []
    for hit in sorted(hits, key=lambda h: (h.loose, -(h.end - h.begin), -h.score, h.begin)):
        if all(hit.end <= k.begin or hit.begin >= k.end for k in kept):
            kept.append(hit)
    return sorted(kept, key=lambda h: h.begin)
