"""The gate: harmless talk accuses no one, and rarely asks for a second look.

A new alarm is mended in the rule. Where that cannot be done yet, the line goes into
`tests/data/clean_speech_known.yaml` with the rule and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.rules import load_rules
from moderator.records import Disposition, Room, ScriptLine

DATA = Path(__file__).parents[1] / "data"
KNOWN = DATA / "clean_speech_known.yaml"

SECOND_LOOKS_PER_1000 = 5
"""How many lines in a thousand may be `suspect` or `needs_proof`."""


@dataclass(frozen=True)
class Alarm:
    place: str
    rule: str
    disposition: Disposition
    quote: str
    text: str

    def __str__(self) -> str:
        return f"{self.place} {self.rule} {self.disposition} “{self.quote}”: {self.text}"


@cache
def talk() -> dict[str, str]:
    """`file:line` → the line."""
    return {
        f"{path.name}:{number}": text
        for path in sorted((DATA / "clean_speech").glob("*.txt"))
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if text.strip() and not text.startswith("#")
    }


@cache
def alarms() -> tuple[Alarm, ...]:
    """What every line gives by itself, without a passport."""
    engine = ClaimEngine(load_rules())
    found = []
    for place, text in talk().items():
        for sighting in ClaimSession(engine, Room(), []).observe(ScriptLine(text)):
            finding = sighting.finding
            found.append(Alarm(place, finding.rule.id, finding.disposition, finding.quote, text))
    return tuple(found)


@cache
def known() -> tuple[dict[str, Any], ...]:
    entries = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))["known"]
    return tuple(entries)


def accusations() -> set[tuple[str, str]]:
    return {
        (alarm.text, alarm.rule) for alarm in alarms() if alarm.disposition is Disposition.VIOLATION
    }


def test_clean_speech_is_enough_to_mean_something() -> None:
    assert len(talk()) > 1000
    assert sum(map(len, talk().values())) > 25_000


def test_clean_speech_accuses_no_one() -> None:
    excused = {(entry["text"], entry["rule"]) for entry in known()}
    fresh = [
        str(alarm)
        for alarm in alarms()
        if alarm.disposition is Disposition.VIOLATION and (alarm.text, alarm.rule) not in excused
    ]
    assert fresh == []


def test_clean_speech_rarely_asks_for_a_second_look() -> None:
    doubtful = [alarm for alarm in alarms() if alarm.disposition is not Disposition.VIOLATION]
    allowed = SECOND_LOOKS_PER_1000 * len(talk()) / 1000
    assert len(doubtful) <= allowed, "\n".join(map(str, doubtful))


def test_clean_speech_known_alarms_are_real_and_explained() -> None:
    for entry in known():
        assert entry["text"] in talk().values(), f"the line is gone, take it out: {entry}"
        assert (entry["text"], entry["rule"]) in accusations(), f"mended, take it out: {entry}"
        assert len(entry["reason"]) >= 20, entry


def test_clean_speech_gate_would_notice_an_accusation() -> None:
    engine = ClaimEngine(load_rules())
    sightings = ClaimSession(engine, Room(), []).observe(ScriptLine("家人们这是国家级的品质"))
    assert Disposition.VIOLATION in {sighting.finding.disposition for sighting in sightings}
