"""A second opinion on the records of live rooms, from a language model, while the room goes on.

A record is written at once and never waits; advice that comes later is written as an update of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from moderator.claims.passports import Passport
from moderator.records import Advice, Violation

log = structlog.get_logger()

AT_ONCE = 4
MOST_WAITING = 64
"""Questions that may wait; a record beyond them goes without advice."""


class Adviser(Protocol):
    """Gives advice on one record, None without a usable answer. `Adjudicator` is one."""

    def advise(
        self,
        record: Violation,
        articles: Mapping[str, str],
        passports: Sequence[Passport],
        lang: str,
    ) -> Advice | None: ...


class AdviceWorker:
    """Asks for all rooms, a few questions at a time. `outcome` is told `answered`, `unanswered`
    or `dropped` for each record."""

    def __init__(
        self,
        adviser: Adviser,
        articles: Callable[[Violation], Mapping[str, str]],
        lang: str = "zh",
        *,
        outcome: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.outcome = outcome
        self._adviser = adviser
        self._articles = articles
        self._lang = lang
        self._free = threading.BoundedSemaphore(MOST_WAITING)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="advice")

    def want(
        self,
        record: Violation,
        passports: Sequence[Passport],
        then: Callable[[Advice | None], None],
    ) -> bool:
        """Ask, and call `then` on a thread of this worker; False when it is not asked."""
        if not record.context or not self._free.acquire(blocking=False):
            self.outcome("dropped")
            return False
        try:
            self._pool.submit(self._ask, record, passports, then)
        except RuntimeError:  # stopped
            self._free.release()
            return False
        return True

    def stop(self) -> None:
        """Waits for the questions that are under way, each of which has its timeout."""
        self._pool.shutdown(cancel_futures=True)

    def _ask(
        self,
        record: Violation,
        passports: Sequence[Passport],
        then: Callable[[Advice | None], None],
    ) -> None:
        advice: Advice | None = None
        try:
            advice = self._adviser.advise(record, self._articles(record), passports, self._lang)
        except Exception:
            log.exception("advice.failed", room=record.room)
        finally:
            self._free.release()
            self.outcome("unanswered" if advice is None else "answered")
            then(advice)
