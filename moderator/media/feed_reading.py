"""What is known of the connection that is being read."""

from __future__ import annotations

from math import inf
from time import monotonic

from moderator.media.clock import Jump
from moderator.media.connection import Connection
from moderator.media.room_state import Reason
from moderator.media.running import Item
from moderator.media.watchdog import Watchdog


class FeedReading:
    """One connection as its feed sees it, from the first item to the last."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.pending: list[Item] = []
        """What came before the connection's place on the session's clock was known."""
        self.placed = False
        self.passed: set[Jump] = set()
        self.last_frame_s = -inf
        self.trimmed_at = monotonic()
        self.format_changed = False
        self._first_at = inf
        self._size = (0, 0)
        self._dropped = 0
        self._dropped_before = 0

    def wait_for_place(self, item: Item) -> None:
        self._first_at = min(self._first_at, monotonic())
        self.pending.append(item)

    @property
    def settling_s(self) -> float:
        """Wall-clock seconds since the first item came; negative before."""
        return monotonic() - self._first_at

    def see_size(self) -> None:
        size = self.connection.running.picture_size
        # Elsewhere the copy on disk repeats the parameters of the codec in its packets.
        needs_header = self.connection.writer is not None and not self.connection.is_transport
        if needs_header and self._size not in ((0, 0), size):
            self.format_changed = True
        self._size = size

    def why_sound_is_missing(self, watch: Watchdog) -> Reason:
        dropped = self.connection.dropped("audio")
        if dropped > self._dropped:
            self._dropped = dropped
            return Reason.READER_SLOW
        return Reason.NO_AUDIO if Reason.NO_AUDIO in watch.problems else Reason.NO_PACKETS

    def slow_lately(self) -> bool:
        before, self._dropped_before = self._dropped_before, self.connection.dropped("audio")
        return self._dropped_before > before
