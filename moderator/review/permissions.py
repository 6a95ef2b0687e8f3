"""Roles, and what each may do. A scope of an API token is one of the same words."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from moderator.errors import NOT_ALLOWED, ModeratorError
from moderator.review.audit import Actor


class Role(StrEnum):
    ADMIN = "admin"
    REVIEWER = "reviewer"
    SECOND_REVIEWER = "second_reviewer"
    STREAMER = "streamer"
    AUDITOR = "auditor"


class Permission(StrEnum):
    VIOLATIONS_READ = "violations:read"
    VIOLATIONS_DECIDE = "violations:decide"
    VIOLATIONS_SECOND = "violations:second"
    EVIDENCE_READ = "evidence:read"
    EVIDENCE_EXPORT = "evidence:export"
    APPEALS_INVITE = "appeals:invite"
    APPEALS_ANSWER = "appeals:answer"
    CHECK = "check:run"
    ROOMS_READ = "rooms:read"
    ROOMS_WATCH = "rooms:watch"
    PASSPORTS_READ = "passports:read"
    PASSPORTS_WRITE = "passports:write"
    DASHBOARDS_READ = "dashboards:read"
    VERDICTS_EXPORT = "verdicts:export"
    AUDIT_READ = "audit:read"
    USERS_MANAGE = "users:manage"
    INGEST = "ingest:write"
    RETENTION = "retention:run"
    PRIVATE_DATA = "private:read"
    ACCOUNT = "account:own"
    """One's own password, sessions, tokens and filters."""


_P = Permission

_READER = frozenset({_P.VIOLATIONS_READ, _P.EVIDENCE_READ, _P.ROOMS_READ, _P.ACCOUNT})

_REVIEWER = _READER | {
    _P.VIOLATIONS_DECIDE,
    _P.EVIDENCE_EXPORT,
    _P.APPEALS_INVITE,
    _P.CHECK,
    _P.ROOMS_WATCH,
    _P.PASSPORTS_READ,
    _P.PASSPORTS_WRITE,
    _P.DASHBOARDS_READ,
    _P.PRIVATE_DATA,
}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ADMIN: frozenset(Permission),
    Role.REVIEWER: _REVIEWER,
    Role.SECOND_REVIEWER: _REVIEWER | {_P.VIOLATIONS_SECOND, _P.APPEALS_ANSWER, _P.VERDICTS_EXPORT},
    Role.STREAMER: _READER | {_P.CHECK, _P.PASSPORTS_READ},
    Role.AUDITOR: _READER | {_P.PASSPORTS_READ, _P.DASHBOARDS_READ, _P.AUDIT_READ},
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks: a person in a session or a program with a token.

    `organisation_id` None sees every organisation, except for streamers, who then see none.
    """

    user_id: str
    username: str
    name: str
    role: Role
    organisation_id: str | None
    permissions: frozenset[Permission]
    kind: Literal["session", "token"]
    address: str = ""
    session_id: str = ""
    csrf_token: str = field(default="", repr=False)
    must_change_password: bool = False

    @property
    def actor(self) -> Actor:
        return Actor(self.user_id, self.username, self.address)

    @property
    def sees_all(self) -> bool:
        """Whether no organisation limits what is seen."""
        return self.organisation_id is None and self.role is not Role.STREAMER

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def need(self, permission: Permission) -> None:
        """Raises LM-902 without `permission`."""
        if permission not in self.permissions:
            raise ModeratorError(NOT_ALLOWED, permission=str(permission))

    def sees(self, organisation_id: str | None) -> bool:
        """Whether what belongs to `organisation_id` may be shown."""
        return self.sees_all or (
            self.organisation_id is not None and organisation_id == self.organisation_id
        )
