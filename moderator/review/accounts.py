"""People and programs: passwords, sessions, tokens, and how guessing is slowed down."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderator.errors import (
    ALREADY_THERE,
    INPUT_INVALID,
    LOGIN_THROTTLED,
    LOGIN_WRONG,
    NO_SUCH,
    NOT_ALLOWED,
    NOT_LOGGED_IN,
    PASSWORD_WEAK,
    ModeratorError,
    in_ui_language,
)
from moderator.review import audit
from moderator.review.audit import SYSTEM, Actor
from moderator.review.database import Database
from moderator.review.models import (
    ApiToken,
    LoginFailure,
    LoginSession,
    Organisation,
    User,
    utcnow,
)
from moderator.review.permissions import PERMISSIONS, Permission, Principal, Role
from moderator.review.settings import ReviewSettings

HASHER = PasswordHash((Argon2Hasher(),))

TOKEN_PREFIX = "lm_"  # noqa: S105 - how a token begins, so that scanners of secrets know one

FAILURES_OF_A_NAME = 4
"""From all addresses together a name may fail this many times as often as from one."""

FAILURES_OF_AN_ADDRESS = 8
"""An office behind one address has many people."""

_TOUCH_EVERY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """`token` goes into the cookie and is kept nowhere else."""

    token: str
    session: LoginSession
    user: User


def ensure_admin(database: Database) -> str | None:
    """Create the first administrator where nobody is; returns the one-time password, once."""
    with database.write() as db:
        if db.scalar(select(User.id).limit(1)) is not None:
            return None
        password = one_time_password()
        admin = User(
            username="admin",
            display_name="Administrator",
            password_hash=HASHER.hash(password),
            role=Role.ADMIN,
            organisation_id=None,
        )
        db.add(admin)
        db.flush()
        audit.append(db, SYSTEM, "user.create", "user", admin.id, detail={"username": "admin"})
    return password


def one_time_password() -> str:
    """Four groups of four, without letters that look alike: 80 bits or more."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


# --- logging in -----------------------------------------------------------------------


def log_in(
    database: Database,
    settings: ReviewSettings,
    username: str,
    password: str,
    *,
    address: str = "",
    agent: str = "",
) -> LoggedIn:
    """Raises LM-904 while the name or the address must wait, LM-903 when it is wrong."""
    name = username.strip().lower()[:100]
    attempt = _reserve(database, settings, name, address)
    with database.read() as db:
        user = db.scalar(select(User).where(User.username == name))
    good = _check(user, password)
    if user is None or not good or user.disabled:
        with database.write() as db:
            who = Actor(user.id if user else "", name, address)
            audit.append(db, who, "login.failed", "user", user.id if user else "")
        raise ModeratorError(LOGIN_WRONG)
    token, session = _new_session(settings, user.id, address, agent)
    with database.write() as db:
        db.execute(
            delete(LoginFailure).where(
                (LoginFailure.id == attempt)
                | ((LoginFailure.username == name) & (LoginFailure.address == address))
            )
        )
        kept = db.get_one(User, user.id)
        kept.last_login_at = utcnow()
        if HASHER.current_hasher.check_needs_rehash(kept.password_hash):
            kept.password_hash = HASHER.hash(password)
        db.add(session)
        db.flush()
        audit.append(db, Actor(user.id, name, address), "login", "session", session.id)
    return LoggedIn(token, session, kept)


def _reserve(database: Database, settings: ReviewSettings, name: str, address: str) -> int:
    """Count this attempt as failed before the password is looked at: many at once gain nothing."""
    since = utcnow() - timedelta(minutes=settings.login_window_minutes)
    limit = settings.login_failures
    mine = LoginFailure.username == name
    here = LoginFailure.address == address
    with database.write() as db:
        db.execute(delete(LoginFailure).where(LoginFailure.at < since))
        for condition, allowed in (
            (mine & here, limit),
            (mine, limit * FAILURES_OF_A_NAME),
            (here, limit * FAILURES_OF_AN_ADDRESS),
        ):
            count, newest = db.execute(
                select(func.count(), func.max(LoginFailure.at)).where(condition)
            ).one()
            if count >= allowed and newest is not None:
                wait = newest - since
                raise ModeratorError(LOGIN_THROTTLED, seconds=max(1, int(wait.total_seconds())))
        failure = LoginFailure(username=name, address=address)
        db.add(failure)
        db.flush()
        return failure.id


_NOBODYS_HASH: list[str] = []


