"""What may be uploaded: judged by its content, never by its name alone."""

from __future__ import annotations

import io
import re
import unicodedata
import zipfile
from pathlib import PurePosixPath
from urllib.parse import quote

from moderator.errors import UPLOAD_KIND, UPLOAD_TOO_LARGE, ModeratorError, in_ui_language

DOCUMENTS = ".pdf .jpg .jpeg .png .webp .docx .txt"

RECORDINGS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".flv", ".ts", ".m2ts", ".avi"}
    | {".mp3", ".m4a", ".aac", ".wav", ".flac", ".ogg", ".opus"}
)

SCRIPTS = frozenset({".txt", ".text", ".md", ".markdown", ".srt", ".vtt", ".docx"})

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF-", "application/pdf", ".pdf"),
    (b"\xff\xd8\xff", "image/jpeg", ".jpg .jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (b"RIFF", "image/webp", ".webp"),
    (
        b"PK\x03\x04",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ".docx",
    ),
)

UNPACKED_BYTES = 200 << 20
UNPACKED_TIMES = 200
"""A .docx that unpacks to more than either is a bomb."""


def check_document(name: str, data: bytes, limit_bytes: int) -> str:
    """The media type of an appeal's document. Raises LM-917 or LM-918."""
    if len(data) > limit_bytes:
        raise ModeratorError(
            UPLOAD_TOO_LARGE, name=plain_name(name), limit=f"{limit_bytes >> 20} MiB"
        )
    suffix = PurePosixPath(name.lower()).suffix
    for magic, media_type, suffixes in _MAGIC:
        if data.startswith(magic) and suffix in suffixes.split():
            if media_type == "image/webp" and data[8:12] != b"WEBP":
                break
            if suffix == ".docx":
                _check_docx(name, data)
            return media_type
    if suffix == ".txt" and data and b"\0" not in data:
        return "text/plain"
    reason = in_ui_language("its content is not what its name says", "内容与扩展名不符")
    raise ModeratorError(UPLOAD_KIND, name=plain_name(name), reason=reason, accepted=DOCUMENTS)


def check_recording_name(name: str) -> str:
    """The extension of a recording or a script for a job. Raises LM-918."""
    suffix = PurePosixPath(name.lower()).suffix
    if suffix not in RECORDINGS | SCRIPTS:
        accepted = " ".join(sorted(RECORDINGS | SCRIPTS))
        reason = in_ui_language("by its name", "扩展名不支持")
        raise ModeratorError(UPLOAD_KIND, name=plain_name(name), reason=reason, accepted=accepted)
    return suffix


def plain_name(name: str) -> str:
    """What people call the file, without folders or anything that steers a terminal or a header."""
    last = re.split(r"[\\/]", name)[-1]
    kept = "".join(char for char in last if unicodedata.category(char)[0] != "C")
    return kept.strip(". ")[:150] or "file"


def _check_docx(name: str, data: bytes) -> None:
    reason = ""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if not any(entry.filename == "[Content_Types].xml" for entry in entries):
                reason = in_ui_language("not a Word document", "不是 Word 文档")
            elif any(entry.flag_bits & 1 for entry in entries):
                reason = in_ui_language("encrypted", "已加密")
            elif unpacked > UNPACKED_BYTES or unpacked > UNPACKED_TIMES * len(data):
                reason = in_ui_language("it unpacks far beyond its size", "解压后体积异常")
    except (zipfile.BadZipFile, OSError, ValueError):
        reason = in_ui_language("damaged", "文件损坏")
    if reason:
        raise ModeratorError(UPLOAD_KIND, name=plain_name(name), reason=reason, accepted=DOCUMENTS)


def header_name(name: str) -> str:
    """A file name as RFC 5987 wants it in a header."""
    return quote(plain_name(name), safe="")
