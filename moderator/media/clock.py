"""From the PTS of one track to the media clock."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

JITTER_S = 0.1
"""Steps up to this are rounding and jitter of muxers, not gaps; libswresample's `min_hard_comp`
has the same value."""

REWIND_S = 1.0
"""A step back by more than this is a clock that was set back (an encoder restarted); a smaller
one is content sent twice."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A place where a track's time stamps do not continue: media-clock second and step."""

    at_s: float
    step_s: float


class TrackClock:
    """Places pieces of one track, in order, on the media clock.

    A step forward leaves a gap there. A step back by more than `REWIND_S` is counted on from
    where the track was: nothing after it is lost, and time never runs backwards. Pictures have no
    duration here, so steps between them are gaps only from `note_step_s` on.
    """

    def __init__(self, zero_s: float = 0.0, note_step_s: float = inf) -> None:
        self.zero_s = zero_s
        self._note_step_s = note_step_s
        self._shift_s = 0.0
        self._end: float | None = None
        self.jumps: list[Jump] = []

    @property
    def end_s(self) -> float:
        """Media-clock second where the track ends so far; of pictures, when the last began."""
        return self._end or 0.0

    def place(self, pts_s: float | None, duration_s: float) -> float | None:
        """Media-clock second of a piece, or None when what it holds was there already.

        `pts_s` is None where the container gives no time: the piece follows the one before.
        """
        expected = self._end
        at = expected if pts_s is None else pts_s - self.zero_s + self._shift_s
        if at is None:
            at = 0.0
        if expected is not None:
            step = at - expected
            if step < -REWIND_S:
                self._shift_s -= step
                at = expected
                self._note(at, step)
            elif step < -JITTER_S and duration_s:
                return None
            elif step > (JITTER_S if duration_s else self._note_step_s):
                self._note(expected, step)
            elif duration_s:
                at = expected
        at = max(at, 0.0)
        self._end = max(at + duration_s, expected or 0.0)
        return at

    def _note(self, at_s: float, step_s: float) -> None:
        # A hostile file could jump at every packet; the first few tell the story.
        if len(self.jumps) < 100:
            self.jumps.append(Jump(at_s, step_s))
