"""Two bounded lanes in, one sequence in order of time out."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Stalled(Exception):
    """Nothing was put in and no lane moved for the time given to `take`."""


class Interleaver(Generic[Item]):
    """Hands what several threads put into bounded lanes to one reader, earliest first.

    Order is kept as far as waiting for it is safe. An item goes out when no other lane can still
    bring an earlier one, when its own lane is full (its writer blocks, and so may whoever feeds
    the other lanes), or when it has waited `patience_s`. So a lane that is silent, late or never
    starts holds nothing up and never deadlocks.
    """

    def __init__(self, bounds: dict[str, int], patience_s: float = 0.5) -> None:
        self._lanes = {name: _Lane[Item](bound) for name, bound in bounds.items()}
        self._patience_s = patience_s
        self._change = threading.Condition()
        self._active = monotonic()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, lane: str, time_s: float, item: Item) -> bool:
        """Add `item`; blocks while the lane is full. False once closed: stop producing."""
        mine = self._lanes[lane]
        with self._change:
            self._change.wait_for(lambda: self._closed or len(mine.items) < mine.bound)
            if self._closed:
                return False
            self._active = monotonic()
            mine.items.append((time_s, self._active, item))
            mine.reached_s = max(mine.reached_s, time_s)
            self._change.notify_all()
            return True

    def reached(self, lane: str, time_s: float) -> None:
        """Say that the lane will bring nothing before `time_s`; counts as a sign of life."""
        mine = self._lanes[lane]
        with self._change:
            self._active = monotonic()
            if time_s > mine.reached_s:
                mine.reached_s = time_s
                self._change.notify_all()

    def finish(self, lane: str, error: BaseException | None = None) -> None:
        """The lane brings nothing more; an `error` is raised at the reader after the rest."""
        with self._change:
            self._lanes[lane].finished = True
            self._error = self._error or error
            self._change.notify_all()

    def take(self, stall_timeout_s: float) -> Item | None:
        """The next item; None when every lane has finished and is empty.

        Raises Stalled when the writers show no sign of life for `stall_timeout_s` while we wait;
        the time that the reader itself takes between calls does not count.
        """
        with self._change:
            began = monotonic()
            while True:
                now = monotonic()
                lane, wait_s = self._ready(now)
                if lane is not None:
                    _, _, item = lane.items.popleft()
                    self._change.notify_all()
                    return item
                if self._closed or all(lane.finished for lane in self._lanes.values()):
                    if self._error is not None:
                        raise self._error
                    return None
                stalls_at = max(began, self._active) + stall_timeout_s
                if now >= stalls_at:
                    raise Stalled
                self._change.wait(min(wait_s, stalls_at - now))

    def close(self) -> None:
        """Let go of every blocked writer and forget what is left."""
        with self._change:
            self._closed = True
            for lane in self._lanes.values():
                lane.items.clear()
            self._change.notify_all()

    def _ready(self, now: float) -> tuple[_Lane[Item] | None, float]:
        """The lane whose first item may go now, else None and how long until one may."""
        filled = [lane for lane in self._lanes.values() if lane.items]
        if not filled:
            return None, float("inf")
        first = min(filled, key=lambda lane: lane.items[0][0])
        time_s, arrived, _ = first.items[0]
        if all(
            lane.finished or lane.items or lane.reached_s >= time_s for lane in self._lanes.values()
        ):
            return first, 0.0
        for lane in filled:
            if len(lane.items) >= lane.bound:
                return lane, 0.0
        left_s = arrived + self._patience_s - now
        return (first, 0.0) if left_s <= 0 else (None, left_s)


@dataclass(slots=True)
class _Lane(Generic[Item]):
    bound: int
    items: deque[tuple[float, float, Item]] = field(default_factory=deque)
    reached_s: float = float("-inf")
    finished: bool = False
