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
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
import yaml
from sqlalchemy.exc import SQLAlchemyError

from moderator.errors import WATCH_UNAVAILABLE, ModeratorError, in_ui_language
from moderator.media import address
from moderator.review import ingest
from moderator.review.database import Database
from moderator.review.events import announce
from moderator.review.models import RoomRow, new_id
from moderator.review.settings import ReviewSettings

log = structlog.get_logger("moderator.review.watching")

FOLLOW_S = 0.5
ASK_EVERY_S = 2.0
STOP_S = 20.0
EVENTS = "events.jsonl"
RUNNING = "running.json"
"""There while a room is to be watched: a server that starts again goes on with it."""


@dataclass
class _Watch:
    room_id: str
    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    thread: threading.Thread
    offset: int = 0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    marking: threading.Lock = field(default_factory=threading.Lock)
    given_up: bool = False

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def over(self) -> bool:
        return self.process.poll() is not None


class Watchers:
    """The rooms that are watched from this server. Thread-safe."""

    def __init__(self, database: Database, settings: ReviewSettings) -> None:
        self._database = database
        self._settings = settings
        self._home = settings.data_dir / "watch"
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
        return watch is not None and not watch.over

    def start(
        self, room: RoomRow, source: str, passports: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Watch the room with these passports at hand.

        Raises LM-928, and LM-111 for an address that may not be watched.
        """
        if "://" not in source:
            reason = in_ui_language("a stream URL is needed", "需要直播流地址")
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        check_address(source, allow_private=self._settings.watch_private)
        if not self.available():
            reason = in_ui_language(
                "this version has no `moderator watch`", "当前版本没有 `moderator watch`"
            )
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        if self.is_watching(room.id):
            reason = in_ui_language("it is being watched", "已在监看")
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        folder = self._home / new_id()
        folder.mkdir(parents=True)
        self._write_config(folder, room, source, passports)
        self._launch(folder, room.id)

    def stop(self, room_id: str) -> None:
        """Ask it to end; it drains first. Raises LM-928 where it is not watched."""
        with self._lock:
            watch = self._watches.get(room_id)
        if watch is None or watch.over:
            reason = in_ui_language("it is not watched from this server", "本服务没有在监看它")
            raise ModeratorError(WATCH_UNAVAILABLE, reason=reason)
        _give_up(watch)
        watch.process.send_signal(signal.SIGTERM)

    def resume(self) -> None:
        """Go on with the rooms that were watched when the server stopped or was killed."""
        for marker in sorted(self._home.glob(f"*/{RUNNING}")):
            try:
                kept = json.loads(marker.read_text(encoding="utf-8"))
                room_id, pid, offset = str(kept["room"]), int(kept["pid"]), int(kept["offset"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("watch not resumed", path=str(marker), reason=str(error)[:200])
                continue
            _end_orphan(pid, marker.parent)
            log.info("watch resumed", room=room_id)
            self._launch(marker.parent, room_id, offset)

    def close(self) -> None:
        """End all of them, with time to drain; `resume` goes on with them."""
        self._ended.set()
        with self._lock:
            watches = list(self._watches.values())
        for watch in watches:
            if not watch.over:
                watch.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for watch in watches:
            with suppress(subprocess.TimeoutExpired):
                watch.process.wait(max(0.1, deadline - time.monotonic()))
            if not watch.over:
                watch.process.kill()
                watch.process.wait()
            watch.thread.join(5)

    def _write_config(
        self, folder: Path, room: RoomRow, source: str, passports: Sequence[Mapping[str, Any]]
    ) -> None:
        settings = self._settings
        config: dict[str, Any] = {
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
                    "allow_private": settings.watch_private,
                }
            ],
            "sinks": [{"type": "jsonl"}],
            # Its journal is kept like our own records.
            "retention": {
                "violation_days": settings.keep_confirmed_days,
                "needs_proof_days": settings.keep_confirmed_days,
                "suspect_days": settings.keep_confirmed_days,
                "event_days": settings.keep_confirmed_days,
                "observation_days": settings.keep_transcript_days,
            },
        }
        if passports:
            _write_yaml(folder / "passports.yaml", list(passports))
            config["passports"] = "passports.yaml"
        _write_yaml(folder / "rooms.yaml", config)

    def _launch(self, folder: Path, room_id: str, offset: int = 0) -> None:
        port = _free_port()
        process = subprocess.Popen(
            watch_command(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "NO_COLOR": "1"},
        )
        thread = threading.Thread(target=self._follow, args=(room_id,), daemon=True)
        watch = _Watch(room_id, process, folder, port, thread, offset)
        with self._lock:
            self._watches[room_id] = watch
        _note_running(watch)
        threading.Thread(target=_drain, args=(watch,), daemon=True).start()
        thread.start()

    def _follow(self, room_id: str) -> None:
        with self._lock:
            watch = self._watches[room_id]
        asked = 0.0
        with httpx.Client(trust_env=False, timeout=2.0) as http:
            while True:
                over = watch.over
                try:
                    count = self._take(watch)
                    if not over and time.monotonic() - asked > ASK_EVERY_S:
                        asked = time.monotonic()
                        self._ask(watch, http)
                except (SQLAlchemyError, OSError, ModeratorError) as error:
                    log.warning("events not taken", room=room_id, reason=str(error)[:200])
                    count = 0
                    if over and self._ended.is_set():
                        break
                    time.sleep(FOLLOW_S)
                    continue
                if over and not count:
                    break
                if not count:
                    time.sleep(FOLLOW_S)
        self._note_end(watch)

    def _take(self, watch: _Watch) -> int:
        """Follow its envelopes into the database; how many there were."""
        envelopes, after = read_events(watch.out / EVENTS, watch.offset)
        if envelopes:
            ingest.put_envelopes(self._database, envelopes, folder=watch.out)
            watch.offset = after
            _note_running(watch)
        return len(envelopes)

    def _ask(self, watch: _Watch, http: httpx.Client) -> None:
        """How far behind it is, and the words being said, which no envelope tells."""
        try:
            rooms = http.get(f"http://127.0.0.1:{watch.port}/rooms").json()
        except (httpx.HTTPError, ValueError):
            return
        with self._database.write() as db:
            room = db.get(RoomRow, watch.room_id)
            if room is None or not rooms or room.lag_s == rooms[0]["lag_s"]:
                return
            room.lag_s = float(rooms[0]["lag_s"])
            body = {"last_words": room.last_words or "", "lag_s": room.lag_s}
            announce(db, "room.heard", room.id, room.organisation_id, body)

    def _note_end(self, watch: _Watch) -> None:
        if not self._ended.is_set():
            _give_up(watch)
        code = watch.process.returncode
        state = "ended" if code in (0, -signal.SIGTERM) else "failed"
        with suppress(SQLAlchemyError), self._database.write() as db:
            room = db.get(RoomRow, watch.room_id)
            if room is not None:
                if state == "failed" or room.state != "failed":
                    room.state_reason = _last_words(watch, code) if state == "failed" else ""
                    room.state = state
                room.lag_s = None
                body = {"state": room.state, "reason": room.state_reason}
                announce(db, "room.updated", room.id, room.organisation_id, body)


def watch_command(folder: Path, port: int) -> list[str]:
    """What is run to watch the room of `folder`."""
    return [
        *(sys.executable, "-m", "moderator", "watch", "--rooms", str(folder / "rooms.yaml")),
        *("--out", str(folder / "out"), "--metrics-port", str(port), "--log-format", "json"),
    ]


def _write_yaml(path: Path, body: Any) -> None:
    # Stream addresses hold tokens.
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(body, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _note_running(watch: _Watch) -> None:
    marker = watch.folder / RUNNING
    body = {"room": watch.room_id, "pid": watch.process.pid, "offset": watch.offset}
    partial = marker.with_suffix(".partial")
    with watch.marking, suppress(OSError):
        if watch.given_up:
            return
        partial.write_text(json.dumps(body), encoding="utf-8")
        partial.replace(marker)


def _give_up(watch: _Watch) -> None:
    """Not to be resumed. The thread that follows it may be about to note that it runs."""
    with watch.marking:
        watch.given_up = True
        (watch.folder / RUNNING).unlink(missing_ok=True)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _end_orphan(pid: int, folder: Path) -> None:
    """A process that outlived a killed server holds the journal: ask it to end, and wait."""
    for number in range(int(STOP_S / FOLLOW_S)):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return
        if str(folder).encode() not in command:
            return
        if number == 0:
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(FOLLOW_S)


def _last_words(watch: _Watch, code: int) -> str:
    """Why it failed, as it said itself: its last line, or what an error's JSON says."""
    for line in reversed(watch.tail):
        if line.startswith("{"):
            continue
        return line[:300]
    return f"exit {code}"


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


def check_address(source: str, *, allow_private: bool = False) -> None:
    """The console must not become a way into the network behind it. Raises LM-111."""
    address.check_address(source, allow_private=allow_private)


def _drain(watch: _Watch) -> None:
    """Keep the last lines that it says, for people to see why it ended."""
    stream = watch.process.stderr
    if stream is None:
        return
    with stream:
        for line in stream:
            watch.tail.append(line.decode("utf-8", "replace").rstrip()[:300])
