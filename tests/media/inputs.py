"""Arguments that have ffmpeg write small inputs with known content."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moderator.media.blocks import AudioBlock

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "4", "-pix_fmt", "yuv420p")
FPS = 25


def numbered_frames(seconds: float, size: str = "64x36", more: str = "") -> tuple[str, ...]:
    """Frame n of 25 a second has grey level 16 + 2n in every pixel, so it tells its own time."""
    grey = "geq=lum='16+2*N':cb=128:cr=128"
    return ("-f", "lavfi", "-i", f"nullsrc=s={size}:r={FPS}:d={seconds},{grey}{more}")


def time_told_by(image: NDArray[np.uint8]) -> float:
    """Inverse of `numbered_frames`: the second at which the frame stood, to a frame."""
    luma = 16 + float(np.median(image)) * 219 / 255
    return round((luma - 16) / 2) / FPS


def beep(at_s: float, seconds: float, hz: int = 44_100) -> tuple[str, ...]:
    """Silence with a tone of 0.2 s that begins at `at_s`."""
    wave = f"0.5*sin(2*PI*1000*t)*between(t,{at_s},{at_s + 0.2})"
    return ("-f", "lavfi", "-i", f"aevalsrc='{wave}':s={hz}:d={seconds}")


def begins_to_sound(blocks: list[AudioBlock]) -> float:
    """Media-clock second of the first loud sample."""
    for block in blocks:
        loud = np.flatnonzero(np.abs(block.samples) > 0.1)
        if len(loud):
            return block.start + float(loud[0]) / 16_000
    raise AssertionError("no sound")


def turn_clockwise(path: Path) -> None:
    """Set the matrix of the first track of an mp4 to a quarter turn clockwise."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    path.write_bytes(data)


def claim_duration(flv: Path, seconds: float) -> None:
    """Overwrite the duration in the metadata of an FLV."""
    data = bytearray(flv.read_bytes())
    at = data.index(b"\x00\x08duration\x00") + 11
    data[at : at + 8] = struct.pack(">d", seconds)
    flv.write_bytes(data)
