"""Figures for the dashboards: each is one table, shown, charted, or saved as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy import case as when
from sqlalchemy.orm import Session, aliased

from moderator.errors import NO_SUCH, ModeratorError, in_ui_language
from moderator.review import queue
from moderator.review.models import Decision, ViolationRecord, ViolationRow, utcnow
from moderator.review.permissions import Principal

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True, slots=True)
class Window:
    """Which violations count: those whose words were said from `since` to `until`."""

    since: datetime
    until: datetime
    organisation: str | None = None

    @classmethod
    def last(cls, days: float = 30) -> Window:
        now = utcnow()
        return cls(now - timedelta(days=days), now + timedelta(days=1))


def table(db: Session, who: Principal, name: str, window: Window) -> Table:
    """The figures of that name. Raises LM-908."""
    found = DASHBOARDS.get(name)
    if found is None:
        raise ModeratorError(NO_SUCH, kind=in_ui_language("dashboard", "看板"), id=name)
    columns, rows = found(db, _conditions(who, window))
    return Table(name, columns, rows)


def as_csv(shown: Table) -> str:
    """The table as CSV (RFC 4180), with cells that a spreadsheet would run as formulas defused."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(shown.columns)
    writer.writerows([_cell(value) for value in row] for row in shown.rows)
    return out.getvalue()


def _cell(value: Cell) -> Cell:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _conditions(who: Principal, window: Window) -> list[ColumnElement[bool]]:
    found = [
        ViolationRow.at >= window.since,
        ViolationRow.at < window.until,
        *queue.visible(who),
    ]
    if window.organisation is not None:
        found.append(ViolationRow.organisation_id == window.organisation)
    return found


Rows = tuple[list[str], list[list[Cell]]]
_Where = Sequence[ColumnElement[bool]]


def _by(column: Any, name: str) -> Callable[[Session, _Where], Rows]:
    def count(db: Session, where: _Where) -> Rows:
        def of(status: str) -> Any:
            return func.sum(when((ViolationRow.status == status, 1), else_=0))

        query = (
            select(
                column, func.count(), of("confirmed"), of("dismissed"), func.avg(ViolationRow.risk)
            )
            .where(*where)
            .group_by(column)
            .order_by(func.count().desc(), column)
            .limit(500)
        )
        rows = [
            [value, total, int(yes), int(no), round(float(risk), 4)]
            for value, total, yes, no, risk in db.execute(query)
        ]
        return [name, "total", "confirmed", "dismissed", "mean_risk"], rows

    return count


def _over_time(db: Session, where: _Where) -> Rows:
    """Violations of a UTC day by category."""
    day = (
        func.date(ViolationRow.at)
        if db.get_bind().dialect.name == "sqlite"
        else func.to_char(func.timezone("UTC", ViolationRow.at), "YYYY-MM-DD")
    )
    query = (
        select(day, ViolationRow.category, func.count())
        .where(*where)
        .group_by(day, ViolationRow.category)
        .order_by(day, ViolationRow.category)
    )
    return ["day", "category", "total"], [[d, c, n] for d, c, n in db.execute(query)]


def _rule_precision(db: Session, where: _Where) -> Rows:
    """Of what people judged, how much was right: the rules to mend come first.

    The interval is Wilson's at 95 % (E. B. Wilson, 1927), which holds for few verdicts too.
    """
    yes = func.sum(when((ViolationRow.status == "confirmed", 1), else_=0))
    no = func.sum(when((ViolationRow.status == "dismissed", 1), else_=0))
    query = (
        select(ViolationRow.rule_id, func.max(ViolationRow.rule_title), func.count(), yes, no)
        .where(*where)
        .group_by(ViolationRow.rule_id)
    )
    rows: list[list[Cell]] = []
    for rule, title, total, right, wrong in db.execute(query):
        right, wrong = int(right), int(wrong)
        judged = right + wrong
        if not judged:
            rows.append([rule, title, total, 0, 0, None, None, None])
            continue
        low, high = wilson(right, judged)
        share = round(right / judged, 4)
        rows.append([rule, title, total, right, wrong, share, round(low, 4), round(high, 4)])
    rows.sort(key=lambda row: (row[5] is None, row[5] or 0, str(row[0])))
    return ["rule", "title", "total", "confirmed", "dismissed", "precision", "low", "high"], rows


