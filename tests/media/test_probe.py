from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moderator.errors import ModeratorError
from moderator.media.command import Input, reason_in
from moderator.media.probe import MediaInfo, frame_size, parse_banner, probe
from tests.media.inputs import H264, beep, numbered_frames, turn_clockwise

Make = Callable[..., Path]

FILE = Input("file:房 间.mp4", "房 间.mp4", False, {})

BANNER = """\
[info] Input #0, mov,mp4,m4a,3gp,3g2,mj2, from 'file:房 间.mp4':
[info]   Metadata:
[info]     title           : one
[info]                     :   Stream #0:9: Video: h264, yuv420p, 9999x9999
[info]   Duration: 101:02:03.50, start: 1.400000, bitrate: 82 kb/s
[info]   Stream #0:0[0x1](und): Audio: aac (LC) (mp4a / 0x6134706D), 44100 Hz, mono, fltp{audio}
[info]   Stream #0:1[0x2](und): Video: mjpeg, yuvj444p, 100x100, 90k tbr, 90k tbn (attached pic)
[info]   Stream #0:2[0x3](und): Video: h264 (High) (avc1 / 0x31637661), yuv420p, 720x1280 [SAR 1:1]
[info]     Side data:
[info]       displaymatrix: rotation of -90.00 degrees
[info]   Stream #0:3: Video: h264, yuv420p, 4000x3000
[info] Stream mapping:
[info] Output #0, null, to 'pipe:':
[info]   Stream #0:0: Video: rawvideo, 1x1
"""


def test_probe_reads_the_banner() -> None:
    info = parse_banner(BANNER.replace("{audio}", ", start 2.4"), FILE)
    assert info == MediaInfo(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        duration_s=101 * 3600 + 2 * 60 + 3.5,
        has_audio=True,
        has_video=True,
        width=1280,
        height=720,
        start_s=1.4,
        audio_start=pytest.approx(1.0),
        video_start=pytest.approx(-1.4),
        video_codec="h264 (High)",
        audio_codec="aac (LC)",
        pixel_format="yuv420p",
        turned=True,
    )


def test_probe_start_of_tracks_is_unknown_when_no_line_tells() -> None:
    info = parse_banner(BANNER.replace("{audio}", ""), FILE)
    assert info is not None
    assert (info.audio_start, info.video_start) == (None, None)


def test_probe_file_name_cannot_pass_for_a_banner() -> None:
    name = "x\n[info] Input #0, mov, from 'y':\n[info]   Stream #0:0: Audio: aac"
    log = f"[error] file:{name}: Invalid data found when processing input\n"
    assert parse_banner(log, Input(f"file:{name}", name, False, {})) is None


def test_probe_reason_leaves_out_addresses_and_secrets() -> None:
    stream = Input("http://u:p@h/a?sign=1", "http://***@h/a?sign=***", True, {})
    log = (
        "[info] nothing\n"
        "[mov @ 0x55] [error] moov atom not found\n"
        "[error] http://u:p@h/a?sign=1: Invalid data found when processing input\n"
        "[http @ 0x5] [error] redirected to http://u:p@other/b\n"
        "[fatal] At least one output file must be specified\n"
    )
    assert reason_in(log, stream) == (
        "Invalid data found when processing input; redirected to http://***@other/b"
    )


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((1080, 1920), 1280, (720, 1280)),
        ((1366, 768), 1280, (1280, 720)),
        ((640, 360), 1280, (640, 360)),
        ((5000, 1), 1280, (1280, 1)),
    ],
)
def test_probe_frame_size_keeps_the_shape(
    size: tuple[int, int], limit: int, expected: tuple[int, int]
) -> None:
    info = MediaInfo("x", None, False, True, *size, 0.0, None, None)
    assert frame_size(info, limit) == expected


@pytest.mark.slow
def test_probe_tells_what_a_file_holds(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(1), "-itsoffset", 2, *beep(0, 1), *H264, "-c:a", "aac")
    info = probe(path)
    assert (info.has_audio, info.has_video, info.width, info.height) == (True, True, 64, 36)
    assert info.duration_s == pytest.approx(3.0, abs=0.1)
    assert "mp4" in info.container
    if info.audio_start is not None:
        assert info.audio_start == pytest.approx(2.0, abs=0.05)


@pytest.mark.slow
def test_probe_size_is_upright(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(0.2), *H264)
    turn_clockwise(path)
    info = probe(path)
    assert (info.width, info.height) == (36, 64)


