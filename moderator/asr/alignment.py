"""When each token was said, read off the attention that the decoder paid to the sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MEDIAN_WIDTH = 7


def token_steps(attention: NDArray[np.float32]) -> NDArray[np.float64]:
    """The encoder step at which each token starts, shape (tokens,), never decreasing.

    `attention` has shape (heads, tokens, steps): the weights of the heads that follow the
    sound, row i belonging to the position that predicts token i. As in OpenAI's Whisper, each
    step is normalised over the tokens, smoothed over 7 steps, averaged over the heads, and the
    cheapest monotonic path through the result is taken.
    """
    weights = attention.astype(np.float64)
    weights /= np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12)
    spread = np.maximum(weights.std(axis=-2, keepdims=True), 1e-12)
    weights = (weights - weights.mean(axis=-2, keepdims=True)) / spread
    return first_steps(monotonic_path(-_median(weights).mean(axis=0)), attention.shape[1])


def monotonic_path(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The cheapest path from the first to the last cell of `cost`, shape (tokens, steps).

    Dynamic time warping: each move advances the token, the step, or both.
    """
    tokens, steps = cost.shape
    total = np.full((tokens + 1, steps + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(tokens):
        above = np.minimum(total[row, :-1], total[row, 1:]).tolist()
        here, cells = np.inf, cost[row].tolist()
        for step in range(steps):
            here = cells[step] + min(above[step], here)
            total[row + 1, step + 1] = here
    path = []
    row, step = tokens, steps
    while row and step:
        path.append((row - 1, step - 1))
        moves = {
            (row - 1, step - 1): total[row - 1, step - 1],
            (row - 1, step): total[row - 1, step],
            (row, step - 1): total[row, step - 1],
        }
        row, step = min(moves, key=lambda move: moves[move])
    return path[::-1]


def first_steps(path: Sequence[tuple[int, int]], count: int) -> NDArray[np.float64]:
    """The first step of each of `count` tokens on a path; one not on it starts with the next."""
    starts = np.full(count, np.nan)
    for token, step in path:
        if token < count and np.isnan(starts[token]):
            starts[token] = step
    following = float(path[-1][1]) if len(path) else 0.0
    for token in range(count - 1, -1, -1):
        if np.isnan(starts[token]):
            starts[token] = following
        following = starts[token]
    return np.maximum.accumulate(starts)


def _median(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    pad = _MEDIAN_WIDTH // 2
    if weights.shape[-1] <= pad:
        return weights
    padded = np.pad(weights, ((0, 0), (0, 0), (pad, pad)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_WIDTH, axis=-1)
    smoothed: NDArray[np.float64] = np.median(windows, axis=-1)
    return smoothed
