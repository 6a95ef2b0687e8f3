"""/check, /passports, /jobs: what a streamer does before going live."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, Header, Request, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from moderator.claims.passports import passport_from
from moderator.errors import UPLOAD_OFFSET, ModeratorError
from moderator.records import Room
from moderator.review import jobs, precheck, uploads
from moderator.review.api.idempotency import IdempotentRoute
from moderator.review.api.problems import language
from moderator.review.api.schemas import (
    ArticleOut,
    CheckIn,
    CheckOut,
    Done,
    DownloadIn,
    JobIn,
    JobOut,
    MarkOut,
    PassportIn,
    PassportOut,
)
from moderator.review.api.security import HouseDep, Needs
from moderator.review.models import Job
from moderator.review.permissions import Permission, Principal
from moderator.review.precheck import Checked

router = APIRouter(tags=["pre-check"], route_class=IdempotentRoute)

Checker = Annotated[Principal, Depends(Needs(Permission.CHECK))]
PassportReader = Annotated[Principal, Depends(Needs(Permission.PASSPORTS_READ))]
PassportWriter = Annotated[Principal, Depends(Needs(Permission.PASSPORTS_WRITE))]


@router.post("/check")
def check(body: CheckIn, who: Checker, house: HouseDep, request: Request) -> CheckOut:
    """Check a script: marks with article, reason and rewrites. Nothing is kept."""
    given = [
        passport_from(one, f"passports[{number}]") for number, one in enumerate(body.passports)
    ]
    with house.database.read() as db:
        given += precheck.chosen(db, who, body.products)
    found = precheck.check_text(
        house.settings,
        house.rules,
        body.text,
        kind=body.kind,
        room=Room(**body.room.model_dump()) if body.room else None,
        passports=given,
        lang=body.lang or language(request),
    )
    return _out(found)


@router.post("/check/file")
def check_file(
    file: Annotated[UploadFile, File(description=".txt .md .srt .vtt .docx, any encoding")],
    who: Checker,
    house: HouseDep,
    request: Request,
    products: Annotated[list[str], Form(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
) -> CheckOut:
    """Check a script file; the answer holds its text, decoded."""
    limit = house.settings.script_limit_mib << 20
    data = file.file.read(limit + 1)
    with house.database.read() as db:
        given = precheck.chosen(db, who, products)
    found = precheck.check_file(
        house.settings,
        house.rules,
        file.filename or "script",
        data,
        passports=given,
        lang=language(request),
    )
    return _out(found)


def _out(found: Checked) -> CheckOut:
    marks = [
        MarkOut(
            begin=mark.begin,
            end=mark.end,
            line=mark.line,
            column=mark.column,
            record=mark.record,
            articles=[ArticleOut.model_validate(article) for article in mark.articles],
            rewrites=mark.rewrites,
        )
        for mark in found.marks
    ]
    return CheckOut(
        text=found.text,
        kind=found.kind,
        marks=marks,
        summary=found.summary,
        engines=found.engines,
        took_ms=found.took_ms,
    )


@router.post("/check/download", response_class=Response)
def download(body: DownloadIn, who: Checker, house: HouseDep, request: Request) -> Response:
    """The script as .docx, .txt or .html; the first and the last with what is left to mend."""
    marks: list[precheck.Mark] = []
    if body.format != "txt":
        with house.database.read() as db:
            given = precheck.chosen(db, who, body.products)
        marks = precheck.check_text(
            house.settings,
            house.rules,
            body.text,
            kind=body.kind,
            passports=given,
            lang=language(request),
        ).marks
    data, media_type = precheck.download(body.text, marks, body.format, body.name or "script")
    name = uploads.header_name(f"{uploads.plain_name(body.name)}.{body.format}")
    disposition = f"attachment; filename*=UTF-8''{name}"
    return Response(data, media_type=media_type, headers={"Content-Disposition": disposition})


@router.get("/passports")
def passports(who: PassportReader, house: HouseDep) -> list[PassportOut]:
    """The product passports that you can pick."""
    with house.database.read() as db:
        return [PassportOut.model_validate(row) for row in precheck.passports(db, who)]


@router.post("/passports", status_code=201)
def put_passport(body: PassportIn, who: PassportWriter, house: HouseDep) -> PassportOut:
    """Keep a passport; one of the same id is replaced."""
    with house.database.write() as db:
        row = precheck.put_passport(db, who, body.passport, body.organisation_id)
        return PassportOut.model_validate(row)


@router.delete("/passports/{passport_id}")
def remove_passport(passport_id: str, who: PassportWriter, house: HouseDep) -> Done:
    with house.database.write() as db:
        precheck.remove_passport(db, who, passport_id)
    return Done()


# --- jobs -----------------------------------------------------------------------------


@router.get("/jobs")
def listed(who: Checker, house: HouseDep) -> list[JobOut]:
    """Your uploads, newest first; where each one stands."""
    with house.database.read() as db:
        return [_job(job) for job in jobs.listed(db, who)]


@router.post("/jobs", status_code=201)
def create(body: JobIn, who: Checker, house: HouseDep) -> JobOut:
    """Announce an upload; then send it in pieces to /jobs/{id}/content."""
    with house.database.write() as db:
        return _job(
            jobs.create(
                db,
                who,
                house.settings,
                name=body.name,
                size_bytes=body.size_bytes,
                room=body.room,
                products=body.products,
            )
        )


@router.get("/jobs/{job_id}")
def job(job_id: str, who: Checker, house: HouseDep) -> JobOut:
    with house.database.read() as db:
        return _job(jobs.get(db, who, job_id))


@router.patch(
    "/jobs/{job_id}/content",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        }
    },
)
async def receive(
    job_id: str,
    who: Checker,
    house: HouseDep,
    request: Request,
    upload_offset: Annotated[
        int, Header(ge=0, le=2**53, description="Where this piece begins; 16 MiB at most.")
    ],
) -> JobOut:
    """Send the next piece. `received_bytes` of the job says where it begins; 409 when not there."""

    data = await request.body()
    if not data:
        raise ModeratorError(UPLOAD_OFFSET, expected="1+", given=0)

    def keep() -> JobOut:
        with house.database.write() as db:
            return _job(jobs.receive(db, who, house.settings, job_id, upload_offset, data))

    return await run_in_threadpool(keep)


@router.delete("/jobs/{job_id}")
def cancel(job_id: str, who: Checker, house: HouseDep) -> JobOut:
    """Cancel it and remove what was uploaded."""
    with house.database.write() as db:
        return _job(jobs.cancel(db, who, house.settings, job_id))


def _job(row: Job) -> JobOut:
    done = 1.0 if row.state == "done" else 0.0
    if row.state == "running" and row.total_s:
        done = min(row.done_s / row.total_s, 0.999)
    fields = {name: getattr(row, name) for name in JobOut.model_fields if name != "progress"}
    return JobOut(**fields, progress=round(done, 4))
