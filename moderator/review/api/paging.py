"""Cursors: where a page ended, as a word that clients hand back and do not read."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any

from fastapi import Query

from moderator.errors import CURSOR, ModeratorError

CursorQuery = Annotated[
    str | None,
    Query(max_length=500, description="`next_cursor` of the page before; empty for the first."),
]
LimitQuery = Annotated[int, Query(ge=1, le=200, description="Rows of a page.")]


def encode(kind: str, *values: Any) -> str:
    """A cursor into lists of `kind`."""
    body = json.dumps([kind, *values], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode(kind: str, cursor: str, *types: type | tuple[type, ...]) -> list[Any]:
    """What `encode` was given. Raises LM-923 for another list's cursor, or none at all."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values: list[Any]
        found, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise ModeratorError(CURSOR) from None
    fits = len(values) == len(types) and all(
        isinstance(value, kinds) and not isinstance(value, bool)
        for value, kinds in zip(values, types, strict=True)
    )
    if found != kind or not fits or any(_huge(value) for value in values):
        raise ModeratorError(CURSOR)
    return values


def _huge(value: Any) -> bool:
    """Beyond what a database column holds, or not a number at all."""
    if isinstance(value, float):
        return not -1e300 < value < 1e300
    return isinstance(value, int) and not -(2**62) < value < 2**62
