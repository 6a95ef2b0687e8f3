"""Appeals: the merchant's side, by a signed link, and the answer to it.

Whoever has the link sees one case and speaks to it, without an account. The link ends
with its time, with the answer, or when it is revoked. The answer is given by somebody
who did not make the decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderator.errors import (
    APPEAL_LINK,
    APPEAL_STATE,
    FOUR_EYES,
    NO_SUCH,
    TRANSITION,
    UPLOAD_TOO_LARGE,
    ModeratorError,
    in_ui_language,
)
from moderator.review import audit, queue, uploads
from moderator.review.audit import Actor
from moderator.review.models import (
    Appeal,
    AppealDocument,
    Decision,
    ViolationRow,
    new_id,
    utcnow,
)
from moderator.review.permissions import Permission, Principal
from moderator.review.settings import ReviewSettings
from moderator.review.signing import Signer

STATES = ("invited", "submitted", "accepted", "rejected", "revoked")


def invite(
    db: Session, who: Principal, settings: ReviewSettings, signer: Signer, violation_id: str
) -> tuple[Appeal, str]:
    """A link for the merchant; the second value is its token. Raises LM-912, LM-916."""
    who.need(Permission.APPEALS_INVITE)
    row = queue.get(db, who, violation_id)
    if row.status not in ("confirmed", "needs_proof", "appealed"):
        raise ModeratorError(TRANSITION, action="appeal", status=row.status)
    for appeal in of_violation(db, row.id):
        if appeal.state == "submitted":
            raise ModeratorError(APPEAL_STATE, state=appeal.state)
        if appeal.state == "invited":
            # One link is enough; an older one may have gone astray.
            appeal.state = "revoked"
    appeal = Appeal(
        violation_id=row.id,
        invited_by=who.user_id,
        expires_at=utcnow() + timedelta(days=settings.appeal_days),
    )
    db.add(appeal)
    db.flush()
    audit.append(
        db,
        who.actor,
        "appeal.invite",
        "violation",
        row.id,
        organisation_id=row.organisation_id,
        detail={"appeal": appeal.id},
    )
    return appeal, signer.sign(appeal.id, appeal.expires_at)


def of_violation(db: Session, violation_id: str) -> Sequence[Appeal]:
    return db.scalars(
        select(Appeal).where(Appeal.violation_id == violation_id).order_by(Appeal.id)
    ).all()


def documents_of(db: Session, appeal_id: str) -> Sequence[AppealDocument]:
    return db.scalars(
        select(AppealDocument)
        .where(AppealDocument.appeal_id == appeal_id)
        .order_by(AppealDocument.id)
    ).all()


def listed(
    db: Session, who: Principal, state: str | None, *, after: str | None, limit: int
) -> list[Appeal]:
    """Newest first; `after` is the id that the page before ended with."""
    query = select(Appeal).join(ViolationRow, ViolationRow.id == Appeal.violation_id)
    query = query.where(*queue.visible(who))
    if state is not None:
        query = query.where(Appeal.state == state)
    if after is not None:
        query = query.where(Appeal.id < after)
    return list(db.scalars(query.order_by(Appeal.id.desc()).limit(limit)))


def get(db: Session, who: Principal, appeal_id: str) -> tuple[Appeal, ViolationRow]:
    """Raises LM-908."""
    appeal = db.get(Appeal, appeal_id)
    if appeal is not None:
        row = db.scalar(select(ViolationRow).where(ViolationRow.id == appeal.violation_id))
        if row is not None and who.sees(row.organisation_id):
            return appeal, row
    raise ModeratorError(NO_SUCH, kind=in_ui_language("appeal", "申诉"), id=appeal_id)


def answer(db: Session, who: Principal, appeal_id: str, accepted: bool, words: str) -> Appeal:
    """Settle it: accepted dismisses the violation, rejected confirms it.

    Raises LM-913 for whoever made the decision that is appealed, LM-916.
    """
    who.need(Permission.APPEALS_ANSWER)
    appeal, row = get(db, who, appeal_id)
    if appeal.state != "submitted":
        raise ModeratorError(APPEAL_STATE, state=appeal.state)
    if who.user_id in _judges(db, row.id):
        raise ModeratorError(FOUR_EYES)
    appeal.state = "accepted" if accepted else "rejected"
    appeal.answer = words
    appeal.answered_by = who.user_id
    appeal.answered_at = utcnow()
    queue.settle_appeal(db, who, row.id, accepted, words)
    return appeal


def _judges(db: Session, violation_id: str) -> set[str | None]:
    return set(
        db.scalars(
            select(Decision.user_id).where(
                Decision.violation_id == violation_id,
                Decision.undone_at.is_(None),
                Decision.action == "confirm",
            )
        )
    )


def revoke(db: Session, who: Principal, appeal_id: str) -> Appeal:
    """End a link that was not used. Raises LM-916."""
    who.need(Permission.APPEALS_INVITE)
    appeal, row = get(db, who, appeal_id)
    if appeal.state != "invited":
        raise ModeratorError(APPEAL_STATE, state=appeal.state)
    appeal.state = "revoked"
    audit.append(
        db,
        who.actor,
        "appeal.revoke",
        "violation",
        row.id,
        organisation_id=row.organisation_id,
        detail={"appeal": appeal.id},
    )
    return appeal


# --- the merchant's side --------------------------------------------------------------


def by_link(db: Session, signer: Signer, token: str) -> tuple[Appeal, ViolationRow]:
    """The case of a link. Raises LM-915."""
    appeal = db.get(Appeal, signer.read(token))
    if appeal is None or appeal.state == "revoked":
        raise ModeratorError(APPEAL_LINK)
    row = db.scalar(select(ViolationRow).where(ViolationRow.id == appeal.violation_id))
    if row is None:
        raise ModeratorError(APPEAL_LINK)
    return appeal, row


def actor_of(appeal: Appeal, address: str) -> Actor:
    """Who looks or speaks through the link."""
    return Actor(f"appeal:{appeal.id}", appeal.name or "appeal link", address)


def submit(
    db: Session,
    appeal: Appeal,
    row: ViolationRow,
    *,
    name: str,
    contact: str,
    words: str,
    address: str,
) -> None:
    """What the merchant says; once. Raises LM-916."""
    if appeal.state != "invited":
        raise ModeratorError(APPEAL_STATE, state=appeal.state)
    appeal.name, appeal.contact, appeal.text = name, contact, words
    appeal.state = "submitted"
    appeal.submitted_at = utcnow()
    audit.append(
        db,
        actor_of(appeal, address),
        "appeal.submit",
        "violation",
        row.id,
        organisation_id=row.organisation_id,
        detail={"appeal": appeal.id, "text_sha256": hashlib.sha256(words.encode()).hexdigest()},
    )
    queue.mark_appealed(db, row)


def add_document(
    db: Session,
    settings: ReviewSettings,
    appeal: Appeal,
    row: ViolationRow,
    *,
    name: str,
    data: bytes,
    address: str,
) -> AppealDocument:
    """Keep a document. Raises LM-916 after the text was sent, LM-917, LM-918."""
    if appeal.state != "invited":
        raise ModeratorError(APPEAL_STATE, state=appeal.state)
    if len(documents_of(db, appeal.id)) >= settings.document_count:
        limit = str(settings.document_count)
        raise ModeratorError(UPLOAD_TOO_LARGE, name=name, limit=limit)
    media_type = uploads.check_document(name, data, settings.document_limit_mib << 20)
    document = AppealDocument(
        id=new_id(),
        appeal_id=appeal.id,
        name=uploads.plain_name(name),
        media_type=media_type,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    path = document_path(settings, document)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    db.add(document)
    db.flush()
    audit.append(
        db,
        actor_of(appeal, address),
        "appeal.document",
        "violation",
        row.id,
        organisation_id=row.organisation_id,
        detail={"appeal": appeal.id, "document": document.id, "sha256": document.sha256},
    )
    return document


def document_path(settings: ReviewSettings, document: AppealDocument) -> Path:
    """Named by its id: what the sender called it never reaches the disk."""
    return settings.data_dir / "appeals" / document.appeal_id / document.id
