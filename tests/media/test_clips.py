from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from moderator.errors import ModeratorError
from moderator.media.clips import cut_clip, frame_at, save_frame
from moderator.media.command import QUIET, find_ffmpeg, run
from moderator.media.source import AudioBlock, MediaSource, probe
from moderator.records import Box
from tests.media.inputs import (
    H264,
    beep,
    begins_to_sound,
    numbered_frames,
    time_told_by,
    turn_clockwise,
)
from tests.media.test_source import NAMES

Make = Callable[..., Path]
AAC = ("-c:a", "aac")


def streams(path: Path) -> str:
    return run([find_ffmpeg(), *QUIET, "-i", f"file:{path}"], "clip", 30).log


def sound(path: Path) -> list[AudioBlock]:
    with MediaSource(path) as media:
        return [item for item in media if isinstance(item, AudioBlock)]


def told_times(path: Path) -> list[float]:
    with MediaSource(path, audio=False, frame_every_s=0.04) as media:
        return [time_told_by(item.image) for item in media if not isinstance(item, AudioBlock)]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv"])
def test_clips_hold_the_words_and_a_little_around_them(
    ending: str, make: Make, tmp_path: Path, each_ffmpeg: str
) -> None:
    path = make(f"a.{ending}", *numbered_frames(4), *beep(2.2, 4), *H264, *AAC)
    clip = cut_clip(path, 2.0, 2.5, tmp_path / "clip.mp4", pre_s=1.0, post_s=0.5)
    assert probe(clip).duration_s == pytest.approx(2.0, abs=0.1)
    assert begins_to_sound(sound(clip)) == pytest.approx(1.2, abs=0.08)
    told = told_times(clip)
    assert told[0] == pytest.approx(1.0, abs=0.09)
    assert told[-1] == pytest.approx(3.0, abs=0.09)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_clips_of_what_browsers_play_are_copies_that_begin_between_key_frames(
    ending: str, make: Make, tmp_path: Path, each_ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "moderator.media.clips._clip_arguments", lambda *_: pytest.fail("it was encoded anew")
    )
    path = make(f"a.{ending}", *numbered_frames(4), *beep(2.2, 4), *H264, "-g", 1000, *AAC)
    clip = cut_clip(path, 3.0, 3.2, tmp_path / "clip.mp4", pre_s=1.0, post_s=0.3)
    assert probe(clip).duration_s == pytest.approx(1.5, abs=0.3)
    assert begins_to_sound(sound(clip)) == pytest.approx(0.2, abs=0.08)
    told = told_times(clip)
    assert told[0] == pytest.approx(2.0, abs=0.09)
    assert told[-1] == pytest.approx(3.5, abs=0.3)


@pytest.mark.slow
def test_clips_play_in_browsers(make: Make, tmp_path: Path, each_ffmpeg: str) -> None:
    # 4:4:4 with odd sides and 5.1 sound: what browsers would not play.
    path = make(
        "a.mkv", "-f", "lavfi", "-i", "testsrc=s=65x37:d=1", "-f", "lavfi", "-i", "sine=d=1",
        "-c:v", "ffv1", "-pix_fmt", "yuv444p", "-c:a", "flac", "-ac", 6,
    )  # fmt: skip
    clip = cut_clip(path, 0.2, 0.6, tmp_path / "clip.mp4")
    found = streams(clip)
    assert re.search(r"Video: h264 .*yuv420p.*, 64x36", found)
    assert re.search(r"Audio: aac .*stereo", found)
    data = clip.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.slow
def test_clips_of_turned_video_are_upright(make: Make, tmp_path: Path, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(1), *H264)
    turn_clockwise(path)
    clip = cut_clip(path, 0.2, 0.4, tmp_path / "clip.mp4")
    found = streams(clip)
    assert ", 36x64" in found
    assert "rotation" not in found