def wilson(right: int, judged: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a share: `right` of `judged`."""
    share = right / judged
    scale = 1 + z * z / judged
    middle = (share + z * z / (2 * judged)) / scale
    half = z * math.sqrt(share * (1 - share) / judged + z * z / (4 * judged * judged)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def _dismiss_reasons(db: Session, where: _Where) -> Rows:
    query = (
        select(ViolationRow.rule_id, Decision.reason, func.count())
        .join(Decision, Decision.violation_id == ViolationRow.id)
        .where(*where, Decision.action == "dismiss", Decision.undone_at.is_(None))
        .group_by(ViolationRow.rule_id, Decision.reason)
        .order_by(func.count().desc(), ViolationRow.rule_id, Decision.reason)
    )
    return ["rule", "reason", "total"], [[r, why, n] for r, why, n in db.execute(query)]


def _agreement(db: Session, where: _Where) -> Rows:
    """Where two people judged the same item: how often they agreed, beyond chance (Cohen's κ)."""
    first, second = aliased(Decision), aliased(Decision)
    query = (
        select(ViolationRow.category, first.action, second.action, func.count())
        .join(first, first.violation_id == ViolationRow.id)
        .join(second, second.violation_id == ViolationRow.id)
        .where(
            *where,
            first.stage == 1,
            second.stage == 2,
            first.undone_at.is_(None),
            second.undone_at.is_(None),
            first.action.in_(("confirm", "dismiss")),
            second.action.in_(("confirm", "dismiss")),
            first.status_after == "second_review",
        )
        .group_by(ViolationRow.category, first.action, second.action)
    )
    pairs: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for category, one, two, count in db.execute(query):
        pairs[category][one, two] = count
    rows: list[list[Cell]] = []
    for category, found in sorted(pairs.items()):
        both = sum(found.values())
        same = sum(count for (one, two), count in found.items() if one == two)
        rows.append([category, both, same, round(same / both, 4), kappa(found)])
    return ["category", "judged_twice", "agreed", "share", "kappa"], rows


def kappa(found: dict[tuple[str, str], int]) -> float | None:
    """Cohen's κ of two judges; None where chance alone would agree on everything."""
    total = sum(found.values())
    same = sum(count for (one, two), count in found.items() if one == two) / total
    labels = {label for pair in found for label in pair}
    chance = sum(
        sum(n for (one, _), n in found.items() if one == label)
        * sum(n for (_, two), n in found.items() if two == label)
        for label in labels
    ) / (total * total)
    return None if chance == 1 else round((same - chance) / (1 - chance), 4)


def _reviewers(db: Session, where: _Where) -> Rows:
    query = (
        select(
            Decision.user_name,
            func.count(),
            func.sum(when((Decision.action == "confirm", 1), else_=0)),
            func.sum(when((Decision.action == "dismiss", 1), else_=0)),
            func.sum(when((Decision.undone_at.is_not(None), 1), else_=0)),
        )
        .join(ViolationRow, ViolationRow.id == Decision.violation_id)
        .where(*where)
        .group_by(Decision.user_id, Decision.user_name)
        .order_by(func.count().desc(), Decision.user_name)
    )
    rows: list[list[Cell]] = [
        [name, total, int(yes), int(no), int(undone)]
        for name, total, yes, no, undone in db.execute(query)
    ]
    return ["reviewer", "decisions", "confirmed", "dismissed", "undone"], rows


def _time_to_decision(db: Session, where: _Where) -> Rows:
    query = select(ViolationRow.severity, ViolationRow.arrived_at, ViolationRow.decided_at).where(
        *where, ViolationRow.decided_at.is_not(None)
    )
    taken: dict[str, list[float]] = defaultdict(list)
    for severity, arrived, decided in db.execute(query):
        if decided is not None:
            taken[severity].append(max(0.0, (decided - arrived).total_seconds()))
    return ["severity", "decided", "p50_s", "p90_s", "p95_s"], _percentiles(taken, (50, 90, 95))


def _latency(db: Session, where: _Where) -> Rows:
    """From the end of the words to the record, as live rooms measured it."""
    query = select(ViolationRow.room_id, ViolationRow.latency_ms).where(
        *where, ViolationRow.latency_ms.is_not(None)
    )
    seen: dict[str, list[float]] = defaultdict(list)
    for room, latency in db.execute(query):
        seen[room].append(float(latency or 0))
    return ["room", "records", "p50_ms", "p95_ms", "p99_ms"], _percentiles(seen, (50, 95, 99))


def _percentiles(found: dict[str, list[float]], wanted: Sequence[int]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for name, values in sorted(found.items()):
        values.sort()
        rows.append(
            [name, len(values), *(round(percentile(values, percent), 1) for percent in wanted)]
        )
    return rows


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest rank (the value that `percent` of all do not exceed); `ordered` is ascending."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


DASHBOARDS: dict[str, Callable[[Session, _Where], Rows]] = {
    "category": _by(ViolationRow.category, "category"),
    "room": _by(ViolationRow.room_id, "room"),
    "host": _by(ViolationRow.host, "host"),
    "merchant": _by(ViolationRow.merchant, "merchant"),
    "over_time": _over_time,
    "rule_precision": _rule_precision,
    "dismiss_reasons": _dismiss_reasons,
    "agreement": _agreement,
    "reviewers": _reviewers,
    "time_to_decision": _time_to_decision,
    "latency": _latency,
}

TITLES: dict[str, tuple[str, str]] = {
    "category": ("按类别", "By category"),
    "room": ("按直播间", "By room"),
    "host": ("按主播", "By host"),
    "merchant": ("按商家", "By merchant"),
    "over_time": ("按日趋势", "By day"),
    "rule_precision": ("规则准确率", "Precision by rule"),
    "dismiss_reasons": ("驳回原因", "Why dismissed"),
    "agreement": ("复核一致性", "Agreement of reviewers"),
    "reviewers": ("审核员工作量", "Work of reviewers"),
    "time_to_decision": ("处理时长", "Time to decision"),
    "latency": ("发现延迟", "Latency of detection"),
}


def verdicts(db: Session, who: Principal, window: Window) -> Iterator[str]:
    """What people judged, one labelled example a line, to train and to mend rules with.

    `label` is 1 for confirmed, 0 for dismissed; `span` are offsets in `text`.
    """
    query = (
        select(ViolationRow, ViolationRecord.body)
        .join(ViolationRecord, ViolationRecord.violation_id == ViolationRow.id)
        .where(*_conditions(who, window), ViolationRow.status.in_(("confirmed", "dismissed")))
        .order_by(ViolationRow.seq)
        .execution_options(yield_per=500)
    )
    for row, record in db.execute(query):
        last = queue.standing(db, row.id)
        line = {
            "schema": "moderator/verdict@1",
            "id": row.id,
            "text": record["context"],
            "span": record["span"],
            "quote": record["quote"],
            "heard": record.get("heard"),
            "label": 1 if row.status == "confirmed" else 0,
            "rule": record["rule"]["id"],
            "rule_version": record["rule"]["version"],
            "category": row.category,
            "channel": row.channel,
            "match": record["match"],
            "confidence": row.confidence,
            "disposition": row.disposition,
            "reason": last.reason if last else "",
            "stage": last.stage if last else 1,
            "decided_at": row.decided_at.isoformat() if row.decided_at else None,
        }
        yield json.dumps(line, ensure_ascii=False) + "\n"
