"""`csv`: one violation a row, for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TextIO

from moderator.outputs.labels import citation, clock, encodable
from moderator.outputs.report import Report
from moderator.records import Violation

COLUMNS = (
    "source",
    "time",
    "start",
    "end",
    "line",
    "column",
    "severity",
    "disposition",
    "category",
    "quote",
    "heard",
    "context",
    "law",
    "explanation",
    "suggestion",
    "confidence",
    "channel",
    "occurrences",
    "rule",
    "product",
    "room",
    "session",
    "clip",
    "frames",
    "id",
)


def write_csv(reports: Iterable[Report], stream: TextIO) -> None:
    """Comma-separated with a header and a UTF-8 mark, which Excel needs to read Chinese.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    stream.write("\ufeff")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for report in reports:
        for violation in report.violations:
            writer.writerow([_cell(value) for value in _row(violation)])
    stream.flush()


def _row(violation: Violation) -> tuple[str | float | None, ...]:
    place = violation.place
    return (
        violation.source,
        clock(violation.start, tenths=True),
        round(violation.start, 3),
        round(violation.end, 3),
        place.line if place else None,
        place.column if place else None,
        str(violation.severity),
        str(violation.disposition),
        violation.category,
        violation.quote,
        violation.heard,
        violation.context,
        "；".join(citation(ref) for ref in violation.law),
        violation.explanation,
        violation.suggestion,
        round(violation.confidence, 3),
        violation.channel,
        violation.occurrences,
        f"{violation.rule.id}@{violation.rule.version}",
        violation.product,
        violation.room,
        violation.session,
        violation.evidence.clip,
        " ".join(violation.evidence.frames),
        violation.id,
    )


# Excel and its kin also read the full-width forms, and skip leading blanks to find them.
_FORMULA_STARTS = frozenset("=+-@＝＋－＠")


def _cell(value: str | float | None) -> str | float:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = encodable(value.replace("\0", "\ufffd"))
    starts_formula = text.lstrip(" \u3000\t\r\n")[:1] in _FORMULA_STARTS
    return f"'{text}" if starts_formula or text.startswith(("\t", "\r", "\n")) else text
