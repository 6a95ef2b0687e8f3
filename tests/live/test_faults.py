"""What goes wrong with live streams, and that the room says so and goes on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from moderator.media.address import is_url
from moderator.media.feed import (
    FeedOptions,
    FreshUrl,
    Reason,
    Resume,
    RoomState,
    SourceSpec,
    StreamFeed,
)
from moderator.media.ring import RingBuffer
from tests.live.stations import (
    Broadcast,
    Station,
    at_live_speed,
    begin,
    bytes_of,
    sending,
    without_flv_header,
)
from tests.live.watched import QUICK, Watched
from tests.media.conftest import child_processes

pytestmark = pytest.mark.slow

Open = Callable[..., Station]


def kill_ffmpeg_of(room: Watched) -> None:
    connection = room.feed._connection
    assert connection is not None
    os.kill(connection.running.pid, signal.SIGKILL)


def test_process_killed(station: Open, room_mp4: Path) -> None:
    with Watched(f"{station(Broadcast(room_mp4)).url}/room.flv", fast_retry_s=2.0) as room:
        room.wait_for(lambda: room.sound_s > 1)
        kill_ffmpeg_of(room)
        room.wait_for(lambda: len(room.gaps) == 1 and room.sound[-1].start > room.gaps[0].end)
        gap = room.gaps[0]
        assert gap.reason is Reason.PROCESS_DIED
        assert 0.9 < gap.duration_s < 10
        room.wait_for(lambda: room.sound[-1].end > gap.end + 1)
        room.check_time_runs_forward()
        assert abs(room.feed.media_now() - room.sound[-1].end) < 2
    assert RoomState.RECONNECTING in room.states
    assert room.reasons(RoomState.LIVE) == [Reason.CONNECTED, Reason.RESUMED]
    assert room.feed.stats.reconnects == 1


def test_gap_is_as_long_as_the_outage(station: Open, room_mp4: Path) -> None:
    broadcast = Broadcast(room_mp4)
    with Watched(f"{station(broadcast).url}/room.flv") as room:
        room.wait_for(lambda: room.sound_s > 1.5)
        broadcast.refusing = 503
        broadcast.hang_up()
        ended = time.monotonic()
        room.wait_for(lambda: room.feed.state is RoomState.RECONNECTING)
        time.sleep(2)
        broadcast.refusing = None
        room.wait_for(lambda: bool(room.gaps))
        there = time.monotonic()
        # From the last sound before to the first after it; a busy machine is slow to decode it.
        assert broadcast.began[1] - ended - 0.8 <= room.gaps[0].duration_s <= there - ended + 0.8
        room.check_time_runs_forward()
    assert room.feed.stats.gap_s == pytest.approx(room.gaps[0].duration_s)


def test_time_stamps_that_continue_place_a_connection_exactly(
    station: Open, room_mp4: Path
) -> None:
    broadcast = Broadcast(room_mp4)
    broadcast.offset_from = time.monotonic() - 1000
    with Watched(f"{station(broadcast).url}/room.flv") as room:
        room.wait_for(lambda: room.sound_s > 1.5)
        first = room.feed._connection
        assert first is not None
        zero = first.start_pts_s
        broadcast.hang_up()
        room.wait_for(lambda: room.reasons(RoomState.LIVE) == [Reason.CONNECTED, Reason.RESUMED])
        second = room.feed._connection
        assert second is not None
        assert zero is not None
        assert second.start_pts_s is not None
        assert room.feed._timeline.base_s == pytest.approx(second.start_pts_s - zero)


def test_port_closed_and_opened_again(station: Open, room_mp4: Path) -> None:
    broadcast = Broadcast(room_mp4)
    first = station(broadcast)
    with Watched(f"{first.url}/room.flv") as room:
        room.wait_for(lambda: room.sound_s > 1)
        broadcast.hang_up()
        first.close()
        room.wait_for(lambda: room.feed.stats.ends.get(Reason.UNREACHABLE, 0) >= 2)
        station(broadcast, port=first.port)
        room.wait_for(lambda: bool(room.gaps))
        room.check_time_runs_forward()


def test_silence_that_ends_by_itself_loses_nothing(station: Open, room_mp4: Path) -> None:
    broadcast = Broadcast(room_mp4)
    with Watched(f"{station(broadcast).url}/room.flv", reconnect_after_s=10) as room:
        room.wait_for(lambda: room.sound_s > 1)
        broadcast.silent.set()
        room.wait_for(lambda: room.feed.state is RoomState.STALLED)
        broadcast.silent.clear()
        room.wait_for(lambda: room.feed.state is RoomState.LIVE)
        there = room.sound_s
        room.wait_for(lambda: room.sound_s > there + 2)
        assert room.gaps == []
        assert room.feed.stats.stalls == 1
        assert room.feed.stats.connects == 1


def test_silence_that_lasts_is_a_gap(station: Open, room_mp4: Path) -> None:
    broadcast = Broadcast(room_mp4)
    with Watched(f"{station(broadcast).url}/room.flv") as room:
        room.wait_for(lambda: room.sound_s > 1)
        broadcast.silent.set()
        room.wait_for(lambda: room.feed.state is RoomState.RECONNECTING)
        broadcast.hang_up()
        broadcast.silent.clear()
        room.wait_for(lambda: bool(room.gaps))
        assert room.gaps[0].reason is Reason.NO_PACKETS
        assert room.gaps[0].duration_s > 1.5
        assert RoomState.STALLED in room.states


def test_frozen_picture_and_digital_silence_are_named(station: Open, tmp_path: Path) -> None:
    still = "color=navy:s=160x90:r=10"
    silence = "anullsrc=r=16000:cl=mono"
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-c:a", "aac")

    def play(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        inputs = ("-re", "-f", "lavfi", "-i", still, "-re", "-f", "lavfi", "-i", silence)
        with sending(*inputs, *codecs, "-flush_packets", "1", "-f", "flv", "pipe:1") as process:
            assert process.stdout is not None
            while data := process.stdout.read1(65536):  # type: ignore[attr-defined]
                handler.wfile.write(data)

    with Watched(f"{station(play).url}/room.flv") as room:
        room.wait_for(lambda: {Reason.FROZEN, Reason.SILENT} <= room.problems)
        assert {Reason.FROZEN, Reason.SILENT} <= room.feed.stats.problems
        assert room.feed.state is RoomState.LIVE
    assert not any(notice.active for notice in room.notices[-2:])


def test_pictures_that_stop_while_sound_runs_are_named(station: Open, room_mp4: Path) -> None:
    both = bytes_of(room_mp4, "flv", seconds=2)
    tags = list(flv_tags(bytes_of(room_mp4, "flv")))

    def play(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        handler.wfile.write(both)
        began = time.monotonic()
        for kind, at_s, tag in tags:
            if kind == 8 and at_s > 2:
                time.sleep(max(0.0, began + at_s - 2 - time.monotonic()))
                handler.wfile.write(tag)
        time.sleep(0.5)

    with Watched(f"{station(play).url}/room.flv", ended_after_s=0.1) as room:
        room.wait_for(lambda: Reason.NO_VIDEO in room.problems)
        room.wait_for(lambda: room.sound_s > 4)


def flv_tags(data: bytes) -> list[tuple[int, float, bytes]]:
    """Kind (8 sound, 9 picture), second and bytes of each tag."""
    found, at = [], 13
    while at + 15 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big") + 15
        stamp = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        found.append((data[at], stamp / 1000, data[at : at + size]))
        at += size
    return found


class Platform:
    """Gives out a new token each time it is asked, as a resolver."""

    def __init__(self, broadcast: Broadcast) -> None:
        self.broadcast = broadcast
        self.reasons: list[str] = []
        self.url = ""

    def fresh_url(self, room_id: str, reason: str) -> FreshUrl:
        self.reasons.append(reason)
        self.broadcast.token = f"token=secret{len(self.reasons)}"
        return FreshUrl(f"{self.url}/room.flv?{self.broadcast.token}", {"X-Room": room_id})


def test_expired_url_is_renewed_and_the_session_survives(station: Open, room_mp4: Path) -> None:
    broadcast = Broadcast(room_mp4)
    platform = Platform(broadcast)
    opened = station(broadcast)
    platform.url = opened.url
    with Watched(SourceSpec(resolver=platform, allow_private=True)) as room:
        room.wait_for(lambda: room.sound_s > 1)
        assert opened.headers["X-Room"] == "room"
        broadcast.token = "token=nobody knows it"
        broadcast.hang_up()
        room.wait_for(lambda: bool(room.gaps))
        room.wait_for(lambda: room.sound[-1].end > room.gaps[0].end + 1)
    assert room.feed.stats.ends[Reason.URL_EXPIRED] >= 1
    assert Reason.URL_EXPIRED in platform.reasons
    told = repr([*room.changes, *room.notices, room.feed.stats])
    assert "secret" not in told


def test_resolver_that_fails_is_asked_again(station: Open, room_mp4: Path) -> None:
    from moderator.media.resolver import CommandResolver

    class Lazy(Platform):
        def fresh_url(self, room_id: str, reason: str) -> FreshUrl:
            if len(self.reasons) < 2:
                self.reasons.append(reason)
                return CommandResolver(["false"]).fresh_url(room_id, reason)
            return super().fresh_url(room_id, reason)

    broadcast = Broadcast(room_mp4)
    platform = Lazy(broadcast)
    platform.url = station(broadcast).url
    with Watched(SourceSpec(resolver=platform, allow_private=True)) as room:
        room.wait_for(lambda: room.sound_s > 0.5)
    assert "LM-116" in room.changes[0].detail


def test_headers_go_to_the_origin_and_nowhere_else(station: Open, room_mp4: Path) -> None:
    other = station(Broadcast(room_mp4))

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"{other.url}/room.flv")
        handler.end_headers()

    origin = station(elsewhere)
    headers = {"Authorization": "Bearer sesame"}
    source = SourceSpec(f"{origin.url}/room.flv", headers=headers, allow_private=True)
    with Watched(source) as room:
        room.wait_for(lambda: room.sound_s > 0.5)
        assert origin.headers["Authorization"] == "Bearer sesame"
        assert "Authorization" not in other.headers
        pid = room.feed._connection.running.pid  # type: ignore[union-attr]
        assert b"sesame" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert "sesame" not in repr([room.feed.source, room.feed.stats])


def test_live_stream_that_announces_a_length_is_live(station: Open, room_mp4: Path) -> None:
    class Played(Broadcast):
        """Plays a file into the room, whose length is in the header of the stream."""

        def __call__(self, handler: BaseHTTPRequestHandler) -> None:
            begin(handler)
            for data in at_live_speed(self.path, "flv", "-t", "8", hung_up=opened.hung_up):
                handler.wfile.write(data)
                if len(opened.requests) == 1 and room.sound_s > 1:
                    return

    opened = station(Played(room_mp4))
    room = Watched(f"{opened.url}/room.flv")
    with room:
        room.wait_for(lambda: room.reasons(RoomState.LIVE) == [Reason.CONNECTED, Reason.RESUMED])
        room.wait_for(lambda: room.sound_s > 2)
        assert "Duration: 00:00:08" in " ".join(room.feed.stats.log)
        opened.hung_up.set()


@pytest.mark.parametrize("jump_s", [-4, 3600])
def test_time_stamps_that_jump(station: Open, room_mp4: Path, jump_s: int) -> None:
    at_first = bytes_of(room_mp4, "flv", "-output_ts_offset", "5", seconds=2)
    later = bytes_of(room_mp4, "flv", "-output_ts_offset", str(7 + jump_s), seconds=2)
    broadcast = Broadcast(room_mp4)

    def play(handler: BaseHTTPRequestHandler) -> None:
        if len(opened.requests) > 1:
            broadcast(handler)
            return
        begin(handler)
        handler.wfile.write(at_first)
        time.sleep(1)
        with suppress(OSError):
            handler.wfile.write(without_flv_header(later))
            time.sleep(3)

    play.hang_up = broadcast.hang_up  # type: ignore[attr-defined]
    opened = station(play)
    with Watched(f"{opened.url}/room.flv") as room:
        room.wait_for(lambda: Reason.PTS_JUMP in room.reasons(RoomState.RECONNECTING))
        room.wait_for(lambda: room.reasons(RoomState.LIVE) == [Reason.CONNECTED, Reason.RESUMED])
        there = room.sound_s
        room.wait_for(lambda: room.sound_s > there + 1)
        room.check_time_runs_forward()
        assert room.sound[-1].end < 30
        assert all(gap.reason is Reason.PTS_JUMP for gap in room.gaps)


def spliced(container: str, first: Path, second: Path) -> Callable[[BaseHTTPRequestHandler], None]:
    """Two recordings one after the other on one connection, at live speed, with time stamps that
    go on."""
    head = bytes_of(first, container, seconds=2)
    tail = bytes_of(second, container, "-output_ts_offset", "2", seconds=6)
    if container == "flv":
        tail = without_flv_header(tail)

    def play(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        handler.wfile.write(head)
        time.sleep(1)
        pieces = 60
        for number in range(pieces):
            handler.wfile.write(
                tail[len(tail) * number // pieces : len(tail) * (number + 1) // pieces]
            )
            time.sleep(6 / pieces)

    return play


def test_resolution_that_changes_where_the_copy_follows(
    station: Open, room_mp4: Path, wide_mp4: Path, tmp_path: Path
) -> None:
    ring = RingBuffer(tmp_path / "ring", segment_s=1)
    play = spliced("mpegts", room_mp4, wide_mp4)
    with Watched(f"{station(play).url}/room.ts", ring=ring) as room:
        room.wait_for(lambda: room.frames[-1:] and room.frames[-1].image.shape == (224, 400, 3))
        assert room.frames[0].image.shape == (384, 216, 3)
        at = room.frames[-1].time + 1.5
        room.wait_for(lambda: room.sound[-1].end > at + 0.5)
        assert room.feed.stats.connects == 1
        room.check_time_runs_forward()
        assert ring.frame(at).shape == (224, 400, 3)


def test_resolution_that_changes_where_the_copy_needs_a_new_connection(
    station: Open, room_mp4: Path, wide_mp4: Path, tmp_path: Path
) -> None:
    ring = RingBuffer(tmp_path / "ring", segment_s=1)
    change, wide = spliced("flv", room_mp4, wide_mp4), Broadcast(wide_mp4)

    def play(handler: BaseHTTPRequestHandler) -> None:
        (change if len(opened.requests) == 1 else wide)(handler)

    play.hang_up = wide.hang_up  # type: ignore[attr-defined]
    opened = station(play)
    with Watched(f"{opened.url}/room.flv", ring=ring) as room:
        room.wait_for(lambda: Reason.FORMAT_CHANGED in room.reasons(RoomState.RECONNECTING))
        room.wait_for(lambda: room.feed.state is RoomState.LIVE)
        last = room.frames[-1].time
        room.wait_for(lambda: room.frames[-1].time > last + 1)
        assert room.frames[-1].image.shape == (224, 400, 3)
        assert ring.frame(room.frames[-1].time - 0.5).shape == (224, 400, 3)
        room.check_time_runs_forward()


def test_codec_that_changes_in_the_middle(station: Open, room_mp4: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    codecs = ("-c:v", "mpeg2video", "-g", "5", "-c:a", "mp2")
    with sending("-y", "-i", str(room_mp4), "-r", "25", *codecs, str(other)) as process:
        assert process.wait(20) == 0
    play = spliced("mpegts", room_mp4, other)
    with Watched(f"{station(play).url}/room.ts", stall_after_s=0.8) as room:
        room.wait_for(lambda: room.feed.stats.connects >= 2 or room.sound_s > 5)
        room.wait_for(lambda: room.feed.state in (RoomState.LIVE, RoomState.RECONNECTING))
        room.check_time_runs_forward()


def test_garbage_in_the_middle(station: Open, room_mp4: Path) -> None:
    def play(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, "video/mp2t")
        stop = opened.hung_up
        for number, data in enumerate(at_live_speed(room_mp4, "mpegts", hung_up=stop)):
            handler.wfile.write(data)
            if number % 10 == 9:
                handler.wfile.write(os.urandom(3000))

    opened = station(play)
    with Watched(f"{opened.url}/room.ts") as room:
        room.wait_for(lambda: room.sound_s > 3 and len(room.frames) > 3)
        room.check_time_runs_forward()
        opened.hung_up.set()


def test_nothing_but_garbage(station: Open) -> None:
    def play(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        for _ in range(100):
            handler.wfile.write(os.urandom(100_000))

    with Watched(f"{station(play).url}/room.flv", give_up_after_s=2.0) as room:
        room.wait_for_end()
    assert room.states[-1] is RoomState.FAILED
    assert room.items == []


@pytest.mark.parametrize("where", ["header", "body"])
def test_slow_loris(station: Open, room_mp4: Path, where: str) -> None:
    whole = bytes_of(room_mp4, "flv")

    def play(handler: BaseHTTPRequestHandler) -> None:
        slow = b"HTTP/1.1 200 OK\r\nX-Slow: " if where == "header" else whole
        if where == "body":
            begin(handler)
        for at in range(200):
            handler.wfile.write(slow[at : at + 1] or b"x")
            time.sleep(0.05)

    url = f"{station(play).url}/room.flv"
    with Watched(url, connect_timeout_s=1.0, give_up_after_s=1.5) as room:
        room.wait_for_end()
    assert room.states == [RoomState.RECONNECTING, RoomState.FAILED]
    assert room.reasons(RoomState.FAILED) == [Reason.NO_PACKETS]


def test_many_connects_and_disconnects_leave_nothing(station: Open, room_mp4: Path) -> None:
    short = bytes_of(room_mp4, "flv", seconds=0.5)

    def play(handler: BaseHTTPRequestHandler) -> None:
        begin(handler)
        handler.wfile.write(short)

    with Watched(
        f"{station(play).url}/room.flv",
        fast_retry_s=0.01,
        fast_retries=1000,
        ended_after_s=60.0,
        max_frame_side=64,
    ) as room:
        room.wait_for(lambda: room.feed.stats.connects >= 5, 60)
        threads, files = busy()
        room.wait_for(lambda: room.feed.stats.connects >= 50, 60)
        assert all(
            abs(now - before) <= 12 for now, before in zip(busy(), (threads, files), strict=True)
        )
        room.check_time_runs_forward()
    assert child_processes() == set()


def busy() -> tuple[int, int]:
    import threading

    from tests.media.conftest import open_files

    return threading.active_count(), open_files()


def test_slow_reader_loses_the_oldest_and_says_so(station: Open, room_mp4: Path) -> None:
    reads = [0.0]

    def reader(item: object) -> None:
        if not reads[0] and room.sound_s > 0.5:
            reads[0] = time.monotonic()
            time.sleep(4)

    broadcast = Broadcast(room_mp4)
    room = Watched(
        f"{station(broadcast).url}/room.flv", reader=reader, audio_backlog_s=1.0, frame_backlog=1
    )
    with room:
        room.wait_for(lambda: bool(room.gaps))
        gap = room.gaps[0]
        assert gap.reason is Reason.READER_SLOW
        assert gap.duration_s > 2
        drops = room.feed.stats.drops
        assert drops["sound_blocks"] >= 10
        assert drops["frames"] >= 2
        room.wait_for(lambda: room.sound[-1].end > gap.end + 1)
        room.check_time_runs_forward()
        assert room.feed.stats.connects == 1
        assert abs(room.feed.media_now() - room.sound[-1].end) < 1.5


def test_resumed_session_begins_with_the_gap(station: Open, room_mp4: Path) -> None:
    resume = Resume(media_s=100.0, zero_wall_s=time.time() - 120.0)
    with Watched(f"{station(Broadcast(room_mp4)).url}/room.flv", resume=resume) as room:
        room.wait_for(lambda: room.sound_s > 1)
        gap = room.gaps[0]
        assert room.items[0] is gap
        assert gap.reason is Reason.RESTARTED
        assert gap.start == 100.0
        assert gap.end == pytest.approx(121, abs=2.5)
        assert room.feed.wall_at(0.0) == pytest.approx(resume.zero_wall_s, abs=1.0)


def test_outage_that_never_ends_is_a_gap_to_the_end(station: Open, room_mp4: Path) -> None:
    broadcast = Broadcast(room_mp4)
    with Watched(f"{station(broadcast).url}/room.flv", give_up_after_s=1.5) as room:
        room.wait_for(lambda: room.sound_s > 1)
        broadcast.refusing = 500
        kill_ffmpeg_of(room)
        room.wait_for_end()
    assert room.states[-1] is RoomState.FAILED
    assert room.gaps[-1] is room.items[-1]
    assert room.gaps[-1].duration_s > 1


def test_stop_during_an_outage(station: Open) -> None:
    gone = station(lambda handler: None)
    with Watched(f"{gone.url}/room.flv", fast_retry_s=60.0) as room:
        room.wait_for(lambda: room.feed.state is RoomState.RECONNECTING)
        began = time.monotonic()
        room.feed.stop()
        room.wait_for_end()
        assert time.monotonic() - began < 5
    assert room.reasons(RoomState.ENDED) == [Reason.STOPPED]


def test_reader_that_leaves_early_takes_ffmpeg_along(room_mp4: Path) -> None:
    feed = StreamFeed("room", SourceSpec(str(room_mp4), realtime=True), FeedOptions(**QUICK))  # type: ignore[arg-type]
    with closing(iter(feed)) as items:  # type: ignore[type-var]
        next(items)
        assert child_processes()
    assert child_processes() == set()
    assert feed.state is RoomState.ENDED


def test_recording_that_cannot_be_written_does_not_stop_the_room(
    station: Open, room_mp4: Path, tmp_path: Path
) -> None:
    ring = RingBuffer(tmp_path / "ring")
    with Watched(f"{station(Broadcast(room_mp4)).url}/room.flv", ring=ring) as room:
        room.wait_for(lambda: room.sound_s > 0.5)
        for path in sorted((tmp_path / "ring").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "ring").rmdir()
        (tmp_path / "ring").write_text("in the way")
        kill_ffmpeg_of(room)
        room.wait_for(lambda: Reason.RECORDING_FAILED in room.problems)
        there = room.sound_s
        room.wait_for(lambda: room.sound_s > there + 1)
    assert is_url(room.feed.source.url)
