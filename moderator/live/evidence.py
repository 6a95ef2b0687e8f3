"""Clips and frames for the records of live rooms, cut once the post roll has arrived."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from moderator.errors import ModeratorError
from moderator.live.config import EvidenceConfig
from moderator.live.ports import RingPort
from moderator.live.screen import Picture
from moderator.live.worker import Worker
from moderator.records import Violation

log = structlog.get_logger()

NOT_READY = "LM-117"
"""What a ring says while the post roll is not there yet."""
RETRY_S = 1.0
SPARE_S = 1.0
YIELD_S = 120.0
"""Evidence gives way to rooms that lag for so long at most: a ring holds minutes, not hours."""
NICENESS = 10
"""Cutting takes no time away from listening."""
GIVE_UP_S = 90.0
"""A post roll that has not come by then will not come."""
SETTLE_S = 0.5


@dataclass(slots=True, eq=False)
class Room:
    """What evidence needs of one session. `write` takes the body of an `evidence` event."""

    folder: str
    ring: RingPort | None
    media_now: Callable[[], float]
    write: Callable[[Violation, dict[str, Any]], None]
    over_at: float | None = None
    """Media-clock second at which the session ended: no post roll comes after it."""
    clips: deque[_Clip] = field(default_factory=lambda: deque(maxlen=16))
    """The latest ones, for records of the same words."""


@dataclass(frozen=True, slots=True)
class _Clip:
    begin: float
    end: float
    name: str
    sha256: str

    def shows(self, start: float, end: float) -> bool:
        """Whether the words are in it with a second to spare on both sides."""
        return self.begin <= max(0.0, start - SPARE_S) and end + SPARE_S <= self.end


@dataclass(slots=True, eq=False)
class _Task:
    room: Room
    record: Violation
    pictures: tuple[Picture, ...]
    due_media_s: float
    put_at: float
    not_before: float = 0.0


@dataclass(slots=True)
class EvidenceStats:
    clips: int = 0
    frames: int = 0
    failed: int = 0
    dropped: int = 0
    busy_s: float = 0.0


class EvidenceWorker(Worker):
    """Cuts evidence on one thread, so that a burst of records never slows the rooms down.

    A record waits until its words and `post_s` after them have been live, then its clip is cut
    from the room's ring and its frames, with the text boxed, are written; both go below `out`
    with names relative to it, and an `evidence` event says the sha256 of each. A record whose
    evidence cannot be had gets an event that says why. Records of the same words share a clip.
    While `busy` says that rooms lag, evidence waits. Queue policy `refuse`: with `most` tasks
    waiting, a further record gets such an event at once, and is counted.
    """

    patience_s = 600.0
    """ffmpeg may take two minutes for each of its tries at a clip."""

    def __init__(
        self,
        out: Path,
        config: EvidenceConfig,
        *,
        most: int = 200,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__("evidence", niceness=NICENESS, clock=clock)
        self.out = out
        self.config = config
        self.stats = EvidenceStats()
        self._most = most
        self._tasks: list[_Task] = []
        self.busy: Callable[[], bool] = lambda: False

    def want(self, room: Room, record: Violation, pictures: tuple[Picture, ...] = ()) -> None:
        """Have evidence made for `record`. Returns at once."""
        with self._change:
            full = len(self._tasks) >= self._most
            if full:
                self.stats.dropped += 1
            else:
                due_s = self._words_end(record) + self.config.post_s + SETTLE_S
                self._tasks.append(_Task(room, record, pictures, due_s, self._clock()))
                self._change.notify_all()
        if full:
            room.write(record, {"violation": record.id, "error": "evidence queue full"})

    def drain(self, room: Room, timeout_s: float) -> bool:
        """Wait until nothing of `room` is left; False when it took too long."""
        with self._change:
            return self._change.wait_for(
                lambda: self._stopping or not any(task.room is room for task in self._tasks),
                timeout_s,
            )

    @property
    def waiting(self) -> int:
        with self._change:
            return len(self._tasks)

    def step(self) -> bool:
        """Make the evidence of one record, or wait a little."""
        with self._change:
            if self._stopping:
                return False
            self._beat = self._clock()
            task = self._next()
            if task is None:
                self._change.wait(0.25)
                return True
        try:
            done = self._make(task)
        except Exception:
            # One record's evidence must not cost the others theirs.
            log.exception("evidence.failed", violation=task.record.id)
            self.stats.failed += 1
            done = True
        with self._change:
            if done:
                self._tasks.remove(task)
                self._change.notify_all()
        return True

    def _next(self) -> _Task | None:
        now = self._clock()
        busy = self.busy()
        ready = [
            task
            for task in self._tasks
            if now >= task.not_before
            and not (busy and task.room.over_at is None and now - task.put_at < YIELD_S)
            and (task.room.over_at is not None or task.room.media_now() >= task.due_media_s)
        ]
        return min(ready, key=lambda task: task.due_media_s, default=None)

    def _words_end(self, record: Violation) -> float:
        return min(record.end, record.start + self.config.longest_s)

    def _make(self, task: _Task) -> bool:
        """Make the evidence of one record; False to try again later."""
        began = self._clock()
        record, room = task.record, task.room
        files: dict[str, str] = {}
        errors: list[str] = []
        clip: str | None = None
        if room.ring is not None and self.config.clips:
            try:
                clip, files = self._clip(task, room.ring)
            except ModeratorError as error:
                patient = began - task.put_at < GIVE_UP_S + YIELD_S and room.over_at is None
                if error.code == NOT_READY and patient:
                    task.not_before = began + RETRY_S
                    return False
                errors.append(error.text().splitlines()[0])
        frames = []
        for number, picture in enumerate(task.pictures):
            if picture.jpeg is None:
                continue
            name = f"{room.folder}/frames/{record.id}{f'-{number}' if number else ''}.jpg"
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_boxed(picture))
            frames.append(name)
            files[name] = _sha256(path)
            self.stats.frames += 1
        body: dict[str, Any] = {
            "violation": record.id,
            "clip": clip,
            "frames": frames,
            "sha256": files,
        }
        if errors:
            self.stats.failed += 1
            body["error"] = "; ".join(errors)
        room.write(record, body)
        self.stats.busy_s += self._clock() - began
        return True

    def _clip(self, task: _Task, ring: RingPort) -> tuple[str, dict[str, str]]:
        """Name and sha256 of a clip with the words. Raises what the ring raises."""
        room, record, config = task.room, task.record, self.config
        end, post_s = self._words_end(record), config.post_s
        if room.over_at is not None:
            end = min(end, room.over_at)
            post_s = max(0.0, min(post_s, room.over_at - end - 0.05))
        clip = next((one for one in room.clips if one.shows(record.start, end)), None)
        if clip is None:
            name = f"{room.folder}/clips/{record.id}.mp4"
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            ring.clip(record.start, end, path, pre_s=config.pre_s, post_s=post_s)
            self.stats.clips += 1
            clip = _Clip(record.start - config.pre_s, end + post_s, name, _sha256(path))
            room.clips.append(clip)
        return clip.name, {clip.name: clip.sha256}


def _boxed(picture: Picture) -> bytes:
    from moderator.vision.reader import boxed_jpeg, decode_jpeg

    assert picture.jpeg is not None
    return boxed_jpeg(decode_jpeg(picture.jpeg), [picture.seen.box])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
