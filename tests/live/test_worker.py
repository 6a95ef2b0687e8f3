"""The thread that every live worker has: it does its work, shows life, and ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic

from moderator.live.worker import Worker
from tests.live.fakes import Clock


class Counts(Worker):
    """Counts its turns, at most `turns`; then says that it is to end."""

    patience_s = 5.0

    def __init__(
        self, turns: int, *, niceness: int = 0, clock: Callable[[], float] = monotonic
    ) -> None:
        super().__init__("counts", niceness=niceness, clock=clock)
        self.turns, self.done, self.priority = turns, 0, 0

    def step(self) -> bool:
        with self._change:
            self._beat = self._clock()
            if self._stopping or self.done == self.turns:
                return False
        self.done += 1
        self.priority = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return True


def test_worker_works_on_its_own_thread_at_its_own_priority() -> None:
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Counts(turns=3, niceness=2)
    assert not worker.alive
    worker.start()
    worker._thread.join(10)
    assert not worker.alive
    assert (worker.done, worker.priority) == (3, max(usual, 2))
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual


def test_worker_stop_ends_the_thread() -> None:
    worker = Counts(turns=10**9)
    worker.start()
    worker.stop()
    assert not worker.alive
    assert worker.done < worker.turns


def test_worker_stop_before_start_is_nothing() -> None:
    worker = Counts(turns=1)
    worker.stop()
    assert not worker.step()
    assert worker.done == 0


def test_worker_is_hung_when_it_has_shown_no_life() -> None:
    clock = Clock()
    worker = Counts(turns=2, clock=clock)
    clock.now += 5.0
    assert not worker.hung
    clock.now += 0.1
    assert worker.hung
    worker.step()
    assert not worker.hung
