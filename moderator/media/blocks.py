"""What comes out of a source: sound and pictures with their place on the media clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """Sound: mono float32 in −1…1 at 16 kHz; `start` is the media-clock second of `samples[0]`.

    Inside a block, and between blocks that touch, sample index and media clock run together to
    0.1 s. Where the track has a gap, or begins late, the next block simply starts later.
    """

    start: float
    samples: NDArray[np.float32]

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A picture: uint8 of shape (height, width, 3), BGR, upright; `time` is its own PTS on the
    media clock, in seconds."""

    time: float
    image: NDArray[np.uint8]

    @property
    def end(self) -> float:
        return self.time
