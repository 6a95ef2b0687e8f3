"""Evidence from a recording: clips that browsers play, and frames with the text boxed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import ffmpeg
import numpy as np
from numpy.typing import NDArray

from moderator.errors import CLIP_FAILED, DECODE_FAILED, OUT_WRITE, ModeratorError
from moderator.media.command import (
    QUIET,
    SOURCE,
    TARGET,
    Input,
    command_line,
    find_ffmpeg,
    find_quick_ffmpeg,
    open_input,
    passthrough_options,
    reason_in,
    run,
)
from moderator.media.probe import MAX_FRAME_PIXELS, MediaInfo, frame_size, probe, probe_input
from moderator.records import Box


def cut_clip(
    source: str | os.PathLike[str],
    start: float,
    end: float,
    out_path: str | os.PathLike[str],
    *,
    pre_s: float = 3.0,
    post_s: float = 3.0,
    max_side: int = 1280,
    max_frame_pixels: int = MAX_FRAME_PIXELS,
    allow_private: bool = False,
    timeout_s: float = 300.0,
    info: MediaInfo | None = None,
) -> Path:
    """Cut media-clock seconds `start - pre_s` to `end + post_s` of a recording; returns `out_path`.

    The clip is an mp4 that browsers play while it loads: H.264 4:2:0 with even sides, upright,
    the longer at most `max_side` pixels, and AAC; a source without one of the tracks gives a clip
    without it. What is such already is copied packet by packet, which costs next to nothing and
    keeps the evidence as it was: an edit list hides what lies between the key frame before and the
    clip's second 0. `info` is what `probe` said of the source, if it was asked. The clip is written
    beside `out_path` and renamed: it is whole or not there. Raises LM-503 when there is nothing at
    that time or it cannot be written, LM-109 after `timeout_s`, and as `probe` does for the source.
    """
    out_path = Path(out_path)
    begin = max(0.0, start - pre_s)
    if not end + post_s > begin:
        raise _clip_failed(start, f"it would end at {end + post_s:g} s, before it begins")
    opened = open_input(source, allow_private=allow_private)
    if info is None:
        info = probe_input(opened, max_frame_pixels=max_frame_pixels, timeout_s=timeout_s)
    try:
        with temporary_beside(out_path) as temporary:
            part = _Part(opened, info, begin, end + post_s)
            if not (
                part.can_copy(max_side)
                and copied(part.copy_arguments(temporary), info, opened.shown, temporary, timeout_s)
            ):
                done = run(_clip_arguments(part, max_side, temporary), opened.shown, timeout_s)
                if done.returncode != 0:
                    raise _clip_failed(start, reason_in(done.log, opened))
                check_clip(temporary, start)
            temporary.replace(out_path)
    except OSError as error:
        raise _clip_failed(start, error.strerror or str(error)) from error
    return out_path


def frame_at(
    source: str | os.PathLike[str],
    time: float,
    *,
    max_side: int = 1280,
    max_frame_pixels: int = MAX_FRAME_PIXELS,
    allow_private: bool = False,
    timeout_s: float = 60.0,
    info: MediaInfo | None = None,
) -> NDArray[np.uint8]:
    """The picture on the screen at media-clock second `time`: uint8 (height, width, 3), BGR.

    Upright and scaled as `MediaSource` does with the same `max_side`, so that boxes found there
    fit here. After the end of the video it is the last picture. Raises LM-110 when no frame can
    be decoded there, and as `probe` does; `info` is what it said, if it was asked.
    """
    opened = open_input(source, allow_private=allow_private)
    if info is None:
        info = probe_input(opened, max_frame_pixels=max_frame_pixels, timeout_s=timeout_s)
    width, height = frame_size(info, max_side)
    log = ""
    if info.has_video:
        with TemporaryDirectory(prefix="moderator-") as folder:
            raw = Path(folder) / "frame.raw"
            # Where frames are rare the one on the screen may have come long before.
            for back_s in _LOOK_BACK_S:
                begin = max(0.0, time - back_s)
                part = _Part(opened, info, begin, time + _EARLY_S)
                arguments = _frame_arguments(part, (width, height), max_frame_pixels, raw)
                log = run(arguments, opened.shown, timeout_s).log
                if raw.is_file() and raw.stat().st_size == width * height * 3:
                    return np.fromfile(raw, np.uint8).reshape(height, width, 3)
                if begin == 0.0:
                    break
    reason = reason_in(log, opened) if log else "no picture"
    raise ModeratorError(DECODE_FAILED, path=opened.shown, reason=f"{time:.2f} s: {reason}")


def save_frame(
    image: NDArray[np.uint8],
    boxes: Sequence[Box],
    out_path: str | os.PathLike[str],
    *,
    labels: Sequence[str] = (),
) -> Path:
    """Write `image` (BGR) with `boxes` drawn on a copy of it; returns `out_path`.

    The ending, .jpg, .jpeg or .png, chooses the format. `labels` go with the boxes in order; the
    letters at hand are ASCII, so a box without a label, or with any other, gets its number when
    there are several. Raises ValueError for another ending and LM-502 when it cannot be written.
    """
    out_path = Path(out_path)
    if out_path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ValueError(f"{out_path.name}: a frame is written as .jpg, .jpeg or .png")
    picture = image.copy()
    for number, box in enumerate(boxes):
        label = labels[number] if number < len(labels) else ""
        if not (label and label.isascii() and label.isprintable()):
            label = str(number + 1) if len(boxes) > 1 else ""
        _draw(picture, box, label)
    _, encoded = cv2.imencode(out_path.suffix.lower(), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    try:
        with temporary_beside(out_path) as temporary:
            # OpenCV's own writing garbles names outside the system's code page.
            temporary.write_bytes(encoded.tobytes())
            temporary.replace(out_path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModeratorError(OUT_WRITE, path=out_path, reason=reason) from error
    return out_path


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name in the same folder to write to before renaming; what is left there is removed."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


H264: dict[str, str | int] = {
    "vcodec": "libx264",
    "preset": "veryfast",
    "crf": 25,
    "pix_fmt": "yuv420p",
}
AAC: dict[str, str | int] = {"acodec": "aac", "ac": 2, "ar": 48000}
MP4: dict[str, str | int] = {"f": "mp4", "movflags": "+faststart"}
"""What every browser plays, while it loads."""


_LOOK_BACK_S = (0.25, 5.0, 60.0)
_EARLY_S = 0.01
"""Times in records are rounded: a frame this little later is the one that was meant."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Media-clock seconds `begin` to `end` of a source, as arguments of ffmpeg.

    The time stamps are kept and the cut is made by filters on them: ffmpeg's own `-t` counts
    from the first frame of each track, and its zero depends on which tracks are used.
    """

    source: Input
    info: MediaInfo
    begin: float
    end: float

    def input(self, **options: str | int) -> Any:
        # In these a seek ends between key frames, and pictures before the next one are lost.
        no_index = self.info.container in _WITHOUT_INDEX
        seek_to = max(0.0, self.begin - (_LONGEST_GOP_S if no_index else 0.0))
        return ffmpeg.input(
            SOURCE, copyts=None, ss=f"{seek_to:.3f}", **options, **self.source.options
        )

    def can_copy(self, max_side: int) -> bool:
        """Whether the packets may stay as they are. Sound that begins inside the clip may not:
        silence has to come before it."""
        begins = [self.info.audio_start or 0.0, self.info.video_start or 0.0]
        return (
            not self.source.is_stream
            and self.info.container in _WITH_ONE_SIZE
            and plays_in_browsers(self.info, max_side)
            and self.begin + _EARLY_S >= max(begins)
            # Past the end a copy holds the last pictures before it, hidden.
            and self.begin < (self.info.duration_s or 0.0)
        )

    def copy_arguments(self, to: Path) -> list[str]:
        words = [find_ffmpeg(), *QUIET, "-y", "-copyts", *self.source.option_words]
        words += ["-ss", f"{self.begin:.6f}", "-t", f"{self.end - self.begin:.6f}"]
        words += ["-i", self.source.address]
        return [*words, *copy_words(self.info, self.info.start_s + self.begin), f"file:{to}"]

    def filters(self, audio: str = "") -> str:
        zero_s = self.info.start_s
        begin, end = zero_s + self.begin, zero_s + self.end
        return f"{audio}trim=start={begin:.6f}:end={end:.6f},{audio}setpts='PTS-({begin:.6f})/TB'"


def plays_in_browsers(info: MediaInfo, max_side: int) -> bool:
    """Whether the packets do as they are: H.264 4:2:0 of at most `max_side` pixels that is not
    turned, and AAC, or one of the two alone."""
    video = not info.has_video or (
        info.video_codec.startswith("h264 ")
        and info.pixel_format in ("yuv420p", "yuvj420p")
        and max(info.width, info.height) <= max_side
        and not info.turned
    )
    return video and (not info.has_audio or info.audio_codec.startswith("aac (LC)"))


def copy_words(info: MediaInfo, zero_s: float) -> list[str]:
    """Words for ffmpeg that copy the packets to an mp4 whose second 0 is the time stamp `zero_s`.

    What lies before it has times below zero, which the edit list hides.
    """
    words = []
    for kind, there in (("V:0", info.has_video), ("a:0", info.has_audio)):
        words += ["-map", f"0:{kind}"] if there else []
    words += ["-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"]
    words += ["-output_ts_offset", f"{-zero_s:.6f}", "-avoid_negative_ts", "disabled"]
    return [*words, *(word for key, value in MP4.items() for word in (f"-{key}", str(value)))]


def copied(arguments: list[str], info: MediaInfo, shown: str, to: Path, timeout_s: float) -> bool:
    """Run ffmpeg to copy the tracks of `info` to `to`: whether a whole clip came of it. What did
    not is removed, for ffmpeg may write nothing in a second try and call it a success."""
    if run(arguments, shown, timeout_s).returncode == 0:
        try:
            made = probe(to, binary=find_quick_ffmpeg())
            if (made.has_video, made.has_audio) == (info.has_video, info.has_audio):
                return True
        except ModeratorError:
            pass
    to.unlink(missing_ok=True)
    return False


_WITH_ONE_SIZE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
"""In others the size of the picture may change, which an mp4 cannot hold."""
_WITHOUT_INDEX = ("mpegts", "hls", "mpeg", "h264", "hevc")
_LONGEST_GOP_S = 12.0


def _clip_arguments(part: _Part, max_side: int, to: Path) -> list[str]:
    cut = part.input()
    tracks = []
    options: dict[str, str | int] = {}
    if part.info.has_video:
        shrink = f"min(1,{max_side}/max(iw,ih))"
        scale = f"scale=w='max(2,2*trunc(iw*{shrink}/2))':h='max(2,2*trunc(ih*{shrink}/2))'"
        tracks.append(cut["V:0"])
        options |= {
            "vf": f"{part.filters()},{scale}",
            **H264,
        }
    if part.info.has_audio:
        tracks.append(cut["a:0"])
        options |= {
            # Sound that begins inside the clip keeps its place without an edit list.
            "af": f"{part.filters('a')},aresample=async=1:first_pts=0",
            **AAC,
        }
    output = ffmpeg.output(
        *tracks,
        TARGET,
        **MP4,
        map_metadata=-1,
        map_chapters=-1,
        **options,
    )
    return command_line(output.overwrite_output(), find_ffmpeg(), part.source, f"file:{to}")


def _frame_arguments(part: _Part, size: tuple[int, int], max_pixels: int, to: Path) -> list[str]:
    binary = find_ffmpeg()
    width, height = size
    scale = f"scale={width}:{height}:force_original_aspect_ratio=decrease:flags=area"
    output = part.input(max_pixels=max_pixels)["V:0"].output(
        TARGET,
        vf=f"{part.filters()},{scale},format=bgr24,pad={width}:{height}:-1:-1",
        vcodec="rawvideo",
        pix_fmt="bgr24",
        f="image2",
        update=1,  # each frame overwrites the one before: the last remains
        **passthrough_options(binary),
    )
    return command_line(output.overwrite_output(), binary, part.source, f"file:{to}")


def check_clip(path: Path, start: float) -> None:
    """Raises LM-503 when `path` holds no media."""
    # ffmpeg calls an mp4 without a single packet a success.
    try:
        probe(path)
    except ModeratorError:
        raise _clip_failed(start, "the recording holds nothing there") from None


def _draw(picture: NDArray[np.uint8], box: Box, label: str) -> None:
    height, width = picture.shape[:2]
    thick = max(2, round(max(height, width) / 400))
    x0, y0 = max(0, box.x0), max(0, box.y0)
    x1, y1 = min(width - 1, box.x1), min(height - 1, box.y1)
    # White around red stands out on a red banner too.
    cv2.rectangle(picture, (x0, y0), (x1, y1), _WHITE, thick + 2)
    cv2.rectangle(picture, (x0, y0), (x1, y1), _RED, thick)
    if not label:
        return
    scale = thick / 3
    (wide, tall), below = cv2.getTextSize(label, _FONT, scale, thick // 2 or 1)
    top = y0 - tall - below - thick
    base = y0 - below if top >= 0 else min(height - below, y1 + tall + thick)
    cv2.rectangle(picture, (x0, base - tall - 1), (x0 + wide, base + below), _RED, cv2.FILLED)
    cv2.putText(picture, label, (x0, base), _FONT, scale, _WHITE, thick // 2 or 1, cv2.LINE_AA)


_RED = (40, 40, 230)
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def _clip_failed(start: float, reason: str) -> ModeratorError:
    return ModeratorError(CLIP_FAILED, start=f"{start:.2f}", reason=reason)
