"""The queue: which violations there are, who works on them, and what is decided.

    open ─ confirm / dismiss ─────────────────────────────► confirmed / dismissed
      │        └ critical: second_review ─ another person ─┘        │ appeal
      ├ needs_proof ─┐                                              ▼
      └ escalate ────┴─ decided later, the escalated by a second  appealed ─► confirmed / dismissed

Every change checks the version it was made on, appends to the audit log in the same
transaction, and tells the open consoles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from moderator.errors import (
    CHANGED_MEANWHILE,
    CLAIMED_BY_OTHER,
    FOUR_EYES,
    INPUT_INVALID,
    NO_SUCH,
    TRANSITION,
    UNDO_IMPOSSIBLE,
    ModeratorError,
    in_ui_language,
)
from moderator.review import audit, search
from moderator.review.events import announce
from moderator.review.models import (
    Decision,
    Note,
    User,
    ViolationRecord,
    ViolationRow,
    utcnow,
)
from moderator.review.permissions import PERMISSIONS, Permission, Principal, Role
from moderator.review.settings import ReviewSettings

STATUSES = (
    "open",
    "second_review",
    "needs_proof",
    "escalated",
    "appealed",
    "confirmed",
    "dismissed",
)

UNDECIDED = ("open", "second_review", "needs_proof", "escalated", "appealed")

Action = Literal["confirm", "dismiss", "needs_proof", "escalate", "reopen"]

DISMISS_REASONS: dict[str, tuple[str, str]] = {
    "misheard": ("识别错误，原话不是这样", "Misheard: other words were said"),
    "misread": ("画面文字识别错误", "Misread: other text was shown"),
    "context": ("结合上下文不构成违规", "Lawful in its context"),
    "negated": ("否认、提醒或引用他人", "Denied, warned of, or quoted"),
    "proof_present": ("有合法依据或证明文件", "Lawful: there is proof"),
    "wrong_product": ("对应的商品不对", "About another product"),
    "rule_too_wide": ("规则过宽，需要修正", "The rule is too wide"),
    "duplicate": ("与另一条重复", "The same as another"),
    "minor": ("情节轻微，不予处理", "Too slight to act on"),
    "other": ("其他（请写明）", "Other (say what)"),
}
"""Why something is no violation: (zh, en). They label the data that the rules are mended with."""

_AFTER: dict[str, str] = {
    "confirm": "confirmed",
    "dismiss": "dismissed",
    "needs_proof": "needs_proof",
    "escalate": "escalated",
    "reopen": "open",
}

ALLOWED_FROM: dict[str, frozenset[str]] = {
    "confirm": frozenset({"open", "needs_proof", "escalated", "second_review"}),
    "dismiss": frozenset({"open", "needs_proof", "escalated", "second_review"}),
    "needs_proof": frozenset({"open", "escalated"}),
    "escalate": frozenset({"open", "needs_proof", "second_review"}),
    "reopen": frozenset({"confirmed", "dismissed", "needs_proof", "escalated"}),
}

Sort = Literal["risk", "newest", "oldest", "confidence"]

_SORTS: dict[str, tuple[Any, bool]] = {
    "risk": (ViolationRow.risk, True),
    "newest": (ViolationRow.at, True),
    "oldest": (ViolationRow.at, False),
    "confidence": (ViolationRow.confidence, True),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the queue shows. Empty tuples and None do not filter.

    `assignee` is a user id, `me` or `none`; `q` is words to be found in quote, context,
    what was heard, and the rule's title.
    """

    status: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    severity: tuple[str, ...] = ()
    disposition: tuple[str, ...] = ()
    room: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    merchant: tuple[str, ...] = ()
    rule: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    organisation: str | None = None
    assignee: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    since: datetime | None = None
    until: datetime | None = None
    exported: bool | None = None
    q: str = ""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the last row's sort value and number."""

    value: Any
    seq: int


# --- looking --------------------------------------------------------------------------


def page(
    db: Session,
    who: Principal,
    wanted: Filter,
    *,
    sort: Sort = "risk",
    limit: int = 50,
    after: Position | None = None,
) -> tuple[list[ViolationRow], Position | None]:
    """One page of the queue, and where the next begins (None at the end)."""
    column, descending = _SORTS[sort]
    query = select(ViolationRow).where(*conditions(db, who, wanted))
    if after is not None:
        query = query.where(_beyond(column, descending, after))
    order = (column.desc(), ViolationRow.seq.desc()) if descending else (column, ViolationRow.seq)
    rows = list(db.scalars(query.order_by(*order).limit(limit + 1)))
    more = len(rows) > limit
    rows = rows[:limit]
    if not more or not rows:
        return rows, None
    return rows, Position(getattr(rows[-1], column.key), rows[-1].seq)


