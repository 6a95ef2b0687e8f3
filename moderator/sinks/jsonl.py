"""JSON lines in the output folder: records, transcript, screen, and every envelope."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from moderator.sinks.config import SinkOptions, SinkPlace, read_options
from moderator.sinks.envelope import EVENT_TYPES, Envelope
from moderator.sinks.sink import Unavailable

FILES = ("violations", "transcript", "screen", "events")

TAIL_BYTES = 16 << 20
"""How far back a file is searched for envelopes that a killed process wrote already."""

REMEMBERED = 4096
"""Envelopes a file remembers; far more than a batch, which is all that can come twice."""


class JsonlOptions(SinkOptions):
    dir: str = Field("", title="Folder", description="Default: the output folder.")
    rotate_mib: int = Field(
        256,
        ge=0,
        title="Rotation",
        description="A file this large is set aside, as is last month's; 0 is no bound.",
    )
    sync: bool = Field(True, title="Sync", description="Wait for the disk after each batch.")


class JsonlSink:
    """`violations.jsonl` has the records as `check --out` writes them, `transcript.jsonl` and
    `screen.jsonl` the observations with their session, `events.jsonl` every envelope.

    Each line is written once: what a process wrote before it was killed is found again, and a line
    that it left unfinished is cut off.
    """

    batch_size = 200

    def __init__(self, name: str, types: frozenset[str], folder: Path, options: JsonlOptions):
        self.name = name
        self.types = types
        self._folder = folder
        self._options = options
        self._files: dict[str, _Lines] = {}

    def send(self, batch: Sequence[Envelope]) -> None:
        lines: dict[str, list[tuple[str, str]]] = {}
        for envelope in batch:
            for name, document in _documents(envelope):
                text = json.dumps(document, ensure_ascii=False)
                lines.setdefault(name, []).append((_identity(document), text))
        try:
            for name, new in lines.items():
                self._file(name).write(new)
        except OSError as error:
            raise Unavailable(f"{error.filename or self._folder}: {error.strerror}") from None

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> _Lines:
        if name not in self._files:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files[name] = _Lines(self._folder, name, self._options)
        return self._files[name]


def make(*, place: SinkPlace, options: Mapping[str, Any]) -> JsonlSink:
    known = read_options(JsonlOptions, options, place.where)
    types = frozenset(EVENT_TYPES) if place.types is None else place.types
    return JsonlSink(place.name, types, place.out / Path(known.dir).expanduser(), known)


def _documents(envelope: Envelope) -> list[tuple[str, dict[str, Any]]]:
    documents = [("events", envelope.to_json())]
    body = envelope.body
    if body is None:
        return documents
    if envelope.type == "violation":
        documents.append(("violations", body))
    elif envelope.type == "observation":
        name = "transcript" if body.get("channel") == "speech" else "screen"
        whose = {"envelope": envelope.id, "session": envelope.session, "room": envelope.room}
        documents.append((name, {**whose, **body}))
    return documents


def _identity(document: Mapping[str, Any]) -> str:
    return str(document.get("envelope", document.get("id")))


class _Lines:
    """One file that is only ever appended to, and the envelopes at its end."""

    def __init__(self, folder: Path, name: str, options: JsonlOptions) -> None:
        self._path = folder / f"{name}.jsonl"
        self._name = name
        self._options = options
        self._file = self._path.open("ab", buffering=0)
        tail = _tail(self._path)
        whole = tail.rfind(b"\n") + 1
        self._file.truncate(self._file.tell() - (len(tail) - whole))
        ids = _ids(tail)
        older = sorted(folder.glob(f"{name}-*.jsonl"))
        if older and len(ids) < REMEMBERED:
            # Set aside just before the process was killed: the last lines are in the file before.
            ids = [*_ids(_tail(older[-1])), *ids]
        self._written: deque[str] = deque(ids, maxlen=REMEMBERED)

    def write(self, lines: Sequence[tuple[str, str]]) -> None:
        known = set(self._written)
        fresh = [(id, text) for id, text in lines if id not in known]
        if not fresh:
            return
        self._new_month()
        before = self._file.seek(0, os.SEEK_END)
        data = "".join(text + "\n" for _, text in fresh).encode()
        try:
            done = 0
            while done < len(data):
                done += self._file.write(data[done:])
            if self._options.sync:
                os.fsync(self._file.fileno())
        except OSError:
            # Half a line on a full disk would be read as damage.
            self._file.truncate(before)
            raise
        self._written.extend(id for id, _ in fresh)
        limit = self._options.rotate_mib << 20
        if limit and before + len(data) >= limit:
            self._set_aside()

    def _new_month(self) -> None:
        """A file never spans months, so that retention can remove it as a whole."""
        state = os.fstat(self._file.fileno())
        last = datetime.fromtimestamp(state.st_mtime, UTC)
        now = datetime.now(UTC)
        if state.st_size and (last.year, last.month) != (now.year, now.month):
            self._set_aside()

    def _set_aside(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
        self._file.close()
        self._path.rename(self._path.with_name(f"{self._name}-{stamp}.jsonl"))
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        self._file.close()


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read(TAIL_BYTES)


def _ids(tail: bytes) -> list[str]:
    """Envelope ids of the last lines; the first line may be half a line and says nothing."""
    ids = []
    for line in tail.split(b"\n")[-REMEMBERED:]:
        try:
            document = json.loads(line)
        except ValueError:
            continue
        if isinstance(document, dict):
            ids.append(_identity(document))
    return ids
