"""Whatever is changed in a finished folder, `verify` says that and where."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moderator.errors import ModeratorError
from moderator.outputs.folder import write_folder
from moderator.sinks.config import build_deliveries
from moderator.sinks.envelope import Envelope, parse_line
from moderator.sinks.journal import FILE_NAME, Journal
from moderator.sinks.verify import verify
from tests.outputs.builders import media_report
from tests.outputs.builders import violation as recorded_violation
from tests.sinks.builders import tell, tell_evidence, tell_session, violation


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two rooms, one of them with a second record that has a clip too."""
    out = tmp_path_factory.mktemp("finished")
    with Journal.open(out / FILE_NAME, owner=True) as journal:
        tell_session(journal, out, "room1", "s1")
        tell_session(journal, out, "room2", "s2")
        later = violation("room2", "s2", 40.0)
        tell(journal, later, "violation/40")
        tell_evidence(journal, out, later, b"another clip")
        database = {"type": "database", "url": f"sqlite:///{out / 'records.db'}"}
        deliveries = build_deliveries(journal, [{"type": "jsonl"}, database], out=out)
        deliveries.start()
        assert deliveries.drain(30)
        deliveries.close()
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    return copy


def events(out: Path) -> list[Envelope]:
    with closing(sqlite3.connect(out / FILE_NAME)) as journal:
        rows = journal.execute("SELECT line FROM events ORDER BY n")
        return [parse_line(line) for (line,) in rows]


