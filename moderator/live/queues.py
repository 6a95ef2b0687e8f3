"""Who is served when: bounded queues that are fair between rooms. No threads, no clocks.

Callers hand in the time (seconds of any steady clock) and hold a lock where they need one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Waiting(Generic[Item]):
    """An item in the queue: whose it is, how long a stretch of sound, and by when it is due."""

    room: str
    item: Item
    length_s: float
    put_at: float
    deadline: float


class FairQueue(Generic[Item]):
    """Work of many rooms for one worker that takes it in batches.

    Each room's items keep their order. A batch begins with the oldest deadline of all rooms, so
    nobody starves. It is filled up from rooms that are in it least, and by items of like length:
    a batch costs as much as its longest item for each of its rows. While several rooms wait, none
    has more than its share of a batch, however much it brings.

    Policy `drop_stale`: what has waited for more than `max_wait_s` when a batch is taken is
    dropped, oldest first, and counted; the caller is told, so that no sound goes missing
    silently. Nothing else is dropped.
    """

    def __init__(
        self, *, max_wait_s: float, row_cost: Callable[[float], float], spread: float = 1.5
    ) -> None:
        """`spread` is by what factor the costs of a batch's rows may differ."""
        self.max_wait_s = max_wait_s
        self._spread = spread
        self.dropped = 0
        self._row_cost = row_cost
        self._rooms: dict[str, deque[Waiting[Item]]] = {}

    def __len__(self) -> int:
        return sum(len(items) for items in self._rooms.values())

    @property
    def seconds(self) -> float:
        """Seconds of sound that wait."""
        return sum(one.length_s for items in self._rooms.values() for one in items)

    def waiting_since(self, room: str) -> float | None:
        """When the oldest item of `room` was put; None when none waits."""
        items = self._rooms.get(room)
        return items[0].put_at if items else None

    def put(self, room: str, item: Item, *, length_s: float, now: float, deadline: float) -> None:
        self._rooms.setdefault(room, deque()).append(Waiting(room, item, length_s, now, deadline))

    def stale(self, now: float, spare: Collection[str] = ()) -> list[Waiting[Item]]:
        """Drop and return what has waited too long, of all rooms but those to `spare`."""
        dropped = []
        for room in [room for room in self._rooms if room not in spare]:
            items = self._rooms[room]
            while items and now - items[0].put_at > self.max_wait_s:
                dropped.append(items.popleft())
            if not items:
                del self._rooms[room]
        self.dropped += len(dropped)
        return dropped

    def forget(self, room: str) -> int:
        """Drop everything of `room`, as when it crashed; returns how many items."""
        return len(self._rooms.pop(room, ()))

    def holds_other_than(self, rooms: Collection[str]) -> bool:
        """Whether something waits of another room than these."""
        return any(room not in rooms for room in self._rooms)

    def take(self, most: int, without: Collection[str] = ()) -> list[Waiting[Item]]:
        """The next batch, at most `most` items, none of the rooms `without`; empty when nothing
        waits."""
        there = [room for room in self._rooms if room not in without]
        if not there:
            return []
        first = min(there, key=lambda room: self._rooms[room][0].deadline)
        batch = [self._pop(first)]
        share = -(-most // len(there))
        rows = self._row_cost(batch[0].length_s)
        while len(batch) < most:
            left = {room: self._rooms[room] for room in there if room in self._rooms}
            taken = {room: sum(one.room == room for one in batch) for room in left}
            fits = [
                room
                for room, items in left.items()
                if taken[room] < share and self._fits(self._row_cost(items[0].length_s), rows)
            ]
            if not fits:
                break
            chosen = min(
                fits,
                key=lambda room: (
                    taken[room],
                    abs(self._row_cost(self._rooms[room][0].length_s) - rows),
                    self._rooms[room][0].deadline,
                ),
            )
            batch.append(self._pop(chosen))
            rows = max(rows, self._row_cost(batch[-1].length_s))
        return batch

    def _fits(self, cost: float, rows: float) -> bool:
        # Where rows must be alike, a shorter one is none of them either.
        return cost <= self._spread * rows and (self._spread > 1 or cost == rows)

    def _pop(self, room: str) -> Waiting[Item]:
        items = self._rooms[room]
        one = items.popleft()
        if not items:
            del self._rooms[room]
        return one


class InterimPacer:
    """Whose open speech is written down for the display next, and whether there is time for it.

    Interim text comes after all final text: a room's turn comes `every_s` after its last, the
    longest waiting first, while interim text has taken less than `share` of the last
    `window_s` seconds.
    """

    def __init__(self, *, every_s: float, share: float, window_s: float = 4.0) -> None:
        self.every_s = every_s
        self.share = share
        self._window_s = window_s
        self._last: dict[str, float] = {}
        self._spent: deque[tuple[float, float]] = deque()

    def next(self, rooms: list[str], now: float) -> str | None:
        """Of `rooms`, which have open speech, the one whose turn it is."""
        if not self.every_s or not self.share:
            return None
        while self._spent and self._spent[0][0] <= now - self._window_s:
            self._spent.popleft()
        if sum(seconds for _, seconds in self._spent) >= self.share * self._window_s:
            return None
        due = [room for room in rooms if now - self._last.get(room, -1e9) >= self.every_s]
        return min(due, key=lambda room: self._last.get(room, -1e9), default=None)

    def served(self, room: str, now: float, took_s: float) -> None:
        self._last[room] = now
        self._spent.append((now, took_s))

    def forget(self, room: str) -> None:
        self._last.pop(room, None)


@dataclass(slots=True)
class _Slot(Generic[Item]):
    interval_s: float
    item: Item | None = None
    served_at: float = float("-inf")
    replaced: int = 0


@dataclass(slots=True)
class NewestFirst(Generic[Item]):
    """One place a room, and a new item replaces the one that waits there (policy `newest_wins`).

    A frame that was not read in time is of no use any more; what stays on the screen is on the
    next one too.
    """

    _slots: dict[str, _Slot[Item]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(slot.item is not None for slot in self._slots.values())

    def open(self, room: str, *, interval_s: float) -> None:
        """Make a place for `room`; items less than `interval_s` after the last are passed over."""
        self._slots[room] = _Slot(interval_s)

    def set_interval(self, room: str, interval_s: float) -> None:
        if room in self._slots:
            self._slots[room].interval_s = interval_s

    def close(self, room: str) -> None:
        self._slots.pop(room, None)

    def holds(self, room: str) -> bool:
        """Whether an item of `room` waits."""
        slot = self._slots.get(room)
        return slot is not None and slot.item is not None

    def replaced(self, room: str) -> int:
        """How many items of `room` were replaced before they were taken."""
        slot = self._slots.get(room)
        return slot.replaced if slot else 0

    def put(self, room: str, item: Item) -> None:
        slot = self._slots.get(room)
        if slot is None:
            return
        slot.replaced += slot.item is not None
        slot.item = item

    def take(self, now: float) -> list[tuple[str, Item]]:
        """The items of all rooms that are due."""
        taken = []
        for room, slot in self._slots.items():
            # A tenth of slack: frames do not come as evenly as they are wanted.
            if slot.item is not None and now - slot.served_at >= 0.9 * slot.interval_s:
                taken.append((room, slot.item))
                slot.item, slot.served_at = None, now
        return taken
