"""Observations in, findings out: the claim engine of one rule pack, and one session of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from moderator.claims.across import AcrossFinder, Joined, Recently, Seen
from moderator.claims.audience import RAISED, Audience, AudienceReader
from moderator.claims.base_rate import BaseRate
from moderator.claims.disguises import Disguises
from moderator.claims.judge import Acquittal, Finding, Judge, Meaning, Ruling
from moderator.claims.matcher import ClaimMatcher, Match, PatternMatcher
from moderator.claims.normalise import PAUSE, Normalised, normalise, without_pauses
from moderator.claims.passports import Passport
from moderator.claims.patterns import Pattern
from moderator.claims.phonetics import SoundHit
from moderator.claims.products import CategoryCues, ProductTracker, ProductView
from moderator.claims.rules import AbsenceMatch, Rule, RulePack, Text
from moderator.records import (
    Disposition,
    Observation,
    Relistened,
    Room,
    Severity,
    Utterance,
)

JOIN_GAP_S = 2.0
"""Utterances closer than this are read together: a claim may run over both."""
JOIN_CHARS = 40
"""How much of what was said just before is read again with an utterance."""
JOINT = PAUSE
JOINED_CHARS = 30
"""How much around each part a record shows of a claim whose parts lie apart."""
CORRECTION_S = 8.0
CORRECTION_UTTERANCES = 2
"""A correction takes back what was said so shortly before, in seconds and in utterances."""
AUDIENCE_S = 20.0
AUDIENCE_UTTERANCES = 3
"""Whoever was addressed so shortly before is still being spoken to."""
ABSENCE_MIN_CHARS = 120
"""A session shorter than this has had no fair chance to give its notices."""


READABLE = ("speech", "screen", "script")
CHANNEL_LABELS = {
    "speech": "【口播】",
    "screen": "【画面】",
    "script": "【文案】",
    "code": "【二维码】",
}
BRIEF_CHARS, LEAST_HEARD = 4, 0.3
"""Of so few words every character must have been recognised with that confidence to accuse."""
GUESS_SCORE = 0.8
"""What is found in a guess of what was said: never firm."""
READ_CHANNELS = frozenset({"speech", "script"})
"""Where there are whole sentences; a banner is too short to be read for its meaning."""


@runtime_checkable
class ReadsMeaning(Protocol):
    """A matcher that can also say how likely what stands around a match is unlawful, and each
    sentence that is new in `text`, both in log-odds; and on which channels it is keen."""

    def meaning(self, text: Normalised) -> Meaning: ...

    def spoken(self, text: Normalised) -> list[float]: ...

    def keen_on(self, channel: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding in its observation. `context` is what was read, `span` the words in it;
    `begin`/`end` are offsets in the observation's own text (of the part that lies in it).

    `amends` is an earlier sighting that this one takes the place of: the host has corrected it.
    """

    finding: Finding
    observation: Observation
    context: str
    span: tuple[int, int]
    begin: int
    end: int
    start_s: float
    end_s: float
    amends: Sighting | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """A duty that the whole session did not fulfil."""

    rule: Rule
    due: AbsenceMatch


