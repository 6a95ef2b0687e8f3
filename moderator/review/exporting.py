"""Taking a case away: the bundle, the printed report, and that it was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderator.errors import NO_SUCH, ModeratorError, in_ui_language
from moderator.review import audit, queue
from moderator.review.evidence import file_sha256
from moderator.review.models import Export, ViolationRow, new_id, utcnow
from moderator.review.permissions import Permission, Principal
from moderator.review.settings import ReviewSettings

if TYPE_CHECKING:
    from moderator.review.house import House

Kind = Literal["zip", "pdf"]


def export(house: House, who: Principal, violation_id: str, kind: Kind) -> Export:
    """Make the file, and write down that `who` took it. Raises LM-908, LM-926."""
    from moderator.review import bundle, printing

    who.need(Permission.EVIDENCE_EXPORT)
    made = Export(
        id=new_id(), violation_id=violation_id, user_id=who.user_id, user_name=who.name, kind=kind
    )
    path = path_of(house.settings, made)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with house.database.read() as db:
            queue.get(db, who, violation_id)
            if kind == "zip":
                bundle.write(db, house, who, violation_id, path)
            else:
                printing.write(db, house, who, violation_id, path)
        made.sha256 = file_sha256(path)
        made.size_bytes = path.stat().st_size
        with house.database.write() as db:
            row = queue.get(db, who, violation_id)
            row.exported_at = utcnow()
            db.add(made)
            audit.append(
                db,
                who.actor,
                "evidence.export",
                "violation",
                row.id,
                organisation_id=row.organisation_id,
                detail={"export": made.id, "kind": kind, "sha256": made.sha256},
            )
            queue.tell(db, row)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return made


def of_violation(db: Session, violation_id: str) -> Sequence[Export]:
    """Newest first: the console shows that, and by whom, it was already exported."""
    return db.scalars(
        select(Export).where(Export.violation_id == violation_id).order_by(Export.id.desc())
    ).all()


def get(db: Session, who: Principal, export_id: str) -> tuple[Export, ViolationRow]:
    """Raises LM-908."""
    made = db.get(Export, export_id)
    if made is not None:
        row = db.scalar(select(ViolationRow).where(ViolationRow.id == made.violation_id))
        if row is not None and who.sees(row.organisation_id):
            return made, row
    raise ModeratorError(NO_SUCH, kind=in_ui_language("export", "导出"), id=export_id)


def path_of(settings: ReviewSettings, made: Export) -> Path:
    return settings.data_dir / "exports" / f"{made.id}.{made.kind}"
