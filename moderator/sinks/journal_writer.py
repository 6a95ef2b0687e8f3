"""The one thread that writes a journal: what waits together is committed together."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeVar

import structlog

from moderator.errors import JOURNAL_CLOSED, JOURNAL_WRITE, ModeratorError

log = structlog.get_logger()

Result = TypeVar("Result")
Work = Callable[[sqlite3.Connection], Result]

GROUP = 256
"""Pieces of work in one transaction: one fsync serves all who wait for it."""

WAITING = 4096
"""Pieces of work that may wait; more callers than that wait to be let in."""

RETRY_S = 0.05
RETRY_MAX_S = 1.0
PATIENCE_CLOSING_S = 5.0


class JournalWriter:
    """Runs work inside transactions, in the order in which it was handed in.

    When the disk is full or another process holds the lock, the group is rolled back as a whole
    and tried again for `patience_s`; the callers wait meanwhile, so nothing is reordered or lost.
    After that they get LM-803, nothing of it is written, and the next work is tried afresh.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, patience_s: float) -> None:
        self._connect = connect
        self._patience_s = patience_s
        self._queue: queue.Queue[tuple[Work[Any], Future[Any]] | None] = queue.Queue(WAITING)
        self._handing_in = threading.Lock()
        self._closing = threading.Event()
        self._closed = False
        self.trouble: str | None = None
        """Why nothing can be written at the moment; None while all is well."""
        self._trouble_since = 0.0
        self.commits = 0
        self.changed = threading.Condition()
        """Notified after every commit."""
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def do(self, work: Work[Result]) -> Result:
        """Run `work` in a transaction; returns what it returned once that is durable.

        What `work` raises is raised here, and nothing that it wrote stays. Raises LM-803 and
        LM-804 (the journal was closed).
        """
        future: Future[Result] = Future()
        with self._handing_in:
            if self._closed:
                raise ModeratorError(JOURNAL_CLOSED)
            self._queue.put((work, future))
        return future.result()

    def close(self) -> None:
        """Finish what was handed in, then stop."""
        with self._handing_in:
            if self._closed:
                return
            self._closed = True
            self._closing.set()
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        connection = self._connect()
        try:
            last = False
            while not last:
                group, last = self._group()
                if group:
                    self._commit(connection, group)
        finally:
            connection.close()

    def _group(self) -> tuple[list[tuple[Work[Any], Future[Any]]], bool]:
        group = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == GROUP:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(
        self, connection: sqlite3.Connection, group: Sequence[tuple[Work[Any], Future[Any]]]
    ) -> None:
        began = time.monotonic()
        pause_s = RETRY_S
        while True:
            try:
                outcomes = _transaction(connection, [work for work, _ in group])
                break
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    connection.rollback()
                reason = str(error)
                if self.trouble is None:
                    self._trouble_since = time.monotonic()
                    log.error("journal_write_failed", reason=reason)
                self.trouble = reason
                patience_s = self._patience_s
                if self._closing.is_set():
                    patience_s = min(patience_s, PATIENCE_CLOSING_S)
                if time.monotonic() - began + pause_s > patience_s:
                    _settle(group, [ModeratorError(JOURNAL_WRITE, reason=reason)] * len(group))
                    return
                time.sleep(pause_s)
                pause_s = min(RETRY_MAX_S, 2 * pause_s)
        if self.trouble is not None:
            lasted_s = round(time.monotonic() - self._trouble_since, 1)
            log.info("journal_write_recovered", after_s=lasted_s)
            self.trouble = None
        self.commits += 1
        _settle(group, outcomes)
        with self.changed:
            self.changed.notify_all()


def _transaction(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    """Each work's result, or the exception it raised, which undoes that work alone."""
    connection.execute("BEGIN IMMEDIATE")
    outcomes: list[Any] = []
    for work in works:
        connection.execute("SAVEPOINT work")
        try:
            outcomes.append(work(connection))
        except sqlite3.OperationalError:
            # Locked, full, unreadable: nobody's fault, and the whole group is tried again.
            raise
        except Exception as error:
            connection.execute("ROLLBACK TO work")
            outcomes.append(error)
        connection.execute("RELEASE work")
    connection.execute("COMMIT")
    return outcomes


def _settle(group: Sequence[tuple[Work[Any], Future[Any]]], outcomes: Sequence[Any]) -> None:
    for (_, future), outcome in zip(group, outcomes, strict=True):
        # A caller that was interrupted no longer waits.
        with contextlib.suppress(InvalidStateError):
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
