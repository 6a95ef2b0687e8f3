"""`table`: violations for a terminal, and one line that sums them up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from moderator.errors import ui_language
from moderator.outputs.labels import (
    CHANNEL,
    DISPOSITION,
    SEVERITY,
    Words,
    category,
    cell_width,
    citation,
    clock,
    pick,
    printable,
    where,
)
from moderator.outputs.report import Report, summary
from moderator.records import Disposition, Severity, Violation

DEFAULT_WIDTH = 100
NARROWEST = 60

_HEADERS: tuple[Words, ...] = (
    ("时间", "Time"),
    ("程度", "Severity"),
    ("类别", "Category"),
    ("原话", "Quote"),
    ("法条", "Law"),
    ("建议", "Suggestion"),
)
_LINE_HEADER: Words = ("行:列", "Line:col")
_STYLE = {
    Severity.CRITICAL: "bold red",
    Severity.HIGH: "red",
    Severity.MEDIUM: "yellow",
    Severity.LOW: "cyan",
}


def write_table(
    reports: Iterable[Report], stream: TextIO, lang: str | None = None, width: int | None = None
) -> None:
    """A table for each report that found something, and a line that sums up each.

    `width` is in terminal columns: the terminal's when `stream` is one, else 100. Colour
    only on a terminal. Control characters in what was said or shown never reach it.
    """
    lang = lang or ui_language()
    console = Console(
        file=stream, width=width or _width(stream), highlight=False, emoji=False, markup=False
    )
    first = True
    for report in reports:
        if not first:
            console.print()
        first = False
        if report.violations:
            console.print(_table(report, lang, console.width), Text(""))
        for note in report.notes:
            console.print(Text(f"! {printable(note)}", style="yellow"), soft_wrap=True)
        console.print(_summary(report, lang), soft_wrap=True)
    stream.flush()


def _width(stream: TextIO) -> int:
    if os.environ.get("COLUMNS", "").isdigit():
        return max(NARROWEST, int(os.environ["COLUMNS"]))
    try:
        return max(NARROWEST, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return DEFAULT_WIDTH


def _table(report: Report, lang: str, width: int) -> Table:
    script = report.kind == "script"
    rows = sorted(report.violations, key=_order)
    widths = _widths(max([4, *(len(where(v, script=script)) for v in rows)]), lang, width)
    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.show_lines, table.border_style = True, "dim"
    for index, (header, columns) in enumerate(zip(_HEADERS, widths, strict=True)):
        words = _LINE_HEADER if script and index == 0 else header
        table.add_column(pick(words, lang), width=columns, no_wrap=True)
    for violation in rows:
        cells = _cells(violation, lang, script)
        table.add_row(
            *(_fitted(cell, columns) for cell, columns in zip(cells, widths, strict=True))
        )
    return table


def _order(violation: Violation) -> tuple[bool, float, int, int]:
    """In order of time or line; what concerns the whole session comes last."""
    place = violation.place
    line, column = (place.line, place.column) if place else (0, 0)
    return violation.channel == "stream", violation.start, line, column


def _widths(first: int, lang: str, width: int) -> list[int]:
    """Columns of text for each cell; the gaps between them take ten."""
    severity, kind = (6, 12) if lang == "zh" else (11, 13)
    first = max(first, 5 if lang == "zh" else 8)
    rest = width - 10 - first - severity - kind
    quote, law = rest * 30 // 100, rest * 34 // 100
    return [first, severity, kind, quote, law, rest - quote - law]


def _cells(violation: Violation, lang: str, script: bool) -> list[Text]:
    severity = Text(pick(SEVERITY[violation.severity], lang), style=_STYLE[violation.severity])
    severity.append("\n" + pick(DISPOSITION[violation.disposition], lang), style="dim")
    quote = Text(printable(violation.quote) or f"（{pick(CHANNEL[violation.channel], lang)}）")
    quote.stylize("bold")
    if violation.heard and violation.heard != violation.quote:
        label = ("原文", "written") if script else ("听作", "heard")
        quote.append(f"\n{pick(label, lang)}: {printable(violation.heard)}", style="dim not bold")
    if violation.occurrences > 1:
        quote.append(f"\n×{violation.occurrences}", style="dim not bold")
    law = Text("\n".join(printable(_short(citation(ref))) for ref in violation.law))
    return [
        Text(where(violation, script=script)),
        severity,
        Text(pick(category(violation.category), lang)),
        quote,
        law,
        Text(printable(violation.suggestion)),
    ]


def _short(cited: str) -> str:
    """A terminal has no room for the country in the name of every law."""
    return cited.replace("《中华人民共和国", "《", 1)


def _fitted(text: Text, width: int) -> Text:
    """`text` broken into lines of `width` columns, styles kept."""
    lines = []
    for line in text.split("\n"):
        begin = 0
        for piece in wrap_cells(line.plain, width):
            at = line.plain.index(piece, begin)
            lines.append(line[at : at + len(piece)])
            begin = at + len(piece)
        if not line.plain:
            lines.append(Text(""))
    return Text("\n").join(lines)


_CLOSING = "，。、；：？！）】」』》〉”’…—·,.;:?!)]}%"
_OPENING = "（【「『《〈“‘([{"
_ATOM = re.compile(r"[\x21-\x7e]+|.", re.DOTALL)


def wrap_cells(text: str, width: int) -> list[str]:
    """Break `text` into lines of at most `width` terminal columns.

    Chinese breaks between any two characters, but no line begins with a closing mark or
    ends with an opening one; words of Latin letters and numbers stay whole unless one
    alone is too long. Spaces at a break are dropped.
    """
    lines: list[str] = []
    line, used = "", 0
    for atom in _unbreakable(text, width):
        cells = sum(map(cell_width, atom))
        if used + cells > width and line:
            lines.append(line.rstrip())
            line, used = "", 0
        if atom == " " and not line:
            continue
        line += atom
        used += cells
    if line.strip():
        lines.append(line.rstrip())
    return lines


def _unbreakable(text: str, width: int) -> list[str]:
    """Pieces between which a line may break, none wider than `width`."""
    pieces: list[str] = []
    joined = False
    for found in _ATOM.finditer(text):
        atom = found.group()
        after = pieces and pieces[-1] != " " and (joined or atom[0] in _CLOSING)
        if after and sum(map(cell_width, pieces[-1] + atom)) <= width:
            pieces[-1] += atom
        else:
            pieces.extend(_chopped(atom, width))
        joined = atom[-1] in _OPENING
    return pieces


def _chopped(atom: str, width: int) -> list[str]:
    if sum(map(cell_width, atom)) <= width:
        return [atom]
    step = max(1, width // 2) if any(cell_width(c) == 2 for c in atom) else width
    return [atom[at : at + step] for at in range(0, len(atom), step)]


def _summary(report: Report, lang: str) -> Text:
    counts = summary([report])
    line = Text()
    if not report.violations:
        line.append(pick(("没有发现问题", "Nothing found"), lang), style="green")
    else:
        firm = [
            f"{pick(DISPOSITION[d], lang)} {counts['disposition'][str(d)]}"
            for d in reversed(Disposition)
            if counts["disposition"][str(d)]
        ]
        grave = [
            f"{pick(SEVERITY[s], lang)} {counts['severity'][str(s)]}"
            for s in reversed(Severity)
            if counts["severity"][str(s)]
        ]
        comma = "，" if lang == "zh" else ", "
        opening, closing = ("（", "）") if lang == "zh" else (" (", ")")
        line.append(comma.join(firm), style="bold")
        line.append(opening + comma.join(grave) + closing)
    line.append(f"  {printable(report.source)}", style="dim")
    if report.kind == "media":
        line.append(f"  {clock(report.duration_s)}", style="dim")
    else:
        rows = pick((f"{len(report.script_rows())} 行", f"{len(report.script_rows())} lines"), lang)
        line.append(f"  {rows}", style="dim")
    total_s = report.timings.get("total_s", 0.0)
    if total_s:
        took = f"{total_s:.1f}" if total_s >= 1 else f"{total_s:.2f}"
        line.append("  " + pick((f"用时 {took} 秒", f"took {took} s"), lang), style="dim")
        if report.kind == "media" and report.duration_s:
            speed = report.duration_s / total_s
            line.append(
                pick((f"（{speed:.1f} 倍速）", f" ({speed:.1f}× real time)"), lang), style="dim"
            )
    return line
