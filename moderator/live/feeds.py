"""From a room's configuration to its feed, and the ring of stream copies beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moderator.live.config import ResolverConfig, RoomConfig, WatchConfig
from moderator.live.ports import FeedPort, RingPort
from moderator.media.address import redact
from moderator.media.feed import FeedOptions, Resume, SourceSpec, StreamFeed
from moderator.media.resolver import CommandResolver, HttpResolver, Resolver
from moderator.media.ring import RingBuffer
from moderator.media.room_state import Notice, StateChange


@dataclass(frozen=True, slots=True)
class OpenFeed:
    """A room's input and what is kept of it; `paced` says that it comes at live speed."""

    feed: FeedPort
    ring: RingPort | None
    source: str
    paced: bool


class FeedFactory(Protocol):
    """Opens the input of a room for one session; `StreamFeeds` is one."""

    def open(
        self,
        room: RoomConfig,
        session: str,
        *,
        on_state: Callable[[StateChange], None],
        on_notice: Callable[[Notice], None],
        resume: Resume | None = None,
    ) -> OpenFeed: ...

    def discard(self, room: RoomConfig, session: str) -> None:
        """The session is over and its evidence is cut: the copies may go."""
        ...


@dataclass(slots=True)
class StreamFeeds:
    """Feeds through ffmpeg, with a ring of stream copies below `rings`."""

    config: WatchConfig
    rings: Path
    realtime: bool = False
    allow_private: bool = False
    max_frame_pixels: int = 9_200_000
    hwaccel: str = "none"

    def open(
        self,
        room: RoomConfig,
        session: str,
        *,
        on_state: Callable[[StateChange], None],
        on_notice: Callable[[Notice], None],
        resume: Resume | None = None,
    ) -> OpenFeed:
        """Raises LM-302 when a header's environment variable is missing."""
        limits = self.config.limits
        ring: RingBuffer | None = None
        if limits.ring_s and self.config.evidence.clips:
            ring = RingBuffer(
                self._ring_folder(room, session),
                max_s=limits.ring_s,
                max_bytes=limits.ring_mib << 20,
            )
        realtime = self.realtime if room.realtime is None else room.realtime
        private = self.allow_private if room.allow_private is None else room.allow_private
        source = SourceSpec(
            url=room.source,
            realtime=realtime,
            headers=room.sent_headers(),
            resolver=_resolver(room.resolver) if room.resolver else None,
            allow_private=private,
            networks=room.networks,
        )
        options = FeedOptions(
            audio=room.audio,
            video=room.video,
            frame_every_s=self.config.frame_interval_s(room),
            max_frame_pixels=self.max_frame_pixels,
            hwaccel=self.hwaccel,
            audio_backlog_s=limits.max_lag_s,
            give_up_after_s=room.give_up_after_s,
        )
        feed = StreamFeed(
            room.id,
            source,
            options,
            ring=ring,
            on_state=on_state,
            on_notice=on_notice,
            resume=resume,
        )
        shown = redact(room.source) if "://" in room.source else room.source
        return OpenFeed(feed, ring, shown or "resolver", realtime or not room.is_file)

    def discard(self, room: RoomConfig, session: str) -> None:
        import shutil

        shutil.rmtree(self._ring_folder(room, session), ignore_errors=True)

    def _ring_folder(self, room: RoomConfig, session: str) -> Path:
        return self.rings / room.id / session


def _resolver(config: ResolverConfig) -> Resolver:
    if config.command:
        return CommandResolver(config.command, config.timeout_s)
    return HttpResolver(config.http, timeout_s=config.timeout_s)
