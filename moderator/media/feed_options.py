"""What a live feed is told, and what it tells: source, options, limits, statistics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from moderator.errors import SOURCE_INVALID, ModeratorError, in_ui_language
from moderator.media.address import Network, is_url, redact
from moderator.media.connection import Decode
from moderator.media.egress import EgressLimits
from moderator.media.probe import MAX_FRAME_PIXELS
from moderator.media.resolver import Resolver
from moderator.media.room_state import Reason


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Where a room's media comes from: a stream URL, or a file (any path).

    A file is played at live speed with `realtime`, else as fast as it is read (nothing is
    dropped then). `headers` go with HTTP requests to the host of the URL and are never logged;
    over https every host that the stream leads to gets them. With a `resolver`, `url` may be
    empty. `networks` are private networks that may be reached although `allow_private` is off.
    """

    url: str = field(default="", repr=False)
    realtime: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    resolver: Resolver | None = None
    allow_private: bool = False
    networks: tuple[Network, ...] = ()

    @property
    def shown(self) -> str:
        """The source as it may be logged."""
        return redact(self.url) if is_url(self.url) else self.url


@dataclass(frozen=True, slots=True)
class InputLimits:
    """What a source may cost. The proxy's bounds are those of `EgressLimits`."""

    egress: EgressLimits = field(default_factory=EgressLimits)
    memory_bytes: int = 4 << 30
    """Address space of ffmpeg: mostly libraries and stacks that are never touched."""
    segment_bytes: int = 1 << 30
    """Largest file of the ring: a stream without key frames is one file."""


_DRIVER_BYTES = 1 << 41
"""CUDA reserves addresses for the memory of every device and the host's; hardly any is touched."""


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """How a room's input is decoded and watched. Seconds of wall clock unless said otherwise."""

    audio: bool = True
    video: bool = True
    frame_every_s: float = 2.0
    """Media seconds between frames; `set_frame_every` can only make them rarer."""
    scene_change: float | None = None
    max_frame_side: int = 1280
    max_frame_pixels: int = MAX_FRAME_PIXELS
    block_s: float = 0.2
    """Media seconds of sound handed out together."""
    threads: int = 1
    decode: Decode = "all"
    """Which pictures are decoded: `key` costs a fraction and gives one picture a key frame."""
    hwaccel: str = "none"
    """How ffmpeg decodes pictures, as `MediaSource` has it."""
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
    """An outage of any other kind this long fails the room; None: never."""
    audio_backlog_s: float = 60.0
    """Sound (media seconds) that may wait for a slow reader; the oldest goes first."""
    frame_backlog: int = 4
    silent_after_s: float = 30.0
    frozen_after_s: float = 30.0
    max_drift_s: float = 10.0
    limits: InputLimits = field(default_factory=InputLimits)

    @property
    def memory_bytes(self) -> int:
        """The bound on ffmpeg's address space; a GPU's driver maps the device's memory into it."""
        return self.limits.memory_bytes + (0 if self.hwaccel == "none" else _DRIVER_BYTES)

    def __post_init__(self) -> None:
        positive = (
            self.frame_every_s,
            self.block_s,
            self.connect_timeout_s,
            self.stall_after_s,
            self.audio_backlog_s,
            self.frame_backlog,
            self.max_frame_side,
        )
        if min(positive) <= 0 or self.reconnect_after_s < self.stall_after_s:
            raise ValueError("times must be positive, and reconnect_after_s at least stall_after_s")
        if not (self.audio or self.video):
            raise ValueError("neither audio nor video is wanted")


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an earlier run of the same session stood: its last media-clock second, and the wall
    clock (seconds since 1970) of media-clock second 0."""

    media_s: float
    zero_wall_s: float


@dataclass(frozen=True, slots=True)
class FeedStats:
    """A snapshot. `drops`: `sound_blocks` and `frames` that a slow reader lost, `frames_thinned`
    by `set_frame_every`, `sound_sent_again_s` that a new connection repeated."""

    connects: int
    reconnects: int
    stalls: int
    bytes_in: int
    last_packet_wall_s: float | None
    frames: int
    audio_s: float
    drops: Mapping[str, float]
    ends: Mapping[Reason, int]
    """Connections that ended, by why."""
    gaps: int
    gap_s: float
    clock_drift_s: float
    problems: frozenset[Reason]
    log: tuple[str, ...]
    """ffmpeg's last lines, addresses redacted."""


def check_source(room_id: str, source: SourceSpec) -> None:
    """Raises LM-119 when the source cannot be one."""
    if not source.url and source.resolver is None:
        reason = in_ui_language("it has neither url nor resolver", "既没有 url 也没有 resolver")
        raise ModeratorError(SOURCE_INVALID, room=room_id, reason=reason)
    check_headers(room_id, source.headers)


def check_headers(room_id: str, headers: Mapping[str, str]) -> None:
    """Raises LM-119 for what would not be one line of an HTTP request."""
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            reason = in_ui_language(f"'{name}' is no HTTP header", f"'{name}' 不是合法的 HTTP 头")
            raise ModeratorError(SOURCE_INVALID, room=room_id, reason=reason)


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\uffff]*")
"""RFC 9110, 5.1 and 5.5."""
