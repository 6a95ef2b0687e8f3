"""Several speech workers as one: each owns a device, and a room stays with one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Protocol

from moderator.asr.engine import AsrEngine
from moderator.live.speech import SpeechListener, SpeechStats, SpeechWorker
from moderator.media.blocks import AudioBlock


class Speech(Protocol):
    """What rooms and the supervisor need of the speech of all rooms."""

    @property
    def engine(self) -> AsrEngine: ...
    @property
    def stats(self) -> SpeechStats: ...
    @property
    def waiting(self) -> int: ...
    @property
    def waiting_s(self) -> float: ...
    @property
    def hung(self) -> bool: ...
    @property
    def alive(self) -> bool: ...

    def start(self) -> None: ...
    def stop(self, timeout_s: float = 10.0) -> None: ...
    def open(
        self, room: str, listener: SpeechListener, *, urgency: int = 5, may_wait: bool = False
    ) -> None: ...
    def close(self, room: str) -> None: ...
    def hear(self, room: str, block: AudioBlock) -> None: ...
    def cut_after(self, room: str, time_s: float) -> None: ...
    def finish(self, room: str) -> None: ...
    def give_up(self, *, interim: bool, beam: bool, phrases: bool) -> None: ...
    def lag_s(self, room: str) -> float: ...


class SpeechTeam:
    """A room goes to the worker that has the fewest, and stays there: its segments keep their
    order.

    Raises ValueError without workers.
    """

    def __init__(self, workers: Sequence[SpeechWorker]) -> None:
        if not workers:
            raise ValueError("a team has at least one worker")
        self.workers = tuple(workers)
        self._of: dict[str, SpeechWorker] = {}

    @property
    def engine(self) -> AsrEngine:
        """The first worker's; all run the same model."""
        return self.workers[0].engine

    @property
    def stats(self) -> SpeechStats:
        """The sums over the workers."""
        together = SpeechStats()
        for worker in self.workers:
            for field in fields(SpeechStats):
                value = getattr(together, field.name) + getattr(worker.stats, field.name)
                setattr(together, field.name, value)
        return together

    @property
    def waiting(self) -> int:
        return sum(worker.waiting for worker in self.workers)

    @property
    def waiting_s(self) -> float:
        return sum(worker.waiting_s for worker in self.workers)

    @property
    def hung(self) -> bool:
        return any(worker.hung for worker in self.workers)

    @property
    def alive(self) -> bool:
        return all(worker.alive for worker in self.workers)

    def start(self) -> None:
        for worker in self.workers:
            worker.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        for worker in self.workers:
            worker.stop(timeout_s)

    def open(
        self, room: str, listener: SpeechListener, *, urgency: int = 5, may_wait: bool = False
    ) -> None:
        load = dict.fromkeys(self.workers, 0)
        for worker in list(self._of.values()):
            load[worker] += 1
        chosen = min(self.workers, key=lambda worker: load[worker])
        self._of[room] = chosen
        chosen.open(room, listener, urgency=urgency, may_wait=may_wait)

    def close(self, room: str) -> None:
        worker = self._of.pop(room, None)
        if worker is not None:
            worker.close(room)

    def hear(self, room: str, block: AudioBlock) -> None:
        worker = self._of.get(room)
        if worker is not None:
            worker.hear(room, block)

    def cut_after(self, room: str, time_s: float) -> None:
        worker = self._of.get(room)
        if worker is not None:
            worker.cut_after(room, time_s)

    def finish(self, room: str) -> None:
        worker = self._of.get(room)
        if worker is not None:
            worker.finish(room)

    def give_up(self, *, interim: bool, beam: bool, phrases: bool) -> None:
        for worker in self.workers:
            worker.give_up(interim=interim, beam=beam, phrases=phrases)

    def lag_s(self, room: str) -> float:
        worker = self._of.get(room)
        return worker.lag_s(room) if worker is not None else 0.0
