"""What of a marked-up script is text, and where each character of it stands in the file.

Markdown: heading marks, emphasis, links, images, code fences, tables, comments and HTML
tags are markup; what a reader sees is text. Subtitles: numbers, cue times, tags and
settings are markup; the lines of one cue are one text.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Run:
    """Characters that stand side by side: `text[offset + i]` is at `column + i` of `line`.

    `line` and `column` are 1-based.
    """

    offset: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of text and its places. Seconds where a subtitle gives them."""

    text: str
    runs: tuple[Run, ...]
    start: float = 0.0
    end: float = 0.0
    timed: bool = False


def plain_passages(lines: Iterable[str]) -> Iterator[Passage]:
    """Each line is a passage; spaces around it are not part of it."""
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text:
            column = len(line) - len(line.lstrip()) + 1
            yield Passage(text, (Run(0, number, column),))


# --- Markdown -----------------------------------------------------------------------


def markdown_passages(lines: Sequence[str]) -> Iterator[Passage]:
    """One passage for each line of text, one for each cell of a table."""
    labels = {found["label"].casefold() for line in lines if (found := _DEFINITION.match(line))}
    comments_end = max((i for i, line in enumerate(lines) if "-->" in line), default=-1)
    fence = ""
    in_table = False
    in_comment = False
    for index in range(_front_matter(lines), len(lines)):
        line = lines[index]
        if not (fence or in_table or in_comment or _MAY_BE_MARKUP.search(line)):
            yield from _assembled(line, index + 1, [(0, len(line), None)])
            continue
        mark = None if in_comment else _FENCE.match(line)
        if mark and (not fence or _closes(mark, fence)):
            fence = "" if fence else mark["mark"]
            in_table = False
            continue
        if fence:
            yield from _assembled(line, index + 1, [(0, len(line), None)])
            continue
        if not in_comment and (_RULE_LINE.match(line) or _DEFINITION.match(line)):
            continue
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if not line.strip():
            in_table = False
        elif "|" in line and "|" in following and _TABLE_RULE.match(following):
            in_table = True
        if in_table and _TABLE_RULE.match(line):
            continue
        scan = _Scan(line, labels, in_table, in_comment, index < comments_end)
        yield from _assembled(line, index + 1, scan.spans())
        in_comment = scan.comment


