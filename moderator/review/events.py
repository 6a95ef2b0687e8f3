"""What open consoles are told as it happens, over server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from moderator.review.database import Database
from moderator.review.models import Change, utcnow
from moderator.review.permissions import Permission, Principal
from moderator.review.privacy import shown_to

log = structlog.get_logger("moderator.review.events")

POLL_S = 0.5
KEEPALIVE_S = 15.0
REPLAY = 1000
"""A console that was away longer than this many changes reloads instead."""

LOOK_BACK = 200
"""A number may be given out before, and be seen after, a higher one: each poll looks back."""


def announce(
    db: Session,
    kind: str,
    object_id: str,
    organisation_id: str | None,
    body: dict[str, Any],
) -> None:
    """Tell open consoles once the caller's transaction is kept."""
    db.add(Change(kind=kind, object_id=object_id, organisation_id=organisation_id, body=body))


class Hub:
    """One reader of the changes in a process, and everyone who listens to it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[asyncio.Queue[Change]] = set()
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    async def stream(
        self, who: Principal, still: Callable[[], bool], after: int | None = None
    ) -> AsyncIterator[str]:
        """Events in the wire format of SSE for what `who` may see, from `after` on.

        Ends when `still` says that the session is over, when the server stops, or when the
        listener is too slow; browsers then come back by themselves.
        """
        queue: asyncio.Queue[Change] = asyncio.Queue(maxsize=2000)
        self._listeners.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll())
        try:
            yield "retry: 2000\n\n"
            if after is not None:
                for text in await run_in_threadpool(self._missed, who, after):
                    yield text
            while not self._ended and not queue.full():
                try:
                    change = await asyncio.wait_for(queue.get(), KEEPALIVE_S)
                except TimeoutError:
                    if not await run_in_threadpool(still):
                        return
                    yield ": still here\n\n"
                    continue
                if change.kind == _STOP:
                    return
                if _may_hear(who, change):
                    yield _wire(who, change)
        finally:
            self._listeners.discard(queue)

    async def stop(self) -> None:
        """End every stream, so that a server that is asked to stop is not held up."""
        self._ended = True
        for queue in self._listeners:
            with suppress(asyncio.QueueFull):
                queue.put_nowait(Change(kind=_STOP, object_id="", body={}))
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def _poll(self) -> None:
        last = -1
        seen: deque[int] = deque(maxlen=2 * LOOK_BACK)
        while self._listeners:
            try:
                if last < 0:
                    last, known = await run_in_threadpool(self._newest)
                    seen.extend(known)
                for change in await run_in_threadpool(self._since, last):
                    if change.id in seen:
                        continue
                    seen.append(change.id)
                    last = max(last, change.id)
                    for queue in self._listeners:
                        with suppress(asyncio.QueueFull):
                            queue.put_nowait(change)
            except SQLAlchemyError as error:
                log.warning("changes cannot be read", reason=type(error).__name__)
                await asyncio.sleep(2 * POLL_S)
            await asyncio.sleep(POLL_S)

    def _newest(self) -> tuple[int, list[int]]:
        with self._database.read() as db:
            last = db.scalar(select(func.max(Change.id))) or 0
            known = db.scalars(select(Change.id).where(Change.id > last - LOOK_BACK)).all()
        return last, list(known)

    def _since(self, last: int) -> list[Change]:
        with self._database.read() as db:
            found = db.scalars(
                select(Change).where(Change.id > last - LOOK_BACK).order_by(Change.id).limit(2000)
            )
            return list(found)

    def _missed(self, who: Principal, after: int) -> list[str]:
        with self._database.read() as db:
            found = list(
                db.scalars(
                    select(Change).where(Change.id > after).order_by(Change.id).limit(REPLAY + 1)
                )
            )
        if len(found) > REPLAY:
            return ["event: reload\ndata: {}\n\n"]
        return [_wire(who, change) for change in found if _may_hear(who, change)]


_STOP = "stop"

_NEEDS = {"violation": Permission.VIOLATIONS_READ, "room": Permission.ROOMS_READ}


def _may_hear(who: Principal, change: Change) -> bool:
    need = _NEEDS.get(change.kind.partition(".")[0])
    return (need is None or who.may(need)) and who.sees(change.organisation_id)


def _wire(who: Principal, change: Change) -> str:
    body = {"id": change.object_id, "at": _time(change.at), **shown_to(who, change.body)}
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"id: {change.id}\nevent: {change.kind}\ndata: {data}\n\n"


def _time(at: datetime | None) -> str:
    return (at or utcnow()).isoformat(timespec="milliseconds")


KEEP_CHANGES = timedelta(days=1)
