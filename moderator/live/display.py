"""What a person at a terminal sees: rooms, lag, the last words, the last record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from moderator.errors import in_ui_language

STATE_STYLES = {
    "live": "green",
    "connecting": "cyan",
    "stalled": "yellow",
    "reconnecting": "yellow",
    "ended": "dim",
    "failed": "red",
    "crashed": "red",
}
SEVERITY_STYLES = {"low": "dim", "medium": "yellow", "high": "red", "critical": "bold red"}
SLOW_S = 3.0


@dataclass(frozen=True, slots=True)
class RoomRow:
    """One line of the display."""

    room: str
    state: str
    media_s: float
    lag_s: float
    records: int
    text: str
    interim: str
    violation: str
    severity: str
    latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The line below the rooms."""

    degraded: Sequence[str] = ()
    queue: int = 0
    lost_s: float = 0.0
    rules: str = ""
    port: int | None = None
    sinks_behind: int = 0


def render(rows: Sequence[RoomRow], overview: Overview, width: int = 120) -> RenderableType:
    """The whole display."""
    table = Table(expand=True, pad_edge=False)
    for name in (
        in_ui_language("room", "直播间"),
        in_ui_language("state", "状态"),
        in_ui_language("time", "时间"),
        in_ui_language("lag s", "延迟 秒"),
        in_ui_language("records", "记录"),
    ):
        table.add_column(name, no_wrap=True)
    table.add_column(in_ui_language("last words", "最近话语"), ratio=3, no_wrap=True)
    table.add_column(in_ui_language("last record", "最近记录"), ratio=3, no_wrap=True)
    for row in rows:
        words = Text(row.text[-60:], style="dim") if not row.interim else Text(row.interim[-60:])
        record = Text(row.violation, style=SEVERITY_STYLES.get(row.severity, ""))
        if row.latency_ms is not None:
            record.append(f"  {row.latency_ms / 1000:.1f} s", style="dim")
        table.add_row(
            row.room,
            Text(row.state, style=STATE_STYLES.get(row.state, "")),
            _clock(row.media_s),
            Text(f"{row.lag_s:.1f}", style="red" if row.lag_s > SLOW_S else ""),
            str(row.records),
            words,
            record,
        )
    return Group(table, _footer(overview))


def _footer(overview: Overview) -> Text:
    parts = [f"rules {overview.rules}", f"queue {overview.queue}"]
    if overview.sinks_behind:
        parts.append(f"to deliver {overview.sinks_behind}")
    if overview.port is not None:
        parts.append(f"metrics :{overview.port}")
    line = Text("  ".join(parts), style="dim")
    if overview.degraded:
        given_up = ", ".join(overview.degraded)
        line.append("  " + in_ui_language("given up: ", "已降级：") + given_up, style="yellow")
    if overview.lost_s:
        line.append(f"  lost {overview.lost_s:.0f} s", style="red")
    return line


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