class ClaimEngine:
    """A compiled rule pack. Read-only after construction: one engine serves every room.

    `matchers` adds further ways of finding claims beside the patterns; what they find
    goes through the same judge. The first that reads meaning is also asked about every match.
    """

    def __init__(self, pack: RulePack, matchers: Sequence[ClaimMatcher] = ()) -> None:
        self.pack = pack
        self.patterns = PatternMatcher(pack)
        self._matchers: tuple[ClaimMatcher, ...] = (self.patterns, *matchers)
        self._reader = next((m for m in matchers if isinstance(m, ReadsMeaning)), None)
        self._judge = Judge(pack)
        self.cues = CategoryCues(pack.product_cues)
        self.across = AcrossFinder(pack)
        self.audiences = AudienceReader(
            pack.audiences, {name: lexicon.terms for name, lexicon in pack.lexicons.items()}
        )
        self._disguises = Disguises(
            pack.morphs, pack.near_glyphs, pack.disguised_terms(), pack.hidden_terms()
        )

    @property
    def versions(self) -> dict[str, str]:
        """What a record names as having decided: the rule pack, and the matchers beside it."""
        named = {matcher.name: matcher.version for matcher in self._matchers if matcher.version}
        return {"rules": self.pack.version, **named}

    def normalise(self, text: str) -> Normalised:
        return normalise(text, self._disguises.find)

    def compile(self) -> None:
        """Compile every expression now, and not when words first call for it, so that a room does
        not need more time and memory little by little. Raises LM-205 for one that is none."""
        for pattern in self.expressions:
            pattern.compiled  # noqa: B018

    @property
    def expressions(self) -> Iterator[Pattern]:
        """Every expression, those that find and those that acquit; `rules lint` tries their
        speed."""
        yield from self.patterns.patterns
        yield from self.across.patterns
        yield from self.audiences.patterns
        yield from self._judge.patterns

    def likenesses(self, text: str) -> list[SoundHit]:
        """Where `text`, as it was recognised, sounds like a term; for the second listen.

        Offsets are those of `text`. What is alike only across a pause mark is there too.
        """
        plain = self.normalise(text)
        found: dict[tuple[int, int, str], SoundHit] = {}
        for reading in (plain, without_pauses(plain)):
            for hit in self.patterns.likenesses(reading):
                begin, end = reading.span(hit.begin, hit.end)
                found.setdefault((begin, end, hit.term), SoundHit(begin, end, hit.term, hit.score))
        return list(found.values())

    def rulings(
        self,
        text: Normalised,
        product: ProductView,
        channel: str,
        relistened: Sequence[Relistened] = (),
        confidences: Sequence[float] | None = None,
        leaning: float = 0.0,
        heard: Normalised | None = None,
    ) -> list[Ruling]:
        """Every match in `text` with what became of it, findings and acquittals alike.

        Speech is read a second time without its pause marks, which the recogniser guesses.
        `relistened` is what the second listen said, and `confidences` how sure the recogniser was
        of each character, both by offsets in `text.original`. `leaning` is the room's, as in
        `ClaimMatcher`. `heard` is what was probably said (`reheard`): it is read for its meaning
        in place of what was written, and patterns are looked for in it too.
        """
        again = {(one.begin, one.end, one.term): one for one in relistened}
        if heard is None:
            heard = text
        found = self._rule_on(text, heard, product, channel, again, confidences, leaning)
        if channel != "speech":
            return found
        covered = {
            (ruling.match.rule.id, at)
            for ruling in found
            for at in range(*text.span(ruling.match.begin, ruling.match.end))
        }

        def add(rulings: Iterable[Ruling], reading: Normalised) -> None:
            for ruling in rulings:
                places = range(*reading.span(ruling.match.begin, ruling.match.end))
                if all((ruling.match.rule.id, at) not in covered for at in places):
                    found.append(ruling)
                    covered.update((ruling.match.rule.id, at) for at in places)

        flowing, guess = without_pauses(text), without_pauses(heard)
        if flowing is not text:
            rulings = self._rule_on(flowing, guess, product, channel, again, confidences, leaning)
            add(rulings, flowing)
        if guess.text != flowing.text:
            add(self._rule_on_guess(guess, flowing, product), guess)
        return found

    def reheard(self, text: Normalised, confidences: Sequence[float]) -> Normalised:
        """What was probably said; place for place the text itself, pause marks and all.

        `confidences` are how sure the recogniser was of each character, as in `rulings`.
        """
        flowing = without_pauses(text)
        certainty = [confidences[flowing.span(at, at + 1)[0]] for at in range(len(flowing.text))]
        guessed = iter(self.pack.rehearing.guess(flowing.text, certainty))
        if flowing is text:
            return replace(text, text="".join(guessed))
        return replace(
            text, text="".join(char if char == PAUSE else next(guessed) for char in text.text)
        )

    def _rule_on_guess(
        self, guess: Normalised, written: Normalised, product: ProductView
    ) -> list[Ruling]:
        """Rulings on what patterns find in the guess alone."""
        meaning = self._reader.meaning(guess) if self._reader is not None else None
        keen = self._keen_on("speech")
        rulings = []
        for match in self.patterns.find(guess, by_sound=False, channel="speech"):
            if guess.text[match.begin : match.end] == written.text[match.begin : match.end]:
                continue
            guessed = replace(match, kind="phonetic", score=match.score * GUESS_SCORE, guessed=True)
            rulings.append(self._judge.rule_on(guessed, guess, product, "speech", meaning, keen))
        return rulings

    def _rule_on(
        self,
        text: Normalised,
        heard: Normalised,
        product: ProductView,
        channel: str,
        again: _ListenedAgain,
        confidences: Sequence[float] | None,
        leaning: float,
    ) -> list[Ruling]:
        certainty = None
        if confidences is not None:
            certainty = [confidences[text.span(at, at + 1)[0]] for at in range(len(text.text))]
        meaning = None
        if self._reader is not None and channel in READ_CHANNELS:
            meaning = self._reader.meaning(heard)
        keen = self._keen_on(channel)
        rulings = []
        for matcher in self._matchers:
            read = heard if matcher is self._reader else text
            for match in matcher.find(
                read, by_sound=True, certainty=certainty, channel=channel, leaning=leaning
            ):
                if match.kind == "semantic":
                    place = slice(match.begin, match.end)
                    own = replace(match, guessed=read.text[place] != text.text[place])
                    ruling = self._judge.rule_on(own, text, product, channel, None, keen)
                else:
                    own = _relistened(match, text, again)
                    ruling = self._judge.rule_on(own, text, product, channel, meaning, keen)
                rulings.append(ruling)
        return rulings

    def _keen_on(self, channel: str) -> bool:
        return self._reader is not None and self._reader.keen_on(channel)

    def join(self, joined: Joined, product: ProductView) -> Finding | None:
        """Rule on a claim whose parts lie in several observations; None where any part is exempt.

        The finding is that of the last part, with what holds for all of them.
        """
        rulings = [
            self._judge.rule_on(
                seen.match(joined.rule, part), seen.text, product, seen.observation.channel
            )
            for seen, part in joined.places
        ]
        findings = [ruling for ruling in rulings if isinstance(ruling, Finding)]
        if len(findings) < len(rulings):
            return None
        own = findings[joined.last]
        quote = "…".join(findings[number].quote for number in joined.in_order())
        reasons = [reason for f in findings for reason in f.reasons]
        return replace(
            own,
            quote=quote,
            disposition=_together(findings),
            confidence=min(f.confidence for f in findings),
            match=replace(own.match, matched=quote),
            reasons=(_apart_in(joined), *dict.fromkeys(reasons)),
        )

    def correction_in(self, text: str) -> str:
        """The words that take back what was said just before, empty where there are none."""
        return self._judge.correction_in(text)

    def spoken(self, text: Normalised) -> list[float]:
        """How the reader of meaning judges the sentences, as in `ReadsMeaning`; none without it."""
        return self._reader.spoken(text) if self._reader is not None else []


