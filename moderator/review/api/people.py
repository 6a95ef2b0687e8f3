"""/users, /organisations, /colleagues. Answers hold secrets, so none is kept for a replay."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from moderator.review import accounts
from moderator.review.api.schemas import (
    ColleagueOut,
    GivenPasswordOut,
    NewUserOut,
    OrganisationIn,
    OrganisationOut,
    UserChange,
    UserIn,
    UserOut,
)
from moderator.review.api.security import HouseDep, Needs
from moderator.review.permissions import Permission, Principal

router = APIRouter(tags=["people"])

Manager = Annotated[Principal, Depends(Needs(Permission.USERS_MANAGE))]
Decider = Annotated[Principal, Depends(Needs(Permission.VIOLATIONS_DECIDE))]


@router.get("/users")
def users(who: Manager, house: HouseDep) -> list[UserOut]:
    """Everybody of your organisation; of all, for an administrator of the platform."""
    with house.database.read() as db:
        return [UserOut.model_validate(user) for user in accounts.users(db, who)]


@router.post("/users", status_code=201)
def create_user(body: UserIn, who: Manager, house: HouseDep) -> NewUserOut:
    """Make an account; the one-time password is shown this once."""
    with house.database.write() as db:
        user, password = accounts.create_user(
            db,
            who,
            username=body.username,
            role=body.role,
            display_name=body.display_name,
            organisation_id=body.organisation_id,
        )
    return NewUserOut(**UserOut.model_validate(user).model_dump(), password=password)


@router.patch("/users/{user_id}")
def change_user(user_id: str, body: UserChange, who: Manager, house: HouseDep) -> UserOut:
    """Change role or name, or shut somebody out; their sessions end with it."""
    with house.database.write() as db:
        user = accounts.update_user(
            db,
            who,
            user_id,
            role=body.role,
            display_name=body.display_name,
            disabled=body.disabled,
        )
        db.flush()
        return UserOut.model_validate(user)


@router.post("/users/{user_id}/password")
def reset_password(user_id: str, who: Manager, house: HouseDep) -> GivenPasswordOut:
    """Give a fresh one-time password; every session of theirs ends."""
    with house.database.write() as db:
        return GivenPasswordOut(password=accounts.reset_password(db, who, user_id))


@router.get("/organisations")
def organisations(who: Manager, house: HouseDep) -> list[OrganisationOut]:
    with house.database.read() as db:
        return [OrganisationOut.model_validate(one) for one in accounts.organisations(db, who)]


@router.post("/organisations", status_code=201)
def create_organisation(body: OrganisationIn, who: Manager, house: HouseDep) -> OrganisationOut:
    """Make an organisation; rooms of a merchant of this name will belong to it."""
    with house.database.write() as db:
        return OrganisationOut.model_validate(accounts.create_organisation(db, who, body.name))


@router.get("/colleagues")
def colleagues(who: Decider, house: HouseDep) -> list[ColleagueOut]:
    """Those an item can be given to."""
    with house.database.read() as db:
        return [ColleagueOut.model_validate(user) for user in accounts.colleagues(db, who)]
