"""A feed that runs on a thread of its own, and everything it said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.feed import (
    FeedOptions,
    Gap,
    Notice,
    Reason,
    RoomState,
    SourceSpec,
    StateChange,
    StreamFeed,
)

QUICK = {
    "frame_every_s": 0.5,
    "connect_timeout_s": 5.0,
    "stall_after_s": 0.8,
    "reconnect_after_s": 2.0,
    "fast_retry_s": 0.2,
    "fast_retries": 100,
    "ended_after_s": 30.0,
    "give_up_after_s": 8.0,
    "silent_after_s": 1.5,
    "frozen_after_s": 1.5,
}
"""Options for tests, which have seconds where a room has minutes."""


class Watched:
    """Iterates a feed on a thread until it ends or the block is left.

    ::

        with Watched(url) as room:
            room.wait_for(lambda: room.sound_s > 2)
    """

    def __init__(
        self,
        source: str | SourceSpec,
        *,
        ring: Any = None,
        resume: Any = None,
        reader: Callable[[Any], None] = lambda item: None,
        **options: Any,
    ) -> None:
        spec = source if isinstance(source, SourceSpec) else SourceSpec(source, allow_private=True)
        self.items: list[AudioBlock | VideoFrame | Gap] = []
        self.changes: list[StateChange] = []
        self.notices: list[Notice] = []
        self.error: BaseException | None = None
        self.feed = StreamFeed(
            "room",
            spec,
            FeedOptions(**{**QUICK, **options}),
            ring=ring,
            on_state=self.changes.append,
            on_notice=self.notices.append,
            resume=resume,
        )
        self._reader = reader
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.feed.stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the feed does not stop"
        if self.error is not None and raised == (None, None, None):
            raise self.error

    def _run(self) -> None:
        try:
            for item in self.feed:
                self._reader(item)
                self.items.append(item)
        except BaseException as error:
            self.error = error

    @property
    def sound(self) -> list[AudioBlock]:
        return [item for item in self.items if isinstance(item, AudioBlock)]

    @property
    def frames(self) -> list[VideoFrame]:
        return [item for item in self.items if isinstance(item, VideoFrame)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    @property
    def sound_s(self) -> float:
        return sum(block.end - block.start for block in self.sound)

    @property
    def states(self) -> list[RoomState]:
        return [change.after for change in self.changes]

    @property
    def problems(self) -> set[Reason]:
        return {notice.problem for notice in self.notices if notice.active}

    def reasons(self, state: RoomState) -> list[Reason]:
        return [change.reason for change in self.changes if change.after is state]

    def wait_for(self, there: Callable[[], bool], seconds: float = 20.0) -> None:
        """Fails with everything the room said when it is not there in time."""
        until = time.monotonic() + seconds
        while not there():
            if time.monotonic() > until or self.error is not None:
                said = [f"{c.after} ({c.reason}: {c.detail})" for c in self.changes]
                raise AssertionError(
                    f"after {len(self.items)} items, {self.sound_s:.1f} s of sound, gaps "
                    f"{self.gaps}: {said}; {self.problems}; {self.feed.stats.log}; {self.error!r}"
                )
            time.sleep(0.02)

    def wait_for_end(self, seconds: float = 20.0) -> None:
        self.wait_for(lambda: bool(self.states) and self.states[-1].is_final, seconds)
        self._thread.join(5)

    def check_time_runs_forward(self) -> None:
        """In each track, and no gap overlaps what there is."""
        for track in (self.sound, self.frames):
            for before, after in pairwise(track):
                start = after.start if isinstance(after, AudioBlock) else after.time
                assert start >= before.end - 0.021
        for gap in self.gaps:
            assert gap.end > gap.start
            for block in self.sound:
                assert block.end <= gap.start + 0.021 or block.start >= gap.end - 0.021