def _beyond(column: Any, descending: bool, after: Position) -> ColumnElement[bool]:
    if descending:
        same = and_(column == after.value, ViolationRow.seq < after.seq)
        return and_(column <= after.value, or_(column < after.value, same))
    same = and_(column == after.value, ViolationRow.seq > after.seq)
    return and_(column >= after.value, or_(column > after.value, same))


def counts(db: Session, who: Principal, wanted: Filter) -> dict[str, int]:
    """How many there are in each status, whatever status `wanted` asks for."""
    query = (
        select(ViolationRow.status, func.count())
        .where(*conditions(db, who, wanted, but_status=True))
        .group_by(ViolationRow.status)
    )
    found = dict(db.execute(query).tuples().all())
    return {status: found.get(status, 0) for status in STATUSES}


def values(db: Session, who: Principal) -> dict[str, list[str]]:
    """What rooms, hosts, merchants and rules there are, for the filters' lists."""
    seen = visible(who)
    out: dict[str, list[str]] = {}
    columns: dict[str, Any] = {
        "room": ViolationRow.room_id,
        "host": ViolationRow.host,
        "merchant": ViolationRow.merchant,
        "rule": ViolationRow.rule_id,
    }
    for name, column in columns.items():
        query = select(column).where(*seen, column != "").distinct().order_by(column).limit(500)
        out[name] = list(db.scalars(query))
    return out


def conditions(
    db: Session, who: Principal, wanted: Filter, *, but_status: bool = False
) -> list[ColumnElement[bool]]:
    """The filter, and the organisation's limits, as conditions on `ViolationRow`."""
    row = ViolationRow
    lists: list[tuple[Any, tuple[str, ...]]] = [
        (row.category, wanted.category),
        (row.severity, wanted.severity),
        (row.disposition, wanted.disposition),
        (row.room_id, wanted.room),
        (row.host, wanted.host),
        (row.merchant, wanted.merchant),
        (row.rule_id, wanted.rule),
        (row.channel, wanted.channel),
    ]
    if not but_status:
        lists.append((row.status, wanted.status))
    found: list[ColumnElement[bool]] = visible(who)
    for column, chosen in lists:
        if chosen:
            found.append(column == chosen[0] if len(chosen) == 1 else column.in_(chosen))
    if wanted.organisation is not None:
        found.append(row.organisation_id == wanted.organisation)
    if wanted.assignee == "none":
        found.append(row.assignee_id.is_(None))
    elif wanted.assignee is not None:
        mine = who.user_id if wanted.assignee == "me" else wanted.assignee
        found.append(row.assignee_id == mine)
    if wanted.min_confidence is not None:
        found.append(row.confidence >= wanted.min_confidence)
    if wanted.max_confidence is not None:
        found.append(row.confidence <= wanted.max_confidence)
    if wanted.since is not None:
        found.append(row.at >= wanted.since)
    if wanted.until is not None:
        found.append(row.at < wanted.until)
    if wanted.exported is not None:
        there = row.exported_at.is_not(None)
        found.append(there if wanted.exported else ~there)
    words = search.holds(
        db, search.VIOLATIONS, row.seq, wanted.q, private=who.may(Permission.PRIVATE_DATA)
    )
    if words is not None:
        found.append(words)
    return found


def visible(who: Principal) -> list[ColumnElement[bool]]:
    """The organisation's limits on what `who` sees."""
    if who.sees_all:
        return []
    return [ViolationRow.organisation_id == (who.organisation_id or "")]


def get(db: Session, who: Principal, violation_id: str) -> ViolationRow:
    """Raises LM-908 for what is not there and for what is another organisation's alike."""
    row = db.scalar(select(ViolationRow).where(ViolationRow.id == violation_id))
    if row is None or not who.sees(row.organisation_id):
        raise no_such(violation_id)
    return row


def no_such(violation_id: str) -> ModeratorError:
    return ModeratorError(NO_SUCH, kind=in_ui_language("violation", "条目"), id=violation_id)


