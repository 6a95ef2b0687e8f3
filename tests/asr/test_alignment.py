"""Token times come from where the attention rests."""

from __future__ import annotations

import numpy as np

from moderator.asr.alignment import (
    first_steps,
    first_steps_of_batch,
    monotonic_path,
    token_steps,
)


def test_alignment_token_steps_follow_the_attention() -> None:
    at = [0, 20, 50, 80]
    attention = np.full((2, 4, 100), 1e-3, np.float32)
    for token, (begin, end) in enumerate(zip(at, [*at[1:], 100], strict=True)):
        attention[:, token, begin:end] = 1.0
    assert np.abs(token_steps(attention) - at).max() <= 2


def test_alignment_monotonic_path_is_the_cheapest() -> None:
    cost = np.array([[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 0.0, 0.0]])
    assert monotonic_path(cost) == [(0, 0), (0, 1), (1, 2), (1, 3)]


def test_alignment_monotonic_path_with_more_tokens_than_steps() -> None:
    path = monotonic_path(np.zeros((5, 2)))
    assert path[0] == (0, 0)
    assert path[-1] == (4, 1)


def test_alignment_first_steps_never_decrease_and_fill_holes() -> None:
    starts = first_steps([(0, 3), (0, 4), (2, 7), (3, 6)], 5)
    assert starts.tolist() == [3.0, 7.0, 7.0, 7.0, 7.0]


def test_alignment_first_steps_of_an_empty_path() -> None:
    assert first_steps([], 2).tolist() == [0.0, 0.0]


def test_alignment_of_a_batch_is_that_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    costs = [rng.standard_normal(shape) for shape in ((1, 9), (7, 40), (5, 2), (3, 60))]
    found = first_steps_of_batch(costs)
    for cost, steps in zip(costs, found, strict=True):
        assert steps.tolist() == first_steps(monotonic_path(cost), len(cost)).tolist()
    assert first_steps_of_batch([]) == []
