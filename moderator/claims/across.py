"""Claims whose parts lie in different observations: a banner and speech, or two utterances.

“用了这个，一个星期就没了” says nothing by itself; under a banner that reads 祛斑 it says what for.
A rule names the parts and how many seconds may lie between them (`across`). What was said and shown
is remembered no longer than the longest such window, and never more than `MOST_SEEN` pieces of it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import ahocorasick
import structlog

from moderator.claims.matcher import Match
from moderator.claims.normalise import Normalised
from moderator.claims.patterns import Pattern, PatternTimeout, alternatives, compile_pattern
from moderator.claims.phonetics import SoundHit
from moderator.claims.rules import AcrossMatch, Rule, RulePack
from moderator.records import Observation

log = structlog.get_logger()

MOST_SEEN = 48
"""Observations remembered, however many come within a window."""
SCRIPT_CHARS_PER_S = 5.0
"""A script without times is read at the pace of speech."""
SURE_SOUND = 0.85
"""A part found by sound must be this close: it stands in for words that nobody heard clearly."""

Likenesses = Callable[[Normalised], list[SoundHit]]
"""What in a text sounds like a term of the rules."""

_Lookup = tuple[int, int]
"""Which claim of the finder, and which of its parts."""


@dataclass(frozen=True, slots=True)
class Part:
    """Where a part of a claim stands: `text[begin:end]` of an observation's normalised text."""

    claim: int
    part: int
    begin: int
    end: int
    sound: SoundHit | None = None


@dataclass(eq=False, slots=True)
class Seen:
    """An observation with its text as it was read, and the parts in it.

    `original` is the text with its `lead` (characters of what was said just before) in front.
    """

    observation: Observation
    text: Normalised
    lead: int
    start_s: float
    end_s: float
    parts: list[Part] = field(default_factory=list)
    sounds: list[SoundHit] | None = None

    @property
    def spoken(self) -> bool:
        return self.observation.channel in ("speech", "script")

    def time_of(self, part: Part) -> tuple[float, float]:
        begin, end = self.own_span(part)
        return self.observation.time_of(begin, end)

    def own_span(self, part: Part) -> tuple[int, int]:
        """Offsets of a part in the observation's own text, as far as it lies in it."""
        begin, end = self.text.span(part.begin, part.end)
        return max(0, begin - self.lead), end - self.lead

    def match(self, rule: Rule, part: Part) -> Match:
        matched = self.text.text[part.begin : part.end]
        if part.sound is None:
            return Match(rule, part.begin, part.end, "literal", 1.0, matched)
        return Match(
            rule,
            part.begin,
            part.end,
            "phonetic",
            part.sound.score,
            part.sound.term,
            part.end - part.begin,
            (part.sound,),
        )


@dataclass(frozen=True, slots=True)
class Joined:
    """A claim with a place for each of its parts; the one numbered `last` completed it."""

    rule: Rule
    places: tuple[tuple[Seen, Part], ...]
    last: int

    def in_order(self) -> list[int]:
        """The numbers of the parts in the order in which they were said or shown."""

        def when(number: int) -> tuple[float, int]:
            seen, part = self.places[number]
            return seen.start_s, part.begin

        return sorted(range(len(self.places)), key=when)


class AcrossFinder:
    """The `across` claims of a rule pack, compiled. Read-only: share it freely."""

    def __init__(self, pack: RulePack) -> None:
        self._claims: list[tuple[Rule, AcrossMatch]] = [
            (rule, entry)
            for rule in pack.rules
            for entry in rule.match
            if isinstance(entry, AcrossMatch)
        ]
        self.window_s = max((entry.window_s for _, entry in self._claims), default=0.0)
        self._patterns: list[tuple[_Lookup, Pattern]] = []
        self._terms: dict[str, list[_Lookup]] = defaultdict(list)
        gated: dict[str, list[int]] = defaultdict(list)
        lexicons = {name: lexicon.terms for name, lexicon in pack.lexicons.items()}
        sounded = pack.sounded_terms()
        self._sounded: dict[str, list[_Lookup]] = defaultdict(list)
        for number, (_, entry) in enumerate(self._claims):
            for at, part in enumerate(entry.parts):
                for term in part.terms:
                    self._terms[term].append((number, at))
                    if term in sounded:
                        self._sounded[term].append((number, at))
                if part.regex is not None:
                    for source in alternatives(part.regex.source):
                        pattern = compile_pattern(source, lexicons, part.regex.place)
                        for gate in pattern.gates[0] if pattern.gates else ():
                            gated[gate].append(len(self._patterns))
                        self._patterns.append(((number, at), pattern))
        self._ungated = [at for at, (_, p) in enumerate(self._patterns) if not p.gates]
        self._automaton = ahocorasick.Automaton()
        for word in {*self._terms, *gated}:
            known = (word, tuple(self._terms.get(word, ())), tuple(gated.get(word, ())))
            self._automaton.add_word(word, known)
        if len(self._automaton):
            self._automaton.make_automaton()

    @property
    def patterns(self) -> Iterator[Pattern]:
        """Every expression of a part; `rules lint` tries their speed."""
        return (pattern for _, pattern in self._patterns)

    def claim(self, number: int) -> tuple[Rule, AcrossMatch]:
        return self._claims[number]

    def parts_in(self, text: str, channel: str) -> list[Part]:
        if not len(self._automaton):
            return []
        found: list[Part] = []
        triggered = set(self._ungated)
        for last, (word, uses, patterns) in self._automaton.iter(text):
            triggered.update(patterns)
            for claim, part in uses:
                found.append(Part(claim, part, last + 1 - len(word), last + 1))
        for at in triggered:
            (claim, part), pattern = self._patterns[at]
            try:
                found.extend(Part(claim, part, begin, end) for begin, end in pattern.find(text))
            except PatternTimeout:
                log.warning("regex_timeout", place=pattern.place, chars=len(text))
        return [part for part in found if self._on(channel, part.claim, part.part)]

    def by_sound(self, hits: Iterable[SoundHit], channel: str) -> list[Part]:
        return [
            Part(claim, part, hit.begin, hit.end, hit)
            for hit in hits
            if hit.score >= SURE_SOUND and not hit.loose
            for claim, part in self._sounded.get(hit.term, ())
            if self._on(channel, claim, part)
        ]

    def _on(self, channel: str, claim: int, part: int) -> bool:
        channels = self._claims[claim][1].parts[part].channels
        return not channels or channel in channels


