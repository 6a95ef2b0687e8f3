from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from moderator.errors import ModeratorError
from moderator.media.source import AudioBlock, MediaSource, VideoFrame
from tests.media.conftest import child_processes
from tests.media.inputs import (
    H264,
    beep,
    begins_to_sound,
    claim_duration,
    numbered_frames,
    time_told_by,
    turn_clockwise,
)

pytestmark = pytest.mark.slow

Make = Callable[..., Path]
AAC = ("-c:a", "aac")
FRAME_S = 0.04


class Decoded:
    def __init__(self, path: Path | str, **options: object) -> None:
        with MediaSource(path, **options) as media:  # type: ignore[arg-type]
            self.items = list(media)
        self.media = media
        self.sound = [item for item in self.items if isinstance(item, AudioBlock)]
        self.frames = [item for item in self.items if isinstance(item, VideoFrame)]

    @property
    def codes(self) -> list[str]:
        return [warning.code for warning in self.media.warnings]


def test_source_sound_and_frames_with_their_times(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(4), *beep(2.5, 4), *H264, *AAC)
    decoded = Decoded(path, frame_every_s=1.0, scene_change=None)
    assert [frame.time for frame in decoded.frames] == pytest.approx([0, 1, 2, 3])
    for frame in decoded.frames:
        assert time_told_by(frame.image) == pytest.approx(frame.time, abs=FRAME_S)
        assert frame.image.shape == (36, 64, 3)
        assert frame.image.dtype == np.uint8
    assert all(block.samples.dtype == np.float32 for block in decoded.sound)
    assert sum(len(block.samples) for block in decoded.sound) == pytest.approx(64_000, abs=2048)
    assert begins_to_sound(decoded.sound) == pytest.approx(2.5, abs=0.05)
    assert decoded.media.position_s == pytest.approx(4.0, abs=0.1)
    assert not decoded.media.damaged
    assert decoded.media.warnings == []


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv", "mov"])
def test_source_late_sound_is_heard_at_the_right_second(
    ending: str, make: Make, each_ffmpeg: str
) -> None:
    path = make(f"a.{ending}", *numbered_frames(5), "-itsoffset", 2, *beep(1, 3), *H264, *AAC)
    decoded = Decoded(path)
    assert decoded.sound[0].start == pytest.approx(2.0, abs=0.05)
    assert begins_to_sound(decoded.sound) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("ending", ["mkv", "ts", "mp4"])
@pytest.mark.parametrize("audio", [True, False])
def test_source_late_pictures_keep_their_times_with_and_without_the_sound(
    ending: str, audio: bool, make: Make, each_ffmpeg: str
) -> None:
    late = make("late.mkv", "-itsoffset", 1.6, *numbered_frames(3), *beep(0, 5), *H264, *AAC)
    path = make(f"a.{ending}", "-i", late, "-c", "copy")
    frames = Decoded(path, audio=audio, frame_every_s=1.0, scene_change=None).frames
    assert [frame.time for frame in frames] == pytest.approx([1.6, 2.0, 3.0, 4.0], abs=0.05)
    for frame in frames:
        assert time_told_by(frame.image) + 1.6 == pytest.approx(frame.time, abs=FRAME_S)


def test_source_variable_frame_rate(make: Make, each_ffmpeg: str) -> None:
    uneven = ",select='lt(t,1)+not(mod(n,7))*gt(t,2.5)'"
    path = make("a.mkv", *numbered_frames(4, more=uneven), "-vsync", "vfr", *H264)
    frames = Decoded(path, frame_every_s=0.5, scene_change=None).frames
    times = [frame.time for frame in frames]
    assert times[:3] == pytest.approx([0.0, 0.52, 2.52], abs=0.01)
    assert len(times) == 5
    for frame in frames:
        assert time_told_by(frame.image) == pytest.approx(frame.time, abs=0.01)