_ListenedAgain = Mapping[tuple[int, int, str], Relistened]
"""What the second listen said, by begin and end in the original, and the term."""


def _relistened(match: Match, text: Normalised, again: _ListenedAgain) -> Match:
    """The match with what the second listen said of it: of several likenesses, the least fitting.

    Where one of them was not listened to again, nothing.
    """
    if not match.likenesses:
        return match
    found = [again.get((*text.span(hit.begin, hit.end), hit.term)) for hit in match.likenesses]
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return match
    least = min(known, key=lambda one: one.llr)
    return replace(match, acoustic_llr=least.llr, doubt=least.doubt)


class ClaimSession:
    """One room's talk through the engine, in order. Not thread-safe: one session, one owner."""

    def __init__(
        self, engine: ClaimEngine, room: Room | None = None, passports: Sequence[Passport] = ()
    ) -> None:
        self._engine = engine
        self._room = room or Room()
        self._passports = list(passports)
        self._products = ProductTracker(self._passports, engine.cues)
        self._before = ""
        self._again: list[Relistened] = []  # offsets count back from the end of what was before
        self._before_confidences: list[float] = []
        self._told: tuple[tuple[Utterance, int], ...] = ()
        self._spoken_until = float("-inf")
        self._seen_chars = 0
        self._heard: dict[str, list[str]] = {}
        self._recently = Recently(engine.across)
        self._said: deque[tuple[str, float]] = deque(maxlen=AUDIENCE_UTTERANCES)
        self._base_rate = BaseRate()
        self._lately: deque[tuple[Observation, list[Sighting]]] = deque(
            maxlen=CORRECTION_UTTERANCES
        )
        self._on_sale = {
            p.id
            for p in self._passports
            if p.id in self._room.products or len(self._passports) == 1
        }

    def observe(self, observation: Observation) -> list[Sighting]:
        """Findings in one observation. What the guards distrust accuses no one.

        Where it takes back what was said just before, those sightings come again, downgraded,
        with `amends` naming what they take the place of.
        """
        reading = self._read(observation)
        if reading is None:
            return []
        sightings = _strongest(reading.patterns_first())
        amended = self._amended(observation)
        if observation.channel in READ_CHANNELS:
            self._lately.append((observation, sightings))
        return [*amended, *sightings]

    def every(self, observation: Observation) -> list[Sighting]:
        """As `observe`, with every finding, also those that give way to another."""
        reading = self._read(observation)
        return reading.sightings if reading is not None else []

    def _read(self, observation: Observation) -> _Reading | None:
        if observation.distrust or not observation.text.strip():
            return None
        lead = self._lead_to(observation)
        original = lead + observation.text
        if observation.channel == "screen":
            original = original.replace("\n", JOINT)
        text = replace(self._engine.normalise(original), fresh=len(lead))
        product = self._products.see(text.text)
        if product.passport is not None:
            self._on_sale.add(product.passport.id)
        self._seen_chars += len(observation.text)
        self._heard.setdefault(observation.channel, []).append(text.text)
        relistened = self._relistened(observation, len(lead))
        confidences = self._confidences(observation, len(lead))
        heard = text if confidences is None else self._engine.reheard(text, confidences)
        shift = self._base_rate.shift if observation.channel == "speech" else 0.0
        rulings = self._engine.rulings(
            text, product, observation.channel, relistened, confidences, shift, heard
        )
        if observation.channel == "speech":
            self._base_rate.see(self._engine.spoken(heard))
        sightings = [
            self._sight(ruling, observation, original, len(lead))
            for ruling in rulings
            if isinstance(ruling, Finding) and ruling.end > len(lead)
        ]
        start_s, end_s = self._recently.times_of(observation)
        seen = Seen(observation, text, len(lead), start_s, end_s)
        for joined in self._recently.join(seen, self._engine.patterns.likenesses):
            finding = self._engine.join(joined, product)
            if finding is not None:
                sightings.append(_sight_joined(finding, joined))
        return _Reading(text, rulings, self._weighed_by_audience(sightings, text, start_s, end_s))

    def _weighed_by_audience(
        self, sightings: list[Sighting], text: Normalised, start_s: float, end_s: float
    ) -> list[Sighting]:
        """Severity one step up where those are spoken to whom a false claim harms more."""
        lately = [said for said, until_s in self._said if start_s - until_s <= AUDIENCE_S]
        self._said.append((text.text, end_s))
        weighed = []
        audience: Audience | None = None
        for sighting in sightings:
            finding = sighting.finding
            if self._engine.audiences.weighs(finding.rule.category):
                audience = audience or self._engine.audiences.addressed([text.text, *lately[::-1]])
                if audience is not None:
                    why = Text(
                        f"面向{audience.name.zh}（“{audience.words}”），严重程度上调一级",
                        f"said to {audience.name.en} (“{audience.words}”): one step more severe",
                    )
                    finding = replace(
                        finding,
                        severity=RAISED[finding.severity],
                        reasons=(*finding.reasons, why),
                    )
            weighed.append(replace(sighting, finding=finding))
        return weighed

    def _amended(self, observation: Observation) -> list[Sighting]:
        """What was said shortly before and is now taken back: kept, and only suspected."""
        if observation.channel not in READ_CHANNELS or not any(found for _, found in self._lately):
            return []
        correction = self._engine.correction_in(normalise(observation.text).text)
        if not correction:
            return []
        corrected = Text(
            f"主播随后更正（“{correction}”）", f"the host corrected it soon after (“{correction}”)"
        )
        amended = []
        for said, sightings in self._lately:
            if observation.start - said.end > CORRECTION_S:
                continue
            for sighting in sightings:
                finding = replace(
                    sighting.finding,
                    disposition=Disposition.SUSPECT,
                    severity=Severity.LOW,
                    reasons=(*sighting.finding.reasons, corrected),
                )
                amended.append(replace(sighting, finding=finding, amends=sighting))
        self._lately.clear()
        return amended

    def under(self, engine: ClaimEngine) -> ClaimSession:
        """The same session under another rule pack: it remembers what it heard so far.

        Which product was being talked about is kept; use only the new session afterwards.
        """
        session = ClaimSession(engine, self._room, self._passports)
        session._products = self._products.with_cues(engine.cues)
        session._before, session._again = self._before, self._again
        session._before_confidences, session._lately = self._before_confidences, self._lately
        session._told = self._told
        session._spoken_until, session._seen_chars = self._spoken_until, self._seen_chars
        session._heard, session._on_sale = self._heard, self._on_sale
        session._said, session._base_rate = self._said, self._base_rate
        session._recently = self._recently.under(engine.across)
        return session

    def preview(self, text: str) -> list[Finding]:
        """What speech `text` would be accused of if it were observed now; nothing is remembered.

        Offsets are those of `text`. For words that are not final yet.
        """
        plain = self._engine.normalise(text)
        product, leaning = self._products.peek(plain.text), self._base_rate.shift
        rulings = self._engine.rulings(plain, product, "speech", leaning=leaning)
        return [ruling for ruling in rulings if isinstance(ruling, Finding)]

    def finish(self) -> list[Absent]:
        """Duties of the whole session that were not met; call once, at its end."""
        if self._seen_chars < ABSENCE_MIN_CHARS:
            return []
        return [
            Absent(rule, due)
            for rule in self._engine.pack.rules
            if (due := next((due for due in rule.absences if self._is_missing(rule, due)), None))
        ]

    def _is_missing(self, rule: Rule, due: AbsenceMatch) -> bool:
        """Whether the duty exists here and was not fulfilled.

        The documents that a rule needs fulfil it, where every product concerned has one.
        """
        concerned = [
            p for p in self._passports if p.id in self._on_sale and p.category in due.products
        ]
        if due.ai_host or due.merchant or due.products:
            named = due.merchant and bool(self._room.merchant)
            if not (concerned or named or (due.ai_host and self._room.ai_host)):
                return False
        if not all(self._was_heard(phrases, READABLE) for phrases in due.said):
            return False
        if rule.needs and concerned and all(any(map(p.has, rule.needs)) for p in concerned):
            return False
        phrases = [*due.phrases, *([self._room.merchant] if due.merchant else [])]
        return not self._was_heard(phrases, due.channels)

    def _lead_to(self, observation: Observation) -> str:
        """The end of what was said just before, for claims that run over two utterances."""
        if not isinstance(observation, Utterance):
            return ""
        if observation.start - self._spoken_until > JOIN_GAP_S:
            self._before, self._told = "", ()
        lead = self._before[-JOIN_CHARS:]
        # The mark that ends an utterance is the recogniser's; the sentence may go on.
        own = observation.text.rstrip("。.，, ") + JOINT
        self._before = lead + own
        self._told = (*self._told, (observation, len(own)))[-JOIN_CHARS:]
        self._spoken_until = observation.end
        return lead

    def _relistened(self, observation: Observation, lead: int) -> list[Relistened]:
        """What the second listen said, by offsets in the utterance with its lead before it."""
        if not isinstance(observation, Utterance):
            return []
        heard = [_moved(one, lead) for one in self._again if one.begin + lead >= 0]
        heard += [_moved(one, lead) for one in observation.relistened]
        self._again = [_moved(one, -len(self._before)) for one in heard]
        return heard

    def _confidences(self, observation: Observation, lead: int) -> list[float] | None:
        """How sure the recogniser was of each character, those of the lead first."""
        if not isinstance(observation, Utterance):
            return None
        before = self._before_confidences[-lead:] if lead else []
        own = [char.confidence for char in observation.chars for _ in char.text]
        own += [observation.confidence] * (len(observation.text) - len(own))
        said = observation.text.rstrip("。.，, ")
        self._before_confidences = [*before, *own[: len(said)], 1.0][-JOIN_CHARS:]
        return [*before, *own]

    def _sight(
        self, finding: Finding, observation: Observation, original: str, lead: int
    ) -> Sighting:
        begin, end = max(0, finding.begin - lead), finding.end - lead
        start_s, end_s = observation.time_of(begin, end)
        if finding.begin < lead:
            start_s = _said_at(self._told[:-1], lead - finding.begin, start_s)
        recognised = observation.confidence_of(begin, end)
        weakened = replace(
            _hardly_heard(finding, observation, begin, end),
            confidence=round(finding.confidence * (0.5 + 0.5 * recognised), 3),
        )
        return Sighting(
            weakened,
            observation,
            original,
            (finding.begin, finding.end),
            begin,
            end,
            start_s,
            end_s,
        )

    def _was_heard(self, phrases: Sequence[str], channels: Sequence[str]) -> bool:
        wanted = [self._engine.normalise(phrase).text for phrase in phrases]
        for channel in channels:
            said = "".join(self._heard.get(channel, ()))
            if any(phrase in said for phrase in wanted):
                return True
        return False


