"""Sightings become records: neighbouring matches of one rule merge into one episode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ulid import ULID

from moderator.claims.engine import Absent, Sighting
from moderator.claims.explain import absence_explanation, explanation
from moderator.records import (
    Channel,
    Disposition,
    MatchInfo,
    Room,
    RuleRef,
    ScriptLine,
    Violation,
)

EPISODE_GAP_S = 20.0
"""Speech of one rule closer than this is one episode: a person sees one item, not forty."""
SCREEN_GAP_S = 120.0
"""A banner that went away for less than this is the same banner."""
CONTEXT_CHARS = 120
"""Characters kept on each side of the words at fault."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What every record of one session says of where it comes from."""

    room: Room
    session: str
    source: str
    engine: dict[str, str]
    lang: str = "zh"


def new_session() -> str:
    return str(ULID())


def to_violations(
    sightings: Iterable[Sighting],
    absences: Iterable[Absent],
    provenance: Provenance,
    duration_s: float,
) -> list[Violation]:
    """Records in time order, one for each episode."""
    episodes = Episodes(provenance)
    every = [
        episode
        for sighting in _as_amended(sightings)
        if (episode := episodes.add(sighting)).occurrences == 1
    ]
    records = [episode.record() for episode in every]
    records += [absence_record(absent, provenance, duration_s) for absent in absences]
    return sorted(records, key=_order)


@dataclass(slots=True)
class Episode:
    """Neighbouring sightings of one rule, as known so far; its record keeps one `id`.

    `provenance` is that of its firmest sighting, `start` and `end` media-clock seconds.
    """

    best: Sighting
    provenance: Provenance
    start: float
    end: float
    occurrences: int = 1
    id: str = field(default_factory=lambda: str(ULID()))
    wall_time: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds")
    )

    def record(self) -> Violation:
        """The record of the episode as it stands."""
        return _record(self)

    def _take(self, sighting: Sighting, provenance: Provenance) -> None:
        self.occurrences += 1
        self.start = min(self.start, sighting.start_s)
        self.end = max(self.end, sighting.end_s)
        if _firmness(sighting) > _firmness(self.best):
            self.best, self.provenance = sighting, provenance

    def _continues_with(self, sighting: Sighting) -> bool:
        if isinstance(sighting.observation, ScriptLine):
            return False
        return sighting.start_s - self.end <= _gap_s(sighting.observation.channel)


class Episodes:
    """Sightings in, in order of time within a channel; each goes to a new or an open episode.

    A recording adds everything and asks for the records at the end. A live room writes the
    record of each new episode at once, updates it while it grows, and calls `expire` so that
    what can grow no more is forgotten: memory is bounded by the episodes that are open.
    `provenance` may be replaced on the way, as when rules are reloaded.
    """

    def __init__(self, provenance: Provenance) -> None:
        self.provenance = provenance
        self._open: dict[tuple[str, ...], Episode] = {}
        self._followed: list[Episode] = []

    def add(self, sighting: Sighting) -> Episode:
        """The episode that the sighting belongs to; a new one has one occurrence.

        A sighting that amends the one its episode stands on takes its place.
        """
        kind = _kind(sighting)
        episode = self._open.get(kind)
        if episode is not None and sighting.amends is not None and episode.best is sighting.amends:
            episode.best = sighting
            return episode
        if episode is not None and episode._continues_with(sighting):
            episode._take(sighting, self.provenance)
        else:
            if episode is not None:
                self._followed.append(episode)
            episode = Episode(sighting, self.provenance, sighting.start_s, sighting.end_s)
            self._open[kind] = episode
        return episode

    def stretch(self, sighting: Sighting, end_s: float) -> Episode | None:
        """Say that what was sighted lasted until `end_s`; the episode, if it is still open."""
        episode = self._open.get(_kind(sighting))
        if episode is None or sighting.start_s < episode.start:
            return None
        episode.end = max(episode.end, end_s)
        return episode

    def expire(self, now_s: float) -> list[Episode]:
        """Forget and return the episodes that nothing from `now_s` on can continue, and those
        that another of their kind has followed."""
        over = [
            kind
            for kind, episode in self._open.items()
            if now_s - episode.end > _gap_s(episode.best.observation.channel)
        ]
        return self._forget_followed() + [self._open.pop(kind) for kind in over]

    def close(self) -> list[Episode]:
        """Forget and return every episode."""
        closed = self._forget_followed() + list(self._open.values())
        self._open.clear()
        return closed

    def _forget_followed(self) -> list[Episode]:
        followed, self._followed = self._followed, []
        return followed