def test_source_gap_in_the_sound_stays_a_gap(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mkv", *beep(6, 7), "-af", "aselect='not(between(t,2,5))'", "-c:a", "flac")
    decoded = Decoded(path)
    assert begins_to_sound(decoded.sound) == pytest.approx(6.0, abs=0.08)
    heard_s = sum(len(block.samples) for block in decoded.sound) / 16_000
    assert heard_s == pytest.approx(4.0, abs=0.3)
    assert decoded.codes == ["LM-114"]


@pytest.mark.parametrize("ending", ["ts", "flv"])
def test_source_clock_set_back_loses_nothing(ending: str, make: Make, each_ffmpeg: str) -> None:
    # Two recordings in one file, as an encoder that restarted leaves them.
    one = make(f"one.{ending}", *numbered_frames(3), *beep(9, 3), *H264, *AAC)
    two = make(f"two.{ending}", *numbered_frames(3), *beep(1, 3), *H264, *AAC)
    body = two.read_bytes()[13 if ending == "flv" else 0 :]
    both = one.with_name(f"both.{ending}")
    both.write_bytes(one.read_bytes() + body)
    decoded = Decoded(both, frame_every_s=1.0, scene_change=None)
    assert begins_to_sound(decoded.sound) == pytest.approx(4.0, abs=0.15)
    times = [frame.time for frame in decoded.frames]
    assert times == sorted(times)
    assert max(times) == pytest.approx(5.0, abs=0.1)
    assert "LM-114" in decoded.codes
    assert not decoded.media.damaged


def test_source_size_that_changes_on_the_way_is_fitted(make: Make, each_ffmpeg: str) -> None:
    wide = make("a.ts", *numbered_frames(2, "64x36"), *H264)
    tall = make("b.ts", *numbered_frames(2, "36x64"), *H264)
    wide.write_bytes(wide.read_bytes() + tall.read_bytes())
    frames = Decoded(wide, frame_every_s=0.5, scene_change=None).frames
    assert {frame.image.shape for frame in frames} == {(36, 64, 3)}
    assert max(frame.time for frame in frames) > 3


def test_source_turned_picture_comes_upright(make: Make, each_ffmpeg: str) -> None:
    left_red = "color=blue:s=64x36:d=0.4:r=5,drawbox=x=0:y=0:w=32:h=36:c=red:t=fill"
    path = make("a.mp4", "-f", "lavfi", "-i", left_red, *H264)
    turn_clockwise(path)
    image = Decoded(path).frames[0].image
    assert image.shape == (64, 36, 3)
    top, bottom = image[8, 18], image[56, 18]
    assert top[2] > 180 > 80 > top[0]
    assert bottom[0] > 180 > 80 > bottom[2]


def test_source_vertical_frame_is_scaled_by_its_longer_side(make: Make) -> None:
    path = make("a.mp4", *numbered_frames(0.2, "180x320"), *H264)
    frames = Decoded(path, max_frame_side=160).frames
    assert frames[0].image.shape == (160, 90, 3)


def test_source_scene_changes_are_sampled_between(make: Make, each_ffmpeg: str) -> None:
    cut = "geq=lum='if(lt(T,1.2),30,220)':cb=128:cr=128"
    path = make("a.mp4", "-f", "lavfi", "-i", f"nullsrc=s=64x36:r=25:d=2,{cut}", *H264)
    times = [frame.time for frame in Decoded(path, frame_every_s=4.0).frames]
    assert times == pytest.approx([0.0, 1.2], abs=0.01)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.wav", ()),
        ("a.mp3", ("-c:a", "libmp3lame")),
        ("a.m4a", AAC),
        ("a.ogg", ("-c:a", "libopus")),
    ],
)
def test_source_sound_alone(
    name: str, codec: tuple[str, ...], make: Make, each_ffmpeg: str
) -> None:
    path = make(name, *beep(1, 2, hz=48_000), *codec)
    decoded = Decoded(path)
    assert decoded.frames == []
    assert begins_to_sound(decoded.sound) == pytest.approx(1.0, abs=0.05)
    assert decoded.media.position_s == pytest.approx(2.0, abs=0.12)


def test_source_pictures_alone(make: Make, each_ffmpeg: str) -> None:
    decoded = Decoded(make("a.mp4", *numbered_frames(3), *H264))
    assert decoded.sound == []
    assert len(decoded.frames) == 2
    assert decoded.media.position_s == pytest.approx(2.96, abs=0.05)


def test_source_cover_picture_gives_no_frame(make: Make) -> None:
    path = make(
        "a.mp3", *beep(0, 1), "-f", "lavfi", "-i", "color=s=99x99:d=1", "-map", 0, "-map", 1,
        "-frames:v", 1, "-c:v", "mjpeg", "-disposition:v", "attached_pic", "-c:a", "libmp3lame",
    )  # fmt: skip
    decoded = Decoded(path)
    assert decoded.frames == []
    assert decoded.sound


