"""Who asks, what they may, and the headers that keep browsers from being used against them."""

from __future__ import annotations

import hmac
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes, urlsplit

from fastapi import Depends, Request, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderator.errors import (
    CSRF_MISSING,
    NOT_LOGGED_IN,
    PASSWORD_CHANGE_DUE,
    READER_LANGUAGE,
    ModeratorError,
)
from moderator.review import accounts
from moderator.review.api.headers import HEADERS
from moderator.review.api.problems import language
from moderator.review.house import House
from moderator.review.permissions import Permission, Principal
from moderator.review.settings import ReviewSettings

COOKIE = "moderator_session"
CSRF_HEADER = "X-CSRF-Token"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


def house_of(request: Request) -> House:
    house: House = request.app.state.house
    return house


HouseDep = Annotated[House, Depends(house_of)]


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def authenticate(request: Request) -> Principal | None:
    """Whoever the cookie or the token says; None for nobody. LM-901 for a bad token.

    An unsafe request in a session must carry the session's CSRF token and come from our
    own pages (LM-907).
    """
    known = getattr(request.state, "principal", None)
    if isinstance(known, Principal):
        return known
    house = house_of(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        who: Principal | None = accounts.principal_of_token(
            house.database, token.strip(), address_of(request)
        )
    elif cookie := request.cookies.get(COOKIE):
        who = accounts.principal_of_session(
            house.database, house.settings, cookie, address_of(request)
        )
        if who is not None and request.method not in SAFE_METHODS:
            check_same_site(request)
            given = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), who.csrf_token.encode()):
                raise ModeratorError(CSRF_MISSING)
    else:
        who = None
    request.state.principal = who
    return who


def check_same_site(request: Request) -> None:
    """Raises LM-907 when a browser says that another site's page sent this."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ModeratorError(CSRF_MISSING)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise ModeratorError(CSRF_MISSING)


class Needs:
    """A dependency: whoever asks has `permission`, else LM-901, LM-902 or LM-905."""

    def __init__(self, permission: Permission, *, with_given_password: bool = False) -> None:
        self.permission = permission
        self._with_given_password = with_given_password

    def __call__(self, request: Request) -> Principal:
        who = authenticate(request)
        if who is None:
            raise ModeratorError(NOT_LOGGED_IN)
        if who.must_change_password and not self._with_given_password:
            raise ModeratorError(PASSWORD_CHANGE_DUE)
        who.need(self.permission)
        return who


def set_session_cookie(
    request: Request, response: Response, settings: ReviewSettings, token: str
) -> None:
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(settings.session_hours * 3600),
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies == "always" or request.url.scheme == "https",
    )


def clear_session_cookie(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")


class TooLarge(HTTPException):
    """The body went on beyond the limit; the detail is the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"{limit_bytes // 1024} KiB")


class Guard:
    """The outermost layer: security headers on every answer, a bound on every body."""

    def __init__(self, app: ASGIApp, settings: ReviewSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Reasons inside a message are in the same language as the message.
        READER_LANGUAGE.set(language(Request(scope)))
        https = scope["scheme"] == "https"
        api = scope["path"].startswith("/api/")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if https:
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
                if api:
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if "\0" in scope["path"] or b"\0" in unquote_to_bytes(scope["query_string"]):
            await self._refuse(400, "LM-909", "NUL")(scope, receive, send_guarded)
            return
        limit = body_limit(scope["path"], self._settings)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            refusal = self._refuse(413, "LM-917", f"limit: {limit // 1024} KiB")
            await refusal(scope, receive, send_guarded)
            return
        taken = 0

        async def receive_bounded() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > limit:
                    raise TooLarge(limit)
            return message

        await self._app(scope, receive_bounded, send_guarded)

    @staticmethod
    def _refuse(status: int, code: str, detail: str) -> ASGIApp:
        body: dict[str, Any] = {
            "type": f"urn:moderator:problem:{code}",
            "title": "Content Too Large" if status == 413 else "Bad Request",
            "status": status,
            "code": code,
            "detail": detail,
        }
        return JSONResponse(
            body, status, {"Connection": "close"}, media_type="application/problem+json"
        )


CHUNK_BYTES = 16 << 20
"""A recording comes in pieces of at most this size."""


def body_limit(path: str, settings: ReviewSettings) -> int:
    """Bytes that a request to `path` may carry."""
    form = 64 << 10
    if path.startswith("/api/v1/jobs/") and path.endswith("/content"):
        return CHUNK_BYTES
    if path.startswith("/api/v1/check/file"):
        return (settings.script_limit_mib << 20) + form
    if path.startswith("/api/v1/appeal-links/") and path.endswith("/documents"):
        return (settings.document_limit_mib << 20) + form
    if path.startswith("/api/v1/ingest/violations/"):
        return settings.evidence_limit_mib << 20
    if path.startswith("/api/v1/ingest/"):
        return 32 << 20
    return settings.json_limit_kib << 10
