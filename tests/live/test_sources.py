"""Every kind of source, from its sender to sound and pictures on the session's clock."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moderator.media.feed import Reason, RoomState, SourceSpec
from tests.live.stations import (
    Broadcast,
    RtspStation,
    Station,
    begin,
    bytes_of,
    free_port,
    hls_words,
    rtmp_server,
    sending,
)
from tests.live.watched import Watched

pytestmark = pytest.mark.slow

Open = Callable[..., Station]


def check_sound_and_pictures(room: Watched) -> None:
    """Waits for two seconds of both and checks what they are."""
    room.wait_for(lambda: room.sound_s > 2 and len(room.frames) >= 3)
    assert room.feed.state is RoomState.LIVE
    assert room.reasons(RoomState.LIVE) == [Reason.CONNECTED]
    assert room.frames[0].image.shape == (384, 216, 3)
    assert room.frames[0].image.std() > 5
    assert max(float(np.abs(block.samples).max()) for block in room.sound) > 0.01
    assert min(room.sound[0].start, room.frames[0].time) < 0.3
    assert room.gaps == []
    room.check_time_runs_forward()
    assert room.feed.media_now() >= room.sound[-1].end


def test_http_flv(station: Open, room_mp4: Path) -> None:
    with Watched(f"{station(Broadcast(room_mp4)).url}/live/room.flv") as room:
        check_sound_and_pictures(room)
        assert room.feed.stats.bytes_in > 10_000
    assert room.states[-1] is RoomState.ENDED
    assert room.reasons(RoomState.ENDED) == [Reason.STOPPED]


def test_rtmp_from_a_listening_ffmpeg(room_mp4: Path) -> None:
    url = f"rtmp://127.0.0.1:{free_port()}/live/room"
    words = ("-re", "-stream_loop", "-1", "-i", str(room_mp4), "-c", "copy", "-f", "flv")
    with sending(*words, "-listen", "1", url):
        time.sleep(0.5)
        with Watched(url) as room:
            check_sound_and_pictures(room)
            assert room.feed.stats.bytes_in > 10_000


def test_rtmp_from_a_server(room_mp4: Path, tmp_path: Path) -> None:
    with rtmp_server(tmp_path / "nginx") as port:
        url = f"rtmp://127.0.0.1:{port}/live/room"
        words = ("-re", "-stream_loop", "-1", "-i", str(room_mp4), "-c", "copy", "-f", "flv")
        with sending(*words, url), Watched(url) as room:
            room.wait_for(lambda: room.sound_s > 2 and len(room.frames) >= 2)
            room.check_time_runs_forward()


def test_hls(folder: tuple[Path, str], room_mp4: Path) -> None:
    path, url = folder
    with sending(*hls_words(room_mp4, path)):
        while not (path / "live.m3u8").exists():
            time.sleep(0.05)
        # A playlist brings a whole segment at a time, and nothing until the next is written.
        with Watched(f"{url}/live.m3u8", stall_after_s=4.0, reconnect_after_s=8.0) as room:
            check_sound_and_pictures(room)


def test_srt(room_mp4: Path) -> None:
    url = f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    words = ("-re", "-stream_loop", "-1", "-i", str(room_mp4), "-c", "copy", "-f", "mpegts")
    with sending(*words, f"{url}?mode=listener"):
        time.sleep(0.5)
        with Watched(f"{url}?latency=50000") as room:
            room.wait_for(lambda: room.sound_s > 2 and len(room.frames) >= 3)
            room.check_time_runs_forward()


def test_srt_that_would_listen_is_refused() -> None:
    with Watched(f"srt://127.0.0.1:{free_port(socket.SOCK_DGRAM)}?mode=listener") as room:
        room.wait_for_end()
    assert room.reasons(RoomState.FAILED) == [Reason.REFUSED]


def test_rtsp() -> None:
    server = RtspStation()
    try:
        with Watched(server.url) as room:
            room.wait_for(lambda: room.sound_s > 1.5)
            assert float(np.abs(room.sound[-1].samples).max()) > 0.01
            room.check_time_runs_forward()
    finally:
        server.close()


def test_mpegts_over_http(station: Open, room_mp4: Path) -> None:
    with Watched(f"{station(Broadcast(room_mp4, 'mpegts')).url}/room.ts") as room:
        room.wait_for(lambda: room.sound_s > 2 and len(room.frames) >= 3)
        room.check_time_runs_forward()


@pytest.mark.parametrize("name", ["room.mp4", "room.flv"])
def test_recording_over_http_is_played_once(
    folder: tuple[Path, str], room_mp4: Path, name: str
) -> None:
    path, url = folder
    (path / name).write_bytes(
        room_mp4.read_bytes() if name.endswith("mp4") else bytes_of(room_mp4, "flv", announce=True)
    )
    with Watched(f"{url}/{name}") as room:
        room.wait_for_end()
    assert room.states[-1] is RoomState.ENDED
    assert room.sound_s == pytest.approx(8.0, abs=0.3)
    assert room.feed.stats.connects == 1
    assert room.feed.stats.drops["sound_blocks"] == 0


def test_file_at_live_speed(room_mp4: Path) -> None:
    began = time.monotonic()
    with Watched(SourceSpec(str(room_mp4), realtime=True)) as room:
        room.wait_for(lambda: room.sound_s > 2)
        assert time.monotonic() - began > 1.5
        check_sound_and_pictures(room)


def test_file_as_fast_as_it_is_read_loses_nothing(room_mp4: Path) -> None:
    def slowly(item: object) -> None:
        time.sleep(0.01)

    with Watched(str(room_mp4), reader=slowly, audio_backlog_s=1.0, frame_backlog=1) as room:
        room.wait_for_end()
    assert room.states == [RoomState.LIVE, RoomState.ENDED]
    assert room.sound_s == pytest.approx(8.0, abs=0.3)
    assert len(room.frames) == 16
    assert room.gaps == []


def test_file_that_is_not_there(tmp_path: Path) -> None:
    from moderator.errors import ModeratorError

    with pytest.raises(ModeratorError, match="LM-101"), Watched(str(tmp_path / "none.mp4")) as room:
        room.wait_for(lambda: room.error is not None)
    assert room.states == [RoomState.FAILED]


def test_pictures_alone(station: Open, room_mp4: Path) -> None:
    with Watched(f"{station(Broadcast(room_mp4, 'flv', '-an')).url}/room.flv") as room:
        room.wait_for(lambda: len(room.frames) >= 3)
        assert room.sound == []
        room.check_time_runs_forward()


def test_key_frames_alone(station: Open, room_mp4: Path) -> None:
    url = f"{station(Broadcast(room_mp4)).url}/room.flv"
    with Watched(url, decode="key", frame_every_s=0.1) as room:
        room.wait_for(lambda: len(room.frames) >= 5)
        apart = np.diff([frame.time for frame in room.frames])
        assert apart == pytest.approx(0.5, abs=0.06)


def test_frames_can_be_made_rarer_while_it_runs(station: Open, room_mp4: Path) -> None:
    with Watched(f"{station(Broadcast(room_mp4)).url}/room.flv") as room:
        room.wait_for(lambda: len(room.frames) >= 2)
        room.feed.set_frame_every(1.5)
        there = len(room.frames)
        room.wait_for(lambda: len(room.frames) >= there + 3)
        times = [frame.time for frame in room.frames[there:]]
        assert np.diff(times)[-1] == pytest.approx(1.5, abs=0.1)
        assert room.feed.stats.drops["frames_thinned"] >= 2


def test_live_stream_that_ends_and_does_not_return(station: Open, room_mp4: Path) -> None:
    whole = bytes_of(room_mp4, "flv")

    def once(handler: object) -> None:
        if len(opened.requests) > 1:
            handler.send_error(404)  # type: ignore[attr-defined]
            return
        begin(handler)  # type: ignore[arg-type]
        handler.wfile.write(whole)  # type: ignore[attr-defined]

    opened = station(once)
    with Watched(f"{opened.url}/room.flv", ended_after_s=1.0) as room:
        room.wait_for_end()
    assert room.states == [RoomState.LIVE, RoomState.RECONNECTING, RoomState.ENDED]
    assert room.reasons(RoomState.ENDED) == [Reason.END_OF_STREAM]
    assert room.sound_s > 7
