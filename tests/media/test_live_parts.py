"""Small parts of the live feed: retries, states, stamps of transport streams, resolvers."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moderator.errors import ModeratorError
from moderator.media.filters import shrunk
from moderator.media.mpegts import first_pts, last_pts
from moderator.media.resolver import CommandResolver, FreshUrl, HttpResolver
from moderator.media.retry import Retries
from moderator.media.room_state import ALLOWED, RoomState

Make = Callable[..., Path]


def test_retries_are_fast_then_back_off_with_jitter() -> None:
    retries = Retries(3, 0.5, 60.0, random.Random(1))
    waits = [retries.next_wait_s() for _ in range(14)]
    assert all(0.25 <= wait <= 0.5 for wait in waits[:3])
    bounds = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    for wait, bound in zip(waits[3:], bounds, strict=True):
        assert bound / 2 <= wait <= bound
    assert len(set(waits)) == len(waits)
    retries.succeeded()
    assert retries.next_wait_s() <= 0.5


def test_states_every_one_is_reached_and_the_final_ones_are() -> None:
    reached = frozenset().union(*ALLOWED.values())
    assert set(ALLOWED) == set(RoomState)
    assert reached == set(RoomState) - {RoomState.CONNECTING}
    assert {state for state, after in ALLOWED.items() if not after} == {
        RoomState.ENDED,
        RoomState.FAILED,
    }


@pytest.mark.slow
def test_stamps_are_those_of_the_muxer(make: Make) -> None:
    path = make(
        "a.ts", "-f", "lavfi", "-i", "testsrc=s=64x36:r=25:d=3", "-c:v", "libx264", "-bf", 0,
        "-output_ts_offset", 20, "-muxdelay", 0, "-muxpreload", 0,
        "-mpegts_flags", "initial_discontinuity", "-mpegts_copyts", 1,
    )  # fmt: skip
    assert first_pts(path) == pytest.approx(20.0, abs=0.01)
    assert last_pts(path) == pytest.approx(22.96, abs=0.01)


def test_stamps_of_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    for data in (b"", b"\x47" * 100, bytes(1000), b"\x47\x40\x11\x30" + b"\xff" * 1000):
        path.write_bytes(data)
        assert first_pts(path) is None
        assert last_pts(path) is None


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(540, 960, (540, 960)), (1080, 1920, (720, 1280)), (4000, 2, (1280, 1)), (0, 0, (1, 1))],
)
def test_picture_in_the_corner_has_the_size_that_ffmpeg_made_it(
    width: int, height: int, expected: tuple[int, int]
) -> None:
    assert shrunk(width, height, 1280) == expected


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("http://a.example/x.flv?k=1", FreshUrl("http://a.example/x.flv?k=1")),
        (
            '{"url": "rtmp://a.example/x", "headers": {"Referer": "b"}}',
            FreshUrl("rtmp://a.example/x", {"Referer": "b"}),
        ),
    ],
)
def test_resolver_command_prints_a_url_or_json(answer: str, expected: FreshUrl) -> None:
    resolver = CommandResolver(program(f"print({answer!r})"))
    assert resolver.fresh_url("room", "url_expired") == expected


def test_resolver_command_is_told_the_room_and_why_without_a_shell() -> None:
    text = "import sys; print('http://a.example/' + '-'.join(sys.argv[1:]).replace(' ', '_'))"
    found = CommandResolver(program(text)).fresh_url("$(touch x); a", "url_expired")
    assert found.url == "http://a.example/$(touch_x);_a-url_expired"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("print('not a url')", "no stream URL"),
        ("print('{broken')", "no stream URL"),
        ("print('[1]')", "no stream URL"),
        ('print(\'{"url": "http://a.example/", "headers": {"a": 1}}\')', "no stream URL"),
        ("print('http://a.example/' + 'x' * 100_000)", "no stream URL"),
        ("import sys; sys.exit('no such room http://u:p@a.example/')", "no such room"),
        ("import time; time.sleep(60)", "no answer"),
    ],
)
def test_resolver_command_that_fails(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "en")
    with pytest.raises(ModeratorError, match=f"LM-116.*{reason}") as failed:
        CommandResolver(program(text), timeout_s=1.0).fresh_url("room", "url_expired")
    assert "u:p" not in str(failed.value)


def test_resolver_command_that_is_not_there() -> None:
    with pytest.raises(ModeratorError, match="LM-116"):
        CommandResolver(["/no/such/program"]).fresh_url("room", "url_expired")


def test_resolver_over_http_is_told_the_room_and_why() -> None:
    pytest.importorskip("httpx")
    asked: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            asked.append(self.headers["X-Key"])
            body = b'{"url": "http://a.example/x.flv"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        resolver = HttpResolver(f"http://127.0.0.1:{server.server_port}/", {"X-Key": "k"})
        assert resolver.fresh_url("room", "url_expired").url == "http://a.example/x.flv"
        thread.join()
    assert asked == [{"room": "room", "reason": "url_expired"}, "k"]


def test_resolver_over_http_that_fails(served: str) -> None:
    pytest.importorskip("httpx")
    # The server of files knows no POST.
    with pytest.raises(ModeratorError, match=r"LM-116.*HTTP 501"):
        HttpResolver(f"{served}/room").fresh_url("room", "url_expired")
    with pytest.raises(ModeratorError, match="LM-116"):
        HttpResolver("http://127.0.0.1:1/").fresh_url("room", "url_expired")