def _check(user: User | None, password: str) -> bool:
    """As slow for a name that does not exist as for one that does."""
    if len(password) > 1024:
        return False
    if not _NOBODYS_HASH:
        _NOBODYS_HASH.append(HASHER.hash(secrets.token_hex(8)))
    stored = user.password_hash if user is not None else _NOBODYS_HASH[0]
    return HASHER.verify(password, stored) and user is not None


def _new_session(
    settings: ReviewSettings, user_id: str, address: str, agent: str
) -> tuple[str, LoginSession]:
    token = secrets.token_urlsafe(32)
    session = LoginSession(
        user_id=user_id,
        token_hash=_digest(token),
        csrf_token=secrets.token_urlsafe(24),
        expires_at=utcnow() + timedelta(hours=settings.session_hours),
        address=address[:64],
        agent=agent[:300],
    )
    return token, session


# --- who asks -------------------------------------------------------------------------


def principal_of_session(
    database: Database, settings: ReviewSettings, token: str, address: str
) -> Principal | None:
    """Whose cookie this is; None when it is over, revoked, or nobody's."""
    now = utcnow()
    with database.read() as db:
        row = db.execute(
            select(LoginSession, User)
            .join(User, User.id == LoginSession.user_id)
            .where(LoginSession.token_hash == _digest(token))
        ).first()
    if row is None:
        return None
    session, user = row
    idle_until = session.seen_at + timedelta(minutes=settings.session_idle_minutes)
    if session.revoked_at or user.disabled or now >= min(session.expires_at, idle_until):
        return None
    if now - session.seen_at > _TOUCH_EVERY:
        with database.write() as db:
            db.execute(
                update(LoginSession).where(LoginSession.id == session.id).values(seen_at=now)
            )
    role = Role(user.role)
    return Principal(
        user_id=user.id,
        username=user.username,
        name=user.display_name or user.username,
        role=role,
        organisation_id=user.organisation_id,
        permissions=PERMISSIONS[role],
        kind="session",
        address=address,
        session_id=session.id,
        csrf_token=session.csrf_token,
        must_change_password=user.must_change_password,
    )


def principal_of_token(database: Database, token: str, address: str) -> Principal:
    """Whose API token this is. Raises LM-901 when it is over, revoked, or nobody's."""
    now = utcnow()
    with database.read() as db:
        row = db.execute(
            select(ApiToken, User)
            .join(User, User.id == ApiToken.user_id)
            .where(ApiToken.token_hash == _digest(token))
        ).first()
    if row is None:
        raise ModeratorError(NOT_LOGGED_IN)
    key, user = row
    over = key.expires_at is not None and now >= key.expires_at
    if key.revoked_at or over or user.disabled:
        raise ModeratorError(NOT_LOGGED_IN)
    if key.used_at is None or now - key.used_at > _TOUCH_EVERY:
        with database.write() as db:
            db.execute(update(ApiToken).where(ApiToken.id == key.id).values(used_at=now))
    role = Role(user.role)
    scopes = {Permission(scope) for scope in key.scopes if scope in set(Permission)}
    return Principal(
        user_id=user.id,
        username=user.username,
        name=user.display_name or user.username,
        role=role,
        organisation_id=user.organisation_id,
        permissions=PERMISSIONS[role] & scopes,
        kind="token",
        address=address,
        must_change_password=user.must_change_password,
    )


# --- one's own account ----------------------------------------------------------------


def change_password(
    database: Database, settings: ReviewSettings, who: Principal, old: str, new: str
) -> None:
    """Also ends every other session of the person. Raises LM-903, LM-904 or LM-906."""
    attempt = _reserve(database, settings, who.username, who.address)
    with database.read() as db:
        user = db.get_one(User, who.user_id)
    if not _check(user, old):
        raise ModeratorError(LOGIN_WRONG)
    check_password(settings, new, user.username)
    if old == new:
        reason = in_ui_language("it is the one you have", "与当前密码相同")
        raise ModeratorError(PASSWORD_WEAK, reason=reason)
    hashed = HASHER.hash(new)
    with database.write() as db:
        db.execute(delete(LoginFailure).where(LoginFailure.id == attempt))
        kept = db.get_one(User, who.user_id)
        kept.password_hash = hashed
        kept.must_change_password = False
        _revoke_sessions(db, who.user_id, but=who.session_id)
        audit.append(db, who.actor, "password.change", "user", who.user_id)


def check_password(settings: ReviewSettings, password: str, username: str) -> None:
    """Raises LM-906 with the reason."""
    low = password.lower()
    if len(password) < settings.password_min_length:
        count = settings.password_min_length
        reason = in_ui_language(f"it needs {count} characters", f"至少需要 {count} 个字符")
    elif len(password) > 1024:
        reason = in_ui_language("it is longer than 1024 characters", "超过 1024 个字符")
    elif username and username.lower() in low:
        reason = in_ui_language("it holds the user's name", "包含用户名")
    elif len(set(low)) < 5 or any(word in low for word in _COMMON):
        reason = in_ui_language("it is too common", "过于常见")
    else:
        return
    raise ModeratorError(PASSWORD_WEAK, reason=reason)


