"""Scripts: a file, standard input or a batch → the lines that the rules read.

Every character of a `ScriptLine` knows where it stands in the file, so that a record
points an editor at the words themselves.
"""

from __future__ import annotations

import codecs
import io
import json
import re
import stat
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from moderator.errors import (
    EMPTY_FILE,
    IS_DIRECTORY,
    MISSING_FILE,
    SCRIPT_BATCH,
    SCRIPT_KIND,
    SCRIPT_TOO_LARGE,
    UNREADABLE,
    ModeratorError,
)
from moderator.records import Place, ScriptLine
from moderator.script.docx import docx_paragraphs
from moderator.script.encoding import decode
from moderator.script.markup import (
    Passage,
    Run,
    markdown_passages,
    plain_passages,
    shifted,
    subtitle_passages,
)

ScriptKind = Literal["txt", "md", "srt", "vtt", "docx"]

SCRIPT_SUFFIXES: dict[str, ScriptKind] = {
    ".txt": "txt",
    ".text": "txt",
    ".md": "md",
    ".markdown": "md",
    ".srt": "srt",
    ".vtt": "vtt",
    ".docx": "docx",
}
BATCH_SUFFIXES = frozenset({".jsonl", ".ndjson"})

LIMIT_MIB = 20.0
"""A script larger than this is refused (LM-603); a book of 600,000 characters has 1.8 MiB."""

PIECE_CHARS = 4_000
"""Longer passages are read in pieces, cut where a sentence ends."""

STDIN = "-"


@dataclass(frozen=True, slots=True)
class PlacedLine(ScriptLine):
    """A ScriptLine that knows the place of each of its characters, markup between them or not."""

    runs: tuple[Run, ...] = field(default=(), repr=False)

    def place_of(self, begin: int, end: int) -> Place:
        """Where in the file `text[begin:end]` stands.

        Line and column are 1-based, `end_column` is exclusive, columns count code points.
        """
        line, column = self._position(begin)
        end_line, end_column = self._position(max(begin, end - 1))
        return Place(line, column, end_line, end_column + 1)

    def _position(self, offset: int) -> tuple[int, int]:
        after = bisect_right(self.runs, offset, key=lambda run: run.offset)
        run = self.runs[max(after - 1, 0)] if self.runs else Run(0, self.line, self.column)
        return run.line, run.column + offset - run.offset


@dataclass(frozen=True, slots=True)
class Script:
    """A script as read.

    `text` is the whole file decoded, its lines ended by `\\n` (for .docx, its paragraphs);
    `lines` are what the rules read, in order. `encoding` is a Python codec name, `docx`
    for a Word document.
    """

    source: str
    kind: ScriptKind
    text: str
    lines: tuple[PlacedLine, ...]
    encoding: str


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One line of a batch. `line` is its 1-based line number in the batch file."""

    id: str
    text: str
    product: dict[str, Any] | None = None
    line: int = 1


def read_script(
    path: str | Path, *, kind: ScriptKind | None = None, limit_mib: float = LIMIT_MIB
) -> Script:
    """Read a script; `-` reads standard input. `kind` overrides the file's extension.

    Raises LM-101 to LM-104 (missing, a directory, empty, unreadable), LM-601 (encoding),
    LM-602 (NUL bytes), LM-603 (too large), LM-605 (damaged .docx), LM-606 (extension).
    """
    limit_bytes = int(limit_mib * 2**20)
    if str(path) == STDIN:
        data = _bounded(sys.stdin.buffer, "stdin", limit_bytes)
        return _script(data, "stdin", kind or "txt", limit_bytes)
    path = Path(path)
    kind = kind or SCRIPT_SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise ModeratorError(SCRIPT_KIND, path=path)
    with _opened(path) as stream:
        data = _bounded(stream, str(path), limit_bytes)
    return _script(data, str(path), kind, limit_bytes)


def script_from_bytes(
    data: bytes, *, source: str, kind: ScriptKind = "txt", limit_mib: float = LIMIT_MIB
) -> Script:
    """A script as uploaded. Raises what `read_script` raises for the contents of a file."""
    limit_bytes = int(limit_mib * 2**20)
    return _script(_bounded(io.BytesIO(data), source, limit_bytes), source, kind, limit_bytes)


def script_from_text(text: str, *, source: str = "script", kind: ScriptKind = "txt") -> Script:
    """A script that is already text: a form field, an editor's buffer. Not for `docx`."""
    text = _LINE_END.sub("\n", text)
    return _from_lines(source, kind, text, text.split("\n"), "utf-8")


