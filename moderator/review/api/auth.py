"""/auth: logging in and out, one's own password, sessions and tokens."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from moderator.errors import UPLOAD_TOO_LARGE, ModeratorError
from moderator.review import accounts
from moderator.review.api.schemas import (
    Done,
    LoginIn,
    MeIn,
    MeOut,
    NewTokenOut,
    PasswordIn,
    SessionOut,
    TokenIn,
    TokenOut,
)
from moderator.review.api.security import (
    HouseDep,
    Needs,
    address_of,
    authenticate,
    check_same_site,
    clear_session_cookie,
    set_session_cookie,
)
from moderator.review.house import House
from moderator.review.models import User
from moderator.review.permissions import PERMISSIONS, Permission, Principal, Role

router = APIRouter(prefix="/auth", tags=["auth"])

Own = Annotated[Principal, Depends(Needs(Permission.ACCOUNT))]
OwnFirst = Annotated[Principal, Depends(Needs(Permission.ACCOUNT, with_given_password=True))]

PREFERENCES_BYTES = 16 << 10


@router.post("/login", openapi_extra={"security": []})
def login(body: LoginIn, request: Request, response: Response, house: HouseDep) -> MeOut:
    """Log a browser in: sets the session cookie. Throttled by name and by address."""
    check_same_site(request)
    logged_in = accounts.log_in(
        house.database,
        house.settings,
        body.username,
        body.password,
        address=address_of(request),
        agent=request.headers.get("user-agent", ""),
    )
    set_session_cookie(request, response, house.settings, logged_in.token)
    user, role = logged_in.user, Role(logged_in.user.role)
    return MeOut(
        id=user.id,
        username=user.username,
        name=user.display_name or user.username,
        role=role,
        organisation_id=user.organisation_id,
        permissions=sorted(PERMISSIONS[role]),
        kind="session",
        csrf_token=logged_in.session.csrf_token,
        must_change_password=user.must_change_password,
        preferences=user.preferences,
    )


@router.post("/logout", openapi_extra={"security": []})
def logout(request: Request, response: Response, house: HouseDep) -> Done:
    """End this session; nothing happens where there is none."""
    who = authenticate(request)
    if who is not None and who.kind == "session":
        accounts.log_out(house.database, who)
    clear_session_cookie(response)
    return Done()


@router.get("/me")
def me(who: OwnFirst, house: HouseDep) -> MeOut:
    """Who you are, and what you may do."""
    return _me(house, who)


@router.patch("/me")
def change_me(body: MeIn, who: Own, house: HouseDep) -> MeOut:
    """Change what you are called, or what the console remembers for you."""
    if body.preferences is not None:
        size = len(json.dumps(body.preferences))
        if size > PREFERENCES_BYTES:
            limit = f"{PREFERENCES_BYTES // 1024} KiB"
            raise ModeratorError(UPLOAD_TOO_LARGE, name="preferences", limit=limit)
    with house.database.write() as db:
        user = db.get_one(User, who.user_id)
        if body.display_name is not None:
            user.display_name = body.display_name
        if body.preferences is not None:
            user.preferences = body.preferences
    return _me(house, who)


def _me(house: House, who: Principal) -> MeOut:
    with house.database.read() as db:
        user = db.get_one(User, who.user_id)
    return MeOut(
        id=who.user_id,
        username=who.username,
        name=user.display_name or user.username,
        role=who.role,
        organisation_id=who.organisation_id,
        permissions=sorted(who.permissions),
        kind=who.kind,
        csrf_token=who.csrf_token,
        must_change_password=who.must_change_password,
        preferences=user.preferences,
    )


@router.post("/password")
def password(body: PasswordIn, who: OwnFirst, house: HouseDep) -> Done:
    """Change your password; every other session of yours ends."""
    accounts.change_password(house.database, house.settings, who, body.old, body.new)
    return Done()


@router.get("/sessions")
def sessions(who: Own, house: HouseDep) -> list[SessionOut]:
    """Where you are logged in."""
    with house.database.read() as db:
        found = accounts.sessions_of(db, who.user_id)
    out = [SessionOut.model_validate(session) for session in found]
    for session in out:
        session.current = session.id == who.session_id
    return out


@router.delete("/sessions/{session_id}")
def revoke_session(session_id: str, who: Own, house: HouseDep) -> Done:
    """End one of your sessions; an administrator ends anybody's."""
    with house.database.write() as db:
        accounts.revoke_session(db, who, session_id)
    return Done()


@router.get("/tokens")
def tokens(who: Own, house: HouseDep) -> list[TokenOut]:
    """Your API tokens; the secret part is not kept and cannot be shown again."""
    with house.database.read() as db:
        return [TokenOut.model_validate(token) for token in accounts.tokens_of(db, who.user_id)]


@router.post("/tokens", status_code=201)
def create_token(body: TokenIn, who: Own, house: HouseDep) -> NewTokenOut:
    """Make an API token that may do no more than you."""
    with house.database.write() as db:
        secret, token = accounts.create_token(db, who, body.name, body.scopes, body.expires_at)
    fields = TokenOut.model_validate(token).model_dump()
    return NewTokenOut(**fields, token=secret)


@router.delete("/tokens/{token_id}")
def revoke_token(token_id: str, who: Own, house: HouseDep) -> Done:
    """Revoke a token; it stops working at once."""
    with house.database.write() as db:
        accounts.revoke_token(db, who, token_id)
    return Done()