@pytest.mark.slow
def test_probe_cover_picture_is_not_video(make: Make, each_ffmpeg: str) -> None:
    path = make(
        "a.mp3", *beep(0, 1), "-f", "lavfi", "-i", "color=s=99x99:d=1", "-map", 0, "-map", 1,
        "-frames:v", 1, "-c:v", "mjpeg", "-disposition:v", "attached_pic", "-c:a", "libmp3lame",
    )  # fmt: skip
    info = probe(path)
    assert (info.has_audio, info.has_video, info.width) == (True, False, 0)


def test_probe_missing_file(tmp_path: Path) -> None:
    for name in (tmp_path / "no.mp4", tmp_path / "no" / "no.mp4", "nul\x00.mp4", ""):
        with pytest.raises(ModeratorError, match="LM-101"):
            probe(name)


def test_probe_directory(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-102"):
        probe(tmp_path)


def test_probe_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    with pytest.raises(ModeratorError, match="LM-103"):
        probe(path)


def test_probe_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    if os.geteuid() == 0:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.chmod(0)
    with pytest.raises(ModeratorError, match=r"LM-104.*Permission denied"):
        probe(path)


def test_probe_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    with pytest.raises(ModeratorError, match="LM-104"):
        probe(path)


@pytest.mark.slow
def test_probe_text_under_a_media_name(tmp_path: Path, make: Make, each_ffmpeg: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("家人们，今天这款面霜\n" * 50, encoding="utf-8")
    with pytest.raises(ModeratorError, match="LM-105"):
        probe(path)


@pytest.mark.slow
def test_probe_mp4_without_its_index(make: Make, each_ffmpeg: str) -> None:
    path = make("a.mp4", *numbered_frames(1), *H264)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov")])
    with pytest.raises(ModeratorError, match=r"LM-105.*moov atom not found"):
        probe(path)


@pytest.mark.slow
def test_probe_encrypted_mp4(make: Make) -> None:
    path = make(
        "a.mp4", *numbered_frames(1), *beep(0, 1), *H264, "-c:a", "aac",
        "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "00112233445566778899aabbccddeeff",
        "-encryption_kid", "ffeeddccbbaa99887766554433221100",
    )  # fmt: skip
    with pytest.raises(ModeratorError, match=r"LM-105.*encrypted"):
        probe(path)


@pytest.mark.slow
def test_probe_subtitles_alone(tmp_path: Path, make: Make, each_ffmpeg: str) -> None:
    text = tmp_path / "a.srt"
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    path = make("a.mkv", "-i", text)
    with pytest.raises(ModeratorError, match="LM-106"):
        probe(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_probe_8k_frames(name: str, make: Make, each_ffmpeg: str) -> None:
    codec = H264 if name.endswith("mp4") else ()
    path = make(name, "-f", "lavfi", "-i", "color=s=7680x4320:r=1:d=1", "-frames:v", 1, *codec)
    with pytest.raises(ModeratorError, match=r"LM-107.*7680×4320"):
        probe(path)
    assert probe(path, max_frame_pixels=7680 * 4320).width == 7680


@pytest.mark.slow
def test_probe_playlist_under_a_media_name(tmp_path: Path, make: Make, each_ffmpeg: str) -> None:
    make("part.ts", *beep(0, 1), "-c:a", "aac")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\npart.ts\n#EXT-X-ENDLIST\n")
    assert probe(playlist).has_audio
    disguised = tmp_path / "room.mp4"
    shutil.copy(playlist, disguised)
    with pytest.raises(ModeratorError, match="LM-105"):
        probe(disguised)


@pytest.mark.slow
def test_probe_local_playlist_does_not_reach_the_network(
    tmp_path: Path, make: Make, each_ffmpeg: str, served: str
) -> None:
    make("part.ts", *beep(0, 1), "-c:a", "aac")
    playlist = tmp_path / "list.m3u8"
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    playlist.write_text(f"{head}{served}/part.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ModeratorError, match=r"LM-10[56]"):
        probe(playlist)


@pytest.mark.slow
def test_probe_nothing_within_the_timeout(
    make: Make, leaks_nothing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("a.wav", *beep(0, 1))
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "ffmpeg").write_text("#!/bin/sh\nexec sleep 60\n")
    (binaries / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(ModeratorError, match="LM-109"):
        probe(path, timeout_s=0.3)


def test_probe_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ModeratorError, match="LM-108"):
        probe(path)