@pytest.mark.slow
def test_clips_of_large_video_are_scaled_down(make: Make, tmp_path: Path) -> None:
    path = make("a.mp4", *numbered_frames(0.2, "360x640"), *H264)
    clip = cut_clip(path, 0, 0.1, tmp_path / "clip.mp4", max_side=320)
    assert ", 180x320" in streams(clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip.mp4", "clip.m4a"])
def test_clips_of_sound_alone(name: str, make: Make, tmp_path: Path, each_ffmpeg: str) -> None:
    path = make("a.mp3", *beep(2, 4), "-c:a", "libmp3lame")
    clip = cut_clip(path, 2.0, 2.2, tmp_path / name, pre_s=1.0, post_s=1.0)
    info = probe(clip)
    assert (info.has_audio, info.has_video) == (True, False)
    assert info.duration_s == pytest.approx(2.2, abs=0.1)
    assert begins_to_sound(sound(clip)) == pytest.approx(1.0, abs=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_clips_where_the_sound_begins_inside(
    ending: str, make: Make, tmp_path: Path, each_ffmpeg: str
) -> None:
    late = ("-itsoffset", 2, *beep(0.5, 3))
    path = make(f"a.{ending}", *numbered_frames(5), *late, *H264, *AAC)
    clip = cut_clip(path, 2.5, 2.7, tmp_path / "clip.mp4", pre_s=1.5, post_s=0.3)
    assert probe(clip).duration_s == pytest.approx(2.0, abs=0.1)
    assert begins_to_sound(sound(clip)) == pytest.approx(1.5, abs=0.08)


@pytest.mark.slow
def test_clips_past_the_end_fail_and_leave_nothing(
    make: Make, tmp_path: Path, each_ffmpeg: str
) -> None:
    path = make("a.mp4", *numbered_frames(1), *beep(0, 1), *H264, *AAC)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ModeratorError, match=r"LM-503.*60\.00 s"):
        cut_clip(path, 60, 61, out / "clip.mp4")
    with pytest.raises(ModeratorError, match="LM-503"):
        cut_clip(path, 0.9, -5, out / "clip.mp4")
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_clips_that_cannot_be_written_fail(make: Make, tmp_path: Path) -> None:
    path = make("a.wav", *beep(0, 1))
    with pytest.raises(ModeratorError, match="LM-503"):
        cut_clip(path, 0, 1, tmp_path / "none" / "clip.mp4")


@pytest.mark.slow
def test_clips_that_take_too_long_are_stopped(
    make: Make, tmp_path: Path, leaks_nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("a.wav", *beep(0, 1))
    binaries = tmp_path / "bin"
    binaries.mkdir()
    real = find_ffmpeg()
    script = f'#!/bin/sh\ncase "$*" in *clips*) exec sleep 60;; esac\nexec "{real}" "$@"\n'
    (binaries / "ffmpeg").write_text(script)
    (binaries / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(binaries), prepend=":")
    (tmp_path / "clips").mkdir()
    with pytest.raises(ModeratorError, match="LM-109"):
        cut_clip(path, 0, 1, tmp_path / "clips" / "a.mp4", timeout_s=2.0)
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_clips_any_file_name(name: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("plain.mp4", *numbered_frames(0.4), *H264)
    monkeypatch.chdir(path.parent)
    path.rename(path.with_name(name))
    Path("out").mkdir()
    clip = cut_clip(name, 0, 0.2, Path("out") / name)
    assert probe(clip).has_video
    assert [entry.name for entry in Path("out").iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_clips_frame_at_is_the_picture_on_the_screen_then(
    ending: str, make: Make, each_ffmpeg: str
) -> None:
    late = make("late.mkv", "-itsoffset", 1, *numbered_frames(3), *beep(0, 4), *H264, *AAC)
    path = make(f"a.{ending}", "-i", late, "-c", "copy")
    with MediaSource(path, audio=False, frame_every_s=0.7, scene_change=None) as media:
        frames = [item for item in media if not isinstance(item, AudioBlock)]
    for frame in frames:
        image = frame_at(path, round(frame.time, 4))
        assert np.array_equal(image, frame.image)
        assert image.flags.writeable


@pytest.mark.slow
def test_clips_frame_at_looks_back_where_frames_are_rare(make: Make, each_ffmpeg: str) -> None:
    rare = ",select='lt(t,0.3)+gt(t,2.9)'"
    path = make("a.mkv", *numbered_frames(4, more=rare), "-vsync", "vfr", *H264)
    assert time_told_by(frame_at(path, 2.5)) == pytest.approx(0.28)
    assert time_told_by(frame_at(path, 30)) == pytest.approx(3.96)


@pytest.mark.slow
def test_clips_frame_at_without_pictures_fails(make: Make) -> None:
    path = make("a.wav", *beep(0, 1))
    with pytest.raises(ModeratorError, match="LM-110"):
        frame_at(path, 0.5)


def grey(height: int = 100, width: int = 80) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


@pytest.mark.parametrize("ending", ["png", "PNG", "jpg", "jpeg"])
def test_clips_save_frame_draws_boxes_on_a_copy(tmp_path: Path, ending: str) -> None:
    image = grey()
    path = save_frame(image, [Box(20, 30, 60, 70)], tmp_path / f"中文 'x'.{ending}")
    assert (image == 128).all()
    saved = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert saved.shape == image.shape
    edge, inside, outside = saved[50, 20], saved[50, 40], saved[10, 10]
    assert edge[2] > 180 > 90 > edge[1]
    assert abs(int(inside[2]) - 128) < 12
    assert abs(int(outside[2]) - 128) < 12


def test_clips_save_frame_boxes_over_the_edge_are_drawn_inside(tmp_path: Path) -> None:
    path = save_frame(grey(), [Box(-10, -10, 500, 500)], tmp_path / "a.png")
    saved = cv2.imread(str(path))
    assert (saved[[0, -1], 40, 2] > 200).all()


def test_clips_save_frame_labels_are_drawn(tmp_path: Path) -> None:
    image, box = grey(200, 300), [Box(50, 80, 250, 150)]
    plain = save_frame(image, box, tmp_path / "a.png").read_bytes()
    named = save_frame(image, box, tmp_path / "b.png", labels=["cn.price"]).read_bytes()
    chinese = save_frame(image, box, tmp_path / "c.png", labels=["价格"]).read_bytes()
    assert named != plain
    assert chinese == plain


def test_clips_save_frame_several_boxes_are_numbered(tmp_path: Path) -> None:
    image = grey(200, 300)
    boxes = [Box(50, 80, 100, 150), Box(150, 80, 250, 150)]
    numbered = save_frame(image, boxes, tmp_path / "a.png", labels=["价格", ""]).read_bytes()
    by_hand = save_frame(image, boxes, tmp_path / "b.png", labels=["1", "2"]).read_bytes()
    assert numbered == by_hand


def test_clips_save_frame_that_cannot_be_written_fails(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-502"):
        save_frame(grey(), [], tmp_path / "none" / "a.png")
    with pytest.raises(ValueError, match=r"a\.gif"):
        save_frame(grey(), [], tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []
