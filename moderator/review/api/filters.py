"""/filters: what people look for again and again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from moderator.review import filters
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.schemas import Done, SavedFilterIn, SavedFilterOut
from moderator.review.api.security import HouseDep, Needs
from moderator.review.permissions import Permission, Principal

router = APIRouter(prefix="/filters", tags=["filters"], route_class=IdempotentRoute)

Own = Annotated[Principal, Depends(Needs(Permission.ACCOUNT))]


@router.get("")
def listed(who: Own, house: HouseDep) -> list[SavedFilterOut]:
    """Your saved filters."""
    with house.database.read() as db:
        return [SavedFilterOut.model_validate(row) for row in filters.listed(db, who)]


@router.post("", status_code=201)
def save(body: SavedFilterIn, who: Own, house: HouseDep) -> SavedFilterOut:
    """Keep a filter under a name."""
    query = body.query.model_dump(mode="json", exclude_defaults=True)
    with house.database.write() as db:
        return SavedFilterOut.model_validate(filters.save(db, who, body.name, query))


@router.delete("/{filter_id}")
def remove(filter_id: str, who: Own, house: HouseDep) -> Done:
    with house.database.write() as db:
        filters.remove(db, who, filter_id)
    return Done()