def read_batch(
    path: str | Path | BinaryIO | TextIO, *, limit_mib: float = LIMIT_MIB
) -> Iterator[BatchItem]:
    """Read `{"id", "text", "product"?}` objects, one a line, as they arrive.

    `-` is standard input. An id may be any JSON scalar; it is given as text. Blank lines
    are skipped, other fields ignored. `limit_mib` bounds one line.

    Raises LM-604 with the line number where a line is not such an object, LM-603 where it
    is too long, and what `read_script` raises for files.
    """
    limit_bytes = int(limit_mib * 2**20)
    with _batch_stream(path) as (source, stream):
        for number, line in enumerate(_batch_lines(stream, source, limit_bytes), start=1):
            if line.strip():
                yield _batch_item(line, number, f"{source}:{number}")


_LINE_END = re.compile("\r\n|\r")
_SENTENCE_MARKS = "。！？!?；;…\n\u2028"
_PAUSE_MARKS = "，,、：: \t　"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def _opened(path: Path) -> BinaryIO:
    try:
        if stat.S_ISDIR(path.stat().st_mode):
            raise ModeratorError(IS_DIRECTORY, path=path)
        return path.open("rb")
    except FileNotFoundError:
        raise ModeratorError(MISSING_FILE, path=path) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModeratorError(UNREADABLE, path=path, reason=reason) from None


def _bounded(stream: BinaryIO, source: str, limit_bytes: int) -> bytes:
    try:
        data = stream.read(limit_bytes + 1)
        if len(data) > limit_bytes:
            size = max(len(data), stream.seek(0, 2)) if stream.seekable() else len(data)
            raise _too_large(source, size, limit_bytes)
    except OSError as error:
        raise ModeratorError(UNREADABLE, path=source, reason=error.strerror or error) from None
    if not data:
        raise ModeratorError(EMPTY_FILE, path=source)
    return data


def _too_large(source: str, size: int, limit_bytes: int) -> ModeratorError:
    return ModeratorError(
        SCRIPT_TOO_LARGE,
        path=source,
        size_mib=f"{size / 2**20:.1f}",
        limit_mib=f"{limit_bytes / 2**20:g}",
    )


def _script(data: bytes, source: str, kind: ScriptKind, limit_bytes: int) -> Script:
    if kind == "docx":
        paragraphs = docx_paragraphs(data, source, limit_bytes)
        # In `text` a line is a paragraph, so breaks within one become line separators.
        text = "\n".join(paragraph.replace("\n", "\u2028") for paragraph in paragraphs)
        return _from_lines(source, kind, text, paragraphs, "docx")
    decoded = decode(data, source)
    text = _LINE_END.sub("\n", decoded.text)
    return _from_lines(source, kind, text, text.split("\n"), decoded.encoding)


def _from_lines(
    source: str, kind: ScriptKind, text: str, file_lines: list[str], encoding: str
) -> Script:
    lines = tuple(
        PlacedLine(
            piece.text,
            piece.runs[0].line,
            piece.runs[0].column,
            piece.start,
            piece.end,
            piece.timed,
            runs=piece.runs,
        )
        for passage in _passages(kind, file_lines)
        for piece in _pieces(passage)
    )
    return Script(source, kind, text, lines, encoding)


