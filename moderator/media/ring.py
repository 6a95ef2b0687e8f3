"""The ring buffer of a live room: copies of the stream on disk, and what is cut from them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Span:
    """Media-clock seconds that are on disk without a hole."""

    start: float
    end: float


class RingBuffer:
    """Copies of a live stream on disk, bounded by time and bytes; readable after a restart.

    The ffmpeg that decodes a room also writes the packets as they came into short MPEG-TS files
    here, one folder a connection. A file beside them says where the connection stands on the
    session's media clock, so the buffer is found again by whoever opens the same folder later.
    Every method may be called from any thread.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_s: float = 3600.0,
        max_bytes: int = 4 << 30,
        segment_s: float = 4.0,
    ) -> None: ...

    def clip(
        self,
        start: float,
        end: float,
        path: str | os.PathLike[str],
        *,
        pre_s: float = 3.0,
        post_s: float = 3.0,
        max_side: int = 1280,
        timeout_s: float = 120.0,
    ) -> Path:
        """Cut media-clock seconds `start - pre_s` to `end + post_s`; returns `path`.

        A browser-playable mp4 whose second 0 is `max(0, start - pre_s)`, within half a second. A
        gap inside it is black and silent, never spliced. Raises LM-117 (ClipNotReady) until the
        post roll is there, LM-118 when none of it is in the buffer any more, LM-503 when it
        cannot be cut.
        """
        raise NotImplementedError

    def frame(
        self, at: float, *, max_side: int = 1280, timeout_s: float = 60.0
    ) -> NDArray[np.uint8]:
        """The picture at media-clock second `at`: uint8 (height, width, 3), BGR. Raises as clip."""
        raise NotImplementedError

    def spans(self) -> list[Span]:
        """What is on disk, in order."""
        raise NotImplementedError

    @property
    def bytes_on_disk(self) -> int:
        raise NotImplementedError

    def trim(self) -> int:
        """Remove what is over the bounds, oldest first; returns bytes freed."""
        raise NotImplementedError
