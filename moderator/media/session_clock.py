"""The media clock of a session: one line of time through all its connections."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 60.0
"""How long the earliest arrival is remembered; a sender's clock drifts slowly."""

OVERLAP_S = 0.02
"""Less than this is rounding, not content that was sent before."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a connection stands: add `base_s` to its own times. `by_pts`: its time stamps continue
    those of the connection before, so the place is exact; else it was found by the wall clock."""

    base_s: float
    by_pts: bool


class SessionClock:
    """Places connections on the session's media clock and knows which second is arriving now.

    A connection's own times begin near zero. The first connection defines the session's zero. A
    later one goes where its time stamps say when those continue the last connection's and agree
    with the wall clock to a tolerance; else where the wall clock says: its newest item arrived
    now. (A server that begins with what it has cached sends the past first, so it is the newest
    item and not the first that tells.)

    What arrives now is measured by the fastest arrivals of the last minute: an item that came
    late says nothing of the sender's clock.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._now = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._base_s: float | None = None
        self._start_pts_s: float | None = None
        self._lead_s: float | None = None
        self._first_lead_s: float | None = None
        self._seconds: deque[tuple[float, float]] = deque()
        self._reached_s = 0.0

    @property
    def reached_s(self) -> float:
        """Media-clock second up to which anything was handed out."""
        return self._reached_s

    def resume(self, media_s: float, zero_wall_s: float) -> None:
        """Continue a session that an earlier process began."""
        with self._lock:
            self._reached_s = media_s
            self._base_s = media_s
            self._lead_s = max(media_s, self._wall() - zero_wall_s) - self._now()

    @property
    def has_begun(self) -> bool:
        return self._lead_s is not None

    def place(
        self, start_pts_s: float | None, newest_s: float, at: float, tolerance_s: float = 1.5
    ) -> Placement:
        """Place a connection whose newest item, by its own times, arrived `at` (monotonic).

        `start_pts_s` is the PTS at which its own times are zero, None when not known.
        """
        with self._lock:
            placement = self._placement(start_pts_s, newest_s, at, tolerance_s)
            self._base_s = placement.base_s
            self._start_pts_s = start_pts_s
            self._seconds.clear()
            self._first_lead_s = None
            return placement

    def arrived(self, media_s: float, at: float) -> None:
        """Media-clock second `media_s` arrived `at` (monotonic)."""
        with self._lock:
            now, lead_s = at, media_s - at
            if not self._seconds or now - self._seconds[-1][0] >= 1.0:
                self._seconds.append((now, lead_s))
            elif lead_s > self._seconds[-1][1]:
                self._seconds[-1] = (self._seconds[-1][0], lead_s)
            while now - self._seconds[0][0] > WINDOW_S:
                self._seconds.popleft()
            self._lead_s = max(lead for _, lead in self._seconds)
            if self._first_lead_s is None or now - self._seconds[0][0] < _FIRST_S:
                self._first_lead_s = self._lead_s

    def handed_out(self, end_s: float) -> None:
        self._reached_s = max(self._reached_s, end_s)

    def media_now(self) -> float:
        """The media-clock second that arrives now; during an outage the wall clock carries on."""
        with self._lock:
            if self._lead_s is None:
                return self._reached_s
            return max(self._reached_s, self._lead_s + self._now())

    def wall_at(self, media_s: float) -> float:
        """Seconds since 1970 when that media second was live."""
        return self._wall() - (self.media_now() - media_s)

    @property
    def drift_s(self) -> float:
        """How far this connection has gained (+) or lost (−) on the wall clock since its start."""
        with self._lock:
            if self._first_lead_s is None or not self._seconds:
                return 0.0
            now = self._now()
            lately = [lead for at, lead in self._seconds if now - at <= _LATELY_S]
            return (max(lately) if lately else self._seconds[-1][1]) - self._first_lead_s

    def _placement(
        self, start_pts_s: float | None, newest_s: float, at: float, tolerance_s: float
    ) -> Placement:
        if self._lead_s is None or self._base_s is None:
            return Placement(0.0, by_pts=True)
        expected_s = self._lead_s + at
        if start_pts_s is not None and self._start_pts_s is not None:
            base_s = self._base_s + start_pts_s - self._start_pts_s
            if abs(base_s + newest_s - expected_s) <= tolerance_s:
                return Placement(base_s, by_pts=True)
        return Placement(expected_s - newest_s, by_pts=False)


_FIRST_S = 3.0
_LATELY_S = 10.0
