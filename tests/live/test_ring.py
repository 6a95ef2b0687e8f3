"""The ring buffer: clips and frames from copies of a live stream."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from moderator.errors import ModeratorError
from moderator.media.command import find_ffmpeg
from moderator.media.feed import Reason, SourceSpec
from moderator.media.ring import ClipNotReady, RingBuffer
from moderator.media.ring_cut import Piece, cut_pieces
from moderator.media.running import RunningFfmpeg
from moderator.media.source import AudioBlock, MediaSource, VideoFrame, probe
from tests.live.stations import Broadcast, Station
from tests.live.test_faults import kill_ffmpeg_of
from tests.live.watched import Watched
from tests.media.inputs import begins_to_sound, numbered_frames, time_told_by

pytestmark = pytest.mark.slow

Open = Callable[..., Station]


@pytest.fixture(scope="module")
def told_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in which every frame tells its time and a tone begins at each second."""
    path = tmp_path_factory.mktemp("told") / "told.mp4"
    tone = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.2)':s=44100:d=4"
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-g", "20", "-c:a", "aac")
    words = [*numbered_frames(4), "-f", "lavfi", "-i", tone, *codecs, "-bf", "2", str(path)]
    subprocess.run([find_ffmpeg(), "-y", "-loglevel", "error", *words], check=True)
    return path


class Clip:
    def __init__(self, path: Path) -> None:
        with MediaSource(path, frame_every_s=0.04, scene_change=None) as media:
            items = list(media)
        self.sound = [item for item in items if isinstance(item, AudioBlock)]
        self.frames = [item for item in items if isinstance(item, VideoFrame)]
        self.length_s = media.position_s

    def picture(self, at: float) -> np.ndarray:
        return min(self.frames, key=lambda frame: abs(frame.time - at)).image


def test_clip_and_frame_are_of_that_time(told_mp4: Path, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "ring", segment_s=1)
    with Watched(SourceSpec(str(told_mp4), realtime=True), ring=ring) as room:
        room.wait_for_end()
    path = ring.clip(1.6, 2.4, tmp_path / "clip.mp4", pre_s=0.3, post_s=0.5)
    clip = Clip(path)
    assert clip.length_s == pytest.approx(1.6, abs=0.15)
    assert time_told_by(clip.picture(0.0)) == pytest.approx(1.3, abs=0.1)
    assert time_told_by(clip.picture(1.0)) == pytest.approx(2.3, abs=0.1)
    assert begins_to_sound(clip.sound) == pytest.approx(0.7, abs=0.1)
    assert time_told_by(ring.frame(2.5)) == pytest.approx(2.5, abs=0.1)
    info = subprocess.run(
        [find_ffmpeg(), "-hide_banner", "-i", str(path)], capture_output=True, text=True
    ).stderr
    assert "h264" in info
    assert "yuv420p" in info
    assert "aac" in info
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"crf=25.0" not in data  # the packets that came, not encoded again


def part(path: Path, size: str, *codec: str, begin_s: float = 0.0) -> Path:
    """Two seconds of transport stream whose times begin at `begin_s`."""
    source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=2")
    words = [*source, "-output_ts_offset", str(begin_s), "-muxdelay", "0", "-muxpreload", "0"]
    subprocess.run(
        [find_ffmpeg(), "-y", "-loglevel", "error", *words, *codec, "-f", "mpegts", str(path)],
        check=True,
    )
    return path


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "9", "-g", "25", "-pix_fmt")


def test_clip_of_a_picture_that_changes_its_size_is_encoded_anew(tmp_path: Path) -> None:
    first = part(tmp_path / "1.ts", "320x240", *H264, "yuv420p")
    second = part(tmp_path / "2.ts", "240x320", *H264, "yuv420p", begin_s=2)
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    out = tmp_path / "clip.mp4"
    cut_pieces([Piece(both, 0.0, 4.0)], 0.5, 3.5, out, 1280, 60.0)
    assert b"crf=25.0" in out.read_bytes()
    assert Clip(out).length_s == pytest.approx(3.0, abs=0.2)
    cut_pieces([Piece(first, 0.0, 2.0)], 0.5, 1.5, out, 1280, 60.0)
    assert b"crf=9.0" in out.read_bytes()


@pytest.mark.parametrize(
    "codec",
    [(*H264, "yuv444p"), ("-c:v", "mpeg2video", "-q:v", "4"), (*H264, "yuv422p")],
)
def test_clip_that_browsers_would_not_play_is_encoded_anew(
    tmp_path: Path, codec: tuple[str, ...]
) -> None:
    piece = part(tmp_path / "1.ts", "320x240", *codec)
    out = tmp_path / "clip.mp4"
    cut_pieces([Piece(piece, 0.0, 2.0)], 0.5, 1.5, out, 1280, 60.0)
    made = probe(out)
    assert (made.video_codec, made.pixel_format) == ("h264 (High)", "yuv420p")
    assert b"crf=25.0" in out.read_bytes()


def test_clip_waits_for_its_end(station: Open, room_mp4: Path, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "ring", segment_s=1)
    with Watched(f"{station(Broadcast(room_mp4)).url}/room.flv", ring=ring) as room:
        room.wait_for(lambda: room.sound_s > 1.5)
        with pytest.raises(ClipNotReady, match="LM-117"):
            ring.clip(1.0, 1.5, tmp_path / "clip.mp4", pre_s=1, post_s=1.5)
        assert not (tmp_path / "clip.mp4").exists()
        room.wait_for(lambda: room.sound[-1].end > 3.1)
        path = ring.clip(1.0, 1.5, tmp_path / "clip.mp4", pre_s=1, post_s=1.5)
        assert probe(path).duration_s == pytest.approx(3.0, abs=0.2)