def record_of(db: Session, violation_id: str) -> dict[str, Any]:
    """The record as it was emitted."""
    return db.get_one(ViolationRecord, violation_id).body


def decisions_of(db: Session, violation_id: str) -> Sequence[Decision]:
    """Oldest first, with those taken back."""
    return db.scalars(
        select(Decision)
        .where(Decision.violation_id == violation_id)
        .order_by(Decision.at, Decision.id)
    ).all()


def notes_of(db: Session, violation_id: str) -> Sequence[Note]:
    return db.scalars(
        select(Note).where(Note.violation_id == violation_id).order_by(Note.at, Note.id)
    ).all()


def host_history(db: Session, who: Principal, row: ViolationRow) -> dict[str, int]:
    """How the other violations of the same host (or room, where no host is known) ended."""
    same = ViolationRow.host == row.host if row.host else ViolationRow.room_id == row.room_id
    query = (
        select(ViolationRow.status, func.count())
        .where(same, ViolationRow.seq != row.seq, *visible(who))
        .group_by(ViolationRow.status)
    )
    return dict(db.execute(query).tuples().all())


def similar(db: Session, who: Principal, row: ViolationRow, limit: int = 5) -> list[ViolationRow]:
    """Past decisions on the same rule: those with the same words first, then the newest."""
    query = (
        select(ViolationRow)
        .where(
            ViolationRow.rule_id == row.rule_id,
            ViolationRow.status.in_(("confirmed", "dismissed")),
            ViolationRow.seq != row.seq,
            *visible(who),
        )
        .order_by((ViolationRow.quote == row.quote).desc(), ViolationRow.decided_at.desc())
        .limit(limit)
    )
    return list(db.scalars(query))


# --- claiming -------------------------------------------------------------------------


def claim(db: Session, who: Principal, settings: ReviewSettings, violation_id: str) -> ViolationRow:
    """Lock it for `who`; again extends the lock. Raises LM-910 while another works on it."""
    row = get(db, who, violation_id)
    if row.status in ("confirmed", "dismissed"):
        raise ModeratorError(TRANSITION, action="claim", status=row.status)
    now = utcnow()
    taken = db.execute(
        update(ViolationRow)
        .where(
            ViolationRow.seq == row.seq,
            or_(
                ViolationRow.claimed_by.is_(None),
                ViolationRow.claimed_by == who.user_id,
                ViolationRow.claimed_until <= now,
            ),
        )
        .values(
            claimed_by=who.user_id, claimed_until=now + timedelta(minutes=settings.claim_minutes)
        )
        .execution_options(synchronize_session=False)
    )
    db.refresh(row)
    if not taken.rowcount:  # type: ignore[attr-defined]
        raise _claimed(db, row)
    tell(db, row)
    return row


