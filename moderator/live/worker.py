"""A thread that serves all rooms: how it starts, shows life, and ends."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from time import monotonic


class Worker(ABC):
    """Work handed over from any thread, done on one of its own.

    A subclass keeps what both sides touch under `_change`, notifies it when there is something to
    do, and does one piece of it in `step`. The thread, and what it starts, is at least so nice as
    `niceness` on systems where a thread has a priority of its own.
    """

    patience_s = 60.0
    """A thread that has shown no life for so long counts as hung."""

    def __init__(
        self, name: str, *, niceness: int = 0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        self._change = threading.Condition()
        self._stopping = False
        self._beat = clock()
        self._niceness = niceness
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread; what waits is not done any more."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def hung(self) -> bool:
        return self._clock() - self._beat > self.patience_s

    def _run(self) -> None:
        if self._niceness:
            with suppress(OSError, AttributeError):
                own = threading.get_native_id()  # on Linux a thread has its own priority
                usual = os.getpriority(os.PRIO_PROCESS, own)
                os.setpriority(os.PRIO_PROCESS, own, max(usual, self._niceness))
        while self.step():
            pass

    @abstractmethod
    def step(self) -> bool:
        """Do what is due, or wait a little. False when the worker is to end.

        For tests; the thread calls it in a loop.
        """
