"""All rules over one text in one pass: literals, sounds, expressions, nearness.

One Aho-Corasick automaton holds the terms, the gates of the expressions and the
allow-phrases of every rule. What it finds decides which rules are looked at more
closely, so that the cost follows what is said and hardly the number of rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Protocol

import ahocorasick
import structlog

from moderator.claims.normalise import SENTENCE_ENDS, Normalised
from moderator.claims.patterns import (
    Gatekeeper,
    Pattern,
    PatternTimeout,
    alternatives,
    compile_pattern,
)
from moderator.claims.phonetics import SoundHit, SoundIndex
from moderator.claims.rules import NearMatch, RegexMatch, Rule, RulePack, TermsMatch
from moderator.records import MatchKind

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Match:
    """A place where a rule's pattern holds: `text[begin:end]` of the normalised text.

    `matched` is what the rule looked for, which differs from the text in a match by sound;
    `sounded` is how many of its characters agree in sound only, and `likenesses` the places
    that do. `acoustic_llr` and `doubt` are what a second listen said of them. `guessed` matches
    stand in what was probably said (`rehearing.py`), not in what was written. `by_room` ones would
    not have been found without the room's other talk (`base_rate.py`).
    """

    rule: Rule
    begin: int
    end: int
    kind: MatchKind
    score: float
    matched: str
    sounded: int = 0
    likenesses: tuple[SoundHit, ...] = ()
    acoustic_llr: float | None = None
    doubt: float | None = None
    guessed: bool = False
    by_room: bool = False

    @property
    def loose(self) -> bool:
        """Whether a syllable of what was heard is wrong, missing or doubled."""
        return any(hit.loose for hit in self.likenesses)


class ClaimMatcher(Protocol):
    """Anything that finds claims in a text: patterns here, a classifier beside them.

    `version` names the weights that decide; empty where the rule pack says it all. `certainty` is
    the recogniser's confidence in each character of `text.text`, None for what was never spoken.
    `leaning` is the room's: what its other talk adds to the log-odds of a claim in this one.
    """

    name: str
    version: str

    def find(
        self,
        text: Normalised,
        *,
        by_sound: bool,
        certainty: Sequence[float] | None = None,
        channel: str = "",
        leaning: float = 0.0,
    ) -> list[Match]: ...


class PatternMatcher:
    """The patterns of a rule pack, compiled. Read-only after construction: share it freely."""

    name = "patterns"
    version = ""

    def __init__(self, pack: RulePack) -> None:
        self._rules = [rule for rule in pack.rules if not _only_absence(rule)]
        self._uses: dict[str, list[_Use]] = defaultdict(list)
        self._patterns: list[tuple[int, Pattern]] = []
        self._nears: list[tuple[int, NearMatch]] = []
        lexicon_terms = {name: lexicon.terms for name, lexicon in pack.lexicons.items()}
        for number, rule in enumerate(self._rules):
            for entry in rule.match:
                if isinstance(entry, TermsMatch):
                    for term in entry.terms:
                        self._uses[term].append((_TERM, number, 0))
                elif isinstance(entry, NearMatch):
                    for part, terms in enumerate(entry.parts):
                        for term in terms:
                            self._uses[term].append((_NEAR, len(self._nears), part))
                    self._nears.append((number, entry))
                elif isinstance(entry, RegexMatch):
                    self._patterns += [
                        (number, compile_pattern(part, lexicon_terms, entry.place))
                        for part in alternatives(entry.source)
                    ]
            for phrase in rule.unless.allow:
                self._uses[phrase.lower()].append((_ALLOW, number, 0))
        self._gates = Gatekeeper([pattern for _, pattern in self._patterns])
        self._sounds = SoundIndex(
            pack.sounded_terms(),
            pack.everyday_words,
            pack.misheard,
            (term for terms in lexicon_terms.values() for term in terms),
        )
        self._automaton = ahocorasick.Automaton()
        for term in self.terms:
            uses = tuple(self._uses.get(term, ()))
            self._automaton.add_word(term, (len(term), self._gates.masks.get(term, 0), uses))
        self._empty = not self.terms
        if not self._empty:
            self._automaton.make_automaton()

    def likenesses(self, text: Normalised) -> list[SoundHit]:
        """Places that sound like a term, whether or not a rule makes anything of them here."""
        return self._sounds.find_loosely(text.text)

    @property
    def patterns(self) -> Iterable[Pattern]:
        return (pattern for _, pattern in self._patterns)

    @property
    def terms(self) -> list[str]:
        """Every literal the automaton looks for; for benchmarks beside bare pyahocorasick."""
        return list({**self._uses, **self._gates.masks})

    def find(
        self,
        text: Normalised,
        *,
        by_sound: bool,
        certainty: Sequence[float] | None = None,
        channel: str = "",
        leaning: float = 0.0,
    ) -> list[Match]:
        """All matches, allow-phrases already taken out. Speech (`certainty`) is heard loosely."""
        found = self._scan(text.text, "literal")
        if by_sound:
            found += self._sounded(text.text, found, certainty)
        return _apart(found)

    def _sounded(
        self, text: str, literal: Iterable[Match], certainty: Sequence[float] | None
    ) -> list[Match]:
        hits = (
            self._sounds.find(text)
            if certainty is None
            else self._sounds.find_loosely(text, certainty)
        )
        if not hits:
            return []
        heard_as, places = _substituted(text, hits)
        known = {(m.rule.id, m.begin, m.end) for m in literal}
        found = []
        for one in self._scan(heard_as, "phonetic"):
            match = replace(one, begin=places[one.begin], end=places[one.end])
            touched = [h for h in hits if h.begin < match.end and match.begin < h.end]
            if not touched or (match.rule.id, match.begin, match.end) in known:
                continue
            score = min(h.score for h in touched)
            if min(h.end - h.begin for h in touched) <= 2:
                score *= SHORT_SOUND_SCORE
            sounded = sum(min(h.end, match.end) - max(h.begin, match.begin) for h in touched)
            found.append(replace(match, score=score, sounded=sounded, likenesses=tuple(touched)))
        return found

    def _scan(self, text: str, kind: MatchKind) -> list[Match]:
        if self._empty:
            return []
        spans: list[tuple[int, int, int]] = []
        gates = 0
        near: dict[int, dict[int, list[tuple[int, int]]]] = {}
        allowed: dict[int, list[tuple[int, int]]] = {}
        for last, (length, mask, uses) in self._automaton.iter(text):
            gates |= mask
            for role, number, part in uses:
                if role == _TERM:
                    spans.append((number, last + 1 - length, last + 1))
                elif role == _NEAR:
                    parts = near.setdefault(number, {})
                    parts.setdefault(part, []).append((last + 1 - length, last + 1))
                else:
                    allowed.setdefault(number, []).append((last + 1 - length, last + 1))
        for at in self._gates.passed(gates):
            number, pattern = self._patterns[at]
            try:
                spans.extend((number, begin, end) for begin, end in pattern.find(text))
            except PatternTimeout:
                log.warning("regex_timeout", rule=self._rules[number].id, chars=len(text))
        for at, parts in near.items():
            number, entry = self._nears[at]
            if len(parts) == len(entry.parts):
                spans.extend((number, b, e) for b, e in _near_spans(text, entry, parts))
        return [
            Match(self._rules[number], begin, end, kind, 1.0, text[begin:end])
            for number, begin, end in spans
            if not _covered(begin, end, allowed.get(number, ()))
        ]


SHORT_SOUND_SCORE = 0.6
"""Two syllables agree by chance too often: such a match alone never accuses firmly."""

_TERM, _NEAR, _ALLOW = range(3)


_Use = tuple[int, int, int]
"""What a literal is for: its role, the rule (or nearness), and which part of it."""


def _only_absence(rule: Rule) -> bool:
    return len(rule.absences) == len(rule.match)


def _covered(begin: int, end: int, phrases: Iterable[tuple[int, int]]) -> bool:
    return any(b <= begin and end <= e for b, e in phrases)


def _near_spans(
    text: str, entry: NearMatch, parts: dict[int, list[tuple[int, int]]]
) -> list[tuple[int, int]]:
    order = [list(range(len(entry.parts)))]
    if not entry.ordered:
        order = [list(one) for one in permutations(range(len(entry.parts)))]
    spans = []
    for sequence in order:
        for first in parts[sequence[0]]:
            span = _extend(text, first, sequence[1:], parts, entry.within_chars)
            if span is not None:
                spans.append(span)
    return spans


def _extend(
    text: str,
    span: tuple[int, int],
    rest: list[int],
    parts: dict[int, list[tuple[int, int]]],
    within: int,
) -> tuple[int, int] | None:
    for part in rest:
        following = [
            (b, e)
            for b, e in parts[part]
            if 0 <= b - span[1] <= within and not any(c in SENTENCE_ENDS for c in text[span[1] : b])
        ]
        if not following:
            return None
        span = (span[0], min(following, key=lambda p: (p[0], -p[1]))[1])
    return span


def _substituted(text: str, hits: list[SoundHit]) -> tuple[str, list[int]]:
    """The text with the terms in place, and where in `text` each of its offsets lies."""
    out: list[str] = []
    places: list[int] = []
    at = 0
    for hit in hits:
        out += (text[at : hit.begin], hit.term)
        places += range(at, hit.begin)
        # A term with a syllable more or less than was heard: its last one stands for the end.
        places += (min(hit.begin + i, hit.end - 1) for i in range(len(hit.term)))
        at = hit.end
    out.append(text[at:])
    places += range(at, len(text) + 1)
    return "".join(out), places


def _apart(matches: list[Match]) -> list[Match]:
    """One match a place for each rule: the literal before the phonetic, then the longest."""
    matches.sort(key=lambda m: (m.kind != "literal", -(m.end - m.begin), m.begin))
    kept: dict[str, list[Match]] = defaultdict(list)
    for match in matches:
        own = kept[match.rule.id]
        if all(match.end <= k.begin or match.begin >= k.end for k in own):
            own.append(match)
    return sorted((m for own in kept.values() for m in own), key=lambda m: (m.begin, m.end))
