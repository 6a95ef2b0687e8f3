"""Envelopes that a sink would not take, on disk until someone replays or removes them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moderator.errors import DEAD_LETTERS, ModeratorError, in_ui_language
from moderator.sinks.envelope import Envelope, rfc3339
from moderator.sinks.sink import Sink, SinkError

FOLDER = "dead-letter"
"""Where dead letters lie in an output folder, one file a sink."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An envelope that `sink` would not take, when it was given up and why."""

    sink: str
    time: str
    reason: str
    attempts: int
    event: Envelope

    def to_json(self) -> dict[str, Any]:
        return {
            "sink": self.sink,
            "time": self.time,
            "reason": self.reason,
            "attempts": self.attempts,
            "event": self.event.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: `delivered` now, `failed` and still dead."""

    delivered: int
    failed: int
    reason: str = ""


class DeadLetters:
    """`FOLDER/<sink>.jsonl`, one letter a line. Safe between processes."""

    def __init__(self, folder: Path, sink: str) -> None:
        self.sink = sink
        self.path = folder / f"{sink}.jsonl"
        self._replaying = folder / f"{sink}.replaying.jsonl"
        self._lock = folder / f".{sink}.lock"

    def add(self, event: Envelope, reason: str, attempts: int) -> None:
        """Write one letter; on disk when this returns. Raises OSError."""
        letter = DeadLetter(self.sink, rfc3339(datetime.now(UTC)), reason, attempts, event)
        with self._locked():
            _append(self.path, [letter])

    def read(self) -> list[DeadLetter]:
        """The letters, oldest first, each envelope once. Raises LM-812 on a damaged file."""
        return self._read(self._replaying, self.path)

    def replay(self, sink: Sink) -> Replayed:
        """Send every letter once; what fails again stays. Raises LM-812.

        Order within a room holds among the letters; what was delivered meanwhile went before them.
        """
        with self._locked():
            letters = self._read(self._replaying, self.path)
            # One file, replaced as a whole: a replay that is killed leaves every letter in place.
            _replace(self._replaying, letters)
            self.path.unlink(missing_ok=True)
        failed: list[DeadLetter] = []
        reason = ""
        for letter in letters:
            try:
                sink.send([letter.event])
            except SinkError as error:
                reason = str(error)
                failed.append(letter)
        with self._locked():
            since = self._read(self.path)
            _replace(self.path, [*failed, *since])
            self._replaying.unlink(missing_ok=True)
        return Replayed(len(letters) - len(failed), len(failed), reason)

    def _read(self, *paths: Path) -> list[DeadLetter]:
        letters: dict[str, DeadLetter] = {}
        for path in paths:
            if not path.exists():
                continue
            lines = path.read_bytes().split(b"\n")
            for number, line in enumerate(lines, start=1):
                if not line:
                    continue
                try:
                    letter = _parse(line)
                except (ValueError, KeyError, TypeError):
                    if number == len(lines):
                        # The process was killed while it wrote; the sink's cursor did not move.
                        continue
                    reason = in_ui_language(f"line {number} is damaged", f"第 {number} 行已损坏")
                    raise ModeratorError(DEAD_LETTERS, path=path, reason=reason) from None
                letters.setdefault(letter.event.id, letter)
        return list(letters.values())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)


def _parse(line: bytes) -> DeadLetter:
    fields = json.loads(line)
    return DeadLetter(**{**fields, "event": Envelope.from_json(fields["event"])})


def _lines(letters: list[DeadLetter]) -> bytes:
    texts = (json.dumps(letter.to_json(), ensure_ascii=False) for letter in letters)
    return "".join(text + "\n" for text in texts).encode()


def _append(path: Path, letters: list[DeadLetter]) -> None:
    with path.open("ab") as file:
        # What a killed process left unfinished goes: its sink's cursor did not move either.
        file.truncate(_whole_lines(path))
        file.write(_lines(letters))
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(path: Path) -> int:
    """Bytes up to and with the last line break."""
    return path.read_bytes().rfind(b"\n") + 1


def _replace(path: Path, letters: list[DeadLetter]) -> None:
    if not letters:
        path.unlink(missing_ok=True)
        return
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(_lines(letters))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
