"""Watching one connection of a live room: is media coming, and is it what was announced."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.connection import Connection
from moderator.media.room_state import Reason


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Seconds after which something is wrong; `FeedOptions` explains the fields."""

    connect_timeout_s: float
    stall_after_s: float
    reconnect_after_s: float
    silent_after_s: float
    frozen_after_s: float
    max_drift_s: float


@dataclass(frozen=True, slots=True)
class End:
    """Why a connection ended. `over`: the session ends with it. `at_once`: the next one need not
    wait, nothing failed."""

    reason: Reason
    detail: str
    over: bool = False
    at_once: bool = False


@dataclass(slots=True)
class Watchdog:
    """Watches one connection. `problems` is what is wrong now, with a sentence each."""

    connection: Connection
    options: WatchOptions
    problems: dict[Reason, str] = field(default_factory=dict)
    stalled: bool = False
    _content: _Content = field(default_factory=lambda: _Content())
    _began: float = field(default_factory=monotonic)
    _copied_bytes: int = 0
    _copied_at: float = field(default_factory=monotonic)
    _drifting_since: float | None = None

    def saw(self, item: AudioBlock | VideoFrame) -> None:
        """Something of the connection was handed out; what it holds is judged."""
        self._content.see(item)
        self._problem(
            Reason.SILENT,
            self._content.silent_s >= self.options.silent_after_s,
            f"digital silence for {self._content.silent_s:.0f} s",
        )
        self._problem(
            Reason.FROZEN,
            self._content.frozen_s >= self.options.frozen_after_s,
            f"the same picture for {self._content.frozen_s:.0f} s",
        )

    def starved(self, since: float) -> End | None:
        """Nothing is there to hand out, and nothing was handed out since `since` (monotonic)."""
        options, now = self.options, monotonic()
        newest = self._last_sign()
        if newest is None:
            waited_s = now - self._began
            if waited_s < options.connect_timeout_s:
                return None
            return End(Reason.NO_PACKETS, f"nothing to decode came within {waited_s:.0f} s")
        idle_s = now - max(newest, since)
        self.stalled = idle_s >= options.stall_after_s
        if idle_s >= options.reconnect_after_s:
            return End(Reason.NO_PACKETS, f"no packets for {idle_s:.0f} s")
        return None

    def check(self, drift_s: float) -> End | None:
        """To be called every second or so while media comes."""
        return self._lost_track() or self._drifted(drift_s) or self._stale_copy()

    def flowing(self) -> None:
        self.stalled = False

    def _lost_track(self) -> End | None:
        items, now = self.connection.items, monotonic()
        newest = self._last_sign() or self._began
        for track, problem in (("video", Reason.NO_VIDEO), ("audio", Reason.NO_AUDIO)):
            if track not in self.connection.wanted.tracks:
                continue
            sign = items.last_sign(track)
            behind_s = newest - (sign or self._began)
            flows = now - newest < self.options.stall_after_s
            self._problem(
                problem,
                flows and behind_s >= self.options.stall_after_s,
                f"no {track} for {behind_s:.0f} s while the other track runs",
            )
            # A track that never came will not come for being asked again.
            if sign and flows and behind_s >= 2 * self.options.reconnect_after_s:
                return End(problem, f"no {track} for {behind_s:.0f} s")
        return None

    def _drifted(self, drift_s: float) -> End | None:
        now = monotonic()
        self._problem(
            Reason.CLOCK_DRIFT,
            abs(drift_s) > self.options.max_drift_s / 2,
            f"{drift_s:+.1f} s against the wall clock",
        )
        if self.stalled or drift_s > -self.options.max_drift_s:
            self._drifting_since = None
        elif self._drifting_since is None:
            self._drifting_since = now
        elif now - self._drifting_since > _CATCH_UP_S:
            return End(Reason.CLOCK_DRIFT, f"{-drift_s:.0f} s behind the wall clock")
        return None

    def _stale_copy(self) -> End | None:
        writer, now = self.connection.writer, monotonic()
        if writer is None or now - self._copied_at < _COPY_CHECK_S:
            return None
        newest = self._last_sign()
        written = writer.bytes_written()
        if written != self._copied_bytes or newest is None or now - newest > _COPY_CHECK_S:
            self._copied_bytes, self._copied_at = written, now
            self._problem(Reason.RECORDING_STALE, False, "")
            return None
        stale_s = now - self._copied_at
        self._problem(
            Reason.RECORDING_STALE,
            stale_s > 2 * _COPY_CHECK_S,
            f"the copy has not grown for {stale_s:.0f} s",
        )
        if self._copied_bytes and stale_s > 6 * _COPY_CHECK_S:
            return End(Reason.RECORDING_STALE, f"the copy has not grown for {stale_s:.0f} s")
        return None

    def _last_sign(self) -> float | None:
        signs = [self.connection.items.last_sign(t) for t in self.connection.wanted.tracks]
        return max(signs) or None

    def _problem(self, problem: Reason, there: bool, detail: str) -> None:
        if there:
            self.problems[problem] = detail
        else:
            self.problems.pop(problem, None)


_CATCH_UP_S = 5.0
_COPY_CHECK_S = 5.0
_SILENCE = 1e-4
_SAME_PICTURE = 0.5
_EVERY_NTH = 8


@dataclass(slots=True)
class _Content:
    """How long the sound has been silent and the picture the same, in media seconds."""

    silent_s: float = 0.0
    frozen_s: float = 0.0
    _picture: NDArray[np.int16] | None = None
    _time: float = 0.0

    def see(self, item: AudioBlock | VideoFrame) -> None:
        if isinstance(item, AudioBlock):
            loud = len(item.samples) and float(np.abs(item.samples).max()) > _SILENCE
            self.silent_s = 0.0 if loud else self.silent_s + item.end - item.start
            return
        picture = item.image[::_EVERY_NTH, ::_EVERY_NTH].astype(np.int16)
        same = (
            self._picture is not None
            and self._picture.shape == picture.shape
            and float(np.abs(self._picture - picture).mean()) < _SAME_PICTURE
        )
        self.frozen_s = self.frozen_s + item.time - self._time if same else 0.0
        self._picture, self._time = picture, item.time
