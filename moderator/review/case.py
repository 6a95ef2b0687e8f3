"""One case put together: record, rule, articles, what was said around it, what people decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderator.claims.passports import DOCUMENT_NAMES
from moderator.claims.rules import Rule, RulePack
from moderator.errors import ui_language
from moderator.review import queue
from moderator.review.models import Broadcast, ObservationRow, PassportRow, ViolationRow
from moderator.review.permissions import Permission, Principal

AROUND_S = 60.0
"""How much of the transcript is shown on each side of the words at fault."""

CASE_LINES = 400


@dataclass(frozen=True, slots=True)
class ArticleText:
    """`text` is empty where the article was not verified at its source."""

    title: str
    article: str
    effective: str
    text: str


def articles(pack: RulePack, record: dict[str, Any]) -> list[ArticleText]:
    """The articles that the record cites, with their texts where they were verified."""
    rule = pack.rule(record["rule"]["id"])
    texts = {}
    if rule is not None:
        for key, ref in zip(rule.law_keys, rule.law, strict=True):
            texts[ref.title, ref.article] = pack.law.article_of(key).text
    return [
        ArticleText(
            ref["title"],
            ref["article"],
            ref["effective"],
            texts.get((ref["title"], ref["article"]), ""),
        )
        for ref in record["law"]
    ]


def rule_view(rule: Rule | None, lang: str | None = None) -> dict[str, Any] | None:
    """What the console shows of a rule; None for one that the pack no longer has."""
    if rule is None:
        return None
    lang = lang or ui_language()
    at = 0 if lang == "zh" else 1
    return {
        "id": rule.id,
        "title": rule.title.of(lang),
        "status": rule.status,
        "version": rule.version,
        "needs": list(rule.needs),
        "needs_names": [DOCUMENT_NAMES[kind][at] for kind in rule.needs if kind in DOCUMENT_NAMES],
        "message": rule.message.of(lang),
        "suggest": rule.suggest.of(lang),
    }


def transcript(db: Session, row: ViolationRow, around_s: float = AROUND_S) -> list[ObservationRow]:
    """What was said and shown around the words, in order of time."""
    return list(
        db.scalars(
            select(ObservationRow)
            .where(
                ObservationRow.broadcast_id == row.broadcast_id,
                ObservationRow.end >= row.start - around_s,
                ObservationRow.start <= row.end + around_s,
            )
            .order_by(ObservationRow.start, ObservationRow.id)
            .limit(CASE_LINES)
        )
    )


def passport(db: Session, row: ViolationRow) -> dict[str, Any] | None:
    """The passport that the words were about, if we know it."""
    kept = db.get(PassportRow, row.product) if row.product else None
    if kept is None or kept.organisation_id not in (None, row.organisation_id):
        return None
    return kept.body


def broadcast_of(db: Session, row: ViolationRow) -> Broadcast:
    return db.get_one(Broadcast, row.broadcast_id)


def possible(db: Session, who: Principal, row: ViolationRow) -> list[str]:
    """The actions that `who` may take on it now; the console shows no others."""
    can: list[str] = []
    if not who.may(Permission.VIOLATIONS_DECIDE):
        return can
    second = who.may(Permission.VIOLATIONS_SECOND)
    last = queue.standing(db, row.id)
    mine = last is not None and last.user_id == who.user_id
    for action, statuses in queue.ALLOWED_FROM.items():
        fits = row.status in statuses
        if row.status == "escalated" or action == "reopen":
            fits = fits and second
        if row.status == "second_review" and action in ("confirm", "dismiss"):
            fits = fits and second and not mine
        if fits:
            can.append(action)
    if mine and last is not None and row.status == last.status_after:
        can.append("undo")
    if row.status not in ("confirmed", "dismissed"):
        can.append("claim")
    if row.status in ("confirmed", "needs_proof") and who.may(Permission.APPEALS_INVITE):
        can.append("invite")
    return [*can, "assign", "note"]
