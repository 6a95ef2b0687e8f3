"""What the live rooms need of the journal, a feed and a ring; anything of that form will do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.room_state import Gap, RoomState


class JournalPort(Protocol):
    """Where everything a session says is written first; durable when `append` returns."""

    def append(
        self,
        session: str,
        room: str,
        type: str,
        body: dict[str, Any],
        *,
        key: str | None = None,
        media_s: float | None = None,
    ) -> Any: ...

    def checkpoint(self, session: str, media_s: float) -> None: ...


class FeedPort(Protocol):
    """One room's input; `moderator.media.feed.StreamFeed` is one."""

    def __iter__(self) -> Iterator[AudioBlock | VideoFrame | Gap]: ...

    def stop(self) -> None: ...

    def set_frame_every(self, seconds: float) -> None: ...

    def media_now(self) -> float: ...

    def wall_at(self, media_s: float) -> float: ...

    @property
    def state(self) -> RoomState: ...

    @property
    def stats(self) -> Any: ...


class RingPort(Protocol):
    """Copies of the stream on disk; `moderator.media.ring.RingBuffer` is one."""

    def clip(
        self, start: float, end: float, path: Path, /, *, pre_s: float, post_s: float
    ) -> Path: ...

    def frame(self, at: float, /) -> NDArray[np.uint8]: ...
