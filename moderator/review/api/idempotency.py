"""`Idempotency-Key`: the same POST sent twice is done once, and answered twice.

Kept for a day, for each user. The key with another request, or while the first use is
still running, is refused (LM-922). Only answers of success are kept; after a failure the
key is free again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from starlette.concurrency import run_in_threadpool

from moderator.errors import IDEMPOTENCY, INPUT_INVALID, ModeratorError
from moderator.review.api.security import authenticate, house_of
from moderator.review.database import Database
from moderator.review.models import IdempotentCall, utcnow

HEADER = "idempotency-key"

KEEP = timedelta(days=1)
ABANDONED = timedelta(minutes=2)
"""A first use that has not ended by then went down with its process."""

LARGEST_ANSWER = 1 << 20


class IdempotentRoute(APIRoute):
    """A route whose POSTs honour the header."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or request.method != "POST":
                return await handle(request)
            who = await run_in_threadpool(authenticate, request)
            if who is None or "multipart/" in request.headers.get("content-type", ""):
                return await handle(request)
            if not 1 <= len(key) <= 200 or not key.isprintable():
                raise ModeratorError(INPUT_INVALID, place="Idempotency-Key", reason="1–200")
            content = hashlib.sha256(await request.body())
            content.update(f"\n{request.url.path}?{request.url.query}".encode())
            database = house_of(request).database
            call = (who.user_id, key)
            kept = await run_in_threadpool(_begin, database, call, content.hexdigest())
            if kept is not None:
                return Response(
                    kept.body,
                    kept.status,
                    {"Idempotent-Replay": "true"},
                    media_type="application/json",
                )
            try:
                response = await handle(request)
            except BaseException:
                await run_in_threadpool(_forget, database, call)
                raise
            body = bytes(getattr(response, "body", b""))
            if response.status_code < 300 and len(body) <= LARGEST_ANSWER:
                await run_in_threadpool(_keep, database, call, response.status_code, body)
            else:
                await run_in_threadpool(_forget, database, call)
            return response

        return handle_once


def _begin(database: Database, call: tuple[str, str], fingerprint: str) -> IdempotentCall | None:
    """The answer that is kept, or None when this is the first use, which is then noted."""
    now = utcnow()
    try:
        with database.write() as db:
            row = db.get(IdempotentCall, call)
            if row is not None:
                old = row.at < now - KEEP or (row.status == 0 and row.at < now - ABANDONED)
                if not old:
                    if row.fingerprint != fingerprint or row.status == 0:
                        raise ModeratorError(IDEMPOTENCY)
                    return row
                db.delete(row)
                db.flush()
            db.add(IdempotentCall(user_id=call[0], key=call[1], fingerprint=fingerprint, at=now))
    except IntegrityError:
        raise ModeratorError(IDEMPOTENCY) from None
    return None


def _keep(database: Database, call: tuple[str, str], status: int, body: bytes) -> None:
    with database.write() as db:
        row = db.get(IdempotentCall, call)
        if row is not None:
            row.status, row.body = status, body.decode()


def _forget(database: Database, call: tuple[str, str]) -> None:
    with database.write() as db:
        db.execute(
            delete(IdempotentCall).where(
                IdempotentCall.user_id == call[0], IdempotentCall.key == call[1]
            )
        )
