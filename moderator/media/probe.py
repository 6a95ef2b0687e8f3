"""What is in a file or stream, read from the banner that every ffmpeg prints.

ffprobe is not needed: the binary that imageio-ffmpeg brings has none.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from moderator.errors import (
    FRAME_TOO_LARGE,
    NO_STREAMS,
    NOT_MEDIA,
    STREAM_UNREACHABLE,
    ModeratorError,
    in_ui_language,
)
from moderator.media.command import (
    QUIET,
    Input,
    find_ffmpeg,
    open_input,
    reason_in,
    run,
    without_address,
)

MAX_FRAME_PIXELS = int(3840 * 2160 * 1.1)


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a source holds, as its header and first packets tell.

    `width` and `height` are in pixels, upright (after rotation), 0 without video. `duration_s`
    is what the header claims, None when it claims nothing; nothing here relies on it. `start_s`
    is the first PTS over all tracks, where the media clock is zero. `audio_start` and
    `video_start` are media-clock seconds of the first packet of the track that is used, None
    when there is no such track or ffmpeg does not say (older ones never do). `video_codec` and
    `audio_codec` are ffmpeg's names with the profile (`h264 (High)`, `aac (LC)`), `pixel_format`
    is its name for how a pixel is stored (`yuv420p`); empty without such a track. `turned` says
    that the picture is stored otherwise than it is to be shown.
    """

    container: str
    duration_s: float | None
    has_audio: bool
    has_video: bool
    width: int
    height: int
    start_s: float
    audio_start: float | None
    video_start: float | None
    video_codec: str = ""
    audio_codec: str = ""
    pixel_format: str = ""
    turned: bool = False


def probe(
    source: str | os.PathLike[str],
    *,
    allow_private: bool = False,
    max_frame_pixels: int = MAX_FRAME_PIXELS,
    timeout_s: float = 60.0,
    binary: str = "",
) -> MediaInfo:
    """What is in `source`, a path or a stream URL, as `binary` tells it: by default `find_ffmpeg`.

    Raises LM-101 to LM-104 for a path that cannot be read, LM-105 (no media, or encrypted),
    LM-106 (neither sound nor picture), LM-107 (frames over `max_frame_pixels`), LM-108 (no
    ffmpeg), LM-109 (nothing within `timeout_s`), LM-111 (address refused), LM-112 (stream not
    reachable).
    """
    opened = open_input(source, allow_private=allow_private, stall_timeout_s=timeout_s)
    return probe_input(
        opened, max_frame_pixels=max_frame_pixels, timeout_s=timeout_s, binary=binary
    )


def probe_input(
    source: Input, *, max_frame_pixels: int, timeout_s: float, binary: str = ""
) -> MediaInfo:
    """As `probe`, for an input already opened."""
    if not source.is_stream and _is_encrypted(Path(source.address.removeprefix("file:"))):
        reason = in_ui_language("its tracks are encrypted", "音视频轨已加密")
        raise ModeratorError(NOT_MEDIA, path=source.shown, reason=reason)
    flags = ["-max_pixels", str(max_frame_pixels), *source.option_words]
    # Without an output ffmpeg prints what it found and stops.
    arguments = [binary or find_ffmpeg(), *QUIET, *flags, "-i", source.address]
    log = run(arguments, source.shown, timeout_s).log
    banner = parse_banner(log, source)
    if banner is None:
        spec = STREAM_UNREACHABLE if source.is_stream else NOT_MEDIA
        raise ModeratorError(
            spec, path=source.shown, url=source.shown, reason=reason_in(log, source)
        )
    refuse_large_frames(log, source, banner, max_frame_pixels)
    if not (banner.has_audio or banner.has_video):
        raise ModeratorError(NO_STREAMS, path=source.shown)
    _refuse_disguised_playlist(source, banner)
    return banner


def parse_banner(log: str, source: Input) -> MediaInfo | None:
    """The first input of ffmpeg's log; None when it opened none."""
    text = re.sub(r"(?m)^\[info\] ", "", without_address(log, source))
    head = re.search(r"(?m)^Input #0, (.+?), from '", text)
    if head is None:
        return None
    text = text[head.start() :].partition("\nStream mapping:")[0]
    duration = re.search(r"(?m)^  Duration: (N/A|\d+:\d+:[\d.]+)(?:, start: (-?[\d.]+))?", text)
    length, start = (duration[1], duration[2]) if duration else ("N/A", None)
    start_s = float(start) if start else 0.0
    tracks = [_track(found) for found in _STREAM.finditer(text)]
    # A start of zero is not printed, so no start at all may also be a version that prints none.
    known = any(track.start is not None for track in tracks)

    def begins(track: _Track | None) -> float | None:
        return (track.start or 0.0) - start_s if track and known else None

    audio = next((track for track in tracks if track.kind == "Audio"), None)
    video = next((track for track in tracks if track.kind == "Video"), None)
    return MediaInfo(
        container=head[1],
        duration_s=None if length == "N/A" else _seconds(length),
        has_audio=audio is not None,
        has_video=video is not None,
        width=video.width if video else 0,
        height=video.height if video else 0,
        start_s=start_s,
        audio_start=begins(audio),
        video_start=begins(video),
        video_codec=video.codec if video else "",
        audio_codec=audio.codec if audio else "",
        pixel_format=video.pixel_format if video else "",
        turned=video.turned if video else False,
    )


