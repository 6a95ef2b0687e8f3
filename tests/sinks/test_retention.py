"""What is over its time goes, what is held stays, and the chain still proves the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderator.errors import ModeratorError
from moderator.holds import add_hold, list_holds, remove_hold
from moderator.records import Disposition
from moderator.retention import Janitor, RetentionRules, load_retention
from moderator.sinks.config import build_deliveries
from moderator.sinks.envelope import CUSTODY
from moderator.sinks.journal import FILE_NAME, Journal
from moderator.sinks.verify import verify
from tests.sinks.builders import tell, tell_evidence, tell_session, until, violation

NOW = datetime.now(UTC)
YEARS = timedelta(days=5 * 366)
WEEKS = timedelta(days=200)
"""Over for suspects and observations, not for violations."""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / FILE_NAME, owner=True) as opened:
        yield opened


def janitor(journal: Journal, **rules: Any) -> Janitor:
    return Janitor(journal, journal.path.parent, RetentionRules(**rules))


def bodies(journal: Journal, session: str = "s1") -> dict[str, Any]:
    return {e.key: e.body for e in journal.session(session)}


def test_retention_removes_each_kind_when_its_time_is_up(journal: Journal, tmp_path: Path) -> None:
    record = tell_session(journal, tmp_path)
    suspect = violation(start=30, disposition=Disposition.SUSPECT)
    tell(journal, suspect, "violation/30")
    clip = tell_evidence(journal, tmp_path, suspect)

    assert janitor(journal).run(NOW) == []
    removed = janitor(journal).run(NOW + WEEKS)
    assert {one.kind for one in removed} == {"suspect", "observation"}
    assert not clip.exists()
    left = bodies(journal)
    assert left["violation/30"] is None
    assert left[f"evidence/{suspect.id}"] is None
    assert left["speech/0.5"] is None
    assert left["violation/1"]["id"] == record.id
    assert (tmp_path / f"room/clips/{record.id}.mp4").exists()

    janitor(journal).run(NOW + YEARS)
    assert all(body is None for body in bodies(journal).values())
    assert not list(tmp_path.rglob("*.mp4"))
    result = verify(str(tmp_path))
    assert result.intact, result.breaks
    assert (result.pruned, result.removed_files, result.files) == (7, 2, 0)


def test_retention_writes_down_what_it_removed(journal: Journal, tmp_path: Path) -> None:
    record = tell_session(journal, tmp_path)
    janitor(journal).run(NOW + YEARS)
    told = [e.body for e in journal.session(CUSTODY) if e.body]
    (mine,) = [body for body in told if body["violation"] == record.id]
    assert (mine["kind"], mine["session"], mine["room"]) == ("violation", "s1", "room")
    assert mine["seqs"] == [[2, 3]]
    assert list(mine["files"]) == [f"room/clips/{record.id}.mp4"]
    assert janitor(journal).run(NOW + YEARS) == []


def test_retention_a_record_is_kept_as_its_firmest_and_from_its_last_word(
    journal: Journal, tmp_path: Path
) -> None:
    record = violation(disposition=Disposition.VIOLATION)
    tell(journal, record, "k")
    softer = replace(record, disposition=Disposition.SUSPECT)
    journal.append("s1", "room", "violation.updated", softer.to_json())
    assert janitor(journal).run(NOW + WEEKS) == []
    assert bodies(journal)["k"]


@pytest.mark.parametrize("scope", ["violation", "session", "room"])
def test_retention_never_touches_what_is_held(journal: Journal, tmp_path: Path, scope: Any) -> None:
    held = tell_session(journal, tmp_path, "room1", "s1")
    tell_session(journal, tmp_path, "room2", "s2")
    target = {"violation": held.id, "session": "s1", "room": "room1"}[scope]
    hold = add_hold(journal, scope, target, "court order 7", "legal")
    assert list_holds(journal) == [hold]

    janitor(journal).run(NOW + YEARS)
    left = bodies(journal, "s1")
    assert left["violation/1"]
    assert left["speech/0.5"]
    assert (tmp_path / f"room1/clips/{held.id}.mp4").read_bytes() == b"clip"
    assert all(body is None for body in bodies(journal, "s2").values())
    assert verify(str(tmp_path)).intact

    remove_hold(journal, hold.id, "settled", "legal")
    janitor(journal).run(NOW + YEARS)
    assert all(body is None for body in bodies(journal, "s1").values())
    assert not list(tmp_path.rglob("*.mp4"))
    custody = [(e.type, (e.body or {}).get("reason")) for e in journal.session(CUSTODY)]
    assert ("hold.added", "court order 7") in custody
    assert ("hold.removed", "settled") in custody
    assert verify(str(tmp_path)).intact


def test_retention_a_clip_that_a_held_record_shares_stays(journal: Journal, tmp_path: Path) -> None:
    first, second = violation(), violation(start=2)
    for record in (first, second):
        tell(journal, record)
        clip = tell_evidence(journal, tmp_path, record, name="room/clips/shared.mp4")
    add_hold(journal, "violation", second.id, "dispute")
    removed = janitor(journal).run(NOW + YEARS)
    assert [one.record for one in removed if one.record] == [first.id]
    assert clip.exists()
    assert verify(str(tmp_path)).intact


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_retention_whatever_is_held_every_byte_of_it_stays(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("held")
    with Journal.open(out / FILE_NAME, sync="normal") as journal:
        records = []
        for number in range(6):
            room = data.draw(st.sampled_from(["a", "b"]))
            disposition = data.draw(st.sampled_from(list(Disposition)))
            record = violation(room, f"s-{room}", float(number), disposition)
            tell(journal, record)
            shared = data.draw(st.booleans())
            name = f"{room}/clips/shared.mp4" if shared else f"{room}/clips/{record.id}.mp4"
            tell_evidence(journal, out, record, name=name)
            records.append((record, out / name))
        choices = [("violation", record.id) for record, _ in records]
        choices += [("session", "s-a"), ("room", "b")]
        known = {record.room for record, _ in records}
        for scope, target in data.draw(st.sets(st.sampled_from(choices), max_size=3)):
            if scope == "violation" or target.removeprefix("s-") in known:
                add_hold(journal, scope, target, "x")
        holds = {(hold.scope, hold.target) for hold in list_holds(journal)}
        held = [
            (record, clip)
            for record, clip in records
            if holds
            & {("violation", record.id), ("session", record.session), ("room", record.room)}
        ]
        days = data.draw(st.sampled_from([WEEKS, YEARS]))
        janitor(journal).run(NOW + days)
        told = {e.record for _, e in journal.after(0, 1000) if e.type == "violation"}
        for record, clip in held:
            assert record.id in told
            assert clip.read_bytes() == b"clip"
        if days is YEARS:
            assert told - {None} == {record.id for record, _ in held}
        assert verify(str(out)).intact


def test_retention_a_round_that_was_killed_is_finished(journal: Journal, tmp_path: Path) -> None:
    record = tell_session(journal, tmp_path)
    clip = tmp_path / f"room/clips/{record.id}.mp4"
    janitor(journal).run(NOW + YEARS)
    clip.write_bytes(b"written down as removed, and killed before it was")
    janitor(journal).run(NOW + YEARS)
    assert not clip.exists()


def test_retention_never_removes_a_file_outside_its_folder(
    journal: Journal, tmp_path: Path
) -> None:
    victim = tmp_path.parent / "victim"
    record = violation()
    tell(journal, record)
    tell_evidence(journal, tmp_path, record, name="../victim")
    janitor(journal).run(NOW + YEARS)
    assert victim.exists()


def test_retention_takes_files_that_were_set_aside_unless_held(
    journal: Journal, tmp_path: Path
) -> None:
    for room in ("room1", "room2"):
        record = tell_session(journal, tmp_path, room, f"s-{room}")
        name = f"transcript-2020010{room[-1]}T000000000000Z.jsonl"
        line = f'{{"session": "s-{room}", "room": "{room}"}}\n'
        (tmp_path / name).write_text(line)
        long_ago = NOW.timestamp() - 1000 * 86400
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / "transcript.jsonl").write_text("{}\n")
    add_hold(journal, "violation", record.id, "dispute")
    removed = janitor(journal).run(NOW)
    assert [list(one.files) for one in removed] == [["transcript-20200101T000000000000Z.jsonl"]]
    left = {path.name for path in tmp_path.glob("*.jsonl")}
    assert left == {"transcript-20200102T000000000000Z.jsonl", "transcript.jsonl"}


def test_retention_sinks_are_told_and_a_late_one_is_not_confused(
    journal: Journal, tmp_path: Path
) -> None:
    tell_session(journal, tmp_path)
    janitor(journal).run(NOW + YEARS)
    url = f"sqlite:///{tmp_path / 'records.db'}"
    sinks = [{"type": "jsonl"}, {"type": "database", "url": url}]
    deliveries = build_deliveries(journal, sinks, out=tmp_path)
    deliveries.start()
    assert deliveries.drain(20)
    deliveries.close()
    assert [stats.dead for stats in deliveries.stats()] == [0, 0]
    for target in (str(tmp_path), str(tmp_path / "events.jsonl"), url):
        assert verify(target).intact


def test_retention_for_ever_is_for_ever(journal: Journal, tmp_path: Path) -> None:
    tell_session(journal, tmp_path)
    kinds = ("violation", "needs_proof", "suspect", "observation", "event")
    assert janitor(journal, **{f"{kind}_days": None for kind in kinds}).run(NOW + 9 * YEARS) == []


def test_retention_runs_by_itself(journal: Journal, tmp_path: Path) -> None:
    tell_session(journal, tmp_path)
    # What was told in the millisecond of the first round is left to the next.
    running = janitor(journal, violation_days=0, observation_days=0, event_days=0, every_s=1)
    running.start()
    assert until(lambda: all(body is None for body in bodies(journal).values()))
    running.stop()


def test_retention_defaults_keep_three_years_what_the_law_asks_for() -> None:
    rules = RetentionRules()
    assert min(rules.violation_days or 0, rules.needs_proof_days or 0) >= 3 * 365
    with pytest.raises(ModeratorError, match=r"LM-810 retention\.violation_day"):
        load_retention({"violation_day": 3})


def test_hold_needs_something_to_hold(journal: Journal, tmp_path: Path) -> None:
    record = tell_session(journal, tmp_path)
    for scope, target in (("violation", "01X"), ("session", "s9"), ("room", ""), ("room", "r9")):
        with pytest.raises(ModeratorError, match="LM-811"):
            add_hold(journal, scope, target, "x")
    with pytest.raises(ModeratorError, match="LM-811"):
        remove_hold(journal, "01X", "x")
    janitor(journal).run(NOW + YEARS)
    with pytest.raises(ModeratorError, match="LM-811"):
        add_hold(journal, "violation", record.id, "too late")
