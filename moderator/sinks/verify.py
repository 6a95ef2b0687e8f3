"""`moderator verify`: is what was written still there, whole and unchanged?"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moderator.errors import (
    MISSING_FILE,
    NOTHING_TO_VERIFY,
    SINK_PACKAGE,
    ModeratorError,
    in_ui_language,
)
from moderator.outputs.folder import MANIFEST, MANIFEST_SCHEMA
from moderator.sinks.chain import Break, ChainCheck
from moderator.sinks.copies import copy_faults
from moderator.sinks.envelope import Envelope, parse_line
from moderator.sinks.journal import APPLICATION_ID, FILE_NAME


@dataclass(slots=True)
class Verification:
    """What was looked at, and every break. `heads` are session → (envelopes, last hash)."""

    what: str
    envelopes: int = 0
    files: int = 0
    pruned: int = 0
    removed_files: int = 0
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    breaks: list[Break] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not self.breaks


def verify(
    target: str, *, against: Path | None = None, evidence: Path | None = None, partial: bool = False
) -> Verification:
    """Prove a folder of `watch` or `check`, a journal, an `events.jsonl`, or a database URL.

    `evidence` is the folder that clips are relative to (default: beside the journal). `against` is
    an `events.jsonl` or a file of webhook bodies kept elsewhere: what it holds must be here
    unchanged, which shows also an end that was cut off and a chain that was made anew. With
    `partial` a copy that holds only some types is no break. Nothing is written.

    Raises LM-101, LM-809 (nothing there that can be verified), LM-808.
    """
    copy = _copy(against)
    check = ChainCheck(partial=partial, wanted=copy.keys())
    if "://" in target:
        result = _database(target, evidence, check)
    else:
        path = Path(target)
        if not path.exists():
            raise ModeratorError(MISSING_FILE, path=path)
        result = _folder(path, evidence, check) if path.is_dir() else _file(path, evidence, check)
    result.breaks += _differences(check, copy)
    return result


def _folder(folder: Path, evidence: Path | None, check: ChainCheck) -> Verification:
    if (folder / FILE_NAME).is_file():
        return _journal(folder / FILE_NAME, evidence or folder, check)
    if (folder / "events.jsonl").is_file():
        files = [*sorted(folder.glob("events-*.jsonl")), folder / "events.jsonl"]
        return _lines_of(files, evidence or folder, check)
    if (folder / MANIFEST).is_file():
        return _manifest(folder)
    raise ModeratorError(NOTHING_TO_VERIFY, path=folder)


def _file(path: Path, evidence: Path | None, check: ChainCheck) -> Verification:
    with path.open("rb") as file:
        start = file.read(16)
    if start == b"SQLite format 3\0":
        if _application_id(path) == APPLICATION_ID:
            return _journal(path, evidence or path.parent, check)
        return _database(f"sqlite:///{path}", evidence, check)
    if path.suffix == ".jsonl":
        return _lines_of([path], evidence or path.parent, check)
    raise ModeratorError(NOTHING_TO_VERIFY, path=path)


# --- journal ------------------------------------------------------------------------


def _journal(path: Path, evidence: Path, check: ChainCheck) -> Verification:
    result = Verification(str(path))
    files: list[tuple[Envelope, str, str]] = []
    try:
        with closing(_read_only(path)) as connection:
            # One snapshot: a running `watch` may be writing.
            connection.execute("BEGIN")
            result.breaks += _rows(connection, check, files)
            result.breaks += check.finish()
            result.breaks += _ends(connection, check)
            result.breaks += copy_faults(path.parent, connection)
    except sqlite3.Error as error:
        result.breaks.append(Break(str(path), _damaged(str(error))))
    _conclude(result, check, files, evidence)
    return result


def _rows(
    connection: sqlite3.Connection, check: ChainCheck, files: list[tuple[Envelope, str, str]]
) -> Iterator[Break]:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        yield Break(FILE_NAME, _damaged(found))
    expected = 1
    hole = False
    for n, *columns, record, line in connection.execute(
        "SELECT n, session, seq, room, type, key, id, time, record, line FROM events ORDER BY n"
    ):
        if n != expected and not hole:
            # Places are given without holes and nothing is ever deleted.
            hole = True
            yield Break(f"{FILE_NAME} n={expected}", _gone())
        expected = n + 1
        try:
            envelope = parse_line(line)
        except (ValueError, TypeError) as error:
            yield Break(
                f"{columns[2]} {columns[0]} #{columns[1]} {columns[3]} {columns[5]}",
                in_ui_language(f"not an envelope ({error})", f"不是合法的记录（{error}）"),
                columns[0],
                columns[1],
            )
            continue
        fault = check.feed(envelope)
        agree = columns == _columns(envelope) and line == envelope.line()
        # Which record it was about is still known when its body is gone.
        if fault is None and not (agree and (envelope.pruned or record == envelope.record)):
            fault = Break(
                f"{FILE_NAME} n={n} {envelope.id}",
                in_ui_language("its columns do not agree with its text", "字段与正文不一致"),
                envelope.session,
                envelope.seq,
            )
        if fault is not None:
            yield fault
        files += _files_of(envelope)
    (last,) = connection.execute(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)"
    ).fetchone()
    if last >= expected and not hole:
        yield Break(f"{FILE_NAME} n={expected}", _gone())


def _columns(envelope: Envelope) -> list[Any]:
    names = ("session", "seq", "room", "type", "key", "id", "time")
    return [getattr(envelope, name) for name in names]


def _ends(connection: sqlite3.Connection, check: ChainCheck) -> Iterator[Break]:
    known = {
        session: (next_seq, head)
        for session, next_seq, head in connection.execute(
            "SELECT session, next_seq, head FROM sessions WHERE next_seq > 0"
        )
    }
    heads = check.heads
    for session in sorted(known.keys() | heads.keys()):
        if session in check.broken or known.get(session) == heads.get(session):
            continue
        told, found = known.get(session, (0, ""))[0], heads.get(session, (0, ""))[0]
        what = in_ui_language(
            f"its end differs: {told} envelopes were written, {found} are there",
            f"结尾不符：共写入 {told} 条，现有 {found} 条",
        )
        yield Break(session, what, session, min(told, found))


def _read_only(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    # A closed journal on read-only media has no log beside it and can make none.
    aside = path.with_name(path.name + "-wal")
    mode = "mode=ro" if aside.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{uri}?{mode}", uri=True)


def _application_id(path: Path) -> int:
    # Byte 68 of the header, https://www.sqlite.org/fileformat.html section 1.3.
    with path.open("rb") as file:
        file.seek(68)
        return int.from_bytes(file.read(4), "big")


def _damaged(reason: str) -> str:
    return in_ui_language(f"the database file is damaged ({reason})", f"数据库文件损坏（{reason}）")


def _gone() -> str:
    return in_ui_language("an envelope was taken out here", "此处的记录被删去")


# --- copies -------------------------------------------------------------------------


def _lines_of(paths: Sequence[Path], evidence: Path, check: ChainCheck) -> Verification:
    result = Verification(str(paths[-1]))
    files: list[tuple[Envelope, str, str]] = []
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                _feed(result, check, files, line, f"{path.name}:{number}")
    result.breaks += check.finish()
    _conclude(result, check, files, evidence)
    return result


def _database(url: str, evidence: Path | None, check: ChainCheck) -> Verification:
    try:
        from sqlalchemy.exc import SQLAlchemyError

        from moderator.sinks.database import database_url, record_faults, stored_lines
    except ImportError as error:
        raise ModeratorError(
            SINK_PACKAGE,
            place="verify",
            package=error.name or str(error),
            install="live-stream-moderator[server]",
        ) from None
    try:
        parsed = database_url(url)
        name = parsed.render_as_string(hide_password=True)
        result = Verification(name)
        files: list[tuple[Envelope, str, str]] = []
        for number, line in enumerate(stored_lines(parsed), start=1):
            _feed(result, check, files, line, f"row {number}")
    except SQLAlchemyError:
        raise ModeratorError(NOTHING_TO_VERIFY, path=url.partition("://")[0] + "://…") from None
    if not check.envelopes and not result.breaks:
        raise ModeratorError(NOTHING_TO_VERIFY, path=name)
    result.breaks += check.finish()
    for id, what in record_faults(parsed):
        result.breaks.append(Break(f"moderator_violations {id}", what))
    _conclude(result, check, files, evidence)
    return result


def _feed(
    result: Verification,
    check: ChainCheck,
    files: list[tuple[Envelope, str, str]],
    line: str | bytes,
    place: str,
) -> None:
    try:
        envelope = parse_line(line)
    except (ValueError, TypeError) as error:
        what = in_ui_language(f"not an envelope ({error})", f"不是合法的记录（{error}）")
        result.breaks.append(Break(place, what))
        return
    fault = check.feed(envelope)
    if fault is not None:
        result.breaks.append(fault)
    files += _files_of(envelope)


# --- evidence -----------------------------------------------------------------------


def _files_of(envelope: Envelope) -> list[tuple[Envelope, str, str]]:
    body = envelope.body or {}
    sums = body.get("sha256") if envelope.type == "evidence" else None
    return [(envelope, str(name), str(digest)) for name, digest in (sums or {}).items()]


def _conclude(
    result: Verification,
    check: ChainCheck,
    files: Iterable[tuple[Envelope, str, str]],
    evidence: Path | None,
) -> None:
    result.envelopes, result.pruned = check.envelopes, check.pruned
    result.heads = check.heads
    result.removed_files = len(check.removed_files)
    if evidence is None:
        return
    seen: dict[tuple[str, str], str] = {}
    for envelope, name, digest in files:
        if (name, digest) in seen:
            continue
        what = "" if name in check.removed_files else _file_fault(evidence, name, digest)
        seen[name, digest] = what
        if name not in check.removed_files:
            result.files += 1
        if what:
            place = f"{name} ({envelope.room} {envelope.session} #{envelope.seq} {envelope.id})"
            result.breaks.append(Break(place, what, envelope.session, envelope.seq))


def _file_fault(folder: Path, name: str, digest: str) -> str:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        return in_ui_language("names a file outside the folder", "指向文件夹之外")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return in_ui_language(
            "the file is missing and no retention record says so",
            "文件缺失，且没有对应的到期清理记录",
        )
    except OSError as error:
        reason = error.strerror or error
        return in_ui_language(f"the file cannot be read ({reason})", f"文件无法读取（{reason}）")
    if found == digest:
        return ""
    return in_ui_language(
        f"the file was changed: sha256 is {found}, sealed was {digest}",
        f"文件被改动：sha256 为 {found}，封存时为 {digest}",
    )


def _manifest(folder: Path) -> Verification:
    """A folder of `check --out`: every file that its manifest names."""
    result = Verification(str(folder / MANIFEST))
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != MANIFEST_SCHEMA:
            raise ValueError("of another program")
        sums = {str(name): str(about["sha256"]) for name, about in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModeratorError(NOTHING_TO_VERIFY, path=folder) from None
    for name, digest in sums.items():
        result.files += 1
        what = _file_fault(folder, name, digest)
        if what:
            result.breaks.append(Break(name, what))
    return result


# --- against a copy kept elsewhere --------------------------------------------------


def _copy(path: Path | None) -> dict[tuple[str, int], Envelope]:
    """The envelopes of a copy, by session and number. Raises LM-101, LM-809."""
    copy: dict[tuple[str, int], Envelope] = {}
    if path is None:
        return copy
    if not path.is_file():
        raise ModeratorError(MISSING_FILE, path=path)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                document = json.loads(line)
                # A webhook body carries the envelope as its data.
                envelope = Envelope.from_json(document.get("data", document))
            except (ValueError, TypeError, AttributeError):
                raise ModeratorError(NOTHING_TO_VERIFY, path=f"{path}:{number}") from None
            copy[envelope.session, envelope.seq] = envelope
    return copy


def _differences(check: ChainCheck, copy: dict[tuple[str, int], Envelope]) -> Iterator[Break]:
    for (session, seq), envelope in sorted(copy.items()):
        here = check.hashes.get((session, seq))
        if here == envelope.hash:
            continue
        place = f"{envelope.room} {session} #{seq} {envelope.type} {envelope.id}"
        what = (
            in_ui_language("is in the copy and missing here", "副本中有而此处缺失")
            if here is None
            else in_ui_language("differs from the copy", "与副本不一致")
        )
        yield Break(place, what, session, seq)
