"""What a live room's input is doing: states, the changes allowed between them, what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RoomState(StrEnum):
    """Where a room's input stands; `ended` and `failed` are final."""

    CONNECTING = "connecting"
    """Nothing has arrived yet in this session."""
    LIVE = "live"
    STALLED = "stalled"
    """Connected, and no packet for a while: it may come back by itself."""
    RECONNECTING = "reconnecting"
    """The connection is gone; another is being made."""
    ENDED = "ended"
    """Over: stopped by us, or the stream ended and did not return."""
    FAILED = "failed"
    """Given up: the address is refused, or nothing came for too long."""

    @property
    def is_final(self) -> bool:
        return self in (RoomState.ENDED, RoomState.FAILED)


ALLOWED: dict[RoomState, frozenset[RoomState]] = {
    RoomState.CONNECTING: frozenset(
        {RoomState.LIVE, RoomState.RECONNECTING, RoomState.ENDED, RoomState.FAILED}
    ),
    RoomState.LIVE: frozenset(
        {RoomState.STALLED, RoomState.RECONNECTING, RoomState.ENDED, RoomState.FAILED}
    ),
    RoomState.STALLED: frozenset(
        {RoomState.LIVE, RoomState.RECONNECTING, RoomState.ENDED, RoomState.FAILED}
    ),
    RoomState.RECONNECTING: frozenset({RoomState.LIVE, RoomState.ENDED, RoomState.FAILED}),
    RoomState.ENDED: frozenset(),
    RoomState.FAILED: frozenset(),
}
"""The states that may follow each state; any other change is a mistake of ours."""


class Reason(StrEnum):
    """Why a state changed or a gap is there; also what the watchdog calls what it sees."""

    CONNECTED = "connected"
    RESUMED = "resumed"
    STOPPED = "stopped"
    END_OF_STREAM = "end_of_stream"
    RESTARTED = "restarted"
    """This program was not running."""
    REFUSED = "refused"
    """The address may not be opened, or the source is over a limit."""
    UNREACHABLE = "unreachable"
    URL_EXPIRED = "url_expired"
    NOT_MEDIA = "not_media"
    PROCESS_DIED = "process_died"
    NO_PACKETS = "no_packets"
    NO_VIDEO = "no_video"
    """Sound comes and pictures, which were announced, do not."""
    NO_AUDIO = "no_audio"
    SILENT = "silent"
    """The sound track runs and holds digital silence."""
    FROZEN = "frozen"
    """The video track runs and the picture does not change at all."""
    PTS_JUMP = "pts_jump"
    CLOCK_DRIFT = "clock_drift"
    FORMAT_CHANGED = "format_changed"
    """Size or codec changed where the copy on disk cannot follow without a new connection."""
    RECORDING_STALE = "recording_stale"
    """Media arrives and the copy on disk does not grow."""
    RECORDING_FAILED = "recording_failed"
    """The copy cannot be written; the room is checked without it."""
    READER_SLOW = "reader_slow"
    """Sound had to be dropped because what checks it is too slow."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """A room's input went from `before` to `after`.

    `media_s` is the media-clock second up to which media was handed out, `wall_s` the wall clock
    (seconds since 1970). `detail` is a sentence for people, with secrets removed.
    """

    room_id: str
    before: RoomState
    after: RoomState
    reason: Reason
    detail: str
    media_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Something is wrong that changes no state (`active`), or is over (not `active`)."""

    room_id: str
    problem: Reason
    active: bool
    detail: str
    media_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Gap:
    """Media-clock seconds of the session for which there is nothing, and why."""

    start: float
    end: float
    reason: Reason

    @property
    def duration_s(self) -> float:
        return self.end - self.start
