"""Filters that people keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderator.errors import ALREADY_THERE, NO_SUCH, ModeratorError, in_ui_language
from moderator.review.models import SavedFilter
from moderator.review.permissions import Principal

MOST = 200


def listed(db: Session, who: Principal) -> Sequence[SavedFilter]:
    return db.scalars(
        select(SavedFilter).where(SavedFilter.user_id == who.user_id).order_by(SavedFilter.name)
    ).all()


def save(db: Session, who: Principal, name: str, query: dict[str, Any]) -> SavedFilter:
    """Raises LM-924 where one of that name is, or there are too many."""
    kind = in_ui_language("filter", "筛选")
    count = select(func.count()).select_from(SavedFilter)
    if (db.scalar(count.where(SavedFilter.user_id == who.user_id)) or 0) >= MOST:
        raise ModeratorError(ALREADY_THERE, kind=kind, name=f"{MOST} ×")
    row = SavedFilter(user_id=who.user_id, name=name, query=query)
    try:
        with db.begin_nested():
            db.add(row)
    except IntegrityError:
        raise ModeratorError(ALREADY_THERE, kind=kind, name=name) from None
    return row


def remove(db: Session, who: Principal, filter_id: str) -> None:
    """Raises LM-908."""
    row = db.get(SavedFilter, filter_id)
    if row is None or row.user_id != who.user_id:
        raise ModeratorError(NO_SUCH, kind=in_ui_language("filter", "筛选"), id=filter_id)
    db.delete(row)
