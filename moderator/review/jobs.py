"""Uploads as jobs: sent in pieces, checked in the background, and there after a reload.

A job's file and state are kept, so a page that comes back finds where the upload stands,
and a server that comes back takes up what it left. A worker marks a job as its own and
renews the mark; a job whose mark grew old is taken by another.
"""

from __future__ import annotations

import shutil
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from moderator.claims.passports import passport_from
from moderator.errors import (
    JOB_STATE,
    NO_SUCH,
    TOO_MANY_JOBS,
    UPLOAD_OFFSET,
    UPLOAD_TOO_LARGE,
    ModeratorError,
    in_ui_language,
)
from moderator.outputs.report import Report, summary
from moderator.records import Room
from moderator.review import audit, ingest, uploads
from moderator.review.database import Database
from moderator.review.models import Job, PassportRow, RoomRow, new_id, utcnow
from moderator.review.permissions import Principal
from moderator.review.settings import ReviewSettings

log = structlog.get_logger("moderator.review.jobs")

UNFINISHED = ("uploading", "queued", "running")

BEAT_S = 5.0
LOST_AFTER = timedelta(seconds=60)
"""A job whose worker gave no sign for so long is taken by another."""

IDLE_S = 1.0

Checker = Callable[..., Report]
"""`moderator.check`, or what stands in for it."""


# --- what people do -------------------------------------------------------------------


def create(
    db: Session,
    who: Principal,
    settings: ReviewSettings,
    *,
    name: str,
    size_bytes: int,
    room: str,
    products: Sequence[str],
) -> Job:
    """Raises LM-917 for its size, LM-918 for its kind, LM-921, LM-908 for another's room."""
    uploads.check_recording_name(name)
    if size_bytes > settings.recording_limit_mib << 20:
        limit = f"{settings.recording_limit_mib} MiB"
        raise ModeratorError(UPLOAD_TOO_LARGE, name=uploads.plain_name(name), limit=limit)
    known = db.get(RoomRow, room)
    if known is not None and not who.sees(known.organisation_id):
        raise ModeratorError(NO_SUCH, kind=in_ui_language("room", "直播间"), id=room)
    count = db.scalar(
        select(func.count())
        .select_from(Job)
        .where(Job.user_id == who.user_id, Job.state.in_(UNFINISHED))
    )
    if (count or 0) >= settings.jobs_per_user:
        raise ModeratorError(TOO_MANY_JOBS, count=count)
    job = Job(
        id=new_id(),
        user_id=who.user_id,
        organisation_id=who.organisation_id,
        name=uploads.plain_name(name),
        room_id=room,
        products=list(products),
        size_bytes=size_bytes,
    )
    db.add(job)
    db.flush()
    return job


def listed(db: Session, who: Principal, limit: int = 100) -> Sequence[Job]:
    """One's own, newest first."""
    return db.scalars(
        select(Job).where(Job.user_id == who.user_id).order_by(Job.id.desc()).limit(limit)
    ).all()


def get(db: Session, who: Principal, job_id: str, *, lock: bool = False) -> Job:
    """One's own job. Raises LM-908."""
    query = select(Job).where(Job.id == job_id)
    job = db.scalar(query.with_for_update() if lock else query)
    if job is None or job.user_id != who.user_id:
        raise ModeratorError(NO_SUCH, kind=in_ui_language("job", "任务"), id=job_id)
    return job


def receive(
    db: Session, who: Principal, settings: ReviewSettings, job_id: str, offset: int, data: bytes
) -> Job:
    """Take the piece that begins at `offset`; the last one queues the job.

    Raises LM-919 where another piece is due, LM-920, LM-917 beyond the size that was named.
    """
    job = get(db, who, job_id, lock=True)
    if job.state != "uploading":
        raise ModeratorError(JOB_STATE, state=job.state)
    if offset != job.received_bytes:
        raise ModeratorError(UPLOAD_OFFSET, expected=job.received_bytes, given=offset)
    if offset + len(data) > job.size_bytes:
        raise ModeratorError(UPLOAD_TOO_LARGE, name=job.name, limit=f"{job.size_bytes} B")
    path = file_of(settings, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if path.exists() else "wb") as file:
        # A piece whose answer was lost may have been written before.
        file.truncate(offset)
        file.seek(offset)
        file.write(data)
    job.received_bytes = offset + len(data)
    if job.received_bytes == job.size_bytes:
        job.state = "queued"
        audit.append(
            db,
            who.actor,
            "job.upload",
            "job",
            job.id,
            organisation_id=job.organisation_id,
            detail={"name": job.name, "bytes": job.size_bytes},
        )
    return job


def cancel(db: Session, who: Principal, settings: ReviewSettings, job_id: str) -> Job:
    """Stop it, and remove what was uploaded; a finished job only loses its file."""
    job = get(db, who, job_id, lock=True)
    if job.state in UNFINISHED:
        job.state = "cancelled"
        job.finished_at = utcnow()
    remove_files(settings, job)
    return job


def file_of(settings: ReviewSettings, job: Job) -> Path:
    """The extension comes from a list of ours, the name from the job."""
    return folder_of(settings, job) / f"upload{uploads.check_recording_name(job.name)}"


def folder_of(settings: ReviewSettings, job: Job) -> Path:
    return settings.data_dir / "uploads" / job.id


def remove_files(settings: ReviewSettings, job: Job) -> None:
    shutil.rmtree(folder_of(settings, job), ignore_errors=True)


# --- the workers ----------------------------------------------------------------------


