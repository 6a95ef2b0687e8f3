from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import pytest

from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.passports import Passport
from moderator.claims.rules import load_rules
from moderator.episodes import (
    CONTEXT_CHARS,
    EPISODE_GAP_S,
    SCREEN_GAP_S,
    Provenance,
    new_session,
    to_violations,
)
from moderator.records import Disposition, Observation, Room, ScriptLine, Severity, Violation
from tests.claims.conftest import rule
from tests.command import LAWFUL, NEEDS_PROOF, VIOLATION, small_rules, write_pack
from tests.outputs.builders import code, screen_text, utterance

PROVENANCE = Provenance(Room(id="r-1"), "S1", "room.mp4", {"rules": "test", "asr": "by hand"}, "en")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ClaimEngine:
    absence = rule(
        id="cn.notice.health_food",
        category="missing_notice",
        severity="medium",
        match=[
            {
                "absence": ["不能代替药物"],
                "channels": ["speech", "screen"],
                "when": {"products": ["health_food"]},
            }
        ],
        tests={
            "violation": [{"text": LAWFUL, "product": {"category": "health_food"}}],
            "compliant": [LAWFUL],
        },
    )
    home = tmp_path_factory.mktemp("rules") / "pack"
    return ClaimEngine(load_rules(write_pack(home, [*small_rules(), absence])))


def records(
    engine: ClaimEngine,
    observations: Sequence[Observation],
    passports: Sequence[Passport] = (),
    provenance: Provenance = PROVENANCE,
) -> list[Violation]:
    session = ClaimSession(engine, provenance.room, passports)
    sightings = [found for seen in observations for found in session.observe(seen)]
    return to_violations(sightings, session.finish(), provenance, 600.0)


def test_episodes_merge_what_is_said_again_soon(engine: ClaimEngine) -> None:
    said = [utterance(VIOLATION, start, start + 3) for start in (10, 20, 40)]
    (record,) = records(engine, said)
    assert record.occurrences == 3
    assert 10 < record.start < 13
    assert 40 < record.end <= 43


def test_episodes_part_where_the_pause_is_long(engine: ClaimEngine) -> None:
    said = [utterance(VIOLATION, 0, 3), utterance(VIOLATION, 3 + EPISODE_GAP_S + 3, 30)]
    assert [record.occurrences for record in records(engine, said)] == [1, 1]


def test_episodes_measure_the_pause_from_the_last_mention(engine: ClaimEngine) -> None:
    step = EPISODE_GAP_S - 1
    said = [utterance(VIOLATION, n * step, n * step + 2) for n in range(10)]
    assert [record.occurrences for record in records(engine, said)] == [10]


def test_episodes_keep_rules_and_channels_apart(engine: ClaimEngine) -> None:
    seen = [
        utterance(f"{VIOLATION}，{NEEDS_PROOF}", 0, 6),
        screen_text(VIOLATION, 1, 5),
        utterance(VIOLATION, 7, 9),
    ]
    found = {(record.channel, record.quote): record.occurrences for record in records(engine, seen)}
    assert found == {
        ("speech", "国家级"): 2,
        ("speech", "销量领先"): 1,
        ("screen", "国家级"): 1,
    }


def test_episodes_a_banner_that_blinks_is_one(engine: ClaimEngine) -> None:
    shown = [screen_text(VIOLATION, start, start + 20) for start in (0, 60, 20 + SCREEN_GAP_S)]
    (record,) = records(engine, shown)
    assert (record.start, record.end, record.occurrences) == (0, 40 + SCREEN_GAP_S, 3)


def test_episodes_two_banners_with_other_words_are_two(engine: ClaimEngine) -> None:
    shown = [screen_text("国家级品质", 0, 90), screen_text("最好的面霜", 1, 90)] * 2
    found = records(engine, sorted(shown, key=lambda text: text.start))
    assert sorted((record.quote, record.occurrences) for record in found) == [
        ("国家级", 2),
        ("最好", 2),
    ]


