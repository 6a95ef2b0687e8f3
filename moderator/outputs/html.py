"""`html`: one self-contained page to read, filter, play and print.

The page asks nothing of the network: style and script are inside it, and its content
security policy names them by hash and refuses all else. Every word of a stream is hostile
and passes through the template's escaping.
"""

from __future__ import annotations

import base64
import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined, select_autoescape
from markupsafe import Markup

from moderator.errors import ui_language
from moderator.outputs import labels
from moderator.outputs.labels import Words
from moderator.outputs.report import Report, summary, tool_version
from moderator.records import (
    CATEGORIES,
    Code,
    Disposition,
    Evidence,
    ScreenText,
    Severity,
    Utterance,
    Violation,
)

EMBED_FILE_BYTES = 4 * 2**20
"""A clip or frame larger than this is linked, not embedded."""

EMBED_TOTAL_BYTES = 40 * 2**20
"""All embedded files together; browsers open a page of this size without complaint."""

FEW_REPORTS = 5

SCRIPT_ROWS = 2_000
"""A longer script is shown around its violations only."""

ROW_CHARS = 1_200
"""A longer row is shown around its violations only."""


def write_html(
    reports: Iterable[Report],
    stream: TextIO,
    lang: str | None = None,
    evidence_dir: Path | None = None,
) -> None:
    """Write the page. See `render_html`."""
    stream.write(render_html(list(reports), lang=lang, evidence_dir=evidence_dir))
    stream.flush()


def render_html(
    reports: Sequence[Report], *, lang: str | None = None, evidence_dir: Path | None = None
) -> str:
    """The page as text. Shows Chinese or English first (`lang`); the reader can switch.

    Evidence paths of violations become links relative to the page. With `evidence_dir`,
    the folder that those paths start from, files are embedded as far as `EMBED_FILE_BYTES`
    and `EMBED_TOTAL_BYTES` allow, and the page can be sent alone.
    """
    assets = _assets()
    files_in = _Files(evidence_dir)
    page = _environment().get_template("report.html")
    first = reports[0].source if reports else ""
    # Of a batch, only what was found is shown in full.
    shown = [r for r in reports if r.violations or len(reports) <= FEW_REPORTS]
    text = page.render(
        lang=lang or ui_language(),
        title=Path(first).name or first,
        css=Markup(assets.css),  # noqa: S704 - our own file, and the policy pins its hash
        js=Markup(assets.js),  # noqa: S704
        policy=assets.policy,
        version=tool_version(),
        total=summary(reports),
        checked=len(reports),
        clean=sum(not report.violations for report in reports),
        sections=list(_sections(shown, files_in)),
        filters=_filters(reports),
        severities=list(reversed(Severity)),
        L=labels,
    )
    return labels.encodable(text)


# --- the page's own parts -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Assets:
    css: str
    js: str
    policy: str


@cache
def _assets() -> _Assets:
    css, js = _own_file("report.css"), _own_file("report.js")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_sha256(css)}'",
            f"script-src 'sha256-{_sha256(js)}'",
            # A page opened from a folder has no origin for 'self' in every browser.
            "img-src 'self' file: data:",
            "media-src 'self' file: data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return _Assets(css, js, policy)


def _own_file(name: str) -> str:
    return files("moderator.outputs").joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=DictLoader({"report.html": _own_file("report.html")}),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["t"] = _both
    return environment


def _both(zh: str | Words, en: str = "") -> Markup:
    """Both languages; the page's style shows one of them."""
    zh, en = (zh, en) if isinstance(zh, str) else zh
    if zh == en:
        return Markup("{}").format(zh)
    return Markup(
        '<span class="zh" lang="zh">{}</span><span class="en" lang="en">{}</span>'
    ).format(zh, en)


