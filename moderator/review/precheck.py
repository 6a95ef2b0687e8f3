"""Checking a script before it is spoken: what is wrong where, and what to say instead."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from time import perf_counter
from typing import Any, Literal

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from moderator.claims.passports import Passport, passport_from
from moderator.claims.rules import RulePack
from moderator.config import Settings, load_settings
from moderator.errors import (
    ALREADY_THERE,
    ENGINE_MISSING,
    INPUT_INVALID,
    NO_SUCH,
    SCRIPT_TOO_LARGE,
    UPLOAD_KIND,
    UPLOAD_TOO_LARGE,
    ModeratorError,
    in_ui_language,
)
from moderator.outputs import labels
from moderator.outputs.report import Report, summary
from moderator.records import Room
from moderator.review import audit, case, uploads
from moderator.review.case import ArticleText
from moderator.review.models import PassportRow, utcnow
from moderator.review.permissions import Principal
from moderator.review.settings import ReviewSettings

Kind = Literal["txt", "md", "srt", "vtt"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place of `Checked.text`; offsets are code points, line and column 1-based."""

    begin: int
    end: int
    line: int
    column: int
    record: dict[str, Any]
    articles: list[ArticleText]
    rewrites: list[str]


@dataclass(frozen=True, slots=True)
class Checked:
    text: str
    kind: str
    marks: list[Mark]
    summary: dict[str, Any]
    engines: dict[str, str]
    took_ms: float


def check_text(
    settings: ReviewSettings,
    pack: RulePack,
    text: str,
    *,
    kind: Kind = "txt",
    room: Room | None = None,
    passports: Sequence[Passport] = (),
    lang: str | None = None,
) -> Checked:
    """Check a pasted script. Raises LM-917 beyond the limit; an empty script is clean."""
    if len(text) > settings.script_limit_chars:
        limit = f"{settings.script_limit_chars} 字"
        raise ModeratorError(UPLOAD_TOO_LARGE, name="text", limit=limit)
    from moderator.pipeline import check_script
    from moderator.script import script_from_text

    script = script_from_text(text, kind=kind)
    found = check_script(script, room=room, passports=passports, settings=_settings(lang))
    return _checked(found, kind, pack)


def check_file(
    settings: ReviewSettings,
    pack: RulePack,
    name: str,
    data: bytes,
    *,
    passports: Sequence[Passport] = (),
    lang: str | None = None,
) -> Checked:
    """Check an uploaded script in whatever encoding. Raises LM-103, LM-6xx, LM-917, LM-918."""
    from moderator.pipeline import check_script
    from moderator.script import SCRIPT_SUFFIXES, script_from_bytes

    if len(data) > settings.script_limit_mib << 20:
        raise ModeratorError(
            UPLOAD_TOO_LARGE,
            name=uploads.plain_name(name),
            limit=f"{settings.script_limit_mib} MiB",
        )
    kind = SCRIPT_SUFFIXES.get(PurePosixPath(name.lower()).suffix)
    shown = uploads.plain_name(name)
    if kind is None:
        accepted = " ".join(sorted(uploads.SCRIPTS))
        reason = in_ui_language("by its name", "扩展名不支持")
        raise ModeratorError(UPLOAD_KIND, name=shown, reason=reason, accepted=accepted)
    script = script_from_bytes(data, source=shown, kind=kind, limit_mib=settings.script_limit_mib)
    if len(script.text) > settings.script_limit_chars:
        size = len(script.text) / 2**20
        raise ModeratorError(
            SCRIPT_TOO_LARGE,
            path=shown,
            size_mib=f"{size:.1f}",
            limit_mib=f"{settings.script_limit_chars / 2**20:.1f}",
        )
    found = check_script(script, passports=passports, settings=_settings(lang))
    return _checked(found, kind, pack)


def _checked(report: Report, kind: str, pack: RulePack) -> Checked:
    began = perf_counter()
    rows = report.script_text.split("\n")
    starts = [0, *accumulate(len(row) + 1 for row in rows)]
    marks = []
    for violation in report.violations:
        place = violation.place
        if place is None:
            continue
        record = violation.to_json()
        begin = _offset(starts, place.line, place.column)
        end = _offset(starts, place.end_line, place.end_column)
        marks.append(
            Mark(
                begin,
                max(begin, end),
                place.line,
                place.column,
                record,
                case.articles(pack, record),
                rewrites(violation.suggestion, violation.quote),
            )
        )
    marks.sort(key=lambda mark: (mark.begin, -mark.end))
    took = report.timings.get("total_s", 0.0) + perf_counter() - began
    return Checked(
        report.script_text,
        kind,
        marks,
        summary([report]),
        report.engines,
        round(took * 1000, 1),
    )