class Recently:
    """What one session has said and shown within the window. Bounded in time and number."""

    def __init__(self, finder: AcrossFinder) -> None:
        self._finder = finder
        self._seen: deque[Seen] = deque(maxlen=MOST_SEEN)
        self._script_s = 0.0

    def join(self, seen: Seen, likenesses: Likenesses) -> list[Joined]:
        """Remember `seen` (its `parts` are filled in here) and return the claims it completes."""
        window_s = self._finder.window_s
        if not window_s:
            return []
        self._seen = deque(
            (one for one in self._seen if seen.start_s - one.end_s <= window_s), MOST_SEEN
        )
        channel = seen.observation.channel
        seen.parts = [
            part
            for part in self._finder.parts_in(seen.text.text, channel)
            if seen.text.span(part.begin, part.end)[1] > seen.lead
        ]
        if channel == "speech":
            self._hear(seen, likenesses)
        self._seen.append(seen)
        return list(self._completed(seen))

    def times_of(self, observation: Observation) -> tuple[float, float]:
        """Seconds; a script without cue times runs on a clock of its own."""
        if observation.channel != "script" or getattr(observation, "timed", False):
            return observation.start, observation.end
        start = self._script_s
        self._script_s += len(observation.text) / SCRIPT_CHARS_PER_S
        return start, self._script_s

    def _hear(self, seen: Seen, likenesses: Likenesses) -> None:
        """Listen for parts by sound, where a claim wants them: looking costs more than reading."""
        others = [one for one in self._seen if one.parts]
        if others:
            self._add_sounds(seen, {p.claim for one in others for p in one.parts}, likenesses)
        if seen.parts:
            wanted = {part.claim for part in seen.parts}
            for one in self._seen:
                if one.observation.channel == "speech":
                    self._add_sounds(one, wanted, likenesses)

    def _add_sounds(self, seen: Seen, wanted: set[int], likenesses: Likenesses) -> None:
        if seen.sounds is None:
            seen.sounds = likenesses(seen.text)
        known = {(part.claim, part.part, part.begin) for part in seen.parts}
        seen.parts += [
            part
            for part in self._finder.by_sound(seen.sounds, seen.observation.channel)
            if part.claim in wanted and (part.claim, part.part, part.begin) not in known
        ]

    def _completed(self, seen: Seen) -> Iterator[Joined]:
        for number in dict.fromkeys(part.claim for part in seen.parts):
            rule, entry = self._finder.claim(number)
            near = [one for one in self._seen if one is seen or _gap_s(one, seen) <= entry.window_s]
            own = {part.part for part in seen.parts if part.claim == number}
            for first in sorted(own):
                places = _gather(number, len(entry.parts), first, seen, near)
                if places is None:
                    continue
                if entry.ordered and not _in_order(places):
                    continue
                yield Joined(rule, tuple(places), first)
                break


def _gather(
    number: int, count: int, first: int, seen: Seen, near: Sequence[Seen]
) -> list[tuple[Seen, Part]] | None:
    """A place for every part: `first` in `seen`, the others as late as possible, one elsewhere."""
    places: list[tuple[Seen, Part]] = []
    for at in range(count):
        holders = [seen] if at == first else [one for one in reversed(near) if one is not seen]
        if at != first and count > 2:
            holders.append(seen)
        found = next(
            (
                (one, part)
                for one in holders
                for part in one.parts
                if part.claim == number and part.part == at
            ),
            None,
        )
        if found is None:
            return None
        places.append(found)
    return places if any(one is not seen for one, _ in places) else None


def _in_order(places: Sequence[tuple[Seen, Part]]) -> bool:
    """Whether what was spoken came in the order of the parts; a banner stands all the while."""
    spoken = [(one.start_s, part.begin) for one, part in places if one.spoken]
    return spoken == sorted(spoken)


def _gap_s(one: Seen, other: Seen) -> float:
    return max(0.0, other.start_s - one.end_s, one.start_s - other.end_s)
