"""Stages of a pipeline: what each reads and writes, and a thread that owns its state.

A stage declares what it `requires` and what it `assigns`; `check_wiring` refuses a
pipeline in which something is read that nothing before it writes. Queues are bounded.
Here the policy of a full queue is to wait: a recording has time, and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from queue import Full, Queue
from threading import Thread
from time import perf_counter
from typing import Any, ClassVar, Protocol

from moderator.errors import WIRING, ModeratorError
from moderator.records import Observation

QUEUE_ITEMS = 64
"""Blocks or frames that may wait for a stage; at 540×960 a frame is 1.5 MB."""


class Stage(Protocol):
    """A step of the pipeline. `feed` in order, then `finish` once."""

    name: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    assigns: ClassVar[frozenset[str]]

    def feed(self, item: Any) -> None: ...

    def finish(self) -> list[Observation]: ...


class Wired(Protocol):
    """What `check_wiring` needs to know of a stage."""

    @property
    def name(self) -> str: ...
    @property
    def requires(self) -> frozenset[str]: ...
    @property
    def assigns(self) -> frozenset[str]: ...


def check_wiring(given: frozenset[str], stages: Sequence[Wired]) -> None:
    """Raise LM-702 naming the first stage whose input nothing before it provides."""
    there = set(given)
    for stage in stages:
        missing = stage.requires - there
        if missing:
            raise ModeratorError(WIRING, stage=stage.name, needs=", ".join(sorted(missing)))
        there |= stage.assigns


class StageThread:
    """Runs one stage on a thread of its own.

    An error in the stage is raised again by the next `put`, or by `result`.
    `busy_s` is the wall time spent inside the stage, waiting for input left out.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.busy_s = 0.0
        self._queue: Queue[Any] = Queue(QUEUE_ITEMS)
        self._error: BaseException | None = None
        self._found: list[Observation] = []
        self._thread = Thread(target=self._run, name=f"stage-{stage.name}", daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(item, timeout=0.2)
                return
            except Full:
                continue

    def result(self) -> list[Observation]:
        """Tell the stage that nothing more comes, and wait for what it found."""
        self.put(_END)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found

    def stop(self) -> None:
        """Abandon the work; used when another part of the pipeline failed."""
        self._error = self._error or RuntimeError("stopped")
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(_END)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not _END:
                if self._error is not None:
                    return
                began = perf_counter()
                self.stage.feed(item)
                self.busy_s += perf_counter() - began
            if self._error is None:
                began = perf_counter()
                self._found = self.stage.finish()
                self.busy_s += perf_counter() - began
        except BaseException as error:
            self._error = error


_END = object()
