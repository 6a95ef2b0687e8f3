"""Runs of characters that were counted in lawful and unlawful sentences: a linear classifier.

    胆固醇  →  胆, 胆固, 胆固醇, 固, … and with a gap: 胆·醇

What a small network has only a rough idea of, such runs know to the letter. It is logistic
regression on the runs that a sentence has, as in Wang and Manning 2012, "Baselines and Bigrams".
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

LONGEST, GAPS = 4, (1, 2)
"""The longest run, and how many characters may lie between two that are taken together."""


class Grams:
    """Read-only: share it freely. `runs` are the CRC-32 of the runs that have a weight, [runs],
    ascending; `scale` times `weights`, [runs], and `offset` are in natural log-odds."""

    def __init__(
        self, runs: NDArray[np.uint32], weights: NDArray[np.int8], scale: float, offset: float
    ) -> None:
        self.runs = runs
        self.weights = weights
        self.scale = scale
        self.offset = offset

    @classmethod
    def load(cls, path: Path) -> Grams:
        """What `save` wrote. Raises OSError, ValueError or KeyError for other files."""
        with np.load(path, allow_pickle=False) as kept:
            runs = np.cumsum(kept["steps"], dtype=np.uint32)
            return cls(runs, kept["weights"], float(kept["scale"]), float(kept["offset"]))

    def save(self, path: Path) -> None:
        """The runs are kept as the steps from each to the next, in as few bytes as these need."""
        steps = np.diff(self.runs, prepend=np.uint32(0))
        np.savez(
            path,
            steps=steps.astype(np.min_scalar_type(steps.max(initial=0))),
            weights=self.weights,
            scale=np.float32(self.scale),
            offset=np.float32(self.offset),
        )

    def says(self, text: str) -> float:
        """Log-odds that `text` is unlawful, by its runs alone."""
        found = grams_in(text)
        total = self.scale * float(self.weights[places(self.runs, found)].sum(dtype=np.int64))
        return total / float(np.sqrt(len(found))) + self.offset


def places(runs: NDArray[np.uint32], found: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where those of `found` that are among `runs`, ascending, stand there."""
    at = np.searchsorted(runs, found)
    known = at < len(runs)
    known[known] = runs[at[known]] == found[known]
    return at[known].astype(np.int64)


def grams_in(text: str) -> NDArray[np.uint32]:
    """CRC-32 of the different runs in `text`, edges included, [runs], in no order."""
    edged = f"^{text}$"
    runs = {
        edged[at : at + length]
        for length in range(1, LONGEST + 1)
        for at in range(len(edged) - length + 1)
    }
    for gap in GAPS:
        apart = "_" * gap
        runs.update(a + apart + b for a, b in zip(text, text[gap + 1 :], strict=False))
    return np.array([crc32(run.encode()) for run in runs], dtype=np.uint32)
