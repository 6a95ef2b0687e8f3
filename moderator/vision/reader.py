"""The screen of one stream: frames in, ScreenTexts and Codes out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import cv2
import numpy as np

from moderator.records import Box, Code, ScreenText
from moderator.vision.codes import CodeReader
from moderator.vision.ocr import FrameLines, Image, OcrEngine, ReadsPlaces, TextLine
from moderator.vision.sampler import Decision, FrameSampler
from moderator.vision.tracks import CodeTracker, ScreenTracker

JPEG_QUALITY = 85
BOX_COLOUR_BGR = (40, 40, 230)


@dataclass(slots=True)
class ScreenStats:
    """What reading the screen has cost: frames, and milliseconds spent in each step."""

    frames_seen: int = 0
    frames_read: int = 0
    frames_read_in_part: int = 0
    sampler_ms: float = 0.0
    ocr_ms: float = 0.0
    codes_ms: float = 0.0
    evidence_ms: float = 0.0
    decisions: Counter[str] = field(default_factory=Counter)


class ScreenReader:
    """Reads the screen of one stream.

    Feed every sampled frame in order of time. Texts and codes that have ended wait in `take`; a
    recording may leave them there and get everything from `finish`, a live room takes them as it
    goes, so that memory stays flat. `open_texts` and `open_codes` tell what has not ended yet.

    The best frame of each text is kept as JPEG for evidence, at most `max_evidence_bytes` in all;
    the oldest are dropped first, and a caller that has the recording extracts those again at
    `frame_time`. `ocr` and `codes` may be shared between readers of one worker; sampler and tracker
    belong to one stream.
    """

    def __init__(
        self,
        ocr: OcrEngine,
        codes: CodeReader | None = None,
        sampler: FrameSampler | None = None,
        tracker: ScreenTracker | None = None,
        *,
        max_evidence_bytes: int = 32 * 2**20,
    ) -> None:
        self.stats = ScreenStats()
        self._ocr = ocr
        self._codes = codes
        self._sampler = sampler or FrameSampler()
        self._tracker = tracker or ScreenTracker(engine=ocr.name)
        self._code_tracker = CodeTracker(engine=codes.name if codes else "")
        self._frames = _Frames(max_evidence_bytes)
        self._lines: list[TextLine] = []
        self._missing: list[Box] = []
        self._texts: list[ScreenText] = []
        self._ended_codes: list[Code] = []

    def feed(self, time: float, image: Image) -> Decision:
        """Take the BGR frame at media-clock second `time`; returns what was done with it."""
        decision = self.decide(time, image)
        if decision.reads:
            began = perf_counter()
            lines = self.read(image)
            self.take_lines(time, image, lines, _ms_since(began))
        return decision

    def decide(self, time: float, image: Image) -> Decision:
        """The first half of `feed`: where the decision says that the frame is to be read, its lines
        follow with `take_lines`, or a later frame is decided on in its place."""
        began = perf_counter()
        decision = self._sampler.look(time, image)
        self.stats.sampler_ms += _ms_since(began)
        self.stats.frames_seen += 1
        self.stats.decisions[decision] += 1
        if decision is Decision.UNCHANGED:
            self._end(self._tracker.hold(time), self._code_tracker.hold(time))
        return decision

    def promise(self) -> float:
        """How much reading the frame last decided on may bring, 0–1: who can read only some of many
        rooms' frames begins with the highest."""
        return self._sampler.promise()

    def read(self, image: Image) -> FrameLines:
        """The lines of the frame last decided on.

        Where the engine can, only what may have changed is read, and what stands elsewhere is taken
        over from before.
        """
        places = self._places(image)
        if places is None or not isinstance(self._ocr, ReadsPlaces):
            return FrameLines(self._ocr.read(image))
        found = self._ocr.read_places(image, places)
        if found.places is None:
            return found
        self.stats.frames_read_in_part += 1
        stay = [
            line
            for line in self._lines
            if not any(line.box.shared(place) for place in found.places)
            and not any(2 * line.box.shared(new.box) >= line.box.area for new in found.lines)
        ]
        lines = sorted([*stay, *found.lines], key=lambda line: (line.box.y0, line.box.x0))
        return FrameLines(lines, found.places)

    def _places(self, image: Image) -> list[Box] | None:
        """Where to look for text on the frame last decided on, None for everywhere.

        Each known line lies within one place or outside all of them.
        """
        places = self._sampler.places()
        if places is None or len(places) > _MOST_PLACES:
            return None
        whole = Box(0, 0, image.shape[1], image.shape[0])
        margin = min(image.shape[:2]) // _MARGIN
        boxes = [_wider(box, margin, whole) for box in self._missing]
        lines = [_wider(line.box, margin, whole) for line in self._lines]
        places = _apart([*places, *boxes], lines)
        if not places or sum(place.area for place in places) > _MOST_IN_PARTS * whole.area:
            return None
        return places

    def pass_over(self) -> None:
        """The frame last decided on cannot be read: it is not tried again while it stays."""
        self._sampler.taken()

    def take(self) -> tuple[list[ScreenText], list[Code]]:
        """The texts and codes that have ended since the last call, in order of their end."""
        texts, codes = self._texts, self._ended_codes
        self._texts, self._ended_codes = [], []
        return texts, codes

    def finish(self) -> tuple[list[ScreenText], list[Code]]:
        """End of the stream: every text and code not yet taken, in order of their start."""
        self._end(self._tracker.close(), self._code_tracker.close())
        texts, codes = self.take()
        return sorted(texts, key=_place), sorted(codes, key=_place)

    def open_texts(self) -> list[ScreenText]:
        """The texts that have not ended yet, as known so far."""
        return self._tracker.open_tracks()

    def open_codes(self) -> list[Code]:
        """The codes that have not ended yet."""
        return self._code_tracker.open_tracks()

    def frame_jpeg(self, seen: ScreenText | Code, *, boxed: bool = True) -> bytes | None:
        """The frame where `seen` was read best as JPEG, by default with the text boxed.

        None when it has been dropped to bound memory.
        """
        jpeg = self._frames.get(seen.frame_time)
        if jpeg is None or not boxed:
            return jpeg
        return boxed_jpeg(decode_jpeg(jpeg), [seen.box])

    def forget_frames(self) -> None:
        """Drop the evidence frames of what has ended, as a live room does once it has told of it:
        else each room fills its `max_evidence_bytes` within the hour.
        """
        self._frames.drop_settled(keep=_frame_times(self.open_texts(), self.open_codes()))

    def take_lines(self, time: float, image: Image, read: FrameLines, ocr_ms: float = 0.0) -> None:
        """The second half of `feed`: the lines of the frame last decided on, and this frame's part
        of what reading took."""
        self._sampler.taken(read.places)
        self._lines = list(read.lines)
        self.stats.frames_read += 1
        self.stats.ocr_ms += ocr_ms
        began = perf_counter()
        codes = self._codes.read(image) if self._codes is not None else []
        self.stats.codes_ms += _ms_since(began)
        lines = [line for line in read.lines if not any(_is_code(line.box, c.box) for c in codes)]
        self._end(self._tracker.update(time, lines), self._code_tracker.update(time, codes))
        if self._tracker.found_new:
            self._sampler.found_something_new()
        else:
            self._sampler.found_nothing_new()
        self._missing = self._tracker.just_missed()
        if self._missing:
            self._sampler.ask_again()
        began = perf_counter()
        self._keep_evidence(time, image)
        self.stats.evidence_ms += _ms_since(began)

    def _end(self, texts: list[ScreenText], codes: list[Code]) -> None:
        self._texts += texts
        self._ended_codes += codes
        for time in _frame_times(texts, codes):
            self._frames.settle(time)

    def _keep_evidence(self, time: float, image: Image) -> None:
        wanted = _frame_times(self.open_texts(), self.open_codes())
        if time in wanted:
            self._frames.put(time, _jpeg(image))
        self._frames.drop_unsettled(keep=wanted)