_MAY_BE_MARKUP = re.compile(r"[\\`*_~=<>&!\[\]|#-]|^\s*(?:\+|\d{1,9}[.)])\s")
_FENCE = re.compile(r"\s*(?:>\s*)*(?P<mark>`{3,}|~{3,})(?P<info>[\t -_a-}]*)$")
_RULE_LINE = re.compile(r"\s*(?:=+|-[-\s]+|\*\s*\*[*\s]+|_\s*_[_\s]+)\s*$")
_TABLE_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$")
_PREFIX = re.compile(r"\s*(?:>|#{1,6}(?=\s)|[-*+](?=\s)|\d{1,9}[.)](?=\s)|\[[ xX]\](?=\s))")
_CLOSING_HASHES = re.compile(r"\s#+\s*$")
_PLAIN = re.compile(r"[^\\`*_~=<&!\[\]|]+")
_ESCAPED = re.compile(r"\\[!-/:-@\[-`{-~]")
# `[host]: 国家级` is a line of dialogue and `[国家级](最佳)` a remark: only what looks like
# an address is taken for one.
_DEFINITION = re.compile(r"\s{0,3}\[(?P<label>[^\[\]]+)\]:\s*(?:<[^<>]*>|[!-~]+)(?:\s+[\"'(].*)?$")
_LINK_TAIL = re.compile(
    r"\((?:<[^<>]*>|(?=[^\s()]*[/.#:@?]|\))[^()\s]*(?:\([^()\s]*\)[^()\s]*)*)"
    r"(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
)
_REFERENCE_TAIL = re.compile(r"\[(?P<label>[^\[\]]*)\]")
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]+\]")
_AUTOLINK = re.compile(r"<(?P<address>[a-zA-Z][a-zA-Z0-9+.-]*:[^<>\s]*|[^<>\s@]+@[^<>\s@]+)>")
_TAG = re.compile(
    r"</?[a-z][a-z0-9-]*"
    r"(?:\s+[a-z_:][\w.:-]*(?:\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'=<>`]+))?)*\s*/?>",
    re.IGNORECASE | re.ASCII,
)
_BREAKING_TAG = re.compile(r"</?(?:br|p|div|li|td|th|tr|h[1-6])\b", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_FRONT_MATTER_LINE = re.compile(r"\s|#|-\s|[\w.-]+\s*:|$")
_EMPHASIS_DEPTH = 32

_Span = tuple[int, int, str | None]
"""`line[begin:end]` is kept, or stands for the given character. `(-1, -1, None)` parts passages."""

_BREAK: _Span = (-1, -1, None)


def _front_matter(lines: Sequence[str]) -> int:
    """The number of leading lines that hold YAML settings between `---` marks."""
    if not lines or lines[0].rstrip() != "---":
        return 0
    for index, line in enumerate(lines[1:], start=1):
        if line.rstrip() in ("---", "..."):
            return index + 1
        if not _FRONT_MATTER_LINE.match(line):
            return 0
    return 0


def _closes(mark: re.Match[str], fence: str) -> bool:
    return mark["mark"].startswith(fence) and not mark["info"].strip()


@dataclass(slots=True)
class _Opener:
    mark: str
    at: int
    left: int
    run: int
    closes: bool


@dataclass(slots=True)
class _Scan:
    """Reads one line of Markdown from left to right and keeps what is text."""

    line: str
    labels: set[str]
    table: bool
    comment: bool
    comment_ends_later: bool
    kept: list[_Span] = field(default_factory=list)
    dropped: list[tuple[int, int]] = field(default_factory=list)
    openers: list[_Opener] = field(default_factory=list)
    brackets: list[int] = field(default_factory=list)
    unclosed_code: set[int] = field(default_factory=set)
    last_comment_end: int = field(init=False)

    def __post_init__(self) -> None:
        self.last_comment_end = self.line.rfind("-->")

    def spans(self) -> list[_Span]:
        line = self.line
        at, size = self._prefix()
        while at < size:
            if self.comment:
                end = line.find("-->", at)
                if end < 0:
                    break
                self.comment, at = False, end + 3
            elif plain := _PLAIN.match(line, at, size):
                at = self._keep(at, plain.end())
            else:
                at = self._mark(at, size)
        return _without(self.kept, sorted(self.dropped))

    def _prefix(self) -> tuple[int, int]:
        """Where the text begins and ends: after bullets and `#`, before closing `#`."""
        at, size = 0, len(self.line)
        while not self.comment and (prefix := _PREFIX.match(self.line, at)):
            at = prefix.end()
        if "#" in self.line[:at]:
            hashes = _CLOSING_HASHES.search(self.line, at)
            size = hashes.start() if hashes else size
        return at, size

    def _mark(self, at: int, size: int) -> int:
        line, char = self.line, self.line[at]
        if char == "\\" and _ESCAPED.match(line, at, size):
            return self._keep(at + 1, at + 2)
        if char == "`":
            return self._code(at, size)
        if char in "*_~=":
            return self._emphasis(at, size)
        if char == "<":
            return self._angle(at, size)
        if char == "&" and (entity := _ENTITY.match(line, at, size)):
            self.kept.append(_entity_span(entity))
            return entity.end()
        if char == "[" and (footnote := _FOOTNOTE.match(line, at, size)):
            return footnote.end()
        if char == "[" or line.startswith("![", at):
            self.brackets.append(at)
            return self._keep(at, at + 1 + (char == "!"))
        if char == "]" and self.brackets:
            return self._link(at, size)
        if char == "|" and self.table:
            self.kept.append(_BREAK)
            return at + 1
        return self._keep(at, at + 1)

    def _keep(self, begin: int, end: int) -> int:
        self.kept.append((begin, end, None))
        return end

    def _code(self, at: int, size: int) -> int:
        """A code span is shown as it stands, without its backticks."""
        run = _run_length(self.line, at, size)
        begin = at + run
        if run not in self.unclosed_code:
            end = begin
            while (end := self.line.find("`", end, size)) >= 0:
                length = _run_length(self.line, end, size)
                if length == run:
                    self._keep(begin, end)
                    return end + run
                end += length
            self.unclosed_code.add(run)
        return self._keep(at, begin)

    def _emphasis(self, at: int, size: int) -> int:
        """Marks in pairs are markup; a mark without a partner (5*3, 国*家级) is text."""
        mark = self.line[at]
        run = _run_length(self.line, at, size)
        end = self._keep(at, at + run)
        if mark in "~=" and run != 2:
            return end
        before = self.line[at - 1] if at else " "
        after = self.line[end] if end < size else " "
        opens, closes = not after.isspace(), not before.isspace()
        if mark == "_":
            opens, closes = opens and not before.isalnum(), closes and not after.isalnum()
        left = self._close(mark, end, run, opens) if closes else run
        if opens and left:
            self.openers.append(_Opener(mark, end - left, left, run, closes))
            del self.openers[:-_EMPHASIS_DEPTH]
        return end

    def _close(self, mark: str, end: int, run: int, opens: bool) -> int:
        """Pair `run` marks that end at `end` with open ones; returns how many remain."""
        left = run
        for index in range(len(self.openers) - 1, -1, -1):
            opener = self.openers[index]
            # CommonMark's rule of three: `**a*b*` closes the inner mark, not half the outer.
            unclear = (opener.closes or opens) and (opener.run + run) % 3 == 0 and run % 3
            if opener.mark != mark or unclear:
                continue
            paired = min(left, opener.left)
            opener.left -= paired
            inner = opener.at + opener.left
            self.dropped.append((inner, inner + paired))
            self.dropped.append((end - left, end - left + paired))
            left -= paired
            del self.openers[index + (opener.left > 0) :]
            if not left:
                break
        return left

    def _angle(self, at: int, size: int) -> int:
        line = self.line
        if line.startswith("<!--", at) and (self.comment_ends_later or self.last_comment_end > at):
            self.comment = True
            return at + 4
        if autolink := _AUTOLINK.match(line, at, size):
            self._keep(*autolink.span("address"))
            return autolink.end()
        if tag := _TAG.match(line, at, size):
            if _BREAKING_TAG.match(tag.group()):
                self.kept.append(_BREAK)
            return tag.end()
        return self._keep(at, at + 1)

    def _link(self, at: int, size: int) -> int:
        """At the `]` of a link: drop the brackets and the target, keep the words."""
        begin = self.brackets.pop()
        tail = _LINK_TAIL.match(self.line, at + 1, size)
        if not tail:
            tail = _REFERENCE_TAIL.match(self.line, at + 1, size)
            label = (tail["label"] if tail else "") or self.line[begin:at].lstrip("![")
            if label.casefold() not in self.labels:
                return self._keep(at, at + 1)
        self.dropped.append((begin, begin + 1 + (self.line[begin] == "!")))
        return tail.end() if tail else at + 1


def _entity_span(entity: re.Match[str]) -> _Span:
    char = html.unescape(entity.group())
    single = len(char) == 1 and char.isprintable()
    return entity.start(), entity.end(), char if single else None


def _run_length(line: str, at: int, size: int) -> int:
    end = at
    while end < size and line[end] == line[at]:
        end += 1
    return end - at


def _without(kept: list[_Span], dropped: list[tuple[int, int]]) -> list[_Span]:
    """`kept` less the marks in `dropped`; both in order of the line."""
    if not dropped:
        return kept
    out: list[_Span] = []
    next_drop = 0
    for span in kept:
        begin, end, char = span
        if begin < 0 or char is not None:
            out.append(span)
            continue
        while next_drop < len(dropped) and dropped[next_drop][1] <= begin:
            next_drop += 1
        while next_drop < len(dropped) and dropped[next_drop][0] < end:
            if begin < dropped[next_drop][0]:
                out.append((begin, dropped[next_drop][0], None))
            begin = max(begin, dropped[next_drop][1])
            if begin < end:
                next_drop += 1
            else:
                break
        if begin < end:
            out.append((begin, end, None))
    return out


def _assembled(line: str, number: int, spans: Iterable[_Span]) -> Iterator[Passage]:
    """The passages of one line, without the spaces around them."""
    text: list[str] = []
    runs: list[Run] = []
    length = 0
    expected = -1
    for begin, end, char in [*spans, _BREAK]:
        if begin < 0:
            if (passage := _stripped("".join(text), runs)) is not None:
                yield passage
            text, runs, length, expected = [], [], 0, -1
            continue
        if begin == end:
            continue
        if begin != expected:
            runs.append(Run(length, number, begin + 1))
        text.append(line[begin:end] if char is None else char)
        length += len(text[-1])
        expected = end if char is None else -1


def _stripped(text: str, runs: list[Run]) -> Passage | None:
    stripped = text.strip()
    if not stripped:
        return None
    lead = len(text) - len(text.lstrip())
    return Passage(stripped, shifted(runs, lead, lead + len(stripped)))


def shifted(runs: Sequence[Run], begin: int, end: int) -> tuple[Run, ...]:
    """The runs of `text[begin:end]`, counted from `begin`."""
    first = max(bisect_right(runs, begin, key=_offset_of) - 1, 0)
    out: list[Run] = []
    for run in runs[first:]:
        if run.offset >= end:
            break
        skip = max(begin - run.offset, 0)
        out.append(Run(run.offset + skip - begin, run.line, run.column + skip))
    return tuple(out)


def _offset_of(run: Run) -> int:
    return run.offset


# --- Subtitles ----------------------------------------------------------------------


def subtitle_passages(lines: Sequence[str], *, vtt: bool) -> Iterator[Passage]:
    """One passage for each cue, or for each speaker of a cue.

    Text that stands outside every cue (a damaged file) is kept without times rather than
    dropped: nobody should pass a check because a time stamp was mistyped.
    """
    index = 0
    if vtt and lines and lines[0].startswith("WEBVTT"):
        index = _after_block(lines, 0)
    while index < len(lines):
        line = lines[index]
        times = _TIMES.match(line)
        if times:
            index += 1
            first = index
            while index < len(lines) and lines[index].strip() and not _TIMES.match(lines[index]):
                index += 1
            last = index
            if index < len(lines) and _TIMES.match(lines[index]) and _is_label(lines, index - 1):
                last -= 1
            start, end = _seconds(times, "a"), _seconds(times, "b")
            yield from _cue(lines, range(first, last), start, max(start, end))
        elif vtt and _VTT_BLOCK.match(line):
            index = _after_block(lines, index)
        else:
            labels_a_cue = index + 1 < len(lines) and _TIMES.match(lines[index + 1])
            if line.strip() and not (labels_a_cue and (vtt or line.strip().isdigit())):
                yield from _assembled(line, index + 1, [(0, len(line), None)])
            index += 1


_TIMES = re.compile(
    r"\s*(?:(?P<ah>\d{1,4}):)?(?P<am>\d{1,2}):(?P<as>\d{1,2})(?:[,.](?P<af>\d{1,3}))?"
    r"\s*-->\s*"
    r"(?:(?P<bh>\d{1,4}):)?(?P<bm>\d{1,2}):(?P<bs>\d{1,2})(?:[,.](?P<bf>\d{1,3}))?(?=\s|$)"
)
_VTT_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_CUE_TAG = re.compile(
    r"</?[a-zA-Z][^<>]*>|<(?:\d+:)?\d{2}:\d{2}[.,]\d{3}>|\{\\[^{}]*\}|\{/?[biuBIU]\}"
)
_SPEAKER = re.compile(r"\s*(?:[-–—]\s*(?=\S)|>>\s*)")


def _after_block(lines: Sequence[str], index: int) -> int:
    while index < len(lines) and lines[index].strip():
        index += 1
    return index


def _is_label(lines: Sequence[str], index: int) -> bool:
    """Whether a cue number stands right under the text of the cue before it."""
    return lines[index].strip().isdigit()


def _seconds(times: re.Match[str], side: str) -> float:
    hours, minutes, seconds = (int(times[side + unit] or 0) for unit in "hms")
    fraction = times[side + "f"] or "0"
    return hours * 3600 + minutes * 60 + seconds + float(f"0.{fraction}")


def _cue(
    lines: Sequence[str], numbers: Iterable[int], start: float, end: float
) -> Iterator[Passage]:
    text: list[str] = []
    runs: list[Run] = []
    length = 0
    for index in numbers:
        line = lines[index]
        speaker = _SPEAKER.match(line)
        if speaker and text:
            yield Passage("".join(text), tuple(runs), start, end, timed=True)
            text, runs, length = [], [], 0
        spans = _cue_spans(line, speaker.end() if speaker else 0)
        for passage in _assembled(line, index + 1, spans):
            if text:
                # A line break inside a cue is layout: a word may run across it.
                runs.append(Run(length, index, len(lines[index - 1]) + 1))
                text.append(" ")
                length += 1
            runs.extend(Run(length + run.offset, run.line, run.column) for run in passage.runs)
            text.append(passage.text)
            length += len(passage.text)
    if text:
        yield Passage("".join(text), tuple(runs), start, end, timed=True)


_CUE_MARKUP = re.compile(f"{_CUE_TAG.pattern}|(?P<entity>{_ENTITY.pattern})")


def _cue_spans(line: str, begin: int) -> Iterator[_Span]:
    at = begin
    for markup in _CUE_MARKUP.finditer(line, begin):
        yield at, markup.start(), None
        at = markup.end()
        entity = _ENTITY.match(markup.group())
        if entity:
            _, _, char = _entity_span(entity)
            yield markup.start(), markup.end(), char
    yield at, len(line), None
