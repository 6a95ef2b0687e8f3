"""What an operator sees: logs, health, sessions that were cut off."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from moderator.errors import ModeratorError
from moderator.live.config import RoomConfig
from moderator.live.display import Overview, RoomRow, render
from moderator.live.health import Health, HealthServer
from moderator.live.logs import configure_logs
from moderator.live.unfinished import take_up
from moderator.sinks.journal import Journal
from tests.outputs.builders import violation


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("form", ["json", "pretty"])
def test_operation_logs_hold_no_credentials(form: Any) -> None:
    stream = io.StringIO()
    configure_logs(form, stream=stream)
    log = structlog.get_logger()
    secret = "rtmp://user:hunter2@example.com/live?token=s3cr3t"
    log.info("feed", url=secret, headers={"Authorization": "hunter2"}, more=[{"u": secret}])
    try:
        local = "hunter2"
        raise RuntimeError(f"cannot open {secret} {len(local)}")
    except RuntimeError:
        log.exception("failed")
    written = stream.getvalue()
    assert "hunter2" not in written.replace('local = "hunter2"', "")
    assert "s3cr3t" not in written
    assert "RuntimeError" in written
    if form == "json":
        first = json.loads(written.splitlines()[0])
        assert (first["event"], first["level"]) == ("feed", "info")
        assert first["timestamp"].endswith("Z")


@pytest.mark.usefixtures("_logs_as_before")
def test_operation_json_logs_are_one_object_a_line() -> None:
    stream = io.StringIO()
    configure_logs("json", stream=stream)
    structlog.get_logger().warning("alert", text="最好\n第二行", path=Path("/x"))
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["text"] == "最好\n第二行"


def fetch(server: HealthServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_operation_health_tells_well_from_ill() -> None:
    faults: list[str] = []
    health = Health(
        lambda: b"moderator_rooms 1.0\n",
        lambda: faults,
        lambda: ["starting or stopping", *faults],
        lambda: [{"room": "r1"}],
    )
    server = HealthServer(health)
    server.start()
    try:
        assert fetch(server, "/healthz") == (200, '{"ok": true, "faults": []}')
        status, body = fetch(server, "/readyz")
        assert (status, json.loads(body)["faults"]) == (503, ["starting or stopping"])
        assert fetch(server, "/metrics?x=1") == (200, "moderator_rooms 1.0\n")
        assert json.loads(fetch(server, "/rooms")[1]) == [{"room": "r1"}]
        assert fetch(server, "/etc/passwd")[0] == 404
        faults.append("the speech worker hangs")
        assert fetch(server, "/healthz")[0] == 503
        with pytest.raises(ModeratorError, match="LM-704"):
            HealthServer(health, port=server.port)
    finally:
        server.stop()


ROOMS = [RoomConfig(id="r1", source="rtmp://example.com/live")]


def cut_off(journal: Journal, session: str, room: str = "r1", **changes: Any) -> None:
    """A session as `kill -9` leaves it."""
    zero = datetime.now(UTC) - timedelta(seconds=50)
    journal.append(session, room, "session.started", {"media_zero": zero.isoformat()} | changes)
    record = violation(start=41.0, end=42.0)
    journal.append(session, room, "violation", record.to_json())
    done = violation(start=11.0, end=12.0)
    journal.append(session, room, "violation", done.to_json())
    journal.append(session, room, "evidence", {"violation": done.id})
    journal.checkpoint(session, 42.5)


def test_operation_a_session_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        cut_off(journal, "S1")
        found = take_up(journal, ROOMS)
        assert found["r1"].session == "S1"
        assert found["r1"].resume.media_s == 42.5
        assert [record.start for record in found["r1"].owed] == [41.0]
        assert not journal.sessions()[0].ended


def test_operation_an_old_or_foreign_session_is_ended(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        cut_off(journal, "S1")
        cut_off(journal, "S2", room="another")
        assert take_up(journal, ROOMS, datetime.now(UTC) + timedelta(hours=2)) == {}
        assert [info.ended for info in journal.sessions()] == [True, True]
        last = [*journal.session("S1")][-1]
        assert (last.type, last.body) == ("session.ended", {"reason": "interrupted"})


def test_operation_of_several_open_sessions_the_newest_goes_on(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        cut_off(journal, "S1")
        cut_off(journal, "S2")
        assert take_up(journal, ROOMS)["r1"].session == "S2"
        assert [info.ended for info in journal.sessions()] == [True, False]


def test_operation_display_shows_rooms_lag_and_what_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.console import Console

    monkeypatch.setenv("MODERATOR_LANG", "en")
    rows = [
        RoomRow(
            "r1", "live", 3725.0, 4.2, 3, "大家好", "这是国家", "绝对化用语：国家级", "high", 900.0
        ),
        RoomRow("r2", "reconnecting", 5.0, 0.0, 0, "", "", "", "", None),
    ]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render(rows, Overview(degraded=["frames"], queue=7, rules="cn-1", lost_s=3)))
    text = console.export_text()
    for part in ("1:02:05", "4.2", "这是国家", "国家级", "0.9 s", "reconnecting"):
        assert part in text
    assert "given up: frames" in text
    assert "lost 3 s" in text