def boxed_jpeg(image: Image, boxes: Iterable[Box]) -> bytes:
    """The frame as JPEG with each box outlined, a little outside the text so as not to cover it."""
    marked = image.copy()
    thickness = max(2, min(image.shape[:2]) // 180)
    for box in boxes:
        cv2.rectangle(
            marked,
            (box.x0 - 2 * thickness, box.y0 - 2 * thickness),
            (box.x1 + 2 * thickness, box.y1 + 2 * thickness),
            BOX_COLOUR_BGR,
            thickness,
        )
    return _jpeg(marked)


_MARGIN = 90
"""The shorter side of a frame by the margin around a known line: 6 pixels of 540."""
_MOST_PLACES = 24
_MOST_IN_PARTS = 0.9
"""Share of a frame above which it is read as a whole."""


def _apart(places: Sequence[Box], lines: Sequence[Box]) -> list[Box]:
    """Places that do not overlap and cover `places`, and whole each of `lines` that they touch."""
    found: list[Box] = []
    todo = list(places)
    while todo:
        place = todo.pop()
        touched = [box for box in (*found, *lines) if place.shared(box)]
        grown = Box(
            min([place.x0, *(box.x0 for box in touched)]),
            min([place.y0, *(box.y0 for box in touched)]),
            max([place.x1, *(box.x1 for box in touched)]),
            max([place.y1, *(box.y1 for box in touched)]),
        )
        found = [box for box in found if not place.shared(box)]
        if grown == place:
            found.append(place)
        else:
            todo.append(grown)
    return found


def _wider(box: Box, by: int, whole: Box) -> Box:
    return Box(
        max(box.x0 - by, whole.x0),
        max(box.y0 - by, whole.y0),
        min(box.x1 + by, whole.x1),
        min(box.y1 + by, whole.y1),
    )


def _is_code(text: Box, code: Box) -> bool:
    """Whether what was read as text is the pattern of a code."""
    # A banner that runs across a code is not a misread code.
    return 2 * text.shared(code) >= min(text.area, code.area) and text.area <= 4 * code.area


class _Frames:
    """Evidence frames by time. Settled ones belong to a text that has ended and stay until memory
    runs short; the others only while a text in progress wants them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._jpegs: dict[float, bytes] = {}
        self._settled: set[float] = set()

    def get(self, time: float) -> bytes | None:
        return self._jpegs.get(time)

    def put(self, time: float, jpeg: bytes) -> None:
        self._drop(time)
        self._jpegs[time] = jpeg
        self._bytes += len(jpeg)
        while self._bytes > self._max_bytes:
            settled = (kept for kept in self._jpegs if kept in self._settled)
            self._drop(next(settled, next(iter(self._jpegs))))

    def settle(self, time: float) -> None:
        if time in self._jpegs:
            self._settled.add(time)

    def drop_unsettled(self, *, keep: set[float]) -> None:
        for time in [t for t in self._jpegs if t not in keep and t not in self._settled]:
            self._drop(time)

    def drop_settled(self, *, keep: set[float]) -> None:
        for time in self._settled - keep:
            self._drop(time)

    def _drop(self, time: float) -> None:
        self._bytes -= len(self._jpegs.pop(time, b""))
        self._settled.discard(time)


def _frame_times(texts: list[ScreenText], codes: list[Code]) -> set[float]:
    return {text.frame_time for text in texts} | {code.frame_time for code in codes}


def _jpeg(image: Image) -> bytes:
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded)


def decode_jpeg(jpeg: bytes) -> Image:
    """The BGR frame in a JPEG."""
    image: Image = np.asarray(
        cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8
    )
    return image


def _place(seen: ScreenText | Code) -> tuple[float, int, int]:
    return seen.start, seen.box.y0, seen.box.x0


def _ms_since(began: float) -> float:
    return (perf_counter() - began) * 1000
