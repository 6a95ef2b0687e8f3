"""What the device benchmarks share: sample sound and frames, and yardsticks of the machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.watching import SAMPLES
from moderator.asr.engine import SAMPLE_RATE_HZ, Samples, SpeechSegment
from moderator.asr.segmenter import LIVE, segment_all
from moderator.media.command import find_ffmpeg

ROOMS = ("food_and_tea", "jewelry_and_appliance", "skincare_and_health")


@cache
def sound(room: str, seconds: float) -> Samples:
    """The first `seconds` of a sample room, mono float32 at 16 kHz."""
    command = [find_ffmpeg(), "-v", "error", "-t", str(seconds), "-i", _video(room), "-ac", "1"]
    command += ["-ar", str(SAMPLE_RATE_HZ), "-f", "s16le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.int16).astype(np.float32) / 32768


@cache
def segments(seconds: float) -> list[SpeechSegment]:
    """What the live segmenter cuts from `seconds` of each sample room."""
    return [
        segment for room in ROOMS for segment in segment_all([(0.0, sound(room, seconds))], LIVE)
    ]


def frames(count: int, side: int = 960) -> list[NDArray[np.uint8]]:
    """`count` BGR frames from all over the sample rooms, the longer side `side` pixels."""
    per_room = -(-count // len(ROOMS))
    width, height = side * 9 // 16, side
    found = []
    for room in ROOMS:
        command = [find_ffmpeg(), "-v", "error", "-i", _video(room), "-frames:v", str(per_room)]
        command += ["-vf", f"fps=1/8,scale={width}:{height}", "-pix_fmt", "bgr24"]
        raw = subprocess.run(
            [*command, "-f", "rawvideo", "-"], capture_output=True, check=True
        ).stdout
        size = width * height * 3
        for at in range(0, len(raw) - size + 1, size):
            shape = height, width, 3
            found.append(np.frombuffer(raw[at : at + size], np.uint8).reshape(shape).copy())
    return found[:count]


def matmul_flops(device: str, dtype: str, size: int | None = None, repeats: int = 10) -> float:
    """Floating-point operations a second that torch reaches on a square product, measured."""
    import torch

    size = size or (8192 if device != "cpu" else 768)
    kind = getattr(torch, dtype)
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    a @ b
    took_s = timed(lambda: [a @ b for _ in range(repeats)], device)
    return 2 * size**3 * repeats / took_s


def timed(work: Callable[[], Any], device: str) -> float:
    """Wall seconds of `work`, with what it started on the device finished."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def peak_memory_mib(device: str) -> float:
    """Largest memory allocated on the GPU, or the largest resident set of this process."""
    if device == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    import torch

    return float(torch.cuda.max_memory_allocated(device)) / 2**20


def _wait(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def _video(room: str) -> str:
    return str(SAMPLES / "rooms" / f"{room}.mp4")
