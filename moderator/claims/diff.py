"""What a change of rules changes: the verdicts of two packs on the same sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.passports import Passport
from moderator.claims.rules import RulePack
from moderator.records import Room, ScriptLine

Verdicts = dict[str, str]
"""Rule id → disposition."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A sentence on which two packs disagree: rules gained, lost, or changed in disposition."""

    id: str
    text: str
    before: Verdicts
    after: Verdicts


def flips(
    old: RulePack, new: RulePack, sentences: Iterable[tuple[str, str, Passport | None]]
) -> Iterator[Flip]:
    """Sentences (id, text, passport) that the two packs judge differently, in order."""
    engines = ClaimEngine(old), ClaimEngine(new)
    for sentence_id, text, passport in sentences:
        before, after = (verdicts(engine, text, passport) for engine in engines)
        if before != after:
            yield Flip(sentence_id, text, before, after)


def verdicts(engine: ClaimEngine, text: str, passport: Passport | None = None) -> Verdicts:
    """What one pack says of one sentence, judged by itself."""
    session = ClaimSession(engine, Room(), [passport] if passport else [])
    return {
        sighting.finding.rule.id: str(sighting.finding.disposition)
        for sighting in session.observe(ScriptLine(text))
    }