def refuse_large_frames(log: str, source: Input, info: MediaInfo | None, limit: int) -> None:
    """Raises LM-107 when the log or the banner shows frames over `limit` pixels."""
    size = (info.width, info.height) if info else (0, 0)
    if size == (0, 0):
        refused = re.search(r"Picture size (\d+)x(\d+) exceeds specified max pixel", log)
        size = (int(refused[1]), int(refused[2])) if refused else size
    if size[0] * size[1] > limit:
        raise ModeratorError(
            FRAME_TOO_LARGE, path=source.shown, width=size[0], height=size[1], limit=limit
        )


def frame_size(info: MediaInfo, max_side: int) -> tuple[int, int]:
    """Width and height of the frames we hand out: the longer side is at most `max_side`."""
    longest = max(info.width, info.height)
    if longest <= max_side:
        return info.width, info.height
    return (
        max(1, round(info.width * max_side / longest)),
        max(1, round(info.height * max_side / longest)),
    )


@dataclass(frozen=True, slots=True)
class _Track:
    kind: str
    width: int = 0
    height: int = 0
    start: float | None = None
    codec: str = ""
    pixel_format: str = ""
    turned: bool = False


_STREAM = re.compile(
    r"^ +Stream #0:\d+(?:\[\w+\])?(?:\([^)\n]*\))?: (\w+): ([^\n]*)"
    r"((?:\n(?! *Stream #| *Program |Input #|Output #)[^\n]*)*)",
    re.MULTILINE,
)


_CODEC = re.compile(r"\w+(?: \((?!\[)[^)/]+\))?")
"""The codec and its profile, not the container's tag that may follow."""


def _track(found: re.Match[str]) -> _Track:
    kind, line, below = found.groups()
    begins = re.search(r", start (-?[\d.]+)", line)
    start = float(begins[1]) if begins else None
    codec = _CODEC.match(line)
    name = codec[0] if codec else ""
    if kind == "Audio":
        return _Track("Audio" if not line.startswith("none") else "", start=start, codec=name)
    size = re.search(r", (\d+)x(\d+)(?=[ ,]|$)", line)
    if kind != "Video" or size is None or re.search(r"\((attached pic|timed thumbnails)", line):
        return _Track("")
    width, height = int(size[1]), int(size[2])
    turned = re.search(r"(?i)display ?matrix: rotation of (-?[\d.]+) degrees", below)
    if turned and 45 < abs(float(turned[1])) % 180 < 135:
        width, height = height, width
    pixels = re.search(r", ([a-z0-9]+)(?:\([^)]*\))?, \d+x\d+", line)
    stored_otherwise = re.search(r"(?i)display ?matrix", below) is not None
    pixel_format = pixels[1] if pixels else ""
    return _Track("Video", width, height, start, name, pixel_format, stored_otherwise)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


_PLAYLISTS = {"hls": (".m3u8", ".m3u"), "dash": (".mpd",), "concat": (".ffconcat",)}


def _refuse_disguised_playlist(source: Input, info: MediaInfo) -> None:
    # An upload named room.mp4 that is a playlist would have us read the files it lists.
    endings = next((_PLAYLISTS[n] for n in info.container.split(",") if n in _PLAYLISTS), None)
    if source.is_stream or endings is None or source.address.lower().endswith(endings):
        return
    reason = in_ui_language(
        f"it is a playlist under another name; playlists end in {' '.join(endings)}",
        f"这是改了扩展名的播放列表；播放列表应以 {' '.join(endings)} 结尾",
    )
    raise ModeratorError(NOT_MEDIA, path=source.shown, reason=reason)


_LARGEST_MOOV_BYTES = 64 << 20


def _is_encrypted(path: Path) -> bool:
    """Whether an ISO media file holds protected sample entries (ISO/IEC 14496-12, 8.12).

    ffmpeg decodes such tracks to noise rather than refuse them.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at + 8 <= size:
            file.seek(at)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if at == 0 and kind not in (b"ftyp", b"styp", b"moov"):
                return False
            if kind == b"moov":
                file.seek(at)
                moov = file.read(min(length or size, _LARGEST_MOOV_BYTES))
                return b"sinf" in moov and (b"encv" in moov or b"enca" in moov)
            if length < 8:
                return False
            at += length
    return False