def _offset(starts: Sequence[int], line: int, column: int) -> int:
    line = min(max(line, 1), len(starts) - 1)
    return min(starts[line - 1] + column - 1, starts[-1])


_QUOTED = re.compile('[“「『"]([^”」』"]{1,160})[”」』"]')

_OFFERS = re.compile(
    "改为|改说|改成|换成|例如|只介绍|(?:比)?如[：:]?$|(?<![不别])说明?[：:]?$|或者[，,]?$|"
    r"\be\.g\.|\b(?:say|use|instead|such as|for example|state|give|speak|name|read)\b",
    re.I,
)
"""Words before a quotation that is to be said."""

_FORBIDS = re.compile(
    "不[说提下报用做]|别[说提]|[删去除]|标明|标注|写明|亮出|提示|注明|"
    r"\b(?:not|no|never|without|drop|show|mark|put|keep|add)\b",
    re.I,
)
"""Words before one that is not to be said, or to be shown and not said."""


def rewrites(suggestion: str, quote: str) -> list[str]:
    """The wordings that a suggestion offers in quotation marks, five at most.

    Whether a quotation is offered or forbidden says the last such word before it; one that
    follows another without any (“…”“…”) is like it. What holds the words at fault is none.
    """
    kept: list[str] = []
    offered, at = False, 0
    for found in _QUOTED.finditer(suggestion):
        between = suggestion[at : found.start()]
        at = found.end()
        last = {
            kind: max((one.start() for one in words.finditer(between)), default=-1)
            for kind, words in ((True, _OFFERS), (False, _FORBIDS))
        }
        if max(last.values()) >= 0:
            offered = last[True] > last[False]
        words = found[1]
        if offered and "…" not in words and not (quote and quote in words):
            kept.append(words)
    return list(dict.fromkeys(kept))[:5]


def _settings(lang: str | None) -> Settings:
    return load_settings(lang=lang)


# --- passports ------------------------------------------------------------------------


def passports(db: Session, who: Principal) -> Sequence[PassportRow]:
    """Everybody's, and those of one's organisation."""
    query = select(PassportRow).order_by(PassportRow.name, PassportRow.id)
    if not who.sees_all:
        mine = PassportRow.organisation_id == (who.organisation_id or "")
        query = query.where(or_(PassportRow.organisation_id.is_(None), mine))
    return db.scalars(query.limit(5000)).all()


def chosen(db: Session, who: Principal, ids: Sequence[str]) -> list[Passport]:
    """The passports of `ids`. Raises LM-908 for one that `who` cannot see."""
    found = []
    for passport_id in dict.fromkeys(ids):
        row = db.get(PassportRow, passport_id)
        if row is None or not (row.organisation_id is None or who.sees(row.organisation_id)):
            raise _no_passport(passport_id)
        found.append(passport_from(row.body, row.id))
    return found


def put_passport(
    db: Session, who: Principal, body: Mapping[str, Any], organisation_id: str | None
) -> PassportRow:
    """Keep a passport; one of the same id is replaced. Raises LM-301, LM-908, LM-924."""
    passport = passport_from(dict(body), "passport")
    if not 1 <= len(passport.id) <= 100:
        reason = in_ui_language("1 to 100 characters", "需为 1 到 100 个字符")
        raise ModeratorError(INPUT_INVALID, place="passport.id", reason=reason)
    if not who.sees_all:
        organisation_id = who.organisation_id
    row = db.get(PassportRow, passport.id)
    if row is not None and not who.sees(row.organisation_id):
        kind = in_ui_language("passport", "商品档案")
        raise ModeratorError(ALREADY_THERE, kind=kind, name=passport.id)
    if row is None:
        row = PassportRow(id=passport.id, body={})
        db.add(row)
    row.organisation_id = organisation_id
    row.name, row.category = passport.name[:200], passport.category
    row.body = passport.model_dump(mode="json", exclude_defaults=True)
    row.changed_at = utcnow()
    try:
        db.flush()
    except IntegrityError:
        kind = in_ui_language("organisation", "机构")
        raise ModeratorError(NO_SUCH, kind=kind, id=organisation_id) from None
    audit.append(
        db,
        who.actor,
        "passport.put",
        "passport",
        row.id,
        organisation_id=row.organisation_id,
    )
    return row


