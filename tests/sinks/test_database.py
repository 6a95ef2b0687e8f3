from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moderator.sinks.config import build_sink
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Rejected, Sink, Unavailable
from moderator.sinks.verify import verify
from tests.sinks.builders import tell, tell_evidence, tell_session, until, violation


def database(out: Path) -> Sink:
    return build_sink({"type": "database", "url": f"sqlite:///{out / 'records.db'}"}, out=out)


def rows(out: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(out / "records.db")) as connection:
        return connection.execute(query).fetchall()


def said(out: Path) -> list[Envelope]:
    with Journal.open(out / "journal.sqlite3") as journal:
        return [envelope for _, envelope in journal.after(0, 1000)]


def test_database_a_record_is_one_row_with_its_updates_and_evidence(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        record = violation()
        tell(journal, record)
        clip = tell_evidence(journal, tmp_path, record)
        later = replace(record, end=30.0, occurrences=3)
        journal.append("s1", "room", "violation.updated", later.to_json())
    sink = database(tmp_path)
    sink.send(said(tmp_path))
    sink.close()
    ((id, end_s, text),) = rows(tmp_path, "SELECT id, end_s, record FROM moderator_violations")
    stored = json.loads(text)
    assert (id, end_s, stored["occurrences"]) == (record.id, 30.0, 3)
    assert stored["evidence"]["clip"] == clip.relative_to(tmp_path).as_posix()
    assert verify(f"sqlite:///{tmp_path / 'records.db'}", evidence=tmp_path).intact


def test_database_what_comes_again_changes_nothing(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        tell_session(journal, tmp_path)
    envelopes = said(tmp_path)
    sink = database(tmp_path)
    for batch in (envelopes[:3], envelopes, envelopes[2:]):
        sink.send(batch)
    sink.close()
    assert rows(tmp_path, "SELECT count(*) FROM moderator_events") == [(len(envelopes),)]
    assert rows(tmp_path, "SELECT count(*) FROM moderator_violations") == [(1,)]


def test_database_that_is_locked_takes_the_batch_later_as_a_whole(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        tell_session(journal, tmp_path)
    url = f"sqlite:///{tmp_path / 'records.db'}?timeout=0.1"
    sink = build_sink({"type": "database", "url": url}, out=tmp_path)
    with closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable, match="locked"):
            sink.send(said(tmp_path))
        other.execute("ROLLBACK")
    sink.send(said(tmp_path))
    sink.close()
    assert rows(tmp_path, "SELECT count(*) FROM moderator_events") == [(5,)]


def test_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://moderator:hunter2@127.0.0.1:1/records"
    sink = build_sink({"type": "database", "url": url}, out=tmp_path)
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        tell_session(journal, tmp_path)
    with pytest.raises(Unavailable) as caught:
        sink.send(said(tmp_path))
    sink.close()
    assert "hunter2" not in str(caught.value)


def test_database_a_foreign_envelope_in_the_same_place_is_refused(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        first = journal.append("s", "r", "alert", {})
    with Journal.open(tmp_path / "other.sqlite3") as journal:
        second = journal.append("s", "r", "alert", {"other": 1})
    sink = database(tmp_path)
    sink.send([first])
    with pytest.raises(Rejected):
        sink.send([second])
    sink.close()
    assert until(lambda: rows(tmp_path, "SELECT count(*) FROM moderator_events") == [(1,)])
