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
    return first_steps_of_batch([path_cost(attention)])[0]


def path_cost(attention: NDArray[np.float32]) -> NDArray[np.float64]:
    """What a path pays for each token and step, shape (tokens, steps); see `token_steps`."""
    weights = attention.astype(np.float64)
    weights /= np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12)
    spread = np.maximum(weights.std(axis=-2, keepdims=True), 1e-12)
    weights = (weights - weights.mean(axis=-2, keepdims=True)) / spread
    cost: NDArray[np.float64] = -_median(weights).mean(axis=0)
    return cost


def first_steps_of_batch(costs: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """For each cost of shape (tokens, steps), the step at which the cheapest monotonic path
    reaches each token: dynamic time warping of all of them at once.

    The paths are those of `monotonic_path`. A row of the table needs the running minimum of
    what it costs to come from above at some step and then go along, so numpy walks the tokens and
    not the cells.
    """
    if not costs:
        return []
    rows = np.array([cost.shape[0] for cost in costs])
    columns = np.array([cost.shape[1] for cost in costs])
    shape = len(costs), int(rows.max()), int(columns.max())
    padded = np.zeros(shape)
    for index, cost in enumerate(costs):
        padded[index, : cost.shape[0], : cost.shape[1]] = cost
    total = np.full((shape[0], shape[1] + 1, shape[2] + 1), np.inf)
    total[:, 0, 0] = 0.0
    for token in range(shape[1]):
        along = np.cumsum(padded[:, token], axis=1)
        above = np.minimum(total[:, token, :-1], total[:, token, 1:])
        before = np.concatenate([np.zeros((shape[0], 1)), along[:, :-1]], axis=1)
        total[:, token + 1, 1:] = along + np.minimum.accumulate(above - before, axis=1)
    return _walked_back(total, rows, columns)


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


def _walked_back(
    total: NDArray[np.float64], rows: NDArray[np.int_], columns: NDArray[np.int_]
) -> list[NDArray[np.float64]]:
    """The first step of each token, from tables with a border of one row and one column."""
    count = len(rows)
    starts = np.zeros((count, int(rows.max())))
    which = np.arange(count)
    row, column = rows.copy(), columns.copy()
    while len(which):
        starts[which, row - 1] = column - 1
        moves = np.stack(
            [
                total[which, row - 1, column - 1],
                total[which, row - 1, column],
                total[which, row, column - 1],
            ]
        )
        chosen = moves.argmin(axis=0)
        row = row - (chosen != 2)
        column = column - (chosen != 1)
        going = (row > 0) & (column > 0)
        which, row, column = which[going], row[going], column[going]
    return [np.maximum.accumulate(starts[index, : rows[index]]) for index in range(count)]


def _median(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    pad = _MEDIAN_WIDTH // 2
    if weights.shape[-1] <= pad:
        return weights
    padded = np.pad(weights, ((0, 0), (0, 0), (pad, pad)), mode="reflect")
    steps = weights.shape[-1]
    nearby = [padded[..., shift : shift + steps] for shift in range(_MEDIAN_WIDTH)]
    # Exchanges that leave the middle of seven in place 3, each over the whole array.
    for low, high in _EXCHANGES:
        one, other = nearby[low], nearby[high]
        nearby[low], nearby[high] = np.minimum(one, other), np.maximum(one, other)
    return nearby[pad]


_EXCHANGES = (
    *((0, 1), (2, 3), (4, 5), (0, 2), (4, 6), (1, 3), (5, 6), (1, 2), (4, 5)),
    *((0, 4), (2, 6), (1, 5), (3, 5), (2, 4), (1, 4), (3, 6), (2, 3), (4, 5), (3, 4)),
)
"""A sorting network of seven, as pairs whose smaller value goes to the first place."""