def remove_passport(db: Session, who: Principal, passport_id: str) -> None:
    """Raises LM-908."""
    row = db.get(PassportRow, passport_id)
    if row is None or not who.sees(row.organisation_id):
        raise _no_passport(passport_id)
    db.delete(row)
    audit.append(
        db,
        who.actor,
        "passport.remove",
        "passport",
        passport_id,
        organisation_id=row.organisation_id,
    )


def _no_passport(passport_id: str) -> ModeratorError:
    kind = in_ui_language("passport", "商品档案")
    return ModeratorError(NO_SUCH, kind=kind, id=passport_id)


# --- taking the script away -----------------------------------------------------------


def download(text: str, marks: Sequence[Mark], format_: str, title: str) -> tuple[bytes, str]:
    """The script as a file, and its media type. Marks are shown in docx and html."""
    if format_ == "txt":
        return text.encode("utf-8"), "text/plain; charset=utf-8"
    if format_ == "html":
        return _html(text, marks, title).encode("utf-8"), "text/html; charset=utf-8"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    return _docx(text, marks), kind


def _pieces(text: str, marks: Sequence[Mark]) -> list[tuple[str, Mark | None]]:
    """`text` cut where marks begin and end; of overlapping marks the first is shown."""
    out: list[tuple[str, Mark | None]] = []
    at = 0
    for mark in marks:
        if mark.begin < at or mark.end <= mark.begin:
            continue
        out.append((text[at : mark.begin], None))
        out.append((text[mark.begin : mark.end], mark))
        at = mark.end
    out.append((text[at:], None))
    return [(piece, mark) for piece, mark in out if piece]


def _html(text: str, marks: Sequence[Mark], title: str) -> str:
    body = "".join(
        html.escape(piece)
        if mark is None
        else f'<mark title="{html.escape(mark.record["explanation"])}">{html.escape(piece)}</mark>'
        for piece, mark in _pieces(text, marks)
    )
    rows = "".join(
        f"<li><b>{html.escape(mark.record['quote'])}</b>"
        f" — {html.escape(mark.record['explanation'])}"
        f" <i>{html.escape(mark.record['suggestion'])}</i></li>"
        for mark in marks
    )
    return (
        '<!doctype html><html lang="zh"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><h1>{html.escape(title)}</h1>"
        f'<div style="white-space:pre-wrap">{body}</div><ol>{rows}</ol></html>'
    )


_UNFIT_FOR_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def _docx(text: str, marks: Sequence[Mark]) -> bytes:
    try:
        from docx import Document
        from docx.enum.text import WD_COLOR_INDEX
    except ImportError as error:
        raise ModeratorError(
            ENGINE_MISSING,
            name="docx",
            package=error.name,
            install="live-stream-moderator[server]",
        ) from None
    document = Document()
    paragraph = document.add_paragraph()
    for piece, mark in _pieces(_UNFIT_FOR_XML.sub("\ufffd", text), marks):
        for number, line in enumerate(piece.split("\n")):
            if number:
                paragraph = document.add_paragraph()
            run = paragraph.add_run(line)
            if mark is not None:
                run.font.highlight_color = WD_COLOR_INDEX.YELLOW
    if marks:
        document.add_heading(in_ui_language("To mend", "需要修改"), level=2)
        for mark in marks:
            category = labels.pick(labels.category(mark.record["category"]), "zh")
            words = f"{mark.record['quote']}（{category}）{mark.record['explanation']}"
            document.add_paragraph(
                _UNFIT_FOR_XML.sub("\ufffd", f"{words} {mark.record['suggestion']}"),
                style="List Number",
            )
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def load_passport_file(db: Session, who: Principal, path: Path) -> int:
    """Keep every passport of a YAML, JSON or CSV file; returns how many."""
    from moderator.claims.passports import load_passports

    found = load_passports(path)
    for passport in found:
        put_passport(db, who, passport.model_dump(mode="json", exclude_defaults=True), None)
    return len(found)
