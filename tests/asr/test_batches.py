"""What is decoded together, and batches beside each other."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.asr.batches import at_once, batches, each_batch
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment


class TwoAtOnce:
    at_once = 2


def segments(*seconds: float) -> list[SpeechSegment]:
    return [SpeechSegment(0.0, np.zeros(round(s * SAMPLE_RATE_HZ), np.float32)) for s in seconds]


def test_batches_are_of_like_length_and_no_larger_than_asked() -> None:
    assert list(batches(object(), segments(9, 1, 2, 8), 2)) == [[1, 2], [3, 0]]


@pytest.mark.parametrize(
    ("count", "most", "workers", "sizes"),
    [
        (1, 4, 2, [1]),
        (2, 4, 2, [1, 1]),
        (4, 4, 2, [2, 2]),
        (9, 4, 2, [3, 3, 3]),
        (24, 8, 2, [6, 6, 6, 6]),
        (3, 4, 8, [1, 1, 1]),
    ],
)
def test_batches_for_several_workers_are_even(
    count: int, most: int, workers: int, sizes: list[int]
) -> None:
    found = list(batches(object(), segments(*[1.0] * count), most, workers))
    assert [len(batch) for batch in found] == sizes


@given(st.lists(st.floats(0.1, 2), max_size=40), st.integers(1, 9), st.integers(1, 5))
def test_batches_hold_every_segment_once(lengths: list[float], most: int, workers: int) -> None:
    found = list(batches(object(), segments(*lengths), most, workers))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= most for batch in found)


def test_batches_beside_each_other_are_with_two_workers() -> None:
    meet = threading.Barrier(2, timeout=10)

    def job(group: list[int]) -> int:
        meet.wait()  # breaks unless both are there at the same time
        return group[0]

    assert sorted(each_batch([[3], [5]], job, at_once(TwoAtOnce()))) == [([3], 3), ([5], 5)]


def test_batches_come_one_after_the_other_with_one_worker() -> None:
    threads = set()

    def job(group: list[int]) -> None:
        threads.add(threading.get_ident())

    assert len(list(each_batch([[1], [2]], job, at_once(object())))) == 2
    assert threads == {threading.get_ident()}


def test_batches_that_fail_raise_what_the_job_raised() -> None:
    def job(group: list[int]) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(each_batch([[1], [2]], job, 2))