def test_episodes_a_script_has_one_record_for_each_place(engine: ClaimEngine) -> None:
    lines = [ScriptLine(VIOLATION, line) for line in (1, 2, 3)]
    found = records(engine, lines)
    assert [record.place.line for record in found if record.place] == [1, 2, 3]
    assert [record.occurrences for record in found] == [1, 1, 1]


def test_episodes_of_a_long_script_do_not_take_quadratic_time(engine: ClaimEngine) -> None:
    session = ClaimSession(engine, Room(), [])
    (sighting,) = session.observe(ScriptLine(VIOLATION))
    began = perf_counter()
    found = to_violations([sighting] * 30_000, [], PROVENANCE, 0.0)
    assert len(found) == 30_000
    # Each against each would be 450 million comparisons: minutes.
    assert perf_counter() - began < 30


def test_episodes_speak_for_their_firmest_match(engine: ClaimEngine) -> None:
    weak = utterance(VIOLATION, 0, 3)
    strong = utterance("这是最好的", 5, 8)
    (record,) = records(engine, [weak, strong])
    assert record.occurrences == 2
    assert record.severity is Severity.HIGH
    assert record.disposition is Disposition.VIOLATION
    assert record.quote in ("国家级", "最好")
    begin, end = record.span
    assert record.context[begin:end] == record.quote


def test_episodes_quote_stands_where_the_span_says_in_a_long_line(engine: ClaimEngine) -> None:
    text = "好" * 500 + VIOLATION + "呀" * 500
    (record,) = records(engine, [ScriptLine(text)])
    begin, end = record.span
    assert record.context[begin:end] == "国家级" == record.quote
    assert len(record.context) == CONTEXT_CHARS * 2 + 3
    assert record.place is not None
    assert text[record.place.column - 1 : record.place.end_column - 1] == "国家级"


def test_episodes_are_in_order_of_time_then_of_place(engine: ClaimEngine) -> None:
    found = records(
        engine,
        [
            screen_text(VIOLATION, 50, 60),
            utterance(NEEDS_PROOF, 0, 3),
            code(VIOLATION, 20, 30),
        ],
    )
    assert [record.channel for record in found] == ["speech", "code", "screen"]
    places = records(
        engine, [ScriptLine(VIOLATION, 9), ScriptLine(f"{NEEDS_PROOF}，{VIOLATION}", 2)]
    )
    at = [(p.line, p.column) for p in (record.place for record in places) if p]
    assert at == sorted(at)
    assert len(at) == 3


def test_episodes_an_absence_is_about_the_whole_session(engine: ClaimEngine) -> None:
    goods = Passport(id="pills", category="health_food")
    (record,) = records(engine, [utterance(LAWFUL * 20, 0, 30)], [goods])
    assert (record.channel, record.start, record.end) == ("stream", 0, 600.0)
    assert (record.match.kind, record.match.matched) == ("absence", "不能代替药物")
    assert record.quote == ""
    assert records(engine, [utterance(LAWFUL * 20 + "不能代替药物", 0, 30)], [goods]) == []


def test_episodes_records_say_where_they_come_from(engine: ClaimEngine) -> None:
    (record,) = records(engine, [ScriptLine(VIOLATION)])
    assert (record.room, record.session, record.source) == ("r-1", "S1", "room.mp4")
    assert record.engine == {"rules": "test", "asr": "by hand"}
    assert record.suggestion == "State a fact"
    assert new_session() != new_session()


def test_episodes_records_round_trip_as_json(engine: ClaimEngine, tmp_path: Path) -> None:
    seen = [utterance(VIOLATION, 0, 3), screen_text(VIOLATION, 1, 2), ScriptLine(NEEDS_PROOF)]
    for record in records(engine, seen):
        assert Violation.from_json(record.to_json()).to_json() == record.to_json()
