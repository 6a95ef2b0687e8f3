"""The paragraphs of a Word document (.docx): ECMA-376 WordprocessingML, read as data.

Only the main part is read, as a bounded stream: a small archive that unpacks to gigabytes
stops at the limit, and a document type declaration (entities, external files) is refused,
for no Word document has one.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from collections.abc import Iterator
from xml.parsers import expat

from moderator.errors import SCRIPT_DAMAGED, SCRIPT_TOO_LARGE, ModeratorError

UNPACKED_TIMES = 20
"""The main part may unpack to this many times the limit on scripts: XML around each word
makes it far longer than its text."""

_CHUNK_BYTES = 1 << 16
_OLE_MAGIC = b"\xd0\xcf\x11\xe0"


def docx_paragraphs(data: bytes, source: str, limit_bytes: int) -> list[str]:
    """The text of every paragraph in order, tables and text boxes included.

    `result[n - 1]` is paragraph n; a line break within a paragraph is `\\n`, a tab `\\t`.
    Deleted text of tracked changes, field codes, notes and headers are left out.

    Raises LM-605 (not a .docx, damaged or encrypted) and LM-603 (unpacks beyond bounds).
    """
    if data.startswith(_OLE_MAGIC):
        raise ModeratorError(
            SCRIPT_DAMAGED, path=source, reason="an encrypted document or an old .doc, not a .docx"
        )
    limit = limit_bytes * UNPACKED_TIMES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            reader = _Reader(limit_bytes)
            reader.read(_chunks(archive, _main_part(archive), limit, source), source)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        reason = "encrypted" if isinstance(error, RuntimeError) else str(error) or "not a zip file"
        raise ModeratorError(SCRIPT_DAMAGED, path=source, reason=reason) from None
    except KeyError:
        raise ModeratorError(
            SCRIPT_DAMAGED, path=source, reason="a zip file without a Word document in it"
        ) from None
    except expat.ExpatError as error:
        raise ModeratorError(SCRIPT_DAMAGED, path=source, reason=str(error)) from None
    return reader.paragraphs


def _chunks(archive: zipfile.ZipFile, part: str, limit: int, source: str) -> Iterator[bytes]:
    total = 0
    with archive.open(part) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            total += len(chunk)
            if total > limit:
                raise _too_large(source, total, limit)
            yield chunk


def _too_large(source: str, size: int, limit: int) -> ModeratorError:
    return ModeratorError(
        SCRIPT_TOO_LARGE,
        path=source,
        size_mib=f"> {size / 2**20:.0f}",
        limit_mib=f"{limit / 2**20:g}",
    )


def _main_part(archive: zipfile.ZipFile) -> str:
    """The part that the package names as its document; usually word/document.xml."""
    found: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if attributes.get("Type", "").endswith("/officeDocument"):
            found.append(attributes.get("Target", ""))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        with archive.open("_rels/.rels") as stream:
            parser.Parse(stream.read(_CHUNK_BYTES), True)
    except (KeyError, expat.ExpatError):
        return "word/document.xml"
    return posixpath.normpath(found[0]).lstrip("/") if found else "word/document.xml"


def _refuse_doctype(*_: object) -> None:
    raise zipfile.BadZipFile("it declares a document type, which no Word document does")


class _Reader:
    """Collects text while the parser walks the elements."""

    def __init__(self, limit_bytes: int) -> None:
        self.paragraphs: list[str] = []
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._open: list[int] = []
        self._pieces: list[list[str]] = []
        self._in_text = False
        self._fallback_depth = 0

    def read(self, chunks: Iterator[bytes], source: str) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = _refuse_doctype
        for chunk in chunks:
            parser.Parse(chunk, False)
            if self._held_bytes > self._limit_bytes:
                raise _too_large(source, self._held_bytes, self._limit_bytes)
        parser.Parse(b"", True)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "Fallback":
            # The same text box again, for readers that do not know the newer form.
            self._fallback_depth += 1
        elif self._fallback_depth or not _is_word(name):
            return
        elif tag == "p":
            self.paragraphs.append("")
            self._open.append(len(self.paragraphs) - 1)
            self._pieces.append([])
        elif tag == "t":
            self._in_text = True
        elif tag in _AS_TEXT:
            self._add(_AS_TEXT[tag])

    def _end(self, name: str) -> None:
        tag = name.rpartition(" ")[2]
        if tag == "Fallback":
            self._fallback_depth -= 1
        elif self._fallback_depth or not _is_word(name):
            return
        elif tag == "p" and self._open:
            self.paragraphs[self._open.pop()] = "".join(self._pieces.pop())
        elif tag == "t":
            self._in_text = False

    def _text(self, text: str) -> None:
        if self._in_text and not self._fallback_depth:
            self._add(text)

    def _add(self, text: str) -> None:
        if self._pieces:
            self._pieces[-1].append(text)
            self._held_bytes += len(text.encode("utf-8", "surrogatepass"))


_AS_TEXT = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def _is_word(name: str) -> bool:
    """Transitional documents have a year in their namespace, strict ones do not."""
    namespace = name.rpartition(" ")[0]
    return "/wordprocessingml/" in namespace and namespace.endswith("/main")