def _said_at(told: Sequence[tuple[Utterance, int]], back: int, latest: float) -> float:
    """Media-clock second of what stands `back` characters before the end of `told`, utterances
    with the characters each has in the lead."""
    for utterance, length in reversed(told):
        if back <= length:
            at = length - back
            return min(latest, utterance.time_of(at, at + 1)[0])
        back -= length
    return latest


def _hardly_heard(finding: Finding, observation: Observation, begin: int, end: int) -> Finding:
    """An accusation for a few words of which the recogniser guessed one is a suspicion."""
    brief = isinstance(observation, Utterance) and end - begin <= BRIEF_CHARS
    if not brief or finding.disposition is not Disposition.VIOLATION:
        return finding
    guessed = [
        observation.text[at]
        for at in range(begin, end)
        if observation.confidence_of(at, at + 1) < LEAST_HEARD
    ]
    if not guessed:
        return finding
    words = "".join(guessed)
    why = Text(f"识别对“{words}”没有把握", f"the recogniser was unsure of “{words}”")
    reasons = (*finding.reasons, why)
    return replace(finding, disposition=Disposition.SUSPECT, reasons=reasons)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One observation as it was read, with every ruling and every finding."""

    text: Normalised
    rulings: list[Ruling]
    sightings: list[Sighting]

    def patterns_first(self) -> list[Sighting]:
        """Without the suspicions of the classifier that a pattern has settled."""
        settled = {id(ruling.match) for ruling in self.rulings}
        settled -= {id(ruling.match) for ruling in _patterns_first(self.rulings, self.text)}
        return [s for s in self.sightings if id(s.finding.match) not in settled]


def _sight_joined(finding: Finding, joined: Joined) -> Sighting:
    """A sighting in the observation that completed the claim; its context shows every part."""
    context = ""
    edges: list[int] = []
    for number in joined.in_order():
        seen, part = joined.places[number]
        begin, end = seen.text.span(part.begin, part.end)
        low, high = max(0, begin - JOINED_CHARS), end + JOINED_CHARS
        context += ("　" if context else "") + CHANNEL_LABELS.get(seen.observation.channel, "")
        edges += (len(context) + begin - low, len(context) + end - low)
        context += seen.text.original[low:high].replace("\n", JOINT)
    spoken = [place for place in joined.places if place[0].spoken] or joined.places
    times = [seen.time_of(part) for seen, part in spoken]
    last, own = joined.places[joined.last]
    begin, end = last.own_span(own)
    return Sighting(
        finding,
        last.observation,
        context,
        (edges[0], edges[-1]),
        begin,
        end,
        min(start for start, _ in times),
        max(end for _, end in times),
    )


def _moved(one: Relistened, by: int) -> Relistened:
    return replace(one, begin=one.begin + by, end=one.end + by)


def _patterns_first(rulings: list[Ruling], text: Normalised) -> list[Ruling]:
    """Leave out what only the classifier suspects where a pattern has already said more.

    That is: in words that a pattern accuses, whatever the category, and in words that a
    pattern of the same category met and an exemption took back.
    """
    by_pattern = [ruling for ruling in rulings if ruling.match.kind != "semantic"]

    def settled(suspicion: Ruling) -> bool:
        begin, end = _words_of(suspicion, text)
        for ruling in by_pattern:
            first, last = _words_of(ruling, text)
            if last <= begin or end <= first:
                continue
            same = ruling.match.rule.category == suspicion.match.rule.category
            if isinstance(ruling, Finding) or (same and ruling.match.kind == "literal"):
                return True
        return False

    suspicions = [r for r in rulings if r.match.kind == "semantic" and not settled(r)]
    return [*by_pattern, *suspicions]


def _words_of(ruling: Ruling, text: Normalised) -> tuple[int, int]:
    """Offsets in the original of the words at fault.

    What was taken back in the reading without pauses lies a few characters off; near enough.
    """
    if isinstance(ruling, Finding):
        return ruling.begin, ruling.end
    return text.span(ruling.match.begin, ruling.match.end)


def _strongest(sightings: list[Sighting]) -> list[Sighting]:
    """Of overlapping findings in one category the firmest stays; categories stand side by side."""

    def rank(sighting: Sighting) -> tuple[int, int, int, float]:
        f = sighting.finding
        return f.disposition.rank, f.severity.rank, f.end - f.begin, f.confidence

    kept: list[Sighting] = []
    for sighting in sorted(sightings, key=rank, reverse=True):
        finding = sighting.finding
        if all(
            k.finding.rule.category != finding.rule.category
            or k.finding.end <= finding.begin
            or finding.end <= k.finding.begin
            for k in kept
        ):
            kept.append(sighting)
    return sorted(kept, key=lambda s: (s.finding.begin, s.finding.end))


def _together(findings: Sequence[Finding]) -> Disposition:
    """A part that is only suspected makes the whole suspected; else the firmest part tells."""
    ranked = sorted((f.disposition for f in findings), key=lambda d: d.rank)
    return ranked[0] if ranked[0] is Disposition.SUSPECT else ranked[-1]


def _apart_in(joined: Joined) -> Text:
    names = {"speech": "口播", "screen": "画面", "script": "文案", "code": "二维码"}
    channels = dict.fromkeys(seen.observation.channel for seen, _ in joined.places)
    if len(channels) == 1:
        return Text("把前后几句合起来看", "several sentences taken together")
    where = "与".join(names.get(channel, channel) for channel in channels)
    return Text(f"把{where}合起来看", f"{' and '.join(channels)} taken together")


__all__ = ["Absent", "Acquittal", "ClaimEngine", "ClaimSession", "Finding", "Sighting"]
