"""The filters that turn tracks into bare samples and pixels with a line of text for each piece."""

from __future__ import annotations

import math
import re

from moderator.media.blocks import SAMPLE_RATE_HZ

CHUNK_SAMPLES = 1024
CHUNK_S = CHUNK_SAMPLES / SAMPLE_RATE_HZ
CHUNK_BYTES = 2 * CHUNK_SAMPLES
VIDEO_CLOCK_HZ = 1_000_000

STAMP = re.compile(rb"frame:\d+ +pts:(-?\d+|NOPTS) ")
SEEN = b"lm=seen\n"
KEPT = b"lm=kept\n"

SHOWN_SIZE = re.compile(
    rb"showinfo\S* @ \S+\] \[info\] n: *\d+ pts: *(-?\d+|NOPTS) .* s:(\d+)x(\d+) "
)
"""What `showinfo` logs of a frame that is kept: PTS, width and height."""


def seconds(stamp: bytes, clock_hz: int) -> float | None:
    """The time in a STAMP; None where the container gives none."""
    return None if stamp == b"NOPTS" else int(stamp) / clock_hz


def audio_filters(times_to: int) -> str:
    """16 kHz mono in chunks of CHUNK_SAMPLES; a line for each goes to the pipe `times_to`."""
    return ",".join(
        (
            f"aresample={SAMPLE_RATE_HZ}",
            "aformat=sample_fmts=s16:channel_layouts=mono",
            # The last chunk is filled up with silence: every line stands for as many bytes.
            f"asetnsamples=n={CHUNK_SAMPLES}:p=1",
            "ametadata=mode=add:key=lm:value=kept",
            f"ametadata={_lines(times_to)}",
        )
    )


def sampling(
    times_to: int, every_s: float, scene_change: float | None, zero_s: float
) -> tuple[str, ...]:
    """Picks frames: the first in every `every_s` counted from `zero_s`, and changes of scene.

    Lines go to the pipe `times_to`: of every frame that it is seen, of a picked one that it is
    kept.
    """

    def period(time: str) -> str:
        return f"floor(({time}-({zero_s:.6f}))/{every_s:.6f}+0.000001)"

    pick = f"not(eq({period('t')},{period('prev_selected_t')}))"
    if scene_change is not None:
        spaced = f"gte(abs(t-prev_selected_t),{every_s / 4:.6f})"
        pick += f"+gt(scene,{scene_change:.6f})*{spaced}"
    return (
        f"settb=1/{VIDEO_CLOCK_HZ}",
        "metadata=mode=add:key=lm:value=seen",
        f"metadata={_lines(times_to)}",
        # A stream without time stamps must not have every frame picked.
        f"select='if(isnan(t),not(mod(n,25)),{pick})'",
        "metadata=mode=modify:key=lm:value=kept",
        f"metadata={_lines(times_to)}",
    )


def fitted(width: int, height: int) -> tuple[str, ...]:
    """Scales into `width` × `height`, bars around what has another shape."""
    return (
        f"scale={width}:{height}:force_original_aspect_ratio=decrease:flags=area",
        "format=bgr24",
        f"pad={width}:{height}:-1:-1",
    )


def in_corner(side: int) -> tuple[str, ...]:
    """Shrinks to at most `side` and lays it in the upper left of a square of that side.

    The size of a live stream is not known when ffmpeg starts, and may change: the square has one
    number of bytes whatever comes, the log says how large each picture was, and `shrunk` how
    large it is in the corner.
    """
    ratio = f"min(1,{side}/max(iw,ih))"
    return (
        "showinfo=checksum=0",
        f"scale=w='max(1,floor(iw*{ratio}+0.5))':h='max(1,floor(ih*{ratio}+0.5))':flags=area",
        "format=bgr24",
        f"pad={side}:{side}:0:0",
    )


def shrunk(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a picture that `in_corner` laid there."""
    ratio = min(1.0, side / max(width, height, 1))
    return (
        max(1, math.floor(width * ratio + 0.5)),
        max(1, math.floor(height * ratio + 0.5)),
    )


def _lines(to: int) -> str:
    return f"mode=print:key=lm:file='pipe\\:{to}':direct=1"