def _as_amended(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Each sighting as it stands in the end: one that was corrected, in its corrected form."""
    found = list(sightings)
    replaced = {id(sighting.amends) for sighting in found if sighting.amends is not None}
    return [sighting for sighting in found if id(sighting) not in replaced]


def _order(record: Violation) -> tuple[float, int, int]:
    place = record.place
    return record.start, place.line if place else 0, place.column if place else 0


def _kind(sighting: Sighting) -> tuple[str, ...]:
    """What two sightings must share to be of one episode."""
    channel, rule_id = sighting.observation.channel, sighting.finding.rule.id
    return (channel, rule_id) if channel == "speech" else (channel, rule_id, sighting.finding.quote)


def _gap_s(channel: Channel) -> float:
    return EPISODE_GAP_S if channel == "speech" else SCREEN_GAP_S


def _firmness(sighting: Sighting) -> tuple[int, int, float]:
    finding = sighting.finding
    return finding.disposition.rank, finding.severity.rank, finding.confidence


def _record(episode: Episode) -> Violation:
    best, provenance = episode.best, episode.provenance
    finding = best.finding
    observation = best.observation
    rule = finding.rule
    context, span = _window(best.context, best.span)
    place = None
    if isinstance(observation, ScriptLine):
        place = observation.place_of(best.begin, best.end)
    return Violation(
        id=episode.id,
        wall_time=episode.wall_time,
        room=provenance.room.id,
        session=provenance.session,
        source=provenance.source,
        rule=RuleRef(rule.id, rule.version, rule.title.of(provenance.lang)),
        category=rule.category,
        disposition=finding.disposition,
        severity=finding.severity,
        confidence=finding.confidence,
        law=rule.law,
        channel=observation.channel,
        start=episode.start,
        end=episode.end,
        quote=finding.quote,
        heard=finding.heard,
        span=span,
        context=context,
        match=MatchInfo(
            finding.match.kind,
            round(finding.match.score, 3),
            finding.match.acoustic_llr,
            finding.match.matched,
        ),
        explanation=explanation(finding, observation.channel, provenance.lang),
        suggestion=finding.suggestion.of(provenance.lang),
        product=finding.product,
        exemptions_considered=finding.exemptions_considered,
        engine=provenance.engine,
        occurrences=episode.occurrences,
        place=place,
    )


def absence_record(absent: Absent, provenance: Provenance, duration_s: float) -> Violation:
    """The record of a duty that a session of `duration_s` did not fulfil."""
    rule = absent.rule
    return Violation(
        room=provenance.room.id,
        session=provenance.session,
        source=provenance.source,
        rule=RuleRef(rule.id, rule.version, rule.title.of(provenance.lang)),
        category=rule.category,
        disposition=rule.disposition if not rule.needs else Disposition.NEEDS_PROOF,
        severity=rule.severity,
        confidence=0.8,
        law=rule.law,
        channel="stream",
        start=0.0,
        end=duration_s,
        quote="",
        span=(0, 0),
        context="",
        match=MatchInfo("absence", 1.0, None, "、".join(absent.due.phrases)),
        explanation=absence_explanation(rule, absent.due, provenance.lang),
        suggestion=rule.suggest.of(provenance.lang),
        engine=provenance.engine,
    )


def _window(context: str, span: tuple[int, int]) -> tuple[str, tuple[int, int]]:
    begin = max(0, span[0] - CONTEXT_CHARS)
    end = min(len(context), span[1] + CONTEXT_CHARS)
    return context[begin:end], (span[0] - begin, span[1] - begin)