def run(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as database:
        for statement, values in statements:
            assert database.execute(statement, values).rowcount
        database.commit()


def test_verify_what_nobody_touched_is_intact(out: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    for target in (
        str(out),
        str(out / FILE_NAME),
        str(out / "events.jsonl"),
        str(out / "records.db"),
        f"sqlite:///{out / 'records.db'}",
    ):
        result = verify(target, evidence=out, against=out / "events.jsonl")
        assert result.intact, result.breaks
        assert (result.envelopes, len(result.heads), result.files) == (12, 2, 3)
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before


def test_verify_finds_a_change_of_any_field_of_any_envelope(out: Path) -> None:
    for envelope in events(out):
        for name in ("id", "key", "room", "time", "type", "prev", "hash", "media_s", "body"):
            value: Any = {"changed": 1} if name == "body" else "0" * 64
            changed = replace(envelope, **{name: 99.5 if name == "media_s" else value})
            if changed == envelope:
                continue
            where = (envelope.session, envelope.seq)
            set_line = "UPDATE events SET line = ? WHERE session = ? AND seq = ?"
            run(out / FILE_NAME, (set_line, (changed.line(), *where)))
            breaks = verify(str(out)).breaks
            assert breaks, (envelope.type, name)
            assert (breaks[0].session, breaks[0].seq) == where, (envelope.type, name, breaks)
            run(out / FILE_NAME, (set_line, (envelope.line(), *where)))
    assert verify(str(out)).intact


def test_verify_finds_a_change_that_was_sealed_anew(out: Path) -> None:
    """Who recomputes a hash breaks the link to the next envelope."""
    envelope = next(e for e in events(out) if e.type == "violation")
    assert envelope.body is not None
    changed = replace(envelope, body={**envelope.body, "disposition": "suspect"})
    changed = replace(changed, hash=changed.expected_hash())
    run(
        out / FILE_NAME,
        (
            "UPDATE events SET line = ? WHERE session = ? AND seq = ?",
            (changed.line(), envelope.session, envelope.seq),
        ),
    )
    (first, *_) = verify(str(out)).breaks
    assert (first.session, first.seq) == (envelope.session, envelope.seq + 1)
    assert "does not continue" in first.text() or "不衔接" in first.text()


@pytest.mark.parametrize("n", range(1, 13))
def test_verify_finds_any_envelope_that_was_taken_out(out: Path, n: int) -> None:
    session = events(out)[n - 1].session
    run(out / FILE_NAME, ("DELETE FROM events WHERE n = ?", (n,)))
    breaks = verify(str(out)).breaks
    assert breaks
    assert any(f"n={n}" in one.place for one in breaks)
    assert any(one.session == session for one in breaks)


def test_verify_finds_a_whole_session_that_was_taken_out(out: Path) -> None:
    run(
        out / FILE_NAME,
        ("DELETE FROM events WHERE session = ?", ("s1",)),
        ("DELETE FROM sessions WHERE session = ?", ("s1",)),
    )
    assert not verify(str(out)).intact


def test_verify_against_a_copy_finds_an_end_that_was_cut_off_with_care(out: Path) -> None:
    """Nothing inside tells of it; what a receiver kept does."""
    kept = out.parent / "kept.jsonl"
    shutil.copy(out / "events.jsonl", kept)
    for name in ("events", "violations"):
        lines = (out / f"{name}.jsonl").read_text("utf-8").splitlines(keepends=True)
        (out / f"{name}.jsonl").write_text("".join(lines[:-1]), "utf-8")
    last = events(out)[-1]
    run(
        out / FILE_NAME,
        ("DELETE FROM events WHERE id = ?", (last.id,)),
        ("UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = ?", ("events",)),
        (
            "UPDATE sessions SET next_seq = ?, head = ? WHERE session = ?",
            (last.seq, last.prev, last.session),
        ),
    )
    assert verify(str(out)).intact
    (found,) = verify(str(out), against=kept).breaks
    assert last.id in found.place


def test_verify_names_the_record_whose_body_was_emptied(out: Path) -> None:
    """Only retention may do that, and it says so."""
    envelope = next(e for e in events(out) if e.type == "violation")
    pruned = replace(envelope, body=None).line()
    run(out / FILE_NAME, ("UPDATE events SET line = ? WHERE id = ?", (pruned, envelope.id)))
    (found,) = verify(str(out)).breaks
    assert envelope.id in found.place


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_verify_names_any_clip_that_was_touched(out: Path, harm: Callable[[Path], None]) -> None:
    clips = sorted(out.rglob("*.mp4"))
    assert len(clips) == 3
    for clip in clips:
        content = clip.read_bytes()
        harm(clip)
        (found,) = verify(str(out)).breaks
        assert clip.relative_to(out).as_posix() in found.place
        clip.write_bytes(content)


@pytest.mark.parametrize("name", ["violations", "events", "transcript"])
def test_verify_names_the_line_of_a_copy_that_was_changed(out: Path, name: str) -> None:
    path = out / f"{name}.jsonl"
    path.write_text(path.read_text("utf-8").replace("国家级", "很好用"), "utf-8")
    breaks = verify(str(out)).breaks
    assert breaks
    assert breaks[0].place.startswith(f"{name}.jsonl:")


def test_verify_finds_changes_in_a_database(out: Path) -> None:
    path = out / "records.db"
    keep = path.read_bytes()
    harms = [
        "UPDATE moderator_violations SET disposition = 'suspect' WHERE room = 'room1'",
        "UPDATE moderator_violations SET record = replace(record, 'high', 'low')",
        "DELETE FROM moderator_violations WHERE room = 'room2'",
        "UPDATE moderator_events SET line = replace(line, '国家级', '好用')",
        "DELETE FROM moderator_events WHERE seq = 1 AND session = 's1'",
    ]
    for harm in harms:
        run(path, (harm, ()))
        assert not verify(str(path)).intact, harm
        path.write_bytes(keep)
    assert verify(str(path)).intact


def test_verify_a_partial_copy_is_proved_as_far_as_it_goes(out: Path) -> None:
    copy = out.parent / "webhook.jsonl"
    told = [e for e in events(out) if e.type in {"violation", "evidence"}]
    copy.write_text("".join(e.line() + "\n" for e in told), "utf-8")
    assert not verify(str(copy)).intact
    assert verify(str(copy), partial=True, evidence=out).intact
    copy.write_text(copy.read_text("utf-8").replace("国家级", "好用"), "utf-8")
    assert not verify(str(copy), partial=True, evidence=out).intact


def test_verify_a_damaged_page_is_named(out: Path) -> None:
    content = bytearray((out / FILE_NAME).read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xaa" * 4096
    (out / FILE_NAME).write_bytes(bytes(content))
    breaks = verify(str(out)).breaks
    assert breaks


def test_verify_evidence_never_leads_outside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "secret").write_bytes(b"clip")
    with Journal.open(tmp_path / "out" / FILE_NAME) as journal:
        record = violation()
        tell(journal, record)
        tell_evidence(journal, tmp_path / "out", record, name="../secret")
    (found,) = verify(str(tmp_path / "out")).breaks
    assert "../secret" in found.place


def test_verify_while_it_is_being_written(tmp_path: Path) -> None:
    with Journal.open(tmp_path / FILE_NAME, owner=True) as journal:
        for n in range(50):
            journal.append("s", "r", "observation", {"n": n})
            if n % 10 == 0:
                assert verify(str(tmp_path)).intact


def test_verify_a_folder_of_check(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", media_report(recorded_violation()))
    assert verify(str(tmp_path / "out")).intact
    with (tmp_path / "out" / "violations.jsonl").open("a") as file:
        file.write("\n")
    (found,) = verify(str(tmp_path / "out")).breaks
    assert found.place == "violations.jsonl"


def test_verify_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-809"):
        verify(str(tmp_path))
    with pytest.raises(ModeratorError, match="LM-101"):
        verify(str(tmp_path / "no"))
    with pytest.raises(ModeratorError, match="LM-809") as caught:
        verify("postgresql://user:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(caught.value)
