"""`moderator serve` as a process: first start, ports, demo, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from moderator.review import demo
from tests.command import REPOSITORY, environment, moderator

PATIENCE_S = 60
"""Seconds for an answer of a server that has just started, on a machine with much else to do."""

SAMPLES_THERE = bool(demo.room_ids())


class Server:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self._find(r"(http://\S+?)/?$")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def _find(self, pattern: str) -> str:
        for _ in range(900):
            for line in list(self.lines):
                found = re.search(pattern, line)
                if found:
                    return found[1]
            assert self.process.poll() is None, self.lines
            time.sleep(0.1)
        raise AssertionError(self.lines)

    def password(self) -> str:
        return self._find(r"^\s+((?:\w{4}-){3}\w{4})$")

    def wait_ready(self) -> None:
        for _ in range(300):
            try:
                if httpx.get(f"{self.address}/readyz", timeout=PATIENCE_S).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.lines)


@contextmanager
def serving(data: Path, *options: str, **env: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "moderator", "serve", "--port", "0", "--data", str(data), *options],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**env),
        start_new_session=True,
    )
    try:
        server = Server(process)
        server.wait_ready()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@pytest.mark.slow
def test_serve_with_nothing_configured_works_and_shows_the_password_once(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        password = server.password()
        assert httpx.get(f"{server.address}/healthz", timeout=PATIENCE_S).json() == {"status": "ok"}
        api = httpx.get(f"{server.address}/openapi.json", timeout=PATIENCE_S).json()
        assert api["info"]["title"] == "moderator"
        metrics = httpx.get(f"{server.address}/metrics", timeout=PATIENCE_S).text
        assert "moderator_database_up 1.0" in metrics
        body = {"username": "admin", "password": password}
        answer = httpx.post(f"{server.address}/api/v1/auth/login", json=body, timeout=PATIENCE_S)
        assert answer.json()["must_change_password"] is True
        assert "server" not in answer.headers
    # In good order, and then by the signal that was sent, as shells and systemd expect.
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert not [line for line in server.lines if "Traceback" in line]
    with serving(tmp_path / "data") as again:
        assert not [line for line in again.lines if password in line]
        assert not [line for line in again.lines if re.search(r"(?:\w{4}-){3}\w{4}", line)]
        answer = httpx.post(f"{again.address}/api/v1/auth/login", json=body, timeout=PATIENCE_S)
        assert answer.status_code == 200


@pytest.mark.slow
def test_serve_a_port_that_is_taken_is_one_clear_message(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = moderator("serve", "--port", port, "--data", tmp_path)
    assert done.code == 2
    assert "LM-934" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "code"), [("mysql://x/y", "LM-930"), ("postgresql://me:pw1234@127.0.0.1:9/x", "LM-932")]
)
def test_serve_a_database_that_cannot_be_used_is_named_without_its_password(
    tmp_path: Path, url: str, code: str
) -> None:
    done = moderator("serve", "--port", "0", "--data", tmp_path, env=environment(DATABASE_URL=url))
    assert (done.code, code in done.err) == (2, True)
    assert "pw1234" not in done.err


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLES_THERE, reason="the sample rooms are not here")
def test_serve_demo_fills_the_console_and_plays_a_room(tmp_path: Path) -> None:
    from moderator.review.client import ModeratorClient

    with serving(tmp_path / "data", "--demo") as server:
        password = server.password()
        with httpx.Client(base_url=f"{server.address}/api/v1", timeout=PATIENCE_S) as http:
            body = {"username": "admin", "password": password}
            http.headers["X-CSRF-Token"] = http.post("/auth/login", json=body).json()["csrf_token"]
            http.post("/auth/password", json={"old": password, "new": "walrus umbrella 7"})
            scopes = ["violations:read", "rooms:read", "check:run"]
            made = http.post("/auth/tokens", json={"name": "t", "scopes": scopes}).json()
            with ModeratorClient(server.address, made["token"]) as client:
                for _ in range(600):
                    if client.counts()["open"] >= 5:
                        break
                    time.sleep(0.2)
                assert client.counts()["open"] >= 5
                assert client.check("这是国家级的品质")["marks"]
            assert {room["id"] for room in http.get("/rooms").json()} & set(demo.room_ids())