def _passages(kind: ScriptKind, lines: list[str]) -> Iterable[Passage]:
    if kind == "md":
        return markdown_passages(lines)
    if kind in ("srt", "vtt"):
        return subtitle_passages(lines, vtt=kind == "vtt")
    return plain_passages(lines)


def _pieces(passage: Passage) -> Iterator[Passage]:
    """A passage of any length in pieces of at most `PIECE_CHARS`.

    The cut is after the last sentence mark of the second half of a piece, else after the
    last pause, else where the piece is full: text without any mark in 2,000 characters
    may lose a term that stands exactly there.
    """
    text, size = passage.text, len(passage.text)
    if size <= PIECE_CHARS:
        yield passage
        return
    begin = 0
    while begin < size:
        end = size if size - begin <= PIECE_CHARS else _cut(text, begin)
        yield Passage(
            text[begin:end],
            shifted(passage.runs, begin, end),
            passage.start,
            passage.end,
            passage.timed,
        )
        begin = end


def _cut(text: str, begin: int) -> int:
    low, high = begin + PIECE_CHARS // 2, begin + PIECE_CHARS
    for marks in (_SENTENCE_MARKS, _PAUSE_MARKS):
        last = max(text.rfind(mark, low, high) for mark in marks)
        if last >= 0:
            return last + 1
    return high


@contextmanager
def _batch_stream(
    path: str | Path | BinaryIO | TextIO,
) -> Iterator[tuple[str, BinaryIO | TextIO]]:
    if not isinstance(path, str | Path):
        yield str(getattr(path, "name", "batch")), path
    elif str(path) == STDIN:
        yield "stdin", sys.stdin.buffer
    else:
        with _opened(Path(path)) as stream:
            yield str(path), stream


def _batch_lines(stream: BinaryIO | TextIO, source: str, limit_bytes: int) -> Iterator[str]:
    first = stream.readline(limit_bytes + 1)
    if not first:
        raise ModeratorError(EMPTY_FILE, path=source)
    if isinstance(first, bytes) and first.startswith(_UTF16_MARKS):
        # A line end of UTF-16 is not one byte, so lines cannot be told before decoding.
        rest = stream.read(max(limit_bytes + 1 - len(first), 0))
        data = first + (rest if isinstance(rest, bytes) else rest.encode())
        if len(data) > limit_bytes:
            raise _too_large(source, len(data), limit_bytes)
        yield from decode(data, source).text.split("\n")
        return
    line, number = first, 1
    while line:
        if len(line) > limit_bytes:
            raise _too_large(f"{source}:{number}", len(line), limit_bytes)
        yield line if isinstance(line, str) else decode(line, f"{source}:{number}").text
        line, number = stream.readline(limit_bytes + 1), number + 1


def _batch_item(line: str, number: int, place: str) -> BatchItem:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        column = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        reason = f"not JSON: {getattr(error, 'msg', error)}{column}"
        raise ModeratorError(SCRIPT_BATCH, place=place, reason=reason) from None
    problem = _batch_problem(body)
    if problem:
        raise ModeratorError(SCRIPT_BATCH, place=place, reason=problem)
    name = body["id"] if isinstance(body["id"], str) else json.dumps(body["id"])
    # Half a surrogate pair is legal JSON and cannot be written in any encoding.
    text = _LONE_SURROGATE.sub("\ufffd", body["text"])
    return BatchItem(_LONE_SURROGATE.sub("\ufffd", name), text, body.get("product"), number)


def _batch_problem(body: Any) -> str:
    if not isinstance(body, dict):
        return "not a JSON object"
    if "text" not in body:
        return "'text' is missing"
    if not isinstance(body["text"], str):
        return "'text' is not a string"
    if "id" not in body:
        return "'id' is missing"
    if isinstance(body["id"], dict | list):
        return "'id' is not a string or a number"
    if not isinstance(body.get("product"), dict | None):
        return "'product' is not an object"
    return ""
