"""The gate: harmless talk raises no alarm that is not known and explained.

The engine is the shipped one, classifier included. A new alarm is mended where it comes from. Where
that cannot be done yet, the line goes into `tests/data/clean_speech_known.yaml` under its rule, with the
reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from moderator.claims.classifier import semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.rules import load_rules
from moderator.records import Disposition, Room, ScriptLine

DATA = Path(__file__).parents[1] / "data"
KNOWN = DATA / "clean_speech_known.yaml"

ALARMS_PER_1000 = 10
"""How many known alarms there may be in a thousand lines: the list is no rubbish heap."""
PHRASE_CHARS = 9
"""A run of characters this long is a phrase; as a template it may not come back all the time."""
MOST_REPEATS = 12


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
    """What every line gives by itself, without a passport, at the thresholds of a live room."""
    pack = load_rules()
    engine = ClaimEngine(pack, semantic_matchers(pack, keen=()))
    found = []
    for place, text in talk().items():
        for sighting in ClaimSession(engine, Room(), []).observe(ScriptLine(text)):
            finding = sighting.finding
            found.append(Alarm(place, finding.rule.id, finding.disposition, finding.quote, text))
    return tuple(found)


def found_by(rule: str) -> str:
    """The rule, or `cn.semantic` for all that the classifier finds by itself: of two labels that
    are as good as even, one processor's rounding prefers this and another's that.
    """
    return "cn.semantic" if rule.startswith("cn.semantic.") else rule


@cache
def known() -> dict[tuple[str, str], str]:
    """(what finds it, line) → why the alarm is put up with."""
    entries = yaml.safe_load(KNOWN.read_text(encoding="utf-8"))["known"]
    return {
        (found_by(entry["rule"]), line): str(entry["reason"])
        for entry in entries
        for line in entry["lines"]
    }


def test_clean_speech_is_enough_to_mean_something() -> None:
    assert len(talk()) > 6500
    assert sum(map(len, talk().values())) > 200_000


def test_clean_speech_is_not_made_from_templates() -> None:
    phrases = Counter(
        phrase
        for text in talk().values()
        for phrase in {text[i : i + PHRASE_CHARS] for i in range(len(text) - PHRASE_CHARS + 1)}
    )
    assert [phrase for phrase, count in phrases.items() if count > MOST_REPEATS] == []


@pytest.mark.slow
def test_clean_speech_raises_no_new_alarm() -> None:
    fresh = [str(alarm) for alarm in alarms() if (found_by(alarm.rule), alarm.text) not in known()]
    assert fresh == []


@pytest.mark.slow
def test_clean_speech_accuses_no_one() -> None:
    firm = [str(alarm) for alarm in alarms() if alarm.disposition is Disposition.VIOLATION]
    assert firm == []


@pytest.mark.slow
def test_clean_speech_known_alarms_are_real_explained_and_few() -> None:
    raised = {(found_by(alarm.rule), alarm.text) for alarm in alarms()}
    assert sorted(set(known()) - raised) == [], "mended or gone: take them out"
    assert all(len(reason) >= 12 for reason in known().values())
    assert len(known()) <= ALARMS_PER_1000 * len(talk()) / 1000


def test_clean_speech_gate_would_notice_an_accusation() -> None:
    engine = ClaimEngine(load_rules())
    sightings = ClaimSession(engine, Room(), []).observe(ScriptLine("家人们这是国家级的品质"))
    assert Disposition.VIOLATION in {sighting.finding.disposition for sighting in sightings}
