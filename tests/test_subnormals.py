"""Subnormal numbers are zero for one thread and a while."""

from __future__ import annotations

import sys
from threading import Barrier, Thread

import numpy as np
import pytest

from moderator.subnormals import can_flush, flushed

pytestmark = pytest.mark.skipif(not can_flush(), reason="Linux on x86-64")


def quarter(smallest: float = sys.float_info.min) -> float:
    """A quarter of the smallest normal number."""
    return smallest / 4


def test_subnormals_are_zero_within_and_numbers_again_after() -> None:
    assert quarter() > 0
    with flushed():
        assert quarter() == 0
        assert np.float32(1e-40) * np.ones(8, np.float32).max() == 0
        with flushed():
            assert quarter() == 0
        assert quarter() == 0
    assert quarter() > 0


def test_subnormals_come_back_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), flushed():
        raise ZeroDivisionError
    assert quarter() > 0


def test_subnormals_of_other_threads_stay() -> None:
    together = Barrier(2, timeout=10)

    def flush_meanwhile() -> None:
        with flushed():
            together.wait()
            together.wait()

    other = Thread(target=flush_meanwhile)
    other.start()
    together.wait()
    meanwhile = quarter()
    together.wait()
    other.join()
    assert meanwhile > 0