# --- what the template shows --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of text under the same marks. `ids` are card ids, the gravest first."""

    text: str
    severity: str = ""
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the transcript or of the script."""

    at: str
    channel: str
    segments: tuple[_Segment, ...]
    distrust: str = ""
    cards: tuple[_Card, ...] = ()
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Law:
    cited: str
    effective: str
    text: str


@dataclass(frozen=True, slots=True)
class _Card:
    """One violation as the page shows it."""

    id: str
    number: int
    violation: Violation
    where: str
    until: str
    before: str
    words: str
    after: str
    law: tuple[_Law, ...]
    clip: str
    clip_of: str
    frame: str
    hashes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Span:
    """A bar on the timeline, in percent of the session."""

    x: float
    width: float
    label: str = ""
    severity: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class _Lane:
    name: Words
    present: tuple[_Span, ...]
    marks: tuple[_Span, ...]


@dataclass(frozen=True, slots=True)
class _Section:
    id: str
    report: Report
    counts: dict[str, Any]
    cards: tuple[_Card, ...]
    rows: tuple[_Row, ...]
    lanes: tuple[_Lane, ...]
    ticks: tuple[tuple[float, str], ...]
    row_count: int


def _sections(reports: Sequence[Report], files_in: _Files) -> Iterator[_Section]:
    number = 0
    for index, report in enumerate(reports, start=1):
        cards = tuple(_cards(report, number, files_in))
        number += len(cards)
        script = report.kind == "script"
        rows = _script_rows(report, cards) if script else _transcript(report, cards)
        yield _Section(
            id=f"r{index}",
            report=report,
            counts=summary([report]),
            cards=cards,
            rows=tuple(rows),
            lanes=() if script else _lanes(report, cards),
            ticks=_ticks(report.duration_s),
            row_count=len(report.script_rows()) if script else 0,
        )


def _filters(reports: Sequence[Report]) -> list[tuple[str, str, Words, int]]:
    """(group, value, label, count) of every filter that would show something."""
    counts = summary(reports)
    rows: list[tuple[str, str, Words, int]] = []
    for severity in reversed(Severity):
        rows.append(
            ("severity", str(severity), labels.SEVERITY[severity], counts["severity"][severity])
        )
    for disposition in reversed(Disposition):
        label = labels.DISPOSITION[disposition]
        rows.append(("disposition", str(disposition), label, counts["disposition"][disposition]))
    known = [name for name in CATEGORIES if name in counts["category"]]
    for name in sorted(known, key=lambda name: -counts["category"][name]):
        rows.append(("category", name, labels.category(name), counts["category"][name]))
    return [row for row in rows if row[3]]


def _cards(report: Report, number: int, files_in: _Files) -> Iterator[_Card]:
    script = report.kind == "script"
    clip_owner: dict[str, str] = {}
    for violation in sorted(report.violations, key=_order):
        number += 1
        card_id = f"v{number}"
        begin, end = violation.span
        clip = violation.evidence.clip or ""
        # A link costs nothing to repeat; an embedded clip is in the page once.
        shared = files_in.embeds and clip
        owner = clip_owner.setdefault(clip, card_id) if shared else card_id
        yield _Card(
            id=card_id,
            number=number,
            violation=violation,
            where=labels.where(violation, script=script),
            until=_until(violation, script),
            before=violation.context[:begin],
            words=violation.context[begin:end],
            after=violation.context[end:],
            law=tuple(
                _Law(labels.citation(ref), ref.effective, report.law_text(ref))
                for ref in violation.law
            ),
            clip=files_in.address(clip) if owner == card_id else "",
            clip_of=owner if owner != card_id else "",
            frame=files_in.address(next(iter(violation.evidence.frames), "")),
            hashes=_hashes(violation.evidence),
        )


def _order(violation: Violation) -> tuple[bool, float, int, int]:
    place = violation.place
    line, column = (place.line, place.column) if place else (0, 0)
    return violation.channel == "stream", violation.start, line, column


def _until(violation: Violation, script: bool) -> str:
    """The end of what lasts, such as a banner; words in speech need only their beginning."""
    lasts = violation.end - violation.start >= 5 and violation.channel != "stream"
    return labels.clock(violation.end) if lasts and not script else ""


def _hashes(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(evidence.sha256.items()))


class _Files:
    """Turns evidence paths into links, or into the files themselves."""

    def __init__(self, folder: Path | None) -> None:
        self.embeds = folder is not None
        self._folder = folder
        self._left = EMBED_TOTAL_BYTES

    def address(self, path: str) -> str:
        if not path:
            return ""
        if self._folder is not None:
            file = self._folder / path
            kind = _MIME.get(file.suffix.lower())
            if kind and file.is_file() and file.stat().st_size <= min(self._left, EMBED_FILE_BYTES):
                data = file.read_bytes()
                self._left -= len(data)
                return f"data:{kind};base64,{base64.b64encode(data).decode()}"
        # `./` keeps a colon in the path from being read as a scheme.
        return "./" + quote(path.lstrip("/"))


_MIME = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}


# --- transcript and script ----------------------------------------------------------

_Mark = tuple[int, int, _Card]


def _transcript(report: Report, cards: Sequence[_Card]) -> Iterator[_Row]:
    """Everything heard and seen in order of time, the words at fault marked."""
    seen: list[Utterance | ScreenText | Code] = [
        *report.utterances,
        *report.screen_texts,
        *report.codes,
    ]
    by_channel: dict[str, list[_Card]] = {}
    for card in cards:
        by_channel.setdefault(card.violation.channel, []).append(card)
    for item in sorted(seen, key=lambda item: item.start):
        near = [
            card
            for card in by_channel.get(item.channel, [])
            if card.violation.start < item.end + 0.01 and item.start < card.violation.end + 0.01
        ]
        marks = [mark for card in near for mark in _marks_in(item, card)]
        yield _Row(
            at=labels.clock(item.start),
            channel=item.channel,
            segments=_segments(item.text, marks),
            distrust=item.distrust,
        )


def _marks_in(item: Utterance | ScreenText | Code, card: _Card) -> list[_Mark]:
    """Where a violation's words stand in an observation of its time."""
    violation = card.violation
    words = violation.heard or violation.quote
    found = _occurrences(item.text, words)
    if not found and isinstance(item, Utterance) and violation.occurrences == 1:
        # Words that run over two utterances are in neither as a whole: go by the clock.
        inside = [
            index
            for index, char in enumerate(item.chars)
            if violation.start <= (char.start + char.end) / 2 <= violation.end
        ]
        found = [(inside[0], inside[-1] + 1)] if inside else []
    return [(begin, end, card) for begin, end in found]


