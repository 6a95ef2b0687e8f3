"""One live room's input for days: connects, watches, reconnects, on one media clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.probe import MAX_FRAME_PIXELS
from moderator.media.ring import RingBuffer
from moderator.media.room_state import Gap, Notice, Reason, RoomState, StateChange

__all__ = [
    "FeedOptions",
    "FeedStats",
    "Gap",
    "Notice",
    "Reason",
    "Resume",
    "RoomState",
    "SourceSpec",
    "StateChange",
    "StreamFeed",
]


@dataclass(frozen=True, slots=True)
class FreshUrl:
    """What a resolver answers: where the room is now, and headers that go with it."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Resolver(Protocol):
    """Asked for a fresh URL when one has expired or there is none yet.

    `CommandResolver` and `HttpResolver` in `moderator.media.resolver` are two.
    """

    def fresh_url(self, room_id: str, reason: str) -> FreshUrl: ...


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where a room's media comes from: a stream URL, or a file (any path).

    A file is played at live speed with `realtime`, else as fast as it is read (nothing is
    dropped then). `headers` go with HTTP requests to the host of the URL and are never logged.
    With a `resolver`, `url` may be empty.
    """

    url: str = ""
    realtime: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    resolver: Resolver | None = None
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How a room's input is decoded and watched. Seconds of wall clock unless said otherwise."""

    audio: bool = True
    video: bool = True
    frame_every_s: float = 2.0
    scene_change: float | None = None
    max_frame_side: int = 1280
    max_frame_pixels: int = MAX_FRAME_PIXELS
    block_s: float = 0.2
    threads: int = 1
    decode: Literal["all", "reference", "key"] = "all"
    """Which pictures are decoded; `key` costs a fraction and gives one picture a key frame."""
    connect_timeout_s: float = 15.0
    stall_after_s: float = 5.0
    reconnect_after_s: float = 15.0
    """A stall this long ends the connection."""
    fast_retries: int = 3
    fast_retry_s: float = 0.5
    backoff_max_s: float = 60.0
    ended_after_s: float = 30.0
    """A stream that ended properly and has not returned for so long is over."""
    give_up_after_s: float | None = None
    audio_backlog_s: float = 60.0
    """Sound (media seconds) that may wait for a slow reader; the oldest goes first."""
    frame_backlog: int = 4
    silent_after_s: float = 30.0
    frozen_after_s: float = 30.0
    max_drift_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an earlier run of the same session stood: its last media-clock second, and the wall
    clock (seconds since 1970) of media-clock second 0."""

    media_s: float
    zero_wall_s: float


@dataclass(frozen=True, slots=True)
class FeedStats:
    """A snapshot. `drops` counts frames and seconds of sound by reason."""

    connects: int
    reconnects: int
    stalls: int
    bytes_in: int
    last_packet_wall_s: float | None
    frames: int
    audio_s: float
    drops: Mapping[str, float]
    gaps: int
    gap_s: float
    clock_drift_s: float
    problems: frozenset[Reason]
    log: tuple[str, ...]
    """ffmpeg's last lines, addresses redacted."""


class StreamFeed:
    """One room's input. Iterate it on a thread of the room's own; `stop` from any other.

    Times are seconds of the session's media clock: zero at the first PTS, never backwards,
    continued over reconnects by as much as the wall clock went on. Callbacks come on the
    iterating thread.
    """

    def __init__(
        self,
        room_id: str,
        source: SourceSpec,
        options: FeedOptions | None = None,
        *,
        ring: RingBuffer | None = None,
        on_state: Callable[[StateChange], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        resume: Resume | None = None,
    ) -> None:
        raise NotImplementedError

    def __iter__(self) -> Iterator[AudioBlock | VideoFrame | Gap]:
        raise NotImplementedError

    def stop(self) -> None:
        """End the iteration soon; returns at once."""

    def set_frame_every(self, seconds: float) -> None:
        """Hand out frames no more often than this from now on (0: all that are decoded)."""

    @property
    def state(self) -> RoomState:
        raise NotImplementedError

    @property
    def stats(self) -> FeedStats:
        raise NotImplementedError

    def media_now(self) -> float:
        """The media-clock second that is arriving now; latency is measured against it."""
        raise NotImplementedError

    def wall_at(self, media_s: float) -> float:
        """Wall clock (seconds since 1970) when that media second was live."""
        raise NotImplementedError

    @property
    def path(self) -> Path | None:
        """The file that is played, when the source is one."""
        raise NotImplementedError
