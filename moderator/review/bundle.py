"""The case bundle: one zip with everything that a case rests on, and how to check it.

`manifest.json` names every file with its SHA-256, in a chain: each link's hash is over the
file's name and hash and the link before, so that a file cannot be left out, added or moved
without the last hash changing. The audit log of the server keeps the hash of the zip itself.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderator.errors import BUNDLE_INVALID, NO_CJK_FONT, ModeratorError
from moderator.outputs.report import tool_version
from moderator.review import appeals, audit, case, evidence, printing, queue, uploads
from moderator.review.models import (
    AuditEntry,
    Base,
    Decision,
    Note,
    RoomRow,
    SealedEnvelope,
    ViolationRow,
)
from moderator.review.permissions import Permission, Principal
from moderator.review.privacy import shown_to
from moderator.sinks.envelope import parse_line

if TYPE_CHECKING:
    from moderator.review.house import House

MANIFEST = "manifest.json"
ENVELOPES = "envelopes.jsonl"
SCHEMA = "moderator/case@1"

CLOCK = (1980, 1, 1, 0, 0, 0)
"""Zip times say nothing here; one for all keeps equal contents equal."""

README = """直播合规案件证据包 / Live-stream compliance: case bundle

record.json      记录原文 / the record as it was emitted
envelopes.jsonl  直播会话日志中封存的原文与链 / the same as sealed in the live session's journal
transcript.json  前后语音与画面文字 / what was said and shown around it
clips/ frames/   录像片段与画面 / clips and frames
rule.yaml        命中的规则 / the rule
law.json         引用的法条 / the articles cited
decisions.json   处理记录（含已撤销的） / decisions, with those taken back
notes.json       备注 / notes
appeals/         申诉文字与材料 / appeals and their documents
audit.json       与本案有关的审计日志 / entries of the audit log on this case
report.pdf       可打印的报告 / the printable report
manifest.json    每个文件的 SHA-256 与链 / SHA-256 of each file, chained

核对 / to check:  python -m moderator.review.bundle FILE.zip
手工核对 / by hand:  sha256sum 与 manifest.json 对照
与会话日志核对 / against the session's journal:
    moderator verify SESSION_DIR --against envelopes.jsonl
"""


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    data: bytes | Path


def write(db: Session, house: House, who: Principal, violation_id: str, path: Path) -> None:
    """Write the bundle of a case to `path`. Raises LM-908."""
    row = queue.get(db, who, violation_id)
    record = queue.record_of(db, row.id)
    broadcast = case.broadcast_of(db, row)
    checks: list[dict[str, Any]] = []
    missing: list[str] = []
    parts = list(_texts(db, house, who, row, record))
    sealed = _sealed(db, row)
    if sealed and who.may(Permission.PRIVATE_DATA):
        parts.append(_Part(ENVELOPES, sealed))
    elif sealed:
        # A seal holds for the words as they were said, and breaks where they are masked.
        missing.append(f"{ENVELOPES}: {Permission.PRIVATE_DATA}")
    for file in evidence.files_of(record):
        try:
            found = evidence.open_path(house.settings, broadcast, file.path)
        except ModeratorError:
            missing.append(file.path)
            continue
        name = _inside(file.path)
        digest = evidence.file_sha256(found)
        checks.append(
            {
                "path": name,
                "recorded_sha256": file.sha256,
                "sha256": digest,
                "matches": file.sha256 == digest,
            }
        )
        parts.append(_Part(name, found))
    parts += _appeal_parts(db, house, who, row)
    # A machine without a font for it still gives the evidence out.
    with suppress(ModeratorError):
        parts.append(_Part("report.pdf", printing.render(db, house, who, violation_id)))
    if not any(part.name == "report.pdf" for part in parts):
        missing.append(f"report.pdf: {ModeratorError(NO_CJK_FONT).text('en').splitlines()[0]}")
    head = db.execute(
        select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1)
    ).first()
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "case": row.id,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": who.username,
        "tool": {"name": "moderator", "version": tool_version()},
        "evidence": checks,
        "missing": missing,
        "audit_head": {"seq": head.seq, "hash": head.hash} if head else None,
    }
    _pack(path, parts, manifest)


def _texts(
    db: Session, house: House, who: Principal, row: ViolationRow, record: dict[str, Any]
) -> Iterator[_Part]:
    yield _Part("README.txt", README.encode())
    yield _json("record.json", shown_to(who, record))
    room = db.get(RoomRow, row.room_id)
    yield _json("room.json", _plain(room) if room else {"id": row.room_id})
    spoken = [one.body | {"channel": one.channel} for one in case.transcript(db, row)]
    yield _json("transcript.json", shown_to(who, spoken))
    yield _json(
        "law.json",
        [
            {"title": a.title, "article": a.article, "effective": a.effective, "text": a.text}
            for a in case.articles(house.rules, record)
        ],
    )
    rule = house.rules.rule(row.rule_id)
    if rule is not None:
        yield _Part("rule.yaml", rule.path.read_bytes())
    passport = case.passport(db, row)
    if passport is not None:
        yield _json("passport.json", passport)
    decisions = [_plain(one, Decision) for one in queue.decisions_of(db, row.id)]
    yield _json("decisions.json", shown_to(who, decisions))
    notes = [_plain(one, Note) for one in queue.notes_of(db, row.id)]
    yield _json("notes.json", shown_to(who, notes))
    entries = db.scalars(
        select(AuditEntry).where(AuditEntry.object_id == row.id).order_by(AuditEntry.seq)
    )
    yield _json("audit.json", [audit.entry_json(entry) for entry in entries])


def _sealed(db: Session, row: ViolationRow) -> bytes:
    """The violation's envelopes in the order of its session, a line each."""
    query = (
        select(SealedEnvelope.line)
        .where(SealedEnvelope.violation_id == row.id)
        .order_by(SealedEnvelope.seq, SealedEnvelope.id)
    )
    return "".join(f"{line}\n" for line in db.scalars(query)).encode()


def _appeal_parts(db: Session, house: House, who: Principal, row: ViolationRow) -> Iterator[_Part]:
    for number, appeal in enumerate(appeals.of_violation(db, row.id), start=1):
        yield _json(f"appeals/{number}/appeal.json", shown_to(who, _plain(appeal)))
        for document in appeals.documents_of(db, appeal.id):
            path = appeals.document_path(house.settings, document)
            if path.is_file():
                name = uploads.plain_name(document.name)
                yield _Part(f"appeals/{number}/{document.id}_{name}", path)


def _plain(row: Base, kind: type[Base] | None = None) -> dict[str, Any]:
    columns = (kind or type(row)).__table__.columns
    body = {column.key: getattr(row, _attribute(column.key), None) for column in columns}
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in body.items()
    }


def _attribute(column: str) -> str:
    return {"start_s": "start", "end_s": "end"}.get(column, column)


def _json(name: str, body: Any) -> _Part:
    return _Part(name, json.dumps(body, ensure_ascii=False, indent=2).encode())


def _inside(name: str) -> str:
    """A name within the zip that no unpacker takes outside."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("..", "/", ".")]
    return "/".join(parts)


def _pack(path: Path, parts: list[_Part], manifest: dict[str, Any]) -> None:
    files: dict[str, dict[str, Any]] = {}
    chain: list[dict[str, str]] = []
    prev = audit.GENESIS
    with zipfile.ZipFile(path, "w") as archive:
        for part in parts:
            size, digest = _add(archive, part)
            files[part.name] = {"bytes": size, "sha256": digest}
            prev = link_hash(part.name, digest, prev)
            chain.append({"path": part.name, "hash": prev})
        manifest |= {"files": files, "chain": chain, "seal": prev}
        _add(archive, _json(MANIFEST, manifest))


def _add(archive: zipfile.ZipFile, part: _Part) -> tuple[int, str]:
    entry = zipfile.ZipInfo(part.name, CLOCK)
    entry.external_attr = 0o644 << 16
    packed = PurePosixPath(part.name).suffix.lower() in (".mp4", ".jpg", ".jpeg", ".png", ".pdf")
    entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    digest, size = hashlib.sha256(), 0
    with archive.open(entry, "w", force_zip64=True) as out:
        if isinstance(part.data, bytes):
            digest.update(part.data)
            out.write(part.data)
            return len(part.data), digest.hexdigest()
        with part.data.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
    return size, digest.hexdigest()


def link_hash(name: str, digest: str, prev: str) -> str:
    """One link of the chain: SHA-256 of the canonical JSON of name, file hash and link before."""
    return audit.hash_of({"path": name, "sha256": digest, "prev": prev})


def verify(path: Path) -> dict[str, Any]:
    """Check a bundle; returns its manifest. Raises LM-938 naming what does not hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest: dict[str, Any] = json.loads(archive.read(MANIFEST))
            _verify(archive, manifest, path)
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, TypeError) as error:
        raise ModeratorError(BUNDLE_INVALID, path=path, reason=str(error)) from None
    return manifest


def _verify(archive: zipfile.ZipFile, manifest: Mapping[str, Any], path: Path) -> None:
    names = [name for name in archive.namelist() if name != MANIFEST]
    listed = [link["path"] for link in manifest["chain"]]
    if manifest["schema"] != SCHEMA or names != listed or set(names) != set(manifest["files"]):
        odd = sorted(set(names) ^ set(manifest["files"]))
        raise ModeratorError(BUNDLE_INVALID, path=path, reason=f"files: {odd}")
    prev = audit.GENESIS
    for link in manifest["chain"]:
        name = link["path"]
        with archive.open(name) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if digest != manifest["files"][name]["sha256"]:
            raise ModeratorError(BUNDLE_INVALID, path=path, reason=f"{name}: sha256")
        if name == ENVELOPES:
            for number, line in enumerate(archive.read(name).splitlines(), start=1):
                envelope = parse_line(line)
                if envelope.hash != envelope.expected_hash():
                    raise ModeratorError(BUNDLE_INVALID, path=path, reason=f"{name}:{number}: hash")
        prev = link_hash(name, digest, prev)
        if prev != link["hash"]:
            raise ModeratorError(BUNDLE_INVALID, path=path, reason=f"{name}: chain")
    if prev != manifest["seal"]:
        raise ModeratorError(BUNDLE_INVALID, path=path, reason="seal")


if __name__ == "__main__":
    import sys

    for argument in sys.argv[1:]:
        try:
            sealed = verify(Path(argument))
        except ModeratorError as error:
            sys.exit(error.text())
        sys.stdout.write(f"{argument}: {len(sealed['files'])} files, seal {sealed['seal']}\n")