_COMMON = ("password", "12345678", "qwerty", "letmein", "iloveyou", "11111111", "abcd1234")


def log_out(database: Database, who: Principal) -> None:
    with database.write() as db:
        revoke_session(db, who, who.session_id)


def sessions_of(db: Session, user_id: str) -> Sequence[LoginSession]:
    """The sessions that are good now, newest first."""
    return db.scalars(
        select(LoginSession)
        .where(
            LoginSession.user_id == user_id,
            LoginSession.revoked_at.is_(None),
            LoginSession.expires_at > utcnow(),
        )
        .order_by(LoginSession.created_at.desc())
    ).all()


def revoke_session(db: Session, who: Principal, session_id: str) -> None:
    """End one of one's own sessions, or as administrator anybody's. Raises LM-908."""
    session = db.get(LoginSession, session_id)
    if session is None or not _manages(db, who, session.user_id):
        raise ModeratorError(NO_SUCH, kind=in_ui_language("session", "登录"), id=session_id)
    if session.revoked_at is None:
        session.revoked_at = utcnow()
        audit.append(db, who.actor, "session.revoke", "session", session_id)


def _revoke_sessions(db: Session, user_id: str, *, but: str = "") -> None:
    db.execute(
        update(LoginSession)
        .where(
            LoginSession.user_id == user_id,
            LoginSession.id != but,
            LoginSession.revoked_at.is_(None),
        )
        .values(revoked_at=utcnow())
    )


# --- tokens ---------------------------------------------------------------------------


def create_token(
    db: Session,
    who: Principal,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> tuple[str, ApiToken]:
    """A token that may do no more than its owner; the first value is shown once. LM-902, LM-909."""
    for scope in scopes:
        if scope not in set(Permission):
            raise ModeratorError(INPUT_INVALID, place="scopes", reason=f"'{scope}'")
        who.need(Permission(scope))
    if expires_at is not None and expires_at <= utcnow():
        reason = in_ui_language("it lies in the past", "早于当前时间")
        raise ModeratorError(INPUT_INVALID, place="expires_at", reason=reason)
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        user_id=who.user_id,
        name=name,
        token_hash=_digest(secret),
        hint=secret[:8],
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    db.add(token)
    db.flush()
    detail = {"name": name, "scopes": token.scopes}
    audit.append(db, who.actor, "token.create", "token", token.id, detail=detail)
    return secret, token


def tokens_of(db: Session, user_id: str) -> Sequence[ApiToken]:
    return db.scalars(
        select(ApiToken)
        .where(ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None))
        .order_by(ApiToken.created_at.desc())
    ).all()


def revoke_token(db: Session, who: Principal, token_id: str) -> None:
    """Raises LM-908."""
    token = db.get(ApiToken, token_id)
    if token is None or not _manages(db, who, token.user_id):
        raise ModeratorError(NO_SUCH, kind=in_ui_language("token", "令牌"), id=token_id)
    if token.revoked_at is None:
        token.revoked_at = utcnow()
        audit.append(db, who.actor, "token.revoke", "token", token_id)


# --- administration -------------------------------------------------------------------


def organisations(db: Session, who: Principal) -> Sequence[Organisation]:
    query = select(Organisation).order_by(Organisation.name)
    if not who.sees_all:
        query = query.where(Organisation.id == (who.organisation_id or ""))
    return db.scalars(query).all()


def create_organisation(db: Session, who: Principal, name: str) -> Organisation:
    """Raises LM-902 for an administrator of one organisation, LM-924."""
    if not who.sees_all:
        raise ModeratorError(NOT_ALLOWED, permission=str(Permission.USERS_MANAGE))
    organisation = Organisation(name=name.strip())
    _add_unique(db, organisation, in_ui_language("organisation", "机构"), name)
    audit.append(
        db,
        who.actor,
        "organisation.create",
        "organisation",
        organisation.id,
        organisation_id=organisation.id,
        detail={"name": name},
    )
    return organisation


def users(db: Session, who: Principal) -> Sequence[User]:
    query = select(User).order_by(User.username)
    if not who.sees_all:
        query = query.where(User.organisation_id == (who.organisation_id or ""))
    return db.scalars(query).all()


