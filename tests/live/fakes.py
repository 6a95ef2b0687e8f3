"""Engines, feeds and journals that need no model, no ffmpeg and no disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator.asr.engine import Samples, SpeechSegment, Transcript
from moderator.asr.vad import VoiceActivity
from moderator.live.config import RoomConfig
from moderator.live.feeds import OpenFeed
from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.feed import Resume
from moderator.media.room_state import Gap, Notice, Reason, RoomState, StateChange
from moderator.records import Box, TimedChar
from moderator.vision.ocr import Image, TextLine
from tests.asr.sounds import silence, tone

RATE = 16_000
BLOCK_S = 0.2


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class LoudVoice:
    """Loud is speech; counts its calls, each of which may be for many rooms."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def room(self) -> VoiceActivity:
        return _Loud()

    def probabilities(self, rooms: Sequence[tuple[Any, Samples]], /) -> list[NDArray[np.float32]]:
        self.calls.append(sum(len(windows) > 0 for _, windows in rooms))
        return [voice.probabilities(windows) for voice, windows in rooms]


class _Loud:
    def probabilities(self, windows: Samples) -> NDArray[np.float32]:
        if not len(windows):
            return np.zeros(0, np.float32)
        return (np.abs(windows).max(axis=1) > 0.01).astype(np.float32)

    def reset(self) -> None: ...