def _occurrences(text: str, words: str) -> list[tuple[int, int]]:
    found = []
    at = text.find(words) if words else -1
    while at >= 0:
        found.append((at, at + len(words)))
        at = text.find(words, at + len(words))
    return found


def _segments(text: str, marks: Sequence[_Mark]) -> tuple[_Segment, ...]:
    """Cut `text` where marks begin and end, so that overlapping marks need no nesting."""
    if not marks:
        return (_Segment(text),)
    edges = sorted({0, len(text), *(edge for begin, end, _ in marks for edge in (begin, end))})
    segments = []
    for begin, end in pairwise(edges):
        over = [card for low, high, card in marks if low <= begin and end <= high]
        over.sort(key=lambda card: -card.violation.severity.rank)
        grave = str(over[0].violation.severity) if over else ""
        segments.append(_Segment(text[begin:end], grave, tuple(card.id for card in over)))
    return tuple(segments)


def _script_rows(report: Report, cards: Sequence[_Card]) -> Iterator[_Row]:
    lines = report.script_rows()
    while lines and not lines[-1].strip():
        lines.pop()
    marks: dict[int, list[_Mark]] = {}
    for card in cards:
        place = card.violation.place
        if place is None:
            continue
        for number in range(place.line, min(place.end_line, len(lines)) + 1):
            begin = place.column - 1 if number == place.line else 0
            end = place.end_column - 1 if number == place.end_line else len(lines[number - 1])
            marks.setdefault(number, []).append((begin, end, card))
    skipped = 0
    for number, text in enumerate(lines, start=1):
        if len(lines) > SCRIPT_ROWS and not _near(number, sorted(marks)):
            skipped += 1
            continue
        here = marks.get(number, [])
        begun = [card for _, _, card in here if _line_of(card) == number]
        shown = _windowed(text, here)
        yield _Row(str(number), "script", shown, cards=tuple(begun), skipped=skipped)
        skipped = 0
    if skipped:
        yield _Row("", "script", (), skipped=skipped)


