"""Sightings become records: neighbouring matches of one rule merge into one episode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ulid import ULID

from moderator.claims.engine import Absent, Sighting
from moderator.claims.explain import absence_explanation, explanation
from moderator.records import (
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
    sightings = _as_amended(sightings)
    episodes: list[list[Sighting]] = []
    latest: dict[tuple[str, ...], list[Sighting]] = {}
    for sighting in sightings:
        kind = _kind(sighting)
        episode = latest.get(kind)
        if episode is not None and _continues(episode, sighting):
            episode.append(sighting)
        else:
            episodes.append([sighting])
            latest[kind] = episodes[-1]
    records = [_record(episode, provenance) for episode in episodes]
    records += [_absence_record(absent, provenance, duration_s) for absent in absences]
    return sorted(records, key=_order)


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


def _continues(episode: Sequence[Sighting], sighting: Sighting) -> bool:
    if isinstance(sighting.observation, ScriptLine):
        return False
    gap_s = sighting.start_s - max(s.end_s for s in episode)
    return gap_s <= (EPISODE_GAP_S if sighting.observation.channel == "speech" else SCREEN_GAP_S)


def _record(episode: Sequence[Sighting], provenance: Provenance) -> Violation:
    best = max(
        episode,
        key=lambda s: (s.finding.disposition.rank, s.finding.severity.rank, s.finding.confidence),
    )
    finding = best.finding
    observation = best.observation
    rule = finding.rule
    context, span = _window(best.context, best.span)
    place = None
    if isinstance(observation, ScriptLine):
        place = observation.place_of(best.begin, best.end)
    return Violation(
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
        start=min(s.start_s for s in episode),
        end=max(s.end_s for s in episode),
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
        suggestion=rule.suggest.of(provenance.lang),
        product=finding.product,
        exemptions_considered=finding.exemptions_considered,
        engine=provenance.engine,
        occurrences=len(episode),
        place=place,
    )


def _absence_record(absent: Absent, provenance: Provenance, duration_s: float) -> Violation:
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
