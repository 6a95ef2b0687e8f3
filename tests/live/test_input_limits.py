"""Sources that would lead elsewhere, or send without end."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from moderator.errors import ModeratorError
from moderator.media.egress import EgressLimits
from moderator.media.feed import InputLimits, Reason, RoomState, SourceSpec
from tests.live.stations import Broadcast, RtspStation, Station, begin
from tests.live.watched import Watched

pytestmark = pytest.mark.slow

Open = Callable[..., Station]

ONE_HOST = (ipaddress.IPv4Network("127.0.0.1/32"),)
"""What stands for the public internet here; 127.0.0.2 stands for what must not be reached."""


def only_this_host(url: str) -> SourceSpec:
    return SourceSpec(url, networks=ONE_HOST)


@pytest.fixture
def secret(station: Open, room_mp4: Path) -> Station:
    """A station that must not be reached."""
    return station(Broadcast(room_mp4), host="127.0.0.2")


def test_private_address_is_refused(station: Open, room_mp4: Path) -> None:
    opened = station(Broadcast(room_mp4))
    with Watched(SourceSpec(f"{opened.url}/room.flv")) as room:
        room.wait_for_end()
    assert room.reasons(RoomState.FAILED) == [Reason.REFUSED]
    assert "LM-111" in room.changes[-1].detail
    assert opened.requests == []


def test_allowed_network_is_reached(station: Open, room_mp4: Path) -> None:
    with Watched(only_this_host(f"{station(Broadcast(room_mp4)).url}/room.flv")) as room:
        room.wait_for(lambda: room.sound_s > 0.5)


def test_redirect_to_a_private_address_is_refused(station: Open, secret: Station) -> None:
    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{secret.url}/latest/meta-data/")
        handler.end_headers()

    with Watched(only_this_host(f"{station(elsewhere).url}/room.flv")) as room:
        room.wait_for_end()
    assert room.reasons(RoomState.FAILED) == [Reason.REFUSED]
    assert "127.0.0.2" in room.changes[-1].detail
    assert secret.requests == []


@pytest.mark.parametrize("line", ["{secret}/one.ts", "file:///etc/passwd", "//127.0.0.2/x.ts"])
def test_playlist_that_leads_elsewhere_gets_nothing(
    station: Open, secret: Station, line: str
) -> None:
    def playlist(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, "application/vnd.apple.mpegurl")
        entry = line.format(secret=secret.url)
        handler.wfile.write(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{entry}\n".encode())

    url = f"{station(playlist).url}/live.m3u8"
    with Watched(only_this_host(url), give_up_after_s=1.5, connect_timeout_s=1.5) as room:
        room.wait_for_end()
    assert room.states[-1] is RoomState.FAILED
    assert room.items == []
    assert secret.requests == []


def test_rtsp_redirect_is_not_followed(secret: Station) -> None:
    server = RtspStation(redirect_to=f"rtsp://127.0.0.2:{secret.port}/room")
    try:
        with Watched(only_this_host(server.url), give_up_after_s=1.0) as room:
            room.wait_for_end()
        assert room.states[-1] is RoomState.FAILED
        assert secret.requests == []
    finally:
        server.close()


def test_playlist_without_end_is_bounded(station: Open) -> None:
    sent = [0]

    def endless(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, "application/vnd.apple.mpegurl")
        handler.wfile.write(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n")
        lines = b"#EXTINF:0.001,\nx.ts\n" * 5000
        for _ in range(2000):
            handler.wfile.write(lines)
            sent[0] += len(lines)

    limits = InputLimits(EgressLimits(playlist_bytes=1 << 20))
    url = f"{station(endless).url}/live.m3u8"
    with Watched(url, limits=limits, give_up_after_s=1.0) as room:
        room.wait_for_end()
    assert room.reasons(RoomState.FAILED) == [Reason.REFUSED]
    assert "playlist" in room.changes[-1].detail
    each = room.feed.stats.bytes_in / room.feed.stats.connects
    # Some versions of ffmpeg ask a few times.
    assert each < 8 << 20


def test_playlist_of_thousands_of_variants_is_bounded(station: Open) -> None:
    def master(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, "application/vnd.apple.mpegurl")
        lines = [f"#EXT-X-STREAM-INF:BANDWIDTH={n}\n{n}.m3u8" for n in range(1, 3000)]
        handler.wfile.write(("#EXTM3U\n" + "\n".join(lines)).encode())

    opened = station(master)
    limits = InputLimits(EgressLimits(connections_per_minute=10))
    with Watched(f"{opened.url}/live.m3u8", limits=limits, connect_timeout_s=1.5) as room:
        room.wait_for_end()
    assert room.reasons(RoomState.FAILED) == [Reason.REFUSED]
    assert len(opened.requests) <= 10 * room.feed.stats.connects


def test_flood_is_bounded(station: Open) -> None:
    def flood(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, "video/mp2t")
        packet = (b"\x47\x1f\xff\x10" + bytes(184)) * 5000
        while True:
            handler.wfile.write(packet)

    limits = InputLimits(EgressLimits(bytes_per_s=1_000_000))
    with Watched(f"{station(flood).url}/room.ts", limits=limits) as room:
        room.wait_for_end()
    assert room.reasons(RoomState.FAILED) == [Reason.REFUSED]
    assert room.feed.stats.bytes_in < 20_000_000 * room.feed.stats.connects


def test_ffmpeg_runs_confined(
    station: Open, room_mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATOR_WEBHOOK_SECRET", "sesame")
    with Watched(f"{station(Broadcast(room_mp4)).url}/room.flv") as room:
        room.wait_for(lambda: room.sound_s > 0.3)
        process = Path(f"/proc/{room.feed._connection.running.pid}")  # type: ignore[union-attr]
        limits = process.joinpath("limits").read_text()
        assert str(4 << 30) in limits
        assert b"sesame" not in process.joinpath("environ").read_bytes()


def test_frames_over_the_limit_are_not_decoded(station: Open, room_mp4: Path) -> None:
    url = f"{station(Broadcast(room_mp4)).url}/room.flv"
    with Watched(url, max_frame_pixels=216 * 384 - 1, give_up_after_s=2.0) as room:
        time.sleep(2)
        assert room.frames == []


@pytest.mark.parametrize("header", ["Bad Name", "X:Y", "A\r\nB"])
def test_headers_that_are_none_are_refused(header: str) -> None:
    with pytest.raises(ModeratorError, match="LM-119"):
        Watched(SourceSpec("http://a.example/x.flv", headers={header: "1"}))
    with pytest.raises(ModeratorError, match="LM-119"):
        Watched(SourceSpec("http://a.example/x.flv", headers={"X": "1\r\nHost: b"}))


def test_source_must_be_something() -> None:
    with pytest.raises(ModeratorError, match="LM-119"):
        Watched(SourceSpec())