def colleagues(db: Session, who: Principal) -> Sequence[User]:
    """Those an item can be given to: people who decide, and see what `who` sees."""
    roles = [str(role) for role, may in PERMISSIONS.items() if Permission.VIOLATIONS_DECIDE in may]
    query = select(User).where(User.role.in_(roles), User.disabled.is_(False))
    if not who.sees_all:
        query = query.where(User.organisation_id == (who.organisation_id or ""))
    return db.scalars(query.order_by(User.username)).all()


def create_user(
    db: Session,
    who: Principal,
    *,
    username: str,
    role: Role,
    display_name: str = "",
    organisation_id: str | None = None,
) -> tuple[User, str]:
    """The person and the one-time password. Raises LM-902, LM-908, LM-909, LM-924."""
    organisation_id = _organisation_for(db, who, organisation_id)
    _check_scope(role, organisation_id)
    password = one_time_password()
    user = User(
        username=username.strip().lower(),
        display_name=display_name,
        password_hash=HASHER.hash(password),
        role=role,
        organisation_id=organisation_id,
    )
    _add_unique(db, user, in_ui_language("user", "用户"), username)
    audit.append(
        db,
        who.actor,
        "user.create",
        "user",
        user.id,
        organisation_id=organisation_id,
        detail={"username": user.username, "role": role},
    )
    return user, password


def update_user(
    db: Session,
    who: Principal,
    user_id: str,
    *,
    role: Role | None = None,
    display_name: str | None = None,
    disabled: bool | None = None,
) -> User:
    """Change a person; a change of role or a ban ends the sessions. LM-908, LM-909."""
    user = _managed(db, who, user_id)
    if user.id == who.user_id and (disabled or (role and role != user.role)):
        reason = in_ui_language("nobody takes away their own rights", "不能取消自己的权限")
        raise ModeratorError(INPUT_INVALID, place="role", reason=reason)
    changes: dict[str, object] = {}
    if role is not None and role != user.role:
        _check_scope(role, user.organisation_id)
        user.role = changes["role"] = role
    if display_name is not None:
        user.display_name = changes["display_name"] = display_name
    if disabled is not None:
        user.disabled = changes["disabled"] = disabled
    if "role" in changes or disabled:
        _revoke_sessions(db, user.id)
    audit.append(
        db,
        who.actor,
        "user.update",
        "user",
        user.id,
        organisation_id=user.organisation_id,
        detail=changes,
    )
    return user


def reset_password(db: Session, who: Principal, user_id: str) -> str:
    """A fresh one-time password; every session of the person is over. LM-908."""
    user = _managed(db, who, user_id)
    password = one_time_password()
    user.password_hash = HASHER.hash(password)
    user.must_change_password = True
    _revoke_sessions(db, user.id)
    audit.append(
        db,
        who.actor,
        "password.reset",
        "user",
        user.id,
        organisation_id=user.organisation_id,
    )
    return password


def _managed(db: Session, who: Principal, user_id: str) -> User:
    user = db.get(User, user_id)
    if user is None or not _manages(db, who, user_id):
        raise ModeratorError(NO_SUCH, kind=in_ui_language("user", "用户"), id=user_id)
    return user


def _manages(db: Session, who: Principal, user_id: str) -> bool:
    if user_id == who.user_id:
        return True
    if not who.may(Permission.USERS_MANAGE):
        return False
    if who.sees_all:
        return True
    user = db.get(User, user_id)
    return user is not None and who.sees(user.organisation_id)


def _organisation_for(db: Session, who: Principal, organisation_id: str | None) -> str | None:
    if not who.sees_all:
        if organisation_id not in (None, who.organisation_id):
            raise _no_organisation(organisation_id)
        return who.organisation_id
    if organisation_id is not None and db.get(Organisation, organisation_id) is None:
        raise _no_organisation(organisation_id)
    return organisation_id


def _no_organisation(organisation_id: str | None) -> ModeratorError:
    kind = in_ui_language("organisation", "机构")
    return ModeratorError(NO_SUCH, kind=kind, id=organisation_id)


def _check_scope(role: Role, organisation_id: str | None) -> None:
    if role is Role.STREAMER and organisation_id is None:
        reason = in_ui_language("a streamer belongs to an organisation", "主播必须属于某个机构")
        raise ModeratorError(INPUT_INVALID, place="organisation_id", reason=reason)


def _add_unique(db: Session, row: Organisation | User, kind: str, name: str) -> None:
    try:
        with db.begin_nested():
            db.add(row)
    except IntegrityError:
        raise ModeratorError(ALREADY_THERE, kind=kind, name=name) from None


def _digest(secret: str) -> str:
    """Tokens are random, so one round of SHA-256 keeps them safe at rest."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