def test_source_tracks_that_are_not_wanted_are_not_decoded(make: Make) -> None:
    path = make("a.mp4", *numbered_frames(1), *beep(0, 1), *H264, *AAC)
    assert Decoded(path, audio=False).sound == []
    assert Decoded(path, video=False).frames == []
    assert Decoded(path, audio=False, video=False).items == []


def test_source_items_come_roughly_in_order(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(40), *beep(0, 40), *H264, *AAC)
    decoded = Decoded(path, frame_every_s=1.0)
    for track in (decoded.sound, decoded.frames):
        assert [item.end for item in track] == sorted(item.end for item in track)
    latest = 0.0
    for item in decoded.items:
        time = item.start if isinstance(item, AudioBlock) else item.time
        assert time > latest - 10.5
        latest = max(latest, time)


def test_source_sound_that_is_announced_and_never_comes_costs_no_picture(
    make: Make, each_ffmpeg: str
) -> None:
    both = make("a.ts", *numbered_frames(4), *beep(0, 4), *H264, *AAC)
    packets = [both.read_bytes()[at : at + 188] for at in range(0, both.stat().st_size, 188)]
    # The sound has packet id 0x101; the table that announces it stays.
    both.write_bytes(b"".join(p for p in packets if (p[1] & 0x1F, p[2]) != (1, 1)))
    decoded = Decoded(both, frame_every_s=0.5, scene_change=None)
    assert decoded.media.info.has_audio
    assert decoded.sound == []
    told = [time_told_by(frame.image) for frame in decoded.frames]
    assert told == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5], abs=FRAME_S)
    assert "LM-113" in decoded.codes


def test_source_header_that_lies_about_ten_hours(make: Make, each_ffmpeg: str) -> None:
    path = make("a.flv", *numbered_frames(3), *beep(0, 3), *H264, *AAC)
    claim_duration(path, 36_000)
    decoded = Decoded(path)
    assert decoded.media.position_s == pytest.approx(3.0, abs=0.15)
    assert decoded.codes == ["LM-115"]


def test_source_truncated_file_gives_what_is_there(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(6), *beep(0, 6), *H264, *AAC, "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    decoded = Decoded(path)
    assert decoded.items
    assert decoded.media.damaged
    assert "LM-113" in decoded.codes


def test_source_file_of_which_nothing_decodes(
    make: Make, each_ffmpeg: str, leaks_nothing: None
) -> None:
    path = make("a.mp4", *numbered_frames(2), *H264, "-movflags", "+faststart")
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 4 :] = bytes(len(data) - data.index(b"mdat") - 4)
    path.write_bytes(data)
    with pytest.raises(ModeratorError, match="LM-110"):
        Decoded(path)


def test_source_sound_of_no_length(make: Make, each_ffmpeg: str, leaks_nothing: None) -> None:
    path = make("a.wav", *beep(0, 1), "-t", 0)
    with pytest.raises(ModeratorError, match=r"LM-110.*empty"):
        Decoded(path)


def test_source_frames_over_the_limit(make: Make) -> None:
    path = make("a.mp4", *numbered_frames(0.2, "640x360"), *H264)
    with pytest.raises(ModeratorError, match=r"LM-107.*640×360"):
        Decoded(path, max_frame_pixels=640 * 360 - 1)
    assert Decoded(path, max_frame_pixels=640 * 360).frames


