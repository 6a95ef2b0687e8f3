"""Two bounded lanes in, one sequence in order of time out."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Generic, Literal, TypeVar

Item = TypeVar("Item")


class Stalled(Exception):
    """Nothing was put in and no lane moved for the time given to `take`."""


class NothingYet(Exception):
    """No item may go out within the time given to `take`."""


class Interleaver(Generic[Item]):
    """Hands what several threads put into bounded lanes to one reader, earliest first.

    Order is kept as far as waiting for it is safe. An item goes out when no other lane can still
    bring an earlier one, when its own lane is full (its writer blocks, and so may whoever feeds
    the other lanes), or when it has waited `patience_s`. So a lane that is silent, late or never
    starts holds nothing up and never deadlocks.

    What a full lane does is `when_full`: "wait" blocks the writer, "drop" forgets the lane's
    oldest item and counts it, for writers that must never be held up.
    """

    def __init__(
        self,
        bounds: dict[str, int],
        patience_s: float = 0.5,
        when_full: Literal["wait", "drop"] = "wait",
    ) -> None:
        self._lanes = {name: _Lane[Item](bound) for name, bound in bounds.items()}
        self._patience_s = patience_s
        self._when_full = when_full
        self._change = threading.Condition()
        self._active = monotonic()
        self._closed = False
        self._error: BaseException | None = None

    def put(self, lane: str, time_s: float, item: Item) -> bool:
        """Add `item`. False once closed: stop producing."""
        mine = self._lanes[lane]
        with self._change:
            if self._when_full == "wait":
                self._change.wait_for(lambda: self._closed or len(mine.items) < mine.bound)
            if self._closed:
                return False
            while len(mine.items) >= mine.bound:
                mine.items.popleft()
                mine.dropped += 1
            self._active = mine.active = monotonic()
            mine.items.append((time_s, self._active, item))
            mine.reached_s = max(mine.reached_s, time_s)
            self._change.notify_all()
            return True

    def reached(self, lane: str, time_s: float) -> None:
        """Say that the lane will bring nothing before `time_s`; counts as a sign of life."""
        mine = self._lanes[lane]
        with self._change:
            self._active = mine.active = monotonic()
            if time_s > mine.reached_s:
                mine.reached_s = time_s
                self._change.notify_all()

    def finish(self, lane: str, error: BaseException | None = None) -> None:
        """The lane brings nothing more; an `error` is raised at the reader after the rest."""
        with self._change:
            self._lanes[lane].finished = True
            self._error = self._error or error
            self._change.notify_all()

    def dropped(self, lane: str) -> int:
        """Items of the lane that a slow reader lost."""
        with self._change:
            return self._lanes[lane].dropped

    def last_sign(self, lane: str) -> float:
        """When (`time.monotonic`) the lane last brought or reached anything; 0 when never."""
        with self._change:
            return self._lanes[lane].active

    def newest(self) -> tuple[float, float] | None:
        """The time that the lane which is furthest ahead of the clock has reached, and when
        (`time.monotonic`) it did; None before anything came."""
        with self._change:
            came = [(lane.reached_s, lane.active) for lane in self._lanes.values() if lane.active]
            return max(came, key=lambda lane: lane[0] - lane[1], default=None)

    def wait_when_full(self) -> None:
        """From now on a full lane blocks its writer."""
        with self._change:
            self._when_full = "wait"

    def take(self, stall_timeout_s: float, wait_s: float = inf) -> Item | None:
        """The next item; None when every lane has finished and is empty.

        Raises Stalled when the writers show no sign of life for `stall_timeout_s` while we wait;
        the time that the reader itself takes between calls does not count. Raises NothingYet
        after `wait_s`, sign of life or not.
        """
        with self._change:
            began = monotonic()
            while True:
                now = monotonic()
                lane, ready_in_s = self._ready(now)
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
                if now >= began + wait_s:
                    raise NothingYet
                until_s = min(ready_in_s, stalls_at - now, began + wait_s - now)
                self._change.wait(None if until_s == inf else until_s)

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
            return None, inf
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
    reached_s: float = -inf
    finished: bool = False
    dropped: int = 0
    active: float = 0.0
