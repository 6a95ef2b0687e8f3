"""/violations: the queue, one case, and everything that is done to it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime
from starlette.responses import FileResponse, Response

from moderator.errors import CURSOR, EVIDENCE_GONE, ModeratorError
from moderator.review import appeals, case, evidence, exporting, journal_holds, queue
from moderator.review.api import paging
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.problems import language
from moderator.review.api.schemas import (
    AppealOut,
    ArticleOut,
    AssigneeIn,
    CountsOut,
    DecidedOut,
    DecisionIn,
    DecisionOut,
    DetailOut,
    DocumentOut,
    EvidenceFileOut,
    ExportIn,
    ExportOut,
    FilterIn,
    HoldIn,
    InvitationOut,
    NextIn,
    NextOut,
    NoteIn,
    NoteOut,
    ObservationOut,
    RuleOut,
    ValuesOut,
    ViolationOut,
    ViolationsOut,
)
from moderator.review.api.security import HouseDep, Needs
from moderator.review.house import House
from moderator.review.models import Appeal, Broadcast, Export, ViolationRow
from moderator.review.permissions import Permission, Principal
from moderator.review.privacy import shown_to

router = APIRouter(tags=["violations"], route_class=IdempotentRoute)

Reader = Annotated[Principal, Depends(Needs(Permission.VIOLATIONS_READ))]
Decider = Annotated[Principal, Depends(Needs(Permission.VIOLATIONS_DECIDE))]
Second = Annotated[Principal, Depends(Needs(Permission.VIOLATIONS_SECOND))]
Viewer = Annotated[Principal, Depends(Needs(Permission.EVIDENCE_READ))]
Exporter = Annotated[Principal, Depends(Needs(Permission.EVIDENCE_EXPORT))]
Inviter = Annotated[Principal, Depends(Needs(Permission.APPEALS_INVITE))]

Sort = Literal["risk", "newest", "oldest", "confidence"]

_Many = Annotated[list[str], Query(max_length=200)]


def filter_query(
    status: _Many = [],  # noqa: B006 - FastAPI copies defaults
    category: _Many = [],  # noqa: B006
    severity: _Many = [],  # noqa: B006
    disposition: _Many = [],  # noqa: B006
    room: _Many = [],  # noqa: B006
    host: _Many = [],  # noqa: B006
    merchant: _Many = [],  # noqa: B006
    rule: _Many = [],  # noqa: B006
    channel: _Many = [],  # noqa: B006
    organisation: str | None = None,
    assignee: Annotated[
        str | None, Query(description="A user's id, `me`, or `none`.", examples=["me"])
    ] = None,
    min_confidence: Annotated[float | None, Query(ge=0, le=1)] = None,
    max_confidence: Annotated[float | None, Query(ge=0, le=1)] = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    exported: bool | None = None,
    q: Annotated[
        str, Query(max_length=500, description="Words anywhere in the text.", examples=["国家级"])
    ] = "",
) -> queue.Filter:
    return queue.Filter(
        status=tuple(status),
        category=tuple(category),
        severity=tuple(severity),
        disposition=tuple(disposition),
        room=tuple(room),
        host=tuple(host),
        merchant=tuple(merchant),
        rule=tuple(rule),
        channel=tuple(channel),
        organisation=organisation,
        assignee=assignee,
        min_confidence=min_confidence,
        max_confidence=max_confidence,
        since=since,
        until=until,
        exported=exported,
        q=q,
    )


Wanted = Annotated[queue.Filter, Depends(filter_query)]


def filter_of(body: FilterIn) -> queue.Filter:
    """The filter of a request's body."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in body.model_dump().items()
    }
    return queue.Filter(**fields)


def row_out(who: Principal, row: ViolationRow) -> ViolationOut:
    """A row as `who` may see it."""
    out = ViolationOut.model_validate(row)
    out.quote = shown_to(who, out.quote)
    return out


@router.get("/violations")
def violations(
    who: Reader,
    house: HouseDep,
    wanted: Wanted,
    sort: Sort = "risk",
    limit: paging.LimitQuery = 50,
    cursor: paging.CursorQuery = None,
) -> ViolationsOut:
    """A page of the queue. Hand `next_cursor` back for the next one."""
    with house.database.read() as db:
        rows, position = queue.page(
            db, who, wanted, sort=sort, limit=limit, after=_position(sort, cursor)
        )
    return ViolationsOut(
        items=[row_out(who, row) for row in rows], next_cursor=_cursor(sort, position)
    )


def _position(sort: str, cursor: str | None) -> queue.Position | None:
    if not cursor:
        return None
    if sort in ("newest", "oldest"):
        at, seq = paging.decode(f"violations/{sort}", cursor, str, int)
        try:
            return queue.Position(datetime.fromisoformat(at), seq)
        except ValueError:
            raise ModeratorError(CURSOR) from None
    return queue.Position(*paging.decode(f"violations/{sort}", cursor, (float, int), int))