class FakeAsr:
    """Hears what the loudness of a segment stands for: `say(text)` makes such sound."""

    name = "fake-asr"

    def __init__(self, texts: Sequence[str] = ("你好",)) -> None:
        self.texts = list(texts)
        self.batches: list[list[SpeechSegment]] = []
        self.drafts = 0
        self.beams: list[int] = []
        self.fail_on: Callable[[SpeechSegment], bool] = lambda segment: False
        self.takes: Callable[[int], None] = lambda rows: None

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        self.batches.append(list(segments))
        self.takes(len(segments))
        if any(self.fail_on(segment) for segment in segments):
            raise RuntimeError("the engine cannot stand this")
        return [self._hear(segment) for segment in segments]

    def draft(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        self.drafts += 1
        return [self._hear(segment) for segment in segments]

    def set_beam(self, beam_size: int) -> None:
        self.beams.append(beam_size)

    def _hear(self, segment: SpeechSegment) -> Transcript:
        level = float(np.abs(segment.samples).max()) if len(segment.samples) else 0.0
        text = self.texts[min(int(level * 100) - 2, len(self.texts) - 1)]
        step = segment.duration_s / max(1, len(text))
        chars = tuple(
            TimedChar(char, segment.start + n * step, segment.start + (n + 1) * step, 0.95)
            for n, char in enumerate(text)
        )
        return Transcript(text, chars, mean_logprob=-0.1)


def say(index: int, seconds: float = 2.0) -> Samples:
    """Sound in which `FakeAsr` hears its text number `index`."""
    sound = tone(seconds)
    return sound / np.abs(sound).max() * np.float32((index + 2.5) / 100)


def talk(*parts: Samples) -> Samples:
    return np.concatenate([*parts, silence(1.2)])


def blocks(sound: Samples, start: float = 0.0) -> Iterator[AudioBlock]:
    size = round(BLOCK_S * RATE)
    for at in range(0, len(sound), size):
        yield AudioBlock(start + at / RATE, sound[at : at + size])


class FakeOcr:
    """Reads the text that was put for the brightness of a picture; 0 is an empty screen."""

    name = "fake-ocr"

    def __init__(self, texts: dict[int, str]) -> None:
        self.texts = texts
        self.read_count = 0

    def read(self, image: Image) -> list[TextLine]:
        self.read_count += 1
        text = self.texts.get(int(image[-1, -1, 0]))
        return [TextLine(text, Box(20, 20, 300, 60), 0.97)] if text else []


def picture(brightness: int) -> Image:
    """A picture with strokes like text, so that the sampler has it read when it changes."""
    image = np.zeros((320, 480, 3), np.uint8)
    if brightness:
        image[20:60:4, 20:300] = brightness
        image[20:60, 20:300:6] = 255
    image[-1, -1] = brightness
    return image


@dataclass
class Told:
    """What a fake journal hands back; as much of an envelope as the rooms use."""

    session: str
    room: str
    type: str
    body: dict[str, Any]
    key: str | None
    media_s: float | None


@dataclass
class FakeJournal:
    """Keeps everything in memory; `fail` makes appends of that room fail."""

    told: list[Told] = field(default_factory=list)
    checkpoints: dict[str, float] = field(default_factory=dict)
    fail: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def append(
        self,
        session: str,
        room: str,
        type: str,
        body: dict[str, Any],
        *,
        key: str | None = None,
        media_s: float | None = None,
    ) -> Told:
        with self._lock:
            if room in self.fail and type != "session.ended":
                raise OSError("no space left on device")
            for one in self.told:
                if key is not None and (one.session, one.key) == (session, key):
                    return one
            self.told.append(Told(session, room, type, body, key, media_s))
            return self.told[-1]

    def checkpoint(self, session: str, media_s: float) -> None:
        self.checkpoints[session] = media_s

    def of(self, type: str, room: str | None = None) -> list[dict[str, Any]]:
        with self._lock:
            found = list(self.told)
        return [one.body for one in found if one.type == type and room in (None, one.room)]


class FakeFeed:
    """Plays items; an exception among them is raised, a callable is called."""

    def __init__(
        self,
        items: Sequence[Any],
        on_state: Callable[[StateChange], None],
        *,
        endless: bool = False,
    ) -> None:
        self._items = items
        self._on_state = on_state
        self._endless = endless
        self._stop = threading.Event()
        self._state = RoomState.CONNECTING
        self._at = 0.0
        self.frame_every: float | None = None

    def __iter__(self) -> Iterator[AudioBlock | VideoFrame | Gap]:
        self._go(RoomState.LIVE, Reason.CONNECTED)
        for item in self._items:
            if self._stop.is_set():
                break
            if isinstance(item, BaseException):
                raise item
            if callable(item):
                item()
                continue
            self._at = item.end
            yield item
        while self._endless and not self._stop.wait(0.02):
            pass
        reason = Reason.STOPPED if self._stop.is_set() else Reason.END_OF_STREAM
        self._go(RoomState.ENDED, reason)

    def stop(self) -> None:
        self._stop.set()

    def set_frame_every(self, seconds: float) -> None:
        self.frame_every = seconds

    def media_now(self) -> float:
        return self._at

    def wall_at(self, media_s: float) -> float:
        return 1_700_000_000.0 + media_s

    @property
    def state(self) -> RoomState:
        return self._state

    @property
    def stats(self) -> Any:
        return FeedNumbers()

    def _go(self, after: RoomState, reason: Reason) -> None:
        before, self._state = self._state, after
        self._on_state(StateChange("r", before, after, reason, "", self._at, time.time()))


@dataclass
class FeedNumbers:
    reconnects: int = 2
    stalls: int = 1
    gap_s: float = 3.0
    drops: dict[str, float] = field(default_factory=dict)


class FakeFeeds:
    """A factory: `plays[room]` is a list of broadcasts, each a list of items."""

    def __init__(self, plays: dict[str, list[list[Any]]], *, endless: bool = False) -> None:
        self.plays = {room: list(shows) for room, shows in plays.items()}
        self.opened: list[tuple[str, str, Resume | None]] = []
        self.discarded: list[str] = []
        self.ring: Any = None
        self._endless = endless

    def open(
        self,
        room: RoomConfig,
        session: str,
        *,
        on_state: Callable[[StateChange], None],
        on_notice: Callable[[Notice], None],
        resume: Resume | None = None,
    ) -> OpenFeed:
        self.opened.append((room.id, session, resume))
        shows = self.plays[room.id]
        items = shows.pop(0) if len(shows) > 1 else shows[0]
        feed = FakeFeed(items, on_state, endless=self._endless)
        return OpenFeed(feed, self.ring, "rtmp://example.com/***", paced=False)

    def discard(self, room: RoomConfig, session: str) -> None:
        self.discarded.append(session)


class FakeRing:
    """Writes a clip of a few bytes; `ready_at` is when the post roll is there."""

    def __init__(self, ready: Callable[[float], bool] = lambda end: True) -> None:
        self.ready = ready
        self.cut: list[tuple[float, float]] = []

    def clip(self, start: float, end: float, path: Path, /, *, pre_s: float, post_s: float) -> Path:
        from moderator.media.ring import ClipNotReady

        if not self.ready(end + post_s):
            raise ClipNotReady(end + post_s, end)
        self.cut.append((round(start - pre_s, 2), round(end + post_s, 2)))
        path.write_bytes(f"clip {start}".encode())
        return path

    def frame(self, at: float, /) -> NDArray[np.uint8]:
        raise NotImplementedError


def wait_for(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Until `condition` holds; a test fails with a sentence when it never does."""
    ends_at = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > ends_at:
            raise AssertionError(f"nothing happened within {limit_s} s")
        time.sleep(0.01)
