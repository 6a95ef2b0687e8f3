"""The JSON lines beside a journal are copies for people; each line must agree with the journal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moderator.errors import in_ui_language
from moderator.sinks.chain import Break
from moderator.sinks.envelope import Envelope, canonical, parse_line


def copy_faults(folder: Path, journal: sqlite3.Connection) -> Iterator[Break]:
    """The first line of each file in `folder` that the journal does not confirm.

    What retention removed from the journal cannot be compared and is passed over.
    """
    for name in ("events", "violations", "transcript", "screen"):
        for path in [*sorted(folder.glob(f"{name}-*.jsonl")), folder / f"{name}.jsonl"]:
            if path.is_file():
                yield from _file_faults(path, name, journal)


def _file_faults(path: Path, name: str, journal: sqlite3.Connection) -> Iterator[Break]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            # The line that is being written at this moment.
            if not line.endswith(b"\n"):
                return
            try:
                document = json.loads(line)
                wrong = not _agrees(name, document, journal)
            except (ValueError, TypeError, AttributeError):
                wrong = True
            if wrong:
                what = in_ui_language("differs from the journal", "与日志库不一致")
                yield Break(f"{path.name}:{number}", what)
                return


def _agrees(name: str, document: dict[str, Any], journal: sqlite3.Connection) -> bool:
    if name == "violations":
        row = journal.execute(
            "SELECT line FROM events WHERE record = ? AND type = 'violation'",
            (str(document.get("id")),),
        ).fetchone()
        record = parse_line(row[0]).body if row else {}
        return record is None or canonical(record) == canonical(document)
    envelope_id = str(document.get("id" if name == "events" else "envelope"))
    row = journal.execute("SELECT line FROM events WHERE id = ?", (envelope_id,)).fetchone()
    if row is None:
        return False
    told = parse_line(row[0])
    if name == "events":
        copy = Envelope.from_json(document)
        return copy.hash == told.hash and (copy.pruned or copy.hash == copy.expected_hash())
    body = {key: value for key, value in document.items() if key not in _WHOSE}
    whose = (document.get("session"), document.get("room"))
    return told.body is None or (
        canonical(told.body) == canonical(body) and whose == (told.session, told.room)
    )


_WHOSE = frozenset({"envelope", "session", "room"})