def claim_next(
    db: Session,
    who: Principal,
    settings: ReviewSettings,
    wanted: Filter,
    *,
    sort: Sort = "risk",
    skip: Sequence[str] = (),
) -> ViolationRow | None:
    """Lock the first of the queue that `who` can decide; None when there is none."""
    now = utcnow()
    column, descending = _SORTS[sort]
    statuses = wanted.status or ("open",)
    query = (
        select(ViolationRow)
        .where(
            *conditions(db, who, wanted, but_status=True),
            ViolationRow.status.in_([s for s in statuses if s in UNDECIDED]),
            or_(
                ViolationRow.claimed_by.is_(None),
                ViolationRow.claimed_by == who.user_id,
                ViolationRow.claimed_until <= now,
            ),
            ViolationRow.id.not_in(skip),
        )
        .order_by(column.desc() if descending else column, ViolationRow.seq.desc())
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = db.scalar(query)
    return None if row is None else claim(db, who, settings, row.id)


def release(db: Session, who: Principal, violation_id: str) -> ViolationRow:
    """Give it back; what another holds only an administrator frees. Raises LM-910."""
    row = _locked(db, who, violation_id)
    if _held_by_other(row, who) and who.role is not Role.ADMIN:
        raise _claimed(db, row)
    row.claimed_by = row.claimed_until = None
    tell(db, row)
    return row


def _locked(db: Session, who: Principal, violation_id: str) -> ViolationRow:
    """The row for changing: on PostgreSQL others wait, on SQLite a writer is alone anyway."""
    row = db.scalar(
        select(ViolationRow)
        .where(ViolationRow.id == violation_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None or not who.sees(row.organisation_id):
        raise no_such(violation_id)
    return row


def _held_by_other(row: ViolationRow, who: Principal) -> bool:
    return (
        row.claimed_by is not None
        and row.claimed_by != who.user_id
        and row.claimed_until is not None
        and row.claimed_until > utcnow()
    )


def _claimed(db: Session, row: ViolationRow) -> ModeratorError:
    holder = db.get(User, row.claimed_by) if row.claimed_by else None
    who = (holder.display_name or holder.username) if holder else "?"
    until = row.claimed_until.isoformat(timespec="seconds") if row.claimed_until else "?"
    return ModeratorError(CLAIMED_BY_OTHER, who=who, until=until)


# --- deciding -------------------------------------------------------------------------


def decide(
    db: Session,
    who: Principal,
    violation_id: str,
    action: Action,
    *,
    reason: str = "",
    comment: str = "",
    version: int | None = None,
) -> tuple[ViolationRow, Decision]:
    """Decide; the lock is given back.

    Raises LM-902, LM-909 (a reason is missing), LM-910 (another holds it), LM-911
    (`version` is not the present one), LM-912 (not in this state), LM-913 (the second
    decision on a critical one by the person who gave the first).
    """
    who.need(Permission.VIOLATIONS_DECIDE)
    _check_reason(action, reason, comment)
    row = _locked(db, who, violation_id)
    if _held_by_other(row, who):
        raise _claimed(db, row)
    if version is not None and version != row.version:
        raise ModeratorError(CHANGED_MEANWHILE, version=row.version)
    if row.status not in ALLOWED_FROM[action]:
        raise ModeratorError(TRANSITION, action=action, status=row.status)
    if row.status == "escalated" or action == "reopen":
        who.need(Permission.VIOLATIONS_SECOND)
    after, stage = _outcome(db, who, row, action)
    decision = Decision(
        violation_id=row.id,
        user_id=who.user_id,
        user_name=who.name,
        action=action,
        reason=reason,
        comment=comment,
        stage=stage,
        status_before=row.status,
        status_after=after,
    )
    db.add(decision)
    _move(row, after)
    db.flush()
    # The log is kept for good, so what people write stands in it as its hash alone.
    digest = hashlib.sha256(comment.encode()).hexdigest() if comment else ""
    _log(db, who, row, f"violation.{action}", reason=reason, comment_sha256=digest, status=after)
    tell(db, row)
    return row, decision


def _outcome(db: Session, who: Principal, row: ViolationRow, action: Action) -> tuple[str, int]:
    """The status afterwards, and whether this is the first or the second decision."""
    final = action in ("confirm", "dismiss")
    if row.severity != "critical" or not final:
        return _AFTER[action], 1
    if row.status != "second_review":
        return "second_review", 1
    first = standing(db, row.id)
    if first is not None and first.user_id == who.user_id:
        raise ModeratorError(FOUR_EYES)
    who.need(Permission.VIOLATIONS_SECOND)
    if first is not None and first.action != action:
        # Two people disagree, so a third decides.
        return "escalated", 2
    return _AFTER[action], 2


def standing(db: Session, violation_id: str) -> Decision | None:
    """The newest decision that was not taken back."""
    return db.scalar(
        select(Decision)
        .where(Decision.violation_id == violation_id, Decision.undone_at.is_(None))
        .order_by(Decision.at.desc(), Decision.id.desc())
        .limit(1)
    )


def _check_reason(action: Action, reason: str, comment: str) -> None:
    if action == "dismiss":
        if reason not in DISMISS_REASONS:
            known = ", ".join(DISMISS_REASONS)
            raise ModeratorError(INPUT_INVALID, place="reason", reason=f"{known}")
        if reason == "other" and not comment.strip():
            raise _comment_due()
    if action == "reopen" and not comment.strip():
        raise _comment_due()


def _comment_due() -> ModeratorError:
    reason = in_ui_language("say why", "请说明理由")
    return ModeratorError(INPUT_INVALID, place="comment", reason=reason)


def undo(db: Session, who: Principal, settings: ReviewSettings, violation_id: str) -> ViolationRow:
    """Take back one's own decision, while it is the newest and fresh. Raises LM-914, LM-910."""
    who.need(Permission.VIOLATIONS_DECIDE)
    row = _locked(db, who, violation_id)
    if _held_by_other(row, who):
        raise _claimed(db, row)
    last = standing(db, row.id)
    problem = ""
    if last is None:
        problem = in_ui_language("nothing was decided", "尚未作出决定")
    elif last.user_id != who.user_id:
        problem = in_ui_language(
            f"the newest decision is by {last.user_name}", f"最近的决定由 {last.user_name} 作出"
        )
    elif utcnow() - last.at > timedelta(hours=settings.undo_hours):
        problem = in_ui_language("it is too long ago", "已超过可撤销的时限")
    elif row.status != last.status_after:
        problem = in_ui_language("it has moved on since", "此后状态已变化")
    if problem or last is None:
        raise ModeratorError(UNDO_IMPOSSIBLE, reason=problem)
    last.undone_at = utcnow()
    _move(row, last.status_before)
    db.flush()
    _log(db, who, row, "violation.undo", decision=last.id, status=row.status)
    tell(db, row)
    return row


def assign(db: Session, who: Principal, violation_id: str, user_id: str | None) -> ViolationRow:
    """Give it to somebody who decides and sees it, or to nobody. Raises LM-908."""
    who.need(Permission.VIOLATIONS_DECIDE)
    row = _locked(db, who, violation_id)
    if user_id is not None:
        user = db.get(User, user_id)
        fits = (
            user is not None
            and not user.disabled
            and Permission.VIOLATIONS_DECIDE in PERMISSIONS[Role(user.role)]
            and user.organisation_id in (None, row.organisation_id)
        )
        if not fits:
            raise ModeratorError(NO_SUCH, kind=in_ui_language("reviewer", "审核员"), id=user_id)
    row.assignee_id = user_id
    row.version += 1
    _log(db, who, row, "violation.assign", assignee=user_id)
    tell(db, row)
    return row


def add_note(db: Session, who: Principal, violation_id: str, words: str) -> Note:
    who.need(Permission.VIOLATIONS_DECIDE)
    row = get(db, who, violation_id)
    note = Note(violation_id=row.id, user_id=who.user_id, user_name=who.name, text=words)
    db.add(note)
    db.flush()
    _log(db, who, row, "violation.note", note=note.id)
    tell(db, row)
    return note


def hold(
    db: Session, who: Principal, violation_id: str, held: bool, reason: str = ""
) -> ViolationRow:
    """A legal hold: retention leaves it alone, and its broadcast."""
    who.need(Permission.VIOLATIONS_SECOND)
    row = _locked(db, who, violation_id)
    row.held = held
    row.version += 1
    detail = {"reason": reason} if reason else {}
    _log(db, who, row, "violation.hold" if held else "violation.release_hold", **detail)
    tell(db, row)
    return row


def settle_appeal(
    db: Session, who: Principal, violation_id: str, accepted: bool, answer: str
) -> ViolationRow:
    """What the answer to an appeal makes of the violation; the answer is its reason."""
    row = _locked(db, who, violation_id)
    after = "dismissed" if accepted else "confirmed"
    decision = Decision(
        violation_id=row.id,
        user_id=who.user_id,
        user_name=who.name,
        action="appeal_accept" if accepted else "appeal_reject",
        comment=answer,
        stage=2,
        status_before=row.status,
        status_after=after,
    )
    db.add(decision)
    _move(row, after)
    db.flush()
    _log(db, who, row, f"violation.{decision.action}", status=after)
    tell(db, row)
    return row


def mark_appealed(db: Session, row: ViolationRow) -> None:
    """The merchant has spoken; the item is back in the queue."""
    row.status = "appealed"
    row.version += 1
    row.decided_at = None
    tell(db, row)


def _move(row: ViolationRow, status: str) -> None:
    row.status = status
    row.version += 1
    row.claimed_by = row.claimed_until = None
    row.decided_at = utcnow() if status in ("confirmed", "dismissed") else None


def _log(db: Session, who: Principal, row: ViolationRow, action: str, **detail: Any) -> None:
    audit.append(
        db,
        who.actor,
        action,
        "violation",
        row.id,
        organisation_id=row.organisation_id,
        detail={name: value for name, value in detail.items() if value not in ("", None)},
    )


def tell(db: Session, row: ViolationRow) -> None:
    until = row.claimed_until.isoformat(timespec="seconds") if row.claimed_until else None
    body = {
        "status": row.status,
        "version": row.version,
        "claimed_by": row.claimed_by,
        "claimed_until": until,
        "assignee_id": row.assignee_id,
        "room": row.room_id,
    }
    announce(db, "violation.updated", row.id, row.organisation_id, body)
