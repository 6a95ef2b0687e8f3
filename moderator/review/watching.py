"""Watching rooms from the console: each is a `moderator watch` process of its own.

The process writes every envelope to `events.jsonl`; a thread here follows it into the
database. A server that stops ends its processes with SIGTERM, on which `moderator watch`
drains and loses nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import yaml
from sqlalchemy.exc import SQLAlchemyError

from moderator.errors import WATCH_UNAVAILABLE, ModeratorError, in_ui_language
from moderator.media import address
from moderator.review import ingest
from moderator.review.database import Database
from moderator.review.events import announce
from moderator.review.models import RoomRow, new_id

log = structlog.get_logger("moderator.review.watching")

FOLLOW_S = 0.5
STOP_S = 20.0
EVENTS = "events.jsonl"


@dataclass
class _Watch:
    room_id: str
    process: subprocess.Popen[bytes]
    folder: Path
    thread: threading.Thread
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))


class Watchers:
    """The rooms that are watched from this server. Thread-safe."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._data_dir = data_dir
        self._watches: dict[str, _Watch] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @staticmethod
    def available() -> bool:
        """Whether this installation has `moderator watch`."""
        return importlib.util.find_spec("moderator.cli.watch") is not None

    def is_watching(self, room_id: str) -> bool:
        with self._lock:
            watch = self._watches.get(room_id)
        return watch is not None and watch.process.poll() is None

    def start(self, room: RoomRow, source: str) -> None:
        """Raises LM-928, LM-111 for an address that may not be watched."""
        if "://" not in source:
            reason = in_ui_language("a stream URL is needed", "需要直播流地址")
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        check_address(source)
        if not self.available():
            reason = in_ui_language(
                "this version has no `moderator watch`", "当前版本没有 `moderator watch`"
            )
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        if self.is_watching(room.id):
            reason = in_ui_language("it is being watched", "已在监看")
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        folder = self._data_dir / "watch" / new_id()
        folder.mkdir(parents=True)
        config = {
            "rooms": [
                {
                    "id": room.id,
                    "source": source,
                    "platform": room.platform,
                    "title": room.title,
                    "host": room.host,
                    "merchant": room.merchant,
                    "products": list(room.products or []),
                    "ai_host": room.ai_host,
                }
            ],
            "sinks": [{"type": "jsonl"}],
        }
        path = folder / "rooms.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        out = folder / "out"
        process = subprocess.Popen(
            [sys.executable, "-m", "moderator", "watch", "--rooms", str(path), "--out", str(out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "NO_COLOR": "1"},
        )
        thread = threading.Thread(target=self._follow, args=(room.id,), daemon=True)
        watch = _Watch(room.id, process, out, thread)
        with self._lock:
            self._watches[room.id] = watch
        threading.Thread(target=_drain, args=(watch,), daemon=True).start()
        thread.start()

    def stop(self, room_id: str) -> None:
        """Ask it to end; it drains first. Raises LM-928 where it is not watched."""
        with self._lock:
            watch = self._watches.get(room_id)
        if watch is None or watch.process.poll() is not None:
            reason = in_ui_language("it is not watched from this server", "本服务没有在监看它")
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        watch.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """End all of them, with time to drain."""
        self._ended.set()
        with self._lock:
            watches = list(self._watches.values())
        for watch in watches:
            if watch.process.poll() is None:
                watch.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for watch in watches:
            with suppress(subprocess.TimeoutExpired):
                watch.process.wait(max(0.1, deadline - time.monotonic()))
            if watch.process.poll() is None:
                watch.process.kill()
                watch.process.wait()
            watch.thread.join(5)

    def _follow(self, room_id: str) -> None:
        with self._lock:
            watch = self._watches[room_id]
        offset = 0
        while True:
            over = watch.process.poll() is not None
            try:
                offset, count = self._take(watch, offset)
            except (SQLAlchemyError, OSError, ModeratorError) as error:
                log.warning("events not taken", room=room_id, reason=str(error)[:200])
                count = 0
                if over and self._ended.is_set():
                    break
            if over and not count:
                break
            if not count:
                time.sleep(FOLLOW_S)
        self._note_end(watch)

    def _take(self, watch: _Watch, offset: int) -> tuple[int, int]:
        envelopes, after = read_events(watch.folder / EVENTS, offset)
        if envelopes:
            ingest.put_envelopes(self._database, envelopes, folder=watch.folder)
        return after, len(envelopes)

    def _note_end(self, watch: _Watch) -> None:
        code = watch.process.returncode
        state = "ended" if code in (0, -signal.SIGTERM) else "failed"
        reason = "" if state == "ended" else (watch.tail[-1] if watch.tail else f"exit {code}")
        with suppress(SQLAlchemyError), self._database.write() as db:
            room = db.get(RoomRow, watch.room_id)
            if room is not None:
                room.state, room.state_reason = state, reason[:300]
                body = {"state": state, "reason": room.state_reason}
                announce(db, "room.updated", room.id, room.organisation_id, body)


def read_events(path: Path, offset: int, limit: int = 200) -> tuple[list[dict[str, Any]], int]:
    """Envelopes of `events.jsonl` from byte `offset` on, and where the next ones begin.

    A line that is still being written is left for the next time. A file that is shorter
    than before was set aside and begun anew.
    """
    if not path.is_file():
        return [], offset
    if path.stat().st_size < offset:
        offset = 0
    found: list[dict[str, Any]] = []
    with path.open("rb") as file:
        file.seek(offset)
        while len(found) < limit and (line := file.readline()).endswith(b"\n"):
            offset += len(line)
            try:
                found.append(json.loads(line))
            except ValueError:
                log.warning("not an envelope", path=str(path), offset=offset)
    return found, offset


def check_address(source: str) -> None:
    """The console must not become a way into the network behind it. Raises LM-111."""
    address.check_address(source)


def _drain(watch: _Watch) -> None:
    """Keep the last lines that it says, for people to see why it ended."""
    stream = watch.process.stderr
    if stream is None:
        return
    with stream:
        for line in stream:
            watch.tail.append(line.decode("utf-8", "replace").rstrip()[:300])