def test_ring_survives_a_restart(told_mp4: Path, tmp_path: Path) -> None:
    with Watched(str(told_mp4), ring=RingBuffer(tmp_path / "ring", segment_s=1)) as room:
        room.wait_for_end()
    # A killed process leaves a file that ends in the middle of a packet.
    last = max((tmp_path / "ring").rglob("*.ts"))
    last.write_bytes(last.read_bytes()[:-100])
    ring = RingBuffer(tmp_path / "ring")
    assert ring.spans()[0].start == pytest.approx(0.0, abs=0.1)
    assert ring.spans()[0].end == pytest.approx(4.0, abs=0.3)
    clip = Clip(ring.clip(2.0, 2.5, tmp_path / "clip.mp4", pre_s=0.5, post_s=0.5))
    assert time_told_by(clip.picture(0.5)) == pytest.approx(2.0, abs=0.1)


def test_gap_inside_a_clip_is_black_and_silent(
    station: Open, room_mp4: Path, tmp_path: Path
) -> None:
    ring = RingBuffer(tmp_path / "ring", segment_s=1)
    url = f"{station(Broadcast(room_mp4)).url}/room.flv"
    with Watched(url, ring=ring, fast_retry_s=2.0) as room:
        room.wait_for(lambda: room.sound_s > 2)
        kill_ffmpeg_of(room)
        room.wait_for(lambda: bool(room.gaps))
        gap = room.gaps[0]
        room.wait_for(lambda: room.sound[-1].end > gap.end + 1.5)
        path = ring.clip(gap.start, gap.end, tmp_path / "clip.mp4", pre_s=1, post_s=1)
    clip = Clip(path)
    assert clip.length_s == pytest.approx(gap.duration_s + 2, abs=0.3)
    assert clip.picture(0.3).std() > 5
    assert clip.picture(1 + gap.duration_s / 2).max() < 10
    assert clip.picture(clip.length_s - 0.2).std() > 5
    heard = np.concatenate([block.samples for block in clip.sound])
    middle = heard[int(1.3 * 16_000) : int((0.7 + gap.duration_s) * 16_000)]
    assert np.abs(middle).max() < 1e-3
    assert len(ring.spans()) == 2


def test_clip_of_what_is_gone(told_mp4: Path, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "ring", max_s=1.5, segment_s=0.5)
    with Watched(str(told_mp4), ring=ring) as room:
        room.wait_for_end()
    whole = ring.bytes_on_disk
    freed = ring.trim()
    assert 0 < freed < whole
    assert ring.bytes_on_disk == whole - freed
    assert 1.5 <= ring.spans()[0].start <= 2.6
    with pytest.raises(ModeratorError, match="LM-118"):
        ring.clip(0.2, 0.5, tmp_path / "clip.mp4", pre_s=0.1, post_s=0.1)
    with pytest.raises(ModeratorError, match="LM-118"):
        ring.frame(100.0)
    with pytest.raises(ModeratorError, match="LM-503"):
        ring.clip(2.0, 1.0, tmp_path / "clip.mp4", pre_s=0, post_s=0)


def test_ring_is_bounded_in_bytes(told_mp4: Path, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "ring", max_bytes=1, segment_s=0.5)
    for _ in range(2):
        with Watched(str(told_mp4), ring=ring) as room:
            room.wait_for_end()
    ring.trim()
    assert len(list((tmp_path / "ring").rglob("*.ts"))) == 1
    assert len(list((tmp_path / "ring").iterdir())) == 1


def test_sound_alone_makes_a_clip(told_mp4: Path, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "ring", segment_s=1)
    sound = tmp_path / "sound.m4a"
    words = ["-i", str(told_mp4), "-vn", "-c", "copy", str(sound)]
    subprocess.run([find_ffmpeg(), "-loglevel", "error", *words], check=True)
    with Watched(str(sound), ring=ring) as room:
        room.wait_for_end()
    clip = Clip(ring.clip(1.0, 2.0, tmp_path / "clip.mp4", pre_s=0.5, post_s=0.5))
    assert clip.frames == []
    assert begins_to_sound(clip.sound) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ModeratorError, match="LM-110"):
        ring.frame(1.0)


def test_sound_alone_is_noticed_however_late_the_log_is_read(
    told_mp4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_log = RunningFfmpeg._read_log

    def late(self: RunningFfmpeg, log: IO[bytes]) -> None:
        time.sleep(0.7)
        read_log(self, log)

    monkeypatch.setattr(RunningFfmpeg, "_read_log", late)
    sound = tmp_path / "sound.m4a"
    words = ["-i", str(told_mp4), "-vn", "-c", "copy", str(sound)]
    subprocess.run([find_ffmpeg(), "-loglevel", "error", *words], check=True)
    with Watched(str(sound), ring=RingBuffer(tmp_path / "ring", segment_s=1)) as room:
        room.wait_for_end()
    assert room.sound_s == pytest.approx(4, abs=0.3)


def test_connection_that_gave_nothing_leaves_nothing(station: Open, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "ring")
    url = f"{station(lambda handler: handler.send_error(404)).url}/room.flv"
    with Watched(url, ring=ring) as room:
        room.wait_for(lambda: room.feed.stats.ends.get(Reason.URL_EXPIRED, 0) >= 3)
    assert list((tmp_path / "ring").iterdir()) == []


def test_ring_in_a_folder_with_a_difficult_name(told_mp4: Path, tmp_path: Path) -> None:
    ring = RingBuffer(tmp_path / "直播 %d 'a:b", segment_s=1)
    with Watched(str(told_mp4), ring=ring) as room:
        room.wait_for_end()
    began = time.monotonic()
    assert ring.clip(1, 2, tmp_path / "片段 %d.mp4", pre_s=0, post_s=0).is_file()
    assert time.monotonic() > began
