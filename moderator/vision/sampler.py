"""Which frames are worth reading.

Reading a frame costs tenths of a second, looking at it here about a millisecond. A frame is read
when text may have come, gone or changed, and at least every `max_interval_s` anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from moderator.records import Box
from moderator.vision.ocr import Image


class Decision(StrEnum):
    """What to do with a frame, and why."""

    FIRST = "first"
    """Read: nothing has been read yet, or time went backwards."""
    CHANGED = "changed"
    """Read: a quiet place that looks like text differs from the last frame that was read."""
    BUSY = "busy"
    """Read: places that never rest and look like text differ, and it is time to look there."""
    SETTLED = "settled"
    """Read: in a place that never rests, something as wide as a few characters now stands still."""
    DUE = "due"
    """Read: `max_interval_s` is over."""
    CONFIRM = "confirm"
    """Read: the last reading asked for a second look."""
    UNCHANGED = "unchanged"
    """Skip: whatever the last reading found is still there."""
    WAIT = "wait"
    """Skip: something differs, but the last reading was too short a while ago."""

    @property
    def reads(self) -> bool:
        return self not in (Decision.UNCHANGED, Decision.WAIT)


class FrameSampler:
    """Looks at every frame of one stream and says which to read.

    A frame is scaled so that its shorter side is at most 272 pixels and cut into cells of 8×8. Two
    things are asked of a cell. *Does it look like text?* Strokes have two sides, so strong
    gradients of both signs are dense around it; the outline of a face or a table has one sign
    only. *Has it changed?* Its gradients, not its brightness, differ from the last frame that was
    read: neither a light being dimmed nor compression noise is a change, one digit of a price is.

    A host moves all the time and may wear a patterned shirt. A cell that has differed from
    frame to frame twice of late is *busy*: changes there alone (a gesture, but also a scrolling
    line) cause a reading only every `busy_interval_s`, and while such readings find nothing new
    (`found_nothing_new`), seldomer, down to a third as often. What comes to rest there is read at
    once: text laid over a moving host stands still. A change anywhere else is read at the next
    frame that is `min_interval_s` after the last reading.

    `places` tells which parts of a frame are worth reading. A reader that reads only those says so
    (`taken`), and the rest of the frame stays compared with what was last read there; at least
    every `max_interval_s` all of it is to be read.

    Frames may have any size and spacing in time; a new size counts as a change.
    """

    def __init__(
        self,
        *,
        min_interval_s: float = 1.0,
        busy_interval_s: float = 2.0,
        max_interval_s: float = 30.0,
    ) -> None:
        if not 0 <= min_interval_s <= busy_interval_s <= max_interval_s:
            raise ValueError("0 <= min_interval_s <= busy_interval_s <= max_interval_s must hold")
        self.min_interval_s = min_interval_s
        self.busy_interval_s = busy_interval_s
        self.max_interval_s = max_interval_s
        self._read_time: float | None = None
        self._whole_time = 0.0
        self._read: _Cells | None = None
        self._previous: _Cells | None = None
        self._now = _Looked(0.0, (0, 0), Decision.WAIT, None)
        self._busyness: NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._confirm = False
        self._last: Decision | None = None
        self._in_vain = 0

    def decide(self, time: float, image: Image) -> Decision:
        """What to do with the frame at media-clock second `time`; call it for every frame in order.

        When the answer `reads`, the frame becomes the one that later frames are compared with.
        """
        decision = self.look(time, image)
        if decision.reads:
            self.taken()
        return decision

    def look(self, time: float, image: Image) -> Decision:
        """As `decide` for a frame that is perhaps not read after all: only `taken` makes it the one
        that later frames are compared with.
        """
        cells = _cells(image)
        decision, changed = self._decide(time, cells)
        self._previous = cells
        self._now = _Looked(time, image.shape[:2], decision, changed)
        return decision

    def places(self) -> list[Box] | None:
        """The parts of the frame last looked at, in its pixels, where text may differ from what was
        last read there; None where that may be anywhere. They may overlap.
        """
        changed = self._now.changed
        if changed is None:
            return None
        rows, columns = changed.shape
        height, width = self._now.size
        # A line reaches a little beyond the cells that differ, farther to its sides.
        around = cv2.dilate(changed.astype(np.uint8), np.ones((3, 5), dtype=np.uint8))
        _, _, found, _ = cv2.connectedComponentsWithStats(around)
        return [
            Box(
                column * width // columns,
                row * height // rows,
                -(-(column + wide) * width // columns),
                -(-(row + high) * height // rows),
            )
            for column, row, wide, high, _ in found[1:].tolist()
        ]

    def promise(self) -> float:
        """How much the frame last looked at may bring to who reads it, 0–1: next to something new
        in a quiet place, what nothing asked for but the clock, and what never rests and has told
        nothing new of late."""
        if self._now.decision is Decision.DUE:
            return 0.5
        if self._now.decision is Decision.BUSY:
            return 1.0 / self._patience()
        return 1.0

    def _patience(self) -> int:
        """How many times `busy_interval_s` what never rests has to wait."""
        return min(1 + self._in_vain, 3)

    def taken(self, places: Sequence[Box] | None = None) -> None:
        """The frame last looked at is read, all of it or only `places`."""
        cells, now = self._previous, self._now
        if places is None or self._read is None or cells is None:
            self._read = cells
            self._whole_time = now.time
        else:
            self._read = _pasted(self._read, cells, places, now.size)
        self._read_time = now.time
        self._confirm = False
        self._last = now.decision

    def ask_again(self) -> None:
        """Have a frame read soon even if nothing changes: the last reading was doubtful."""
        self._confirm = True

    def found_nothing_new(self) -> None:
        """The last reading told nothing that was not known: if it was for what never rests, the
        next may wait longer."""
        if self._last is Decision.BUSY:
            self._in_vain += 1

    def found_something_new(self) -> None:
        """The last reading told something: places that never rest deserve looking at again."""
        self._in_vain = 0

    def _decide(self, time: float, cells: _Cells) -> tuple[Decision, NDArray[np.bool_] | None]:
        """The decision, and which cells look like text and differ from what was read there; None
        where nothing can be compared or all is to be read."""
        read, previous = self._read, self._previous
        if self._read_time is None or read is None or previous is None or time < self._read_time:
            self._busyness = np.zeros_like(cells.energy)
            return Decision.FIRST, None
        if read.energy.shape != cells.energy.shape:
            self._busyness = np.zeros_like(cells.energy)
            return Decision.CHANGED, None
        if previous.energy.shape != cells.energy.shape:
            self._busyness = np.zeros_like(cells.energy)
            previous = read
        self._busyness += _BUSY_RATE * (_changed(previous, cells) - self._busyness)

        waited_s = time - self._read_time
        if time - self._whole_time >= self.max_interval_s:
            return Decision.DUE, None
        changed = (_changed(read, cells) > 0) & (read.text | cells.text)
        if waited_s >= self.min_interval_s and self._confirm:
            return Decision.CONFIRM, changed
        if not changed.any():
            return Decision.UNCHANGED, changed
        busy = self._busy_cells()
        if waited_s >= self.min_interval_s:
            if (changed & ~busy).any():
                return Decision.CHANGED, changed
            rests = _changed(previous, cells) == 0
            if _is_wide(changed & busy & rests & cells.text):
                return Decision.SETTLED, changed
        wait_s = min(self.busy_interval_s * self._patience(), self.max_interval_s)
        return (Decision.BUSY if waited_s >= wait_s else Decision.WAIT), changed

    def _busy_cells(self) -> NDArray[np.bool_]:
        # What moves reaches a little farther now and then, so the cells around count too.
        around = cv2.dilate(self._busyness, np.ones((3, 3), dtype=np.uint8))
        return np.asarray(around >= _BUSY)


def _is_wide(cells: NDArray[np.bool_]) -> bool:
    """Whether some row has so many of the cells side by side as a short text is wide."""
    width = np.ones((1, _SETTLED_CELLS), dtype=np.uint8)
    found = cv2.erode(cells.astype(np.uint8), width, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return bool(found.any())


_SETTLED_CELLS = 5
"""Two or three characters of 32 pixels on a frame 540 wide."""
_SHORT_SIDE = 272
_CELL = 8
_STROKE_CONTRAST = 100
"""Of a 3×3 Sobel gradient: an edge of 25 grey levels."""
_STROKE_DENSITY = 0.05
_MIN_DIFFERENCE = 20.0
_RELATIVE_DIFFERENCE = 0.28
"""Measured on 540×960 frames after H.264 at crf 28 and 35, in cells of text: standing text differs
by at most 7 and 0.11; one digit of 16 pixels changing to a similar one (3 to 8) by 83 and 0.36, of
28 pixels by 168 and 0.57."""
_BUSY_RATE = 0.15
_BUSY = 0.2
"""With `_BUSY_RATE`, a resting cell is busy after two changes within six frames, and one that
always changed rests after ten frames without a change."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """A frame as the sampler remembers it.

    `gx` and `gy` are gradients by pixel; `energy` is their mean size and `text` whether it looks
    like text, by cell, shape (rows, columns).
    """

    gx: NDArray[np.int16]
    gy: NDArray[np.int16]
    energy: NDArray[np.float32]
    text: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Looked:
    """The frame last looked at: its media-clock second, its (height, width), the decision, and the
    cells that look like text and differ from what was last read there, None for all."""

    time: float
    size: tuple[int, ...]
    decision: Decision
    changed: NDArray[np.bool_] | None


def _pasted(before: _Cells, now: _Cells, places: Sequence[Box], size: tuple[int, ...]) -> _Cells:
    """`before` with the cells of `now` that lie in `places`, whole ones only."""
    height, width = size
    rows, columns = now.energy.shape
    taken = np.zeros((rows, columns), dtype=np.bool_)
    for place in places:
        top, bottom = -(-place.y0 * rows // height), place.y1 * rows // height
        left, right = -(-place.x0 * columns // width), place.x1 * columns // width
        taken[top:bottom, left:right] = True
    pixels = taken.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    return _Cells(
        np.where(pixels, now.gx, before.gx),
        np.where(pixels, now.gy, before.gy),
        np.where(taken, now.energy, before.energy),
        np.where(taken, now.text, before.text),
    )


def _cells(image: Image) -> _Cells:
    height, width = image.shape[:2]
    scale = min(1.0, _SHORT_SIDE / min(height, width))
    columns = max(1, round(width * scale / _CELL))
    rows = max(1, round(height * scale / _CELL))
    small = cv2.resize(image, (columns * _CELL, rows * _CELL), interpolation=cv2.INTER_AREA)
    luma = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    gx = cv2.Sobel(luma, cv2.CV_16S, 1, 0, ksize=3)
    gy = cv2.Sobel(luma, cv2.CV_16S, 0, 1, ksize=3)
    energy = _per_cell(cv2.absdiff(gx, 0), columns, rows) + _per_cell(
        cv2.absdiff(gy, 0), columns, rows
    )
    both_sides = np.minimum(
        _density(gx > _STROKE_CONTRAST, columns, rows),
        _density(gx < -_STROKE_CONTRAST, columns, rows),
    )
    return _Cells(gx, gy, energy, both_sides >= _STROKE_DENSITY)


def _changed(before: _Cells, now: _Cells) -> NDArray[np.float32]:
    """1.0 for each cell whose gradients differ, else 0.0, shape (rows, columns)."""
    if before.energy.shape != now.energy.shape:
        return np.ones_like(now.energy)
    rows, columns = now.energy.shape
    difference = _per_cell(cv2.absdiff(before.gx, now.gx), columns, rows) + _per_cell(
        cv2.absdiff(before.gy, now.gy), columns, rows
    )
    strongest = np.maximum(before.energy, now.energy)
    return (
        (difference > _MIN_DIFFERENCE) & (difference > _RELATIVE_DIFFERENCE * strongest)
    ).astype(np.float32)


def _density(strong: NDArray[np.bool_], columns: int, rows: int) -> NDArray[np.float32]:
    # A cell may lie inside one thick stroke; its neighbours show the other side.
    density: NDArray[np.float32] = cv2.blur(
        _per_cell(strong.astype(np.float32), columns, rows), (3, 3)
    )
    return density


def _per_cell(values: NDArray[np.generic], columns: int, rows: int) -> NDArray[np.float32]:
    pooled: NDArray[np.float32] = cv2.resize(
        values.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA
    )
    return pooled
