"""/appeals for staff, /appeal-links for the merchant who has a link and no account."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Request, UploadFile
from starlette.responses import FileResponse, Response

from moderator.claims.passports import DOCUMENT_NAMES
from moderator.errors import EVIDENCE_GONE, NO_SUCH, ModeratorError, in_ui_language
from moderator.review import appeals, case, evidence, queue
from moderator.review.api import paging
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.problems import language
from moderator.review.api.schemas import (
    AnswerIn,
    AppealIn,
    AppealOut,
    AppealsOut,
    ArticleOut,
    CaseOut,
    DocumentOut,
)
from moderator.review.api.security import HouseDep, Needs, address_of, check_same_site
from moderator.review.api.violations import appeal_out, evidence_out, shown
from moderator.review.house import House
from moderator.review.models import AppealDocument, RoomRow
from moderator.review.permissions import Permission, Principal

router = APIRouter(tags=["appeals"], route_class=IdempotentRoute)

Reader = Annotated[Principal, Depends(Needs(Permission.VIOLATIONS_READ))]
Viewer = Annotated[Principal, Depends(Needs(Permission.EVIDENCE_READ))]
Answerer = Annotated[Principal, Depends(Needs(Permission.APPEALS_ANSWER))]
Inviter = Annotated[Principal, Depends(Needs(Permission.APPEALS_INVITE))]

State = Literal["invited", "submitted", "accepted", "rejected", "revoked"]


@router.get("/appeals")
def listed(
    who: Reader,
    house: HouseDep,
    state: State | None = None,
    limit: paging.LimitQuery = 50,
    cursor: paging.CursorQuery = None,
) -> AppealsOut:
    """Appeals, newest first."""
    after = paging.decode("appeals", cursor, str)[0] if cursor else None
    with house.database.read() as db:
        rows = appeals.listed(db, who, state, after=after, limit=limit)
        items = [shown(who, appeal_out(row, appeals.documents_of(db, row.id))) for row in rows]
    full = len(rows) == limit
    return AppealsOut(
        items=items, next_cursor=paging.encode("appeals", rows[-1].id) if full else None
    )


@router.get("/appeals/{appeal_id}")
def appeal(appeal_id: str, who: Reader, house: HouseDep) -> AppealOut:
    with house.database.read() as db:
        row, _ = appeals.get(db, who, appeal_id)
        return shown(who, appeal_out(row, appeals.documents_of(db, row.id)))


@router.post("/appeals/{appeal_id}/answer")
def answer(appeal_id: str, body: AnswerIn, who: Answerer, house: HouseDep) -> AppealOut:
    """Accept (the violation is dismissed) or reject (it is confirmed), with words."""
    with house.database.write() as db:
        row = appeals.answer(db, who, appeal_id, body.accepted, body.answer)
        return appeal_out(row, appeals.documents_of(db, row.id))


@router.post("/appeals/{appeal_id}/revoke")
def revoke(appeal_id: str, who: Inviter, house: HouseDep) -> AppealOut:
    """End a link that was not used."""
    with house.database.write() as db:
        return AppealOut.model_validate(appeals.revoke(db, who, appeal_id))


@router.get("/appeals/{appeal_id}/documents/{document_id}", response_class=FileResponse)
def document(appeal_id: str, document_id: str, who: Viewer, house: HouseDep) -> Response:
    """A document that came with an appeal, always as a file to save."""
    who.need(Permission.PRIVATE_DATA)
    with house.database.write() as db:
        _, row = appeals.get(db, who, appeal_id)
        found = db.get(AppealDocument, document_id)
        if found is None or found.appeal_id != appeal_id:
            kind = in_ui_language("document", "文件")
            raise ModeratorError(NO_SUCH, kind=kind, id=document_id)
        path = appeals.document_path(house.settings, found)
        if not path.is_file():
            raise ModeratorError(EVIDENCE_GONE, path=found.name)
        evidence.note_view(
            db,
            who.actor,
            "violation",
            row.id,
            f"appeal/{appeal_id}/{document_id}",
            organisation_id=row.organisation_id,
        )
    return FileResponse(path, media_type=found.media_type, filename=found.name)


# --- by link: no account, the link is the permission ------------------------------------

LINK: dict[str, Any] = {"security": []}


@router.get("/appeal-links/{token}", openapi_extra=LINK)
def case_by_link(token: str, request: Request, house: HouseDep) -> CaseOut:
    """The case as the merchant sees it."""
    with house.database.write() as db:
        found, row = appeals.by_link(db, house.signer, token)
        evidence.note_view(
            db,
            appeals.actor_of(found, address_of(request)),
            "violation",
            row.id,
            "record",
            organisation_id=row.organisation_id,
        )
    return _case(house, token, language(request))


@router.post("/appeal-links/{token}", openapi_extra=LINK)
def submit(token: str, body: AppealIn, request: Request, house: HouseDep) -> CaseOut:
    """What the merchant says to it; once. Documents go before it."""
    check_same_site(request)
    with house.database.write() as db:
        found, row = appeals.by_link(db, house.signer, token)
        appeals.submit(
            db,
            found,
            row,
            name=body.name,
            contact=body.contact,
            words=body.text,
            address=address_of(request),
        )
    return _case(house, token, language(request))


@router.post("/appeal-links/{token}/documents", status_code=201, openapi_extra=LINK)
def add_document(
    token: str, file: Annotated[UploadFile, File()], request: Request, house: HouseDep
) -> DocumentOut:
    """A document that speaks for it: PDF, picture, .docx or text."""
    check_same_site(request)
    limit = house.settings.document_limit_mib << 20
    with house.database.read() as db:
        appeals.by_link(db, house.signer, token)
    data = file.file.read(limit + 1)
    with house.database.write() as db:
        found, row = appeals.by_link(db, house.signer, token)
        kept = appeals.add_document(
            db,
            house.settings,
            found,
            row,
            name=file.filename or "file",
            data=data,
            address=address_of(request),
        )
        return DocumentOut.model_validate(kept)


@router.get(
    "/appeal-links/{token}/evidence/{path:path}", response_class=FileResponse, openapi_extra=LINK
)
def evidence_by_link(token: str, path: str, request: Request, house: HouseDep) -> Response:
    """Clip and frames of the case."""
    with house.database.write() as db:
        found, row = appeals.by_link(db, house.signer, token)
        record = queue.record_of(db, row.id)
        named = {f.path for f in evidence.files_of(record) if f.kind != "transcript"}
        if path not in named:
            raise ModeratorError(EVIDENCE_GONE, path=path)
        file = evidence.open_path(house.settings, case.broadcast_of(db, row), path)
        evidence.note_view(
            db,
            appeals.actor_of(found, address_of(request)),
            "violation",
            row.id,
            path,
            organisation_id=row.organisation_id,
        )
    return FileResponse(file, media_type=evidence.media_type(file))


def _case(house: House, token: str, lang: str) -> CaseOut:
    with house.database.read() as db:
        found, row = appeals.by_link(db, house.signer, token)
        record = queue.record_of(db, row.id)
        room = db.get(RoomRow, row.room_id)
        files = evidence_out(
            house, case.broadcast_of(db, row), record, f"/api/v1/appeal-links/{token}/evidence"
        )
        rule = house.rules.rule(row.rule_id)
        at = 0 if lang == "zh" else 1
        wanted = [DOCUMENT_NAMES[k][at] for k in rule.needs if k in DOCUMENT_NAMES] if rule else []
        return CaseOut(
            state=found.state,
            expires_at=found.expires_at,
            status=row.status,
            room_title=(room.title or room.id) if room else row.room_id,
            quote=record["quote"],
            context=record["context"],
            start=row.start,
            at=row.at,
            rule_title=row.rule_title,
            explanation=record["explanation"],
            suggestion=record["suggestion"],
            articles=[ArticleOut.model_validate(a) for a in case.articles(house.rules, record)],
            evidence=[file for file in files if file.kind != "transcript"],
            documents_wanted=wanted,
            name=found.name,
            text=found.text,
            submitted_at=found.submitted_at,
            documents=[DocumentOut.model_validate(d) for d in appeals.documents_of(db, found.id)],
            answer=found.answer,
            answered_at=found.answered_at,
        )