def _cursor(sort: str, position: queue.Position | None) -> str | None:
    if position is None:
        return None
    value = position.value
    shown = value.isoformat() if isinstance(value, datetime) else value
    return paging.encode(f"violations/{sort}", shown, position.seq)


@router.get("/violations/counts")
def counts(who: Reader, house: HouseDep, wanted: Wanted) -> CountsOut:
    """How many there are in each status, under the same filter."""
    with house.database.read() as db:
        found = queue.counts(db, who, wanted)
    return CountsOut(counts=found, total=sum(found.values()))


@router.get("/violations/values")
def values(who: Reader, house: HouseDep) -> ValuesOut:
    """The rooms, hosts, merchants and rules there are: for the filters' lists."""
    with house.database.read() as db:
        return ValuesOut(**queue.values(db, who))


@router.post("/violations/next")
def take_next(body: NextIn, who: Decider, house: HouseDep) -> NextOut:
    """Claim the first of the queue that is free; null where none is."""
    wanted = filter_of(body.filter) if body.filter else queue.Filter()
    with house.database.write() as db:
        row = queue.claim_next(db, who, house.settings, wanted, sort=body.sort, skip=body.skip)
        return NextOut(violation=row_out(who, row) if row is not None else None)


@router.get("/violations/{violation_id}")
def violation(violation_id: str, who: Reader, house: HouseDep, request: Request) -> DetailOut:
    """One case with everything that a decision needs; the look is written down."""
    with house.database.write() as db:
        row = queue.get(db, who, violation_id)
        evidence.note_view(
            db, who.actor, "violation", row.id, "record", organisation_id=row.organisation_id
        )
    with house.database.read() as db:
        row = queue.get(db, who, violation_id)
        record = queue.record_of(db, row.id)
        rule = case.rule_view(house.rules.rule(row.rule_id), language(request))
        spoken = [ObservationOut.model_validate(one) for one in case.transcript(db, row)]
        broadcast = case.broadcast_of(db, row)
        return DetailOut(
            violation=row_out(who, row),
            record=shown_to(who, record),
            rule=RuleOut(**rule) if rule else None,
            articles=[ArticleOut.model_validate(a) for a in case.articles(house.rules, record)],
            transcript=[_masked(who, one) for one in spoken],
            evidence=evidence_out(
                house, broadcast, record, f"/api/v1/violations/{row.id}/evidence"
            ),
            passport=case.passport(db, row),
            decisions=[
                shown(who, DecisionOut.model_validate(d)) for d in queue.decisions_of(db, row.id)
            ],
            notes=[shown(who, NoteOut.model_validate(n)) for n in queue.notes_of(db, row.id)],
            appeals=[
                shown(who, appeal_out(appeal, appeals.documents_of(db, appeal.id)))
                for appeal in appeals.of_violation(db, row.id)
            ],
            exports=[export_out(one) for one in exporting.of_violation(db, row.id)],
            host_history=queue.host_history(db, who, row),
            similar=[row_out(who, one) for one in queue.similar(db, who, row)],
            can=case.possible(db, who, row),
        )


def _masked(who: Principal, one: ObservationOut) -> ObservationOut:
    one.text, one.body = shown_to(who, one.text), shown_to(who, one.body)
    return one


Written = TypeVar("Written", DecisionOut, NoteOut, AppealOut)


def shown(who: Principal, out: Written) -> Written:
    """What people wrote, with private numbers masked where they must be."""
    if who.may(Permission.PRIVATE_DATA):
        return out
    return type(out).model_validate(shown_to(who, out.model_dump()))


def appeal_out(appeal: Appeal, documents: object) -> AppealOut:
    out = AppealOut.model_validate(appeal)
    if isinstance(documents, list | tuple):
        out.documents = [DocumentOut.model_validate(document) for document in documents]
    return out


def export_out(export: Export) -> ExportOut:
    out = ExportOut.model_validate(export)
    out.url = f"/api/v1/exports/{export.id}"
    return out


def evidence_out(
    house: House, broadcast: Broadcast, record: dict[str, object], base: str
) -> list[EvidenceFileOut]:
    return [
        EvidenceFileOut(
            kind=file.kind,
            path=file.path,
            url=f"{base}/{file.path}",
            sha256=file.sha256,
            there=evidence.is_there(house.settings, broadcast, file.path),
        )
        for file in evidence.files_of(record)
    ]


@router.post("/violations/{violation_id}/claim")
def claim(violation_id: str, who: Decider, house: HouseDep) -> ViolationOut:
    """Lock it for yourself; again renews the lock, which ends by itself."""
    with house.database.write() as db:
        return row_out(who, queue.claim(db, who, house.settings, violation_id))


