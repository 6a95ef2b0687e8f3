"""Records, journals and sinks made by hand, and a receiver for webhooks on loopback."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from moderator.records import (
    Disposition,
    LawRef,
    MatchInfo,
    RuleRef,
    Severity,
    Violation,
)
from moderator.sinks.envelope import EVENT_TYPES, Envelope
from moderator.sinks.journal import Journal

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXM="


def violation(
    room: str = "room",
    session: str = "s1",
    start: float = 1.0,
    disposition: Disposition = Disposition.VIOLATION,
    quote: str = "国家级",
) -> Violation:
    return Violation(
        room=room,
        session=session,
        source="rtmp://example.com/live/1",
        rule=RuleRef("cn.absolute.best", 1, "绝对化用语"),
        category="absolute_term",
        disposition=disposition,
        severity=Severity.HIGH,
        confidence=0.9,
        law=(LawRef("广告法", "第九条", "2021-04-29"),),
        channel="speech",
        start=start,
        end=start + 1.5,
        quote=quote,
        span=(2, 5),
        context=f"这是{quote}品质",
        match=MatchInfo("literal", 1.0),
        explanation="绝对化用语",
        suggestion="改为事实描述",
        engine={"asr": "test"},
    )


def tell(journal: Journal, record: Violation, key: str | None = None) -> Envelope:
    """Write a record to the journal as a session does."""
    return journal.append(
        record.session, record.room, "violation", record.to_json(), key=key, media_s=record.start
    )


def tell_evidence(
    journal: Journal, out: Path, record: Violation, content: bytes = b"clip", name: str = ""
) -> Path:
    """Write a clip and the envelope that seals it."""
    name = name or f"{record.room}/clips/{record.id}.mp4"
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    body = {
        "violation": record.id,
        "clip": name,
        "frames": [],
        "sha256": {name: hashlib.sha256(content).hexdigest()},
    }
    journal.append(
        record.session, record.room, "evidence", body, key=f"evidence/{record.id}", media_s=9
    )
    return path


def tell_session(journal: Journal, out: Path, room: str = "room", session: str = "s1") -> Violation:
    """A short session: started, an observation, a record with its clip, ended."""
    journal.append(session, room, "session.started", {"source": "x"}, key="session.started")
    utterance = {"channel": "speech", "text": "这是国家级品质", "start": 0.5, "end": 2.5}
    journal.append(session, room, "observation", utterance, key="speech/0.5", media_s=2.5)
    record = violation(room, session)
    tell(journal, record, "violation/1")
    tell_evidence(journal, out, record)
    journal.append(session, room, "session.ended", {"reason": "ended"}, key="session.ended")
    return record


@dataclass
class ListSink:
    """Keeps what it is sent; `fault` may raise instead."""

    name: str = "list"
    types: frozenset[str] = frozenset(EVENT_TYPES)
    batch_size: int = 10
    fault: Callable[[Sequence[Envelope]], None] = lambda batch: None
    got: list[Envelope] = field(default_factory=list)
    calls: int = 0
    closed: bool = False

    def send(self, batch: Sequence[Envelope]) -> None:
        self.calls += 1
        self.fault(batch)
        self.got += batch

    def close(self) -> None:
        self.closed = True


def until(true: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Wait for something that other threads bring about."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.01)
    return true()


@dataclass(frozen=True)
class Call:
    """One request that a receiver got, whatever it answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    @property
    def envelope(self) -> Envelope:
        return Envelope.from_json(self.event["data"])


class Receiver:
    """A webhook receiver on loopback.

    `answer` gives the status of the n-th request, from 0: 0 hangs up before the request counts,
    -1 takes it and hangs up without saying so.
    """

    def __init__(self, answer: Callable[[int], int] = lambda n: 204, **headers: str) -> None:
        self.calls: list[Call] = []
        self.requests = 0
        self.cut_short = 0
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    # The sender was killed in the middle of its request.
                    receiver.cut_short += 1
                    self.close_connection = True
                    return
                with receiver._lock:
                    status = answer(receiver.requests)
                    receiver.requests += 1
                    if status:
                        names = {name.lower(): value for name, value in self.headers.items()}
                        receiver.calls.append(Call(status, names, body))
                if status <= 0:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A sender that was killed hangs up; that is what is tested."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def taken(self) -> list[Envelope]:
        """What was taken, in order of arrival; some may come twice."""
        with self._lock:
            return [c.envelope for c in self.calls if c.status == -1 or 200 <= c.status < 300]

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


def a_third_fails(seed: int) -> Callable[[int], int]:
    """Answers of a receiver that fails a third of its calls, in every way there is."""
    chance = random.Random(seed)

    def answer(_: int) -> int:
        return chance.choice((500, 503, 429, 0, -1)) if chance.random() < 1 / 3 else 204

    return answer
