"""One screen reader for all rooms: frames in, texts out as soon as they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from time import monotonic, perf_counter, thread_time
from typing import Protocol

import structlog
from rapidfuzz import fuzz

from moderator.live.queues import NewestFirst
from moderator.live.worker import Worker
from moderator.media.blocks import VideoFrame
from moderator.records import Code, ScreenText
from moderator.vision.codes import CodeReader
from moderator.vision.ocr import FrameLines, OcrEngine, ReadsMany, read_all
from moderator.vision.reader import ScreenReader
from moderator.vision.sampler import Decision

log = structlog.get_logger()

Seen = ScreenText | Code

IDLE_S = 0.05
NICENESS = 5
"""Words wait for nothing, a text stands for seconds."""
ALIKE = 85.0
"""Of 100 (rapidfuzz's ratio): the same text read a little differently."""
RUNNING = 8
"""Characters of a running text that were there a frame ago, from which on it is told of."""
GREW = 3
"""With so many characters in a row that it did not have when it was told of, a text says more."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A text or code, and the frame where it was read best as JPEG (None if it was dropped)."""

    seen: Seen
    jpeg: bytes | None


class ScreenListener(Protocol):
    """A room, as the worker knows it. Called on the worker's thread: hand over and return."""

    def on_seen(self, picture: Picture) -> None:
        """A text or code is on the screen; `end` is not known yet."""
        ...

    def on_gone(self, first: Seen, last: Seen) -> None:
        """What was told of as `first` has gone: `last` has its end."""
        ...

    def on_screen_end(self) -> None: ...


@dataclass(slots=True)
class _Told:
    """What a room was told of, the same as it was last seen, and when it last said no more."""

    first: Seen
    last: Seen
    no_more_at: float


@dataclass(slots=True)
class ScreenWatch:
    """Tells of each text once while it is still on the screen, and once when it has gone.

    A text is told of when two frames in a row agree on it, so that one caught in the middle of
    an animation accuses nobody. Of one that runs through the picture and grows from frame to frame,
    what was there before is enough. One that has grown since it was told of is told of again, with
    the time from which it may have said more: by `RUNNING` characters at once, by fewer once it
    stays as it is. One that is read a little differently later is the same text, unless a digit has
    changed: another price is another text. A line that stays while another of its block goes has
    been told of with the block, which has gone when the last of it has; so has a piece of a running
    text.
    """

    _told: list[_Told] = field(default_factory=list)
    _maybe: list[Seen] = field(default_factory=list)

    def update(
        self, on_screen: Sequence[Seen], ended: Sequence[Seen]
    ) -> tuple[list[Seen], list[tuple[Seen, Seen]]]:
        """What is new, and pairs (as told, as it ended). Of short texts both come at once."""
        gone: list[tuple[Seen, Seen]] = []
        new: list[Seen] = []
        # Known until all that ended are looked at: a block's lines end apart.
        over: list[_Told] = []
        for last in ended:
            told = self._known(last)
            if told is None or _added(told.first, last) >= GREW:
                new.append(first := self._since_more(last))
                gone.append((first, first))
            if told is None:
                continue
            whole = _same(told.first, last)
            told.last = last if whole else replace(told.last, end=max(told.last.end, last.end))
            if whole or not any(_shares(told.first, seen) for seen in on_screen):
                over.append(told)
        for told in {id(told): told for told in over}.values():
            self._told.remove(told)
            gone.append((told.first, told.last))
        settled = []
        for seen in on_screen:
            told = self._known(seen)
            if told is not None and _added(told.first, seen) < GREW:
                told.no_more_at = max(told.no_more_at, seen.end)
            elif self._is_news(seen, told):
                settled.append(first := self._since_more(seen))
                self._told.append(_Told(first, seen, seen.end))
        self._maybe = list(on_screen)
        gone += self._lost(on_screen)
        return new + settled, gone

    def _is_news(self, seen: Seen, told: _Told | None) -> bool:
        """Whether `seen`, which is new or says more than `told`, is to be told of now."""
        if isinstance(seen, Code):
            return True
        if told is None or _added(told.first, seen) >= RUNNING:
            return any(_bears_out(one, seen) for one in self._maybe)
        return any(_reads_as(one, seen) for one in self._maybe)

    def _since_more(self, seen: Seen) -> Seen:
        """The text with the time from which it may have said more than what was told of."""
        since = max([seen.start, *(one.no_more_at for one in self._like(seen))])
        return replace(seen, start=min(since, seen.end))

    def _known(self, seen: Seen) -> _Told | None:
        """What was told of and says most of `seen`; None where nothing is like it."""
        return min(self._like(seen), key=lambda one: _added(one.first, seen), default=None)

    def _like(self, seen: Seen) -> list[_Told]:
        """What was told of that is the same text, or one of the two is a part of the other."""
        return [
            one
            for one in self._told
            if _same(one.first, seen)
            or _is_part(seen, one.first)
            or _is_piece(seen, one.first)
            or _is_piece(one.first, seen)
        ]

    def _lost(self, on_screen: Sequence[Seen]) -> Iterator[tuple[Seen, Seen]]:
        """Tracks that were merged into others end without being reported."""
        newest = max((seen.end for seen in on_screen), default=0.0)
        for told in list(self._told):
            ends = [seen.end for seen in on_screen if _shares(told.first, seen)]
            told.last = replace(told.last, end=max([told.last.end, *ends]))
            if newest - told.last.end > _FORGET_S:
                self._told.remove(told)
                yield told.first, told.last


_FORGET_S = 20.0
_TOGETHER_S = 5.0
"""Lines of one block come within this of each other (`ScreenTracker`)."""


def _same(one: Seen, other: Seen) -> bool:
    if one.channel != other.channel:
        return False
    if isinstance(one, Code) or _digits(one.text) != _digits(other.text):
        return one.text == other.text
    return fuzz.ratio(_words(one.text), _words(other.text)) >= ALIKE


def _shares(one: Seen, other: Seen) -> bool:
    """Whether they are the same text, or one is part of the other."""
    return _same(one, other) or _is_part(one, other) or _is_part(other, one)


def _is_part(line: Seen, block: Seen) -> bool:
    """Whether a text that came with the block says nothing that the block does not."""
    if line.channel != block.channel or isinstance(block, Code):
        return False
    if abs(line.start - block.start) > _TOGETHER_S:
        return False
    return set(line.text.split()) < set(block.text.split())


def _is_piece(seen: Seen, whole: Seen) -> bool:
    """Whether a text is a piece of one that runs in its row."""
    if isinstance(seen, Code) or isinstance(whole, Code):
        return False
    words = _words(seen.text)
    if len(words) < GREW or _digits(seen.text) not in ("", _digits(whole.text)):
        return False
    in_row = min(seen.box.y1, whole.box.y1) > max(seen.box.y0, whole.box.y0)
    return in_row and words in _words(whole.text)


def _added(before: Seen, now: Seen) -> int:
    """Characters in a row that `now` has and `before`, or a block of which it is part, has not."""
    if isinstance(now, Code) or before.text == now.text or _is_part(now, before):
        return 0
    was, told = _words(before.text), _words(now.text)
    matches = SequenceMatcher(None, was, told, autojunk=False).get_opcodes()
    return max((end - begin for tag, _, _, begin, end in matches if tag != "equal"), default=0)


def _reads_as(before: Seen, now: Seen) -> bool:
    return before.channel == now.channel and before.text == now.text


def _bears_out(before: Seen, now: Seen) -> bool:
    """Whether the frame before had this text, or a good part of one that has grown since."""
    if _reads_as(before, now):
        return True
    return before.channel == now.channel and len(before.text) >= RUNNING and before.text in now.text


def _words(text: str) -> str:
    """Without the marks and spaces, which are read now and not then; marks alone as they are."""
    return "".join(char for char in text if char.isalnum()) or text


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


@dataclass(slots=True)
class ScreenStats:
    """What the screens have cost so far; seconds of wall clock."""

    frames: int = 0
    read: int = 0
    replaced: int = 0
    busy_s: float = 0.0
    ocr_s: float = 0.0
    failures: int = 0
    cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Unread:
    """A frame that is worth reading, how much (`ScreenReader.promise`), and since when one of its
    room has been."""

    frame: VideoFrame
    promise: float
    since: float


@dataclass(slots=True, eq=False)
class _Room:
    listener: ScreenListener
    reader: ScreenReader
    interval_s: float
    weight: float
    low_risk: bool
    may_wait: bool
    watch: ScreenWatch = field(default_factory=ScreenWatch)
    unread: _Unread | None = None
    looked_at: bool = False
    given_up: bool = False
    ending: bool = False

    def need(self, now: float, factor: float) -> float:
        """How badly the frame that waits is to be read: by how many of the room's intervals it is
        late, and what it may bring."""
        if self.unread is None:
            return 0.0
        late = 1.0 + (now - self.unread.since) / (self.interval_s * factor)
        return late * self.weight * self.unread.promise


class ScreenWorker(Worker):
    """Reads the screens of every room on one thread that owns the OCR engine.

    `look` takes a room's frame from any thread. Looking at a frame costs a millisecond and reading
    it some hundred, so before each reading all rooms' frames that are due are looked at: a frame on
    which everything stands still bears out what stood there before at once, and of those worth
    reading comes next the one that is most overdue for its room's interval and urgency, those first
    that show something new. Queue policy `newest_wins`: one frame a room waits, a newer one takes
    its place and the older is counted. A room opened with `may_wait` (a file that is not played at
    live speed) is slowed down instead.

    With an engine that reads many frames at once, up to `batch` rooms' frames are read together,
    one of each room; another reads only what has changed.

    `factor` multiplies every interval and `skip_low_risk` leaves low-risk rooms unread: what was
    seen on their screens is told of as having gone, and not when they are read again.
    """

    def __init__(
        self,
        ocr: OcrEngine,
        codes: CodeReader | None = None,
        *,
        batch: int = 1,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__("screen", niceness=NICENESS, clock=clock)
        self.ocr = ocr
        self.stats = ScreenStats()
        self.skip_low_risk = False
        self._codes = codes
        self._batch = batch if isinstance(ocr, ReadsMany) and ocr.batch > 1 else 1
        self._factor = 1.0
        self._rooms: dict[str, _Room] = {}
        self._frames: NewestFirst[VideoFrame] = NewestFirst()

    # --- from other threads -------------------------------------------------------------

    def open(
        self,
        room: str,
        listener: ScreenListener,
        *,
        interval_s: float,
        urgency: int = 5,
        low_risk: bool = False,
        may_wait: bool = False,
    ) -> None:
        reader = ScreenReader(self.ocr, self._codes, max_evidence_bytes=8 * 2**20)
        with self._change:
            weight = 0.5 + urgency / 9
            self._rooms[room] = _Room(listener, reader, interval_s, weight, low_risk, may_wait)
            paced_s = 1e-3 if may_wait else interval_s * self._factor
            self._frames.open(room, interval_s=paced_s)

    def close(self, room: str) -> None:
        with self._change:
            self._rooms.pop(room, None)
            self._frames.close(room)
            self._change.notify_all()

    def look(self, room: str, frame: VideoFrame) -> None:
        """Take the next frame of a room."""
        with self._change:
            mine = self._rooms.get(room)
            if mine is None or (self.skip_low_risk and mine.low_risk):
                return
            if mine.may_wait:
                self._change.wait_for(lambda: self._stopping or not self._holds(room))
            before = self._frames.replaced(room)
            self._frames.put(room, frame)
            self.stats.replaced += self._frames.replaced(room) - before
            self._change.notify_all()

    def finish(self, room: str) -> None:
        """No more frames come; the listener hears of it after what was still open."""
        with self._change:
            if room in self._rooms:
                self._rooms[room].ending = True
                self._change.notify_all()

    def set_factor(self, factor: float) -> None:
        """Make every interval so many times longer."""
        with self._change:
            self._factor = factor
            for name, room in self._rooms.items():
                if not room.may_wait:
                    self._frames.set_interval(name, room.interval_s * factor)

    @property
    def waiting(self) -> int:
        with self._change:
            return len(self._frames) + sum(r.unread is not None for r in self._rooms.values())

    def _holds(self, room: str) -> bool:
        """Whether a frame of `room` waits to be looked at, is looked at or waits to be read."""
        mine = self._rooms.get(room)
        if mine is None:
            return False
        return self._frames.holds(room) or mine.looked_at or mine.unread is not None

    # --- the worker's thread ------------------------------------------------------------

    def step(self) -> bool:
        """Look at what is due, read what is worth it most, end the rooms that are done. False when
        the worker is to end."""
        with self._change:
            now = self._beat = self._clock()
            taken = self._frames.take(now)
            ending = [
                (name, room)
                for name, room in self._rooms.items()
                if room.ending and not self._holds(name)
            ]
            given_up = [
                room
                for name, room in self._rooms.items()
                if self.skip_low_risk
                and room.low_risk
                and not room.given_up
                and not self._holds(name)
            ]
            unread = any(room.unread for room in self._rooms.values())
            if not (taken or ending or given_up or unread):
                self._change.wait(IDLE_S)
            if self._stopping:
                return False
            frames = [(self._rooms[name], one) for name, one in taken if name in self._rooms]
            for room, _ in frames:
                room.looked_at = True
        began, cpu_began = perf_counter(), thread_time()
        for room, frame in frames:
            self._look_at(room, frame, now)
        self._read(self._next_to_read(now))
        for name, room in ending:
            self._tell_rest(room)
            room.listener.on_screen_end()
            self.close(name)
        for room in given_up:
            self._tell_rest(room)
            room.given_up = True
        self.stats.busy_s += perf_counter() - began
        self.stats.cpu_s += thread_time() - cpu_began
        return True

    def _look_at(self, room: _Room, frame: VideoFrame, now: float) -> None:
        """Decide on a frame; what is known to stand still is told of."""
        before, room.unread = room.unread, None
        room.given_up = False
        self.stats.replaced += before is not None
        with self._costing_the_picture(frame):
            self.stats.frames += 1
            decision = room.reader.decide(frame.time, frame.image)
            if decision.reads:
                since = before.since if before else now
                room.unread = _Unread(frame, room.reader.promise(), since)
            elif decision is Decision.UNCHANGED:
                # Where something moved, an unread frame bears out nothing.
                self._tell_all(room)

    def _next_to_read(self, now: float) -> list[tuple[_Room, VideoFrame]]:
        """The frames worth it most, as many as are read together."""
        with self._change:
            for room in self._rooms.values():
                room.looked_at = False
            rooms = [room for room in self._rooms.values() if room.unread is not None]
            rooms.sort(key=lambda room: room.need(now, self._factor), reverse=True)
            chosen = []
            for room in rooms[: self._batch]:
                assert room.unread is not None
                chosen.append((room, room.unread.frame))
                room.unread = None
            self._change.notify_all()
        return chosen

    def _read(self, wanted: list[tuple[_Room, VideoFrame]]) -> None:
        """Read what was last decided on, together where the engine likes that, and tell of it."""
        if not wanted:
            return
        began = perf_counter()
        found = self._lines(wanted)
        ocr_s = perf_counter() - began
        self.stats.ocr_s += ocr_s
        for (room, frame), lines in zip(wanted, found, strict=True):
            if lines is None:
                room.reader.pass_over()
                continue
            with self._costing_the_picture(frame):
                room.reader.take_lines(frame.time, frame.image, lines, 1000 * ocr_s / len(wanted))
                self.stats.read += 1
                self._tell_all(room)

    def _lines(self, wanted: list[tuple[_Room, VideoFrame]]) -> list[FrameLines | None]:
        """What each frame says; None for one that the engine fails on."""
        try:
            if len(wanted) > 1:
                return [FrameLines(one) for one in read_all(self.ocr, [f.image for _, f in wanted])]
            return [room.reader.read(frame.image) for room, frame in wanted]
        except Exception:
            if len(wanted) > 1:
                return [lines for one in wanted for lines in self._lines([one])]
            log.exception("screen.reader_failed", media_s=round(wanted[0][1].time, 2))
            self.stats.failures += 1
            return [None]

    @contextmanager
    def _costing_the_picture(self, frame: VideoFrame) -> Iterator[None]:
        """A picture that the reader cannot stand costs that picture, not the room."""
        try:
            yield
        except Exception:
            log.exception("screen.reader_failed", media_s=round(frame.time, 2))
            self.stats.failures += 1

    def _tell_all(self, room: _Room) -> None:
        texts, codes = room.reader.take()
        open_now: list[Seen] = [*room.reader.open_texts(), *room.reader.open_codes()]
        self._tell(room, open_now, [*texts, *codes])
        room.reader.forget_frames()

    def _tell_rest(self, room: _Room) -> None:
        """Everything still on the screen has gone, as far as can be told."""
        try:
            texts, codes = room.reader.finish()
            self._tell(room, [], [*texts, *codes])
            room.reader.forget_frames()
        except Exception:
            log.exception("screen.reader_failed")
            self.stats.failures += 1

    def _tell(self, room: _Room, open_now: Sequence[Seen], ended: Sequence[Seen]) -> None:
        new, gone = room.watch.update(open_now, ended)
        for seen in new:
            room.listener.on_seen(Picture(seen, room.reader.frame_jpeg(seen, boxed=False)))
        for first, last in gone:
            room.listener.on_gone(first, last)