@router.post("/violations/{violation_id}/release")
def release(violation_id: str, who: Decider, house: HouseDep) -> ViolationOut:
    """Give the lock back."""
    with house.database.write() as db:
        return row_out(who, queue.release(db, who, violation_id))


@router.post("/violations/{violation_id}/decisions", status_code=201)
def decide(violation_id: str, body: DecisionIn, who: Decider, house: HouseDep) -> DecidedOut:
    """Confirm, dismiss, ask for proof, escalate or reopen."""
    with house.database.write() as db:
        row, decision = queue.decide(
            db,
            who,
            violation_id,
            body.action,
            reason=body.reason,
            comment=body.comment,
            version=body.version,
        )
        return DecidedOut(
            violation=row_out(who, row), decision=DecisionOut.model_validate(decision)
        )


@router.post("/violations/{violation_id}/undo")
def undo(violation_id: str, who: Decider, house: HouseDep) -> ViolationOut:
    """Take back your own newest decision."""
    with house.database.write() as db:
        return row_out(who, queue.undo(db, who, house.settings, violation_id))


@router.put("/violations/{violation_id}/assignee")
def assign(violation_id: str, body: AssigneeIn, who: Decider, house: HouseDep) -> ViolationOut:
    """Give it to a colleague, or to nobody."""
    with house.database.write() as db:
        return row_out(who, queue.assign(db, who, violation_id, body.user_id))


@router.post("/violations/{violation_id}/notes", status_code=201)
def note(violation_id: str, body: NoteIn, who: Decider, house: HouseDep) -> NoteOut:
    """Write something beside it."""
    with house.database.write() as db:
        return NoteOut.model_validate(queue.add_note(db, who, violation_id, body.text))


@router.put("/violations/{violation_id}/hold")
def hold(violation_id: str, body: HoldIn, who: Second, house: HouseDep) -> ViolationOut:
    """A legal hold: retention leaves it alone, here and in the journal of a watched room."""
    with house.database.write() as db:
        row = queue.hold(db, who, violation_id, body.held, body.reason)
        folder = case.broadcast_of(db, row).folder
        journal_holds.mirror(folder, row.id, body.held, body.reason, who.username)
        return row_out(who, row)


@router.get("/violations/{violation_id}/evidence/{path:path}", response_class=FileResponse)
def evidence_file(violation_id: str, path: str, who: Viewer, house: HouseDep) -> Response:
    """A clip, frame or transcript of the record, in ranges too; the view is written down."""
    with house.database.read() as db:
        row = queue.get(db, who, violation_id)
        record = queue.record_of(db, row.id)
        broadcast = case.broadcast_of(db, row)
    named = {file.path: file.kind for file in evidence.files_of(record)}
    if path not in named:
        raise ModeratorError(EVIDENCE_GONE, path=path)
    if named[path] == "transcript":
        # Its text is in the answer for the case, masked as the reader's role demands.
        who.need(Permission.PRIVATE_DATA)
    found = evidence.open_path(house.settings, broadcast, path)
    with house.database.write() as db:
        evidence.note_view(
            db, who.actor, "violation", row.id, path, organisation_id=row.organisation_id
        )
    return FileResponse(
        found, media_type=evidence.media_type(found), headers={"Cache-Control": "private, no-cache"}
    )


@router.post("/violations/{violation_id}/appeals", status_code=201)
def invite(violation_id: str, who: Inviter, house: HouseDep, request: Request) -> InvitationOut:
    """A signed link for the merchant, to see the case and answer to it."""
    with house.database.write() as db:
        appeal, token = appeals.invite(db, who, house.settings, house.signer, violation_id)
    base = house.settings.public_url or str(request.base_url)
    return InvitationOut(
        appeal=AppealOut.model_validate(appeal), url=f"{base.rstrip('/')}/appeal/{token}"
    )


@router.post("/violations/{violation_id}/exports", status_code=201)
def export(violation_id: str, body: ExportIn, who: Exporter, house: HouseDep) -> ExportOut:
    """Make a case bundle (zip) or a printable report (PDF); the case is marked as exported."""
    made = exporting.export(house, who, violation_id, body.kind)
    return export_out(made)


@router.get("/exports/{export_id}", response_class=FileResponse)
def exported(export_id: str, who: Exporter, house: HouseDep) -> Response:
    """The file that an export made."""
    with house.database.write() as db:
        made, row = exporting.get(db, who, export_id)
        path = exporting.path_of(house.settings, made)
        if not path.is_file():
            raise ModeratorError(EVIDENCE_GONE, path=path.name)
        evidence.note_view(
            db,
            who.actor,
            "violation",
            row.id,
            f"export/{made.id}",
            organisation_id=row.organisation_id,
        )
    return FileResponse(
        path,
        media_type="application/zip" if made.kind == "zip" else "application/pdf",
        filename=f"case-{row.id}.{made.kind}",
    )