class Cancelled(Exception):
    """The job was cancelled, or the server stops."""


class JobRunner:
    """Threads that check what was uploaded, one job each at a time."""

    def __init__(
        self, database: Database, settings: ReviewSettings, checker: Checker | None = None
    ) -> None:
        self._database = database
        self._settings = settings
        self._checker = checker
        self._name = new_id()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"job-{number}", daemon=True)
            for number in range(settings.job_workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Leave off; what runs goes back into the queue and is begun again next time."""
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                job = self._take()
                if job is not None:
                    self._run(job)
                    continue
            except SQLAlchemyError as error:
                log.warning("jobs cannot be read", reason=type(error).__name__)
            self._stopped.wait(IDLE_S)

    def _take(self) -> Job | None:
        with self._database.read() as db:
            if db.scalar(self._due().limit(1)) is None:
                return None
        with self._database.write() as db:
            job_id = db.scalar(self._due().limit(1).with_for_update(skip_locked=True))
            if job_id is None:
                return None
            job = db.get_one(Job, job_id)
            job.state, job.worker, job.beat_at = "running", self._name, utcnow()
            job.done_s = job.total_s = 0.0
        return job

    def _due(self) -> Any:
        lost = (Job.state == "running") & (
            or_(Job.beat_at.is_(None), Job.beat_at < utcnow() - LOST_AFTER)
        )
        return select(Job.id).where(or_(Job.state == "queued", lost)).order_by(Job.id)

    def _run(self, job: Job) -> None:
        began = monotonic()
        try:
            found = self._check(job)
            broadcast = self._keep(job, found)
            self._finish(job, "done", summary=summary([found]), broadcast_id=broadcast)
            log.info("job done", job=job.id, seconds=round(monotonic() - began, 1))
        except Cancelled:
            if self._stopped.is_set():
                self._finish(job, "queued")
        except ModeratorError as error:
            zh, en = error.text("zh"), error.text("en")
            self._finish(job, "failed", error={"code": error.code, "zh": zh, "en": en})
        except SQLAlchemyError:
            # The mark grows old, and the job is taken again when the database is back.
            raise
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            log.error("job failed", job=job.id, trace=trace)
            text = f"{type(error).__name__}: {error}"[:300]
            self._finish(job, "failed", error={"code": "LM-937", "zh": text, "en": text})

    def _check(self, job: Job) -> Report:
        from moderator.config import load_settings
        from moderator.pipeline import check

        checker = self._checker or check
        path = file_of(self._settings, job)
        out = folder_of(self._settings, job) / "out"
        last = [monotonic()]

        def progress(done_s: float, total_s: float) -> None:
            if self._stopped.is_set():
                raise Cancelled
            if monotonic() - last[0] >= BEAT_S / 5:
                last[0] = monotonic()
                self._beat(job.id, done_s, total_s)

        with _Heart(self, job.id):
            return checker(
                path,
                room=self._room(job),
                passports=self._passports(job),
                out=out,
                settings=load_settings(script_limit_mib=self._settings.script_limit_mib),
                progress=progress,
            )

    def _room(self, job: Job) -> Room:
        with self._database.read() as db:
            row = db.get(RoomRow, job.room_id)
        if row is None:
            return Room(id=job.room_id, products=tuple(job.products))
        return Room(
            id=row.id,
            platform=row.platform,
            title=row.title,
            host=row.host,
            merchant=row.merchant,
            products=tuple(job.products or row.products),
            ai_host=row.ai_host,
        )

    def _passports(self, job: Job) -> list[Any]:
        if not job.products:
            return []
        with self._database.read() as db:
            rows = db.scalars(select(PassportRow).where(PassportRow.id.in_(job.products))).all()
        return [
            passport_from(row.body, row.id)
            for row in rows
            if row.organisation_id in (None, job.organisation_id) or job.organisation_id is None
        ]

    def _beat(self, job_id: str, done_s: float | None = None, total_s: float = 0.0) -> None:
        """Renew the mark. Raises Cancelled when the job is no longer ours."""
        values: dict[str, Any] = {"beat_at": utcnow()}
        if done_s is not None:
            values |= {"done_s": done_s, "total_s": total_s}
        with self._database.write() as db:
            kept = db.execute(
                update(Job)
                .where(Job.id == job_id, Job.state == "running", Job.worker == self._name)
                .values(**values)
            )
            if not kept.rowcount:  # type: ignore[attr-defined]
                raise Cancelled

    def _keep(self, job: Job, found: Report) -> str:
        """What was found goes where everything is; the recording becomes the broadcast's."""
        path = file_of(self._settings, job)
        out = folder_of(self._settings, job) / "out"
        session = ingest.put_folder(
            self._database,
            out,
            self._settings.data_dir,
            room=found.room,
            media=path if found.kind == "media" else None,
            organisation_id=job.organisation_id,
        )
        with suppress(OSError):
            shutil.rmtree(out)
        return session

    def _finish(self, job: Job, state: str, **values: Any) -> None:
        done = utcnow() if state in ("done", "failed") else None
        with self._database.write() as db:
            db.execute(
                update(Job)
                .where(Job.id == job.id, Job.state == "running", Job.worker == self._name)
                .values(state=state, finished_at=done, **values)
            )


class _Heart:
    """Renews a job's mark while a stage without progress runs, such as loading a model."""

    def __init__(self, runner: JobRunner, job_id: str) -> None:
        self._runner = runner
        self._job_id = job_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(SQLAlchemyError, Cancelled):
                self._runner._beat(self._job_id)
