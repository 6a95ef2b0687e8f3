from __future__ import annotations

import json
from pathlib import Path

import pytest

from moderator.claims.engine import ClaimEngine
from moderator.claims.rules import load_rules
from moderator.errors import ModeratorError
from moderator.live.observations import observation_body, observation_of
from moderator.live.replay import differences, recorded_sessions, replay
from moderator.records import Disposition, Observation, Relistened, Room
from moderator.sinks.journal import Journal
from tests.command import (
    LAWFUL,
    NEEDS_PROOF,
    VIOLATION,
    moderator,
    small_rules,
    write_pack,
)
from tests.outputs.builders import code, screen_text, utterance

SEEN: list[Observation] = [
    utterance(LAWFUL, 0, 4),
    utterance(VIOLATION, 5, 9),
    screen_text(NEEDS_PROOF, 6, 20),
    code("https://example.com", 8, 9),
]


def record_session(folder: Path, rules: Path, ended: str | None = "ended") -> None:
    """A folder as `watch --out` leaves it, judged by the rules in `rules`."""
    from dataclasses import replace as changed

    from moderator.live.replay import RecordedSession

    folder.mkdir(exist_ok=True)
    engine = ClaimEngine(load_rules(rules))
    room = Room("r1", title="某场")
    recorded = RecordedSession("S1", room, "x.flv", {}, tuple(SEEN), (), 20.0, False)
    with Journal.open(folder / "journal.sqlite3") as journal:
        journal.append("S1", "r1", "session.started", {"title": "某场", "source": "x.flv"})
        for seen in SEEN:
            journal.append("S1", "r1", "observation", observation_body(seen), media_s=seen.end)
        for record in replay(recorded, engine):
            journal.append("S1", "r1", "violation", changed(record, end=record.end).to_json())
        if ended:
            journal.append("S1", "r1", "session.ended", {"reason": ended})


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "old", small_rules()[:1])


@pytest.fixture
def more_rules(tmp_path: Path) -> Path:
    firmer = [
        body | {"disposition": "suspect"} if n == 0 else body
        for n, body in enumerate(small_rules())
    ]
    return write_pack(tmp_path / "new", firmer)


@pytest.mark.parametrize("seen", SEEN)
def test_replay_observations_come_back_as_they_were(seen: Observation) -> None:
    body = json.loads(json.dumps(observation_body(seen)))
    assert observation_body(observation_of(body)) == body


def test_replay_what_the_second_listen_said_comes_back() -> None:
    from dataclasses import replace as changed

    heard = changed(utterance("国家及品质"), relistened=(Relistened(0, 3, "国家级", -1.5, 2.0),))
    assert observation_of(observation_body(heard)).relistened == heard.relistened  # type: ignore[union-attr]


def test_replay_with_the_same_rules_changes_nothing(tmp_path: Path, rules: Path) -> None:
    record_session(tmp_path / "w", rules)
    (recorded,) = recorded_sessions(tmp_path / "w")
    assert recorded.room == Room("r1", title="某场")
    assert [record.quote for record in recorded.records] == ["国家级"]
    assert recorded.complete
    assert differences(recorded, replay(recorded, ClaimEngine(load_rules(rules)))) == []


def test_replay_tells_what_other_rules_find_lose_and_change(
    tmp_path: Path, rules: Path, more_rules: Path
) -> None:
    record_session(tmp_path / "w", rules)
    (recorded,) = recorded_sessions(tmp_path / "w" / "journal.sqlite3")
    changes = differences(recorded, replay(recorded, ClaimEngine(load_rules(more_rules))))
    assert [(one.kind, one.shown.quote) for one in changes] == [
        ("found", "销量领先"),
        ("changed", "国家级"),
    ]
    assert changes[1].after is not None
    assert changes[1].after.disposition is Disposition.SUSPECT
    none = write_pack(tmp_path / "none", small_rules()[2:])
    (gone,) = differences(recorded, replay(recorded, ClaimEngine(load_rules(none))))
    assert (gone.kind, gone.shown.quote) == ("gone", "国家级")


def test_replay_of_a_folder_without_sessions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-703"):
        list(recorded_sessions(tmp_path))
    Journal.open(tmp_path / "journal.sqlite3").close()
    with pytest.raises(ModeratorError, match="LM-703"):
        list(recorded_sessions(tmp_path))


def test_replay_command_prints_what_changes(tmp_path: Path, rules: Path, more_rules: Path) -> None:
    record_session(tmp_path / "w", rules)
    same = moderator("replay", tmp_path / "w", "--rules", rules)
    assert same.code == 0, same.err
    assert "1 sessions, 4 observations: 1 records the same, 0 found" in same.err
    other = moderator("replay", tmp_path / "w", "--rules", more_rules)
    assert other.code == 1
    assert "cn.data.sales" in other.out
    assert "1 found, 0 gone, 1 changed" in other.err
    lines = moderator("replay", tmp_path / "w", "--rules", more_rules, "--json").out.splitlines()
    assert [json.loads(line)["change"] for line in lines] == ["found", "changed"]
    assert moderator("replay", tmp_path / "nowhere").code == 2
