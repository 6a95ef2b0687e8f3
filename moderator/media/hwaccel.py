"""Which hardware decodes pictures: asked of ffmpeg once, before a stream depends on it.

ffmpeg gives up on a stream when a method that was named cannot be set up, so a method is tried on
nothing at all first, and one that fails costs a warning and not the room.
"""

from __future__ import annotations

import subprocess
from functools import cache

import structlog

from moderator.media.command import find_ffmpeg

log = structlog.get_logger()

METHODS = ("cuda", "vaapi", "qsv", "videotoolbox")
"""What `auto` tries, in this order."""


def settled(wanted: str) -> str:
    """`none`, or the method to use: the one that is wanted, or for `auto` the first that works.

    A method that was named and does not work is warned about once, and pictures are decoded in
    software. Raises LM-108 without ffmpeg.
    """
    if wanted == "auto":
        return next((method for method in METHODS if why_not(method) == ""), "none")
    if wanted == "none" or why_not(wanted) == "":
        return wanted
    _warn_once(wanted, why_not(wanted))
    return "none"


@cache
def why_not(method: str) -> str:
    """Why ffmpeg cannot set up `method` on this machine; empty where it can."""
    command = [find_ffmpeg(), "-hide_banner", "-v", "error", "-init_hw_device", method]
    command += ["-f", "lavfi", "-i", "nullsrc=s=16x16:d=0.1", "-frames:v", "1", "-f", "null", "-"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()
    return said[0].rpartition("] ")[2] if said else f"ffmpeg: exit {done.returncode}"


@cache
def _warn_once(method: str, why: str) -> None:
    log.warning("media.hwaccel_fallback", wanted=method, used="software", reason=why)