def _line_of(card: _Card) -> int:
    return card.violation.place.line if card.violation.place else 0


def _near(number: int, marked: list[int]) -> bool:
    at = bisect_left(marked, number - 2)
    return number <= 5 or (at < len(marked) and marked[at] <= number + 2)


def _windowed(text: str, marks: Sequence[_Mark]) -> tuple[_Segment, ...]:
    """The whole line, or what stands around its marks when it is very long."""
    if len(text) <= ROW_CHARS:
        return _segments(text, marks)
    windows: list[tuple[int, int]] = []
    spans = sorted((begin, end) for begin, end, _ in marks) or [(0, ROW_CHARS // 2)]
    for begin, end in spans:
        low, high = max(0, begin - 80), min(len(text), end + 80)
        if windows and low <= windows[-1][1]:
            windows[-1] = windows[-1][0], max(high, windows[-1][1])
        else:
            windows.append((low, high))
    segments: list[_Segment] = []
    for low, high in windows:
        inside = [
            (begin - low, end - low, card) for begin, end, card in marks if low <= begin < high
        ]
        segments += [_Segment("…") if low else _Segment(""), *_segments(text[low:high], inside)]
    if windows[-1][1] < len(text):
        segments.append(_Segment("…"))
    return tuple(segments)


# --- timeline -----------------------------------------------------------------------

_TICK_STEPS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_THINNEST_PERCENT = 0.15


def _lanes(report: Report, cards: Sequence[_Card]) -> tuple[_Lane, ...]:
    heard = [item for item in report.utterances if not item.distrust]
    observed: dict[str, Sequence[Utterance | ScreenText | Code]] = {
        "speech": heard,
        "screen": report.screen_texts,
        "code": report.codes,
    }
    lanes = []
    for channel, items in observed.items():
        ours = [card for card in cards if card.violation.channel == channel]
        # The gravest is drawn last, on top.
        ours.sort(key=lambda card: card.violation.severity.rank)
        present = _merged([(item.start, item.end) for item in items], report.duration_s)
        marks = tuple(_mark_span(card, report.duration_s) for card in ours)
        lanes.append(_Lane(labels.CHANNEL[channel], present, marks))
    return tuple(lanes)


def _mark_span(card: _Card, duration_s: float) -> _Span:
    violation = card.violation
    x = _percent(violation.start, duration_s)
    width = max(_percent(violation.end, duration_s) - x, _THINNEST_PERCENT)
    label = f"{card.where} {violation.quote}"
    return _Span(x, width, label, str(violation.severity), card.id)


def _merged(times: Sequence[tuple[float, float]], duration_s: float) -> tuple[_Span, ...]:
    """Bars that touch at this size are one bar: hours of talk need no thousands of them."""
    bars: list[list[float]] = []
    for start, end in sorted(times):
        x = _percent(start, duration_s)
        until = max(_percent(end, duration_s), x + _THINNEST_PERCENT)
        if bars and x - bars[-1][1] < _THINNEST_PERCENT:
            bars[-1][1] = max(bars[-1][1], until)
        else:
            bars.append([x, until])
    return tuple(_Span(round(x, 3), round(until - x, 3)) for x, until in bars)


def _percent(seconds: float, duration_s: float) -> float:
    return round(100 * min(max(seconds / duration_s, 0.0), 1.0), 3) if duration_s > 0 else 0.0


def _ticks(duration_s: float) -> tuple[tuple[float, str], ...]:
    if duration_s <= 0:
        return ()
    step = next((step for step in _TICK_STEPS_S if duration_s / step <= 10), 28800)
    count = int(duration_s / step)
    return tuple(
        (_percent(index * step, duration_s), labels.clock(index * step))
        for index in range(count + 1)
    )