NAMES = [
    "with space.mp4",
    "引号\"' `$(touch x)`;&|.mp4",
    "new\nline.mp4",
    "中文 直播间 【5月】.mp4",
    "-i.mp4",
    "--help.mp4",
    "%03d.mp4",
    "concat:a|b.mp4",
    "a:b,c=d[0:v]\\'.mp4",
    "x\n[info] Stream mapping:\n.mp4",
    os.fsdecode(b"not-utf8-\xff.mp4"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_source_any_file_name(name: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("plain.mp4", *numbered_frames(0.4), *beep(0, 0.4), *H264, *AAC)
    monkeypatch.chdir(path.parent)
    path.rename(path.with_name(name))
    decoded = Decoded(name)
    assert decoded.sound
    assert len(decoded.frames) == 1
    assert [entry.name for entry in path.parent.iterdir()] == [name]


def test_source_error_names_the_file_on_one_printable_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[31m.mp4"
    with pytest.raises(ModeratorError) as missing:
        Decoded(path)
    assert "a\\nb\\x1b[31m.mp4: no such file" in str(missing.value)


def test_source_leaves_nothing_behind(make: Make, leaks_nothing: None) -> None:
    path = make("a.mp4", *numbered_frames(1), *beep(0, 1), *H264, *AAC)
    for _ in range(3):
        Decoded(path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_source_is_killed_when_left_in_the_middle(
    error: type[BaseException], make: Make, leaks_nothing: None
) -> None:
    path = make("a.mp4", *numbered_frames(60), *beep(0, 60), *H264, *AAC)

    def leave_in_the_middle() -> None:
        with MediaSource(path, frame_every_s=0.04) as media:
            for _ in media:
                assert child_processes()
                raise error

    with pytest.raises(error):
        leave_in_the_middle()


def test_source_that_was_never_read_ends(make: Make, leaks_nothing: None) -> None:
    path = make("a.mp4", *numbered_frames(60), *beep(0, 60), *H264, *AAC)
    with MediaSource(path, frame_every_s=0.04) as media:
        assert media.info.has_video


def test_source_interrupted_by_a_signal_takes_ffmpeg_along(make: Make, tmp_path: Path) -> None:
    path = make("a.mp4", *numbered_frames(60), *beep(0, 60), *H264, *AAC)
    program = (
        "import sys, time\n"
        "from moderator.media.source import MediaSource\n"
        "from tests.media.conftest import child_processes\n"
        "with MediaSource(sys.argv[1], frame_every_s=0.04) as media:\n"
        "    for item in media:\n"
        "        print(*child_processes(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as process:
        assert process.stdout is not None
        children = process.stdout.readline().split()
        assert children
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_source_stalled_ffmpeg_is_stopped(
    make: Make, leaks_nothing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("a.mp4", *numbered_frames(1), *H264)
    stall_when_decoding(tmp_path, monkeypatch)
    began = monotonic()
    with pytest.raises(ModeratorError, match="LM-109"):
        Decoded(path, stall_timeout_s=1.0)
    assert monotonic() - began < 20


def stall_when_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an ffmpeg on PATH that probes well and then decodes nothing."""
    from moderator.media.command import find_ffmpeg

    real = find_ffmpeg()
    binaries = tmp_path / "bin"
    binaries.mkdir()
    script = f'#!/bin/sh\ncase "$*" in *pipe:*) exec sleep 60;; esac\nexec "{real}" "$@"\n'
    (binaries / "ffmpeg").write_text(script)
    (binaries / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")


def test_source_slow_reader_is_not_a_stall(make: Make) -> None:
    from time import sleep

    path = make("a.mp4", *numbered_frames(30), *beep(0, 30), *H264, *AAC)
    with MediaSource(path, frame_every_s=0.04, stall_timeout_s=3.0) as media:
        items = iter(media)
        next(items)
        sleep(4)
        assert sum(1 for _ in items) > 700


def test_source_must_be_entered_and_only_once(make: Make) -> None:
    path = make("a.wav", *beep(0, 0.2))
    media = MediaSource(path)
    with pytest.raises(RuntimeError, match="enter"):
        _ = media.info
    with pytest.raises(RuntimeError, match="enter"):
        next(iter(media))
    with media, pytest.raises(RuntimeError, match="once"):
        media.__enter__()


def test_source_stream_over_http(make: Make, served: str, each_ffmpeg: str) -> None:
    make("房 间.ts", *numbered_frames(2), *beep(1, 2), *H264, *AAC)
    url = f"{served}/%E6%88%BF%20%E9%97%B4.ts"
    with pytest.raises(ModeratorError, match="LM-111"):
        Decoded(url)
    decoded = Decoded(url, allow_private=True)
    assert begins_to_sound(decoded.sound) == pytest.approx(1.0, abs=0.05)
    assert decoded.frames


def test_source_stream_that_is_not_there(served: str, make: Make, each_ffmpeg: str) -> None:
    with pytest.raises(ModeratorError, match=r"LM-112.*404"):
        Decoded(f"{served}/none.flv?token=tops", allow_private=True)


def test_source_stream_error_does_not_tell_secrets(served: str, make: Make) -> None:
    with pytest.raises(ModeratorError) as failed:
        Decoded(f"{served}/none.flv?token=tops", allow_private=True)
    assert "tops" not in str(failed.value)
    assert "token=***" in str(failed.value)
