"""Delivery: a thread a sink carries envelopes from the journal, in order, until they arrive."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field

from moderator.errors import ModeratorError
from moderator.sinks.dead_letters import DeadLetters
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Rejected, Sink, SinkError, Unavailable

log = structlog.get_logger()

SAVE_EVERY_S = 0.1
"""How often a busy sink's cursor is written; killed in between, so much goes out again."""

LOOK_AGAIN_S = 1.0
"""Another process may append without waking us: its envelopes wait no longer than this."""


class DeliveryOptions(BaseModel):
    """How hard a sink is tried. After either limit an envelope becomes a dead letter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attempts: int = Field(12, ge=1, title="Attempts", description="Tries for one envelope.")
    give_up_s: float = Field(
        3600.0, gt=0, title="Give up", description="Seconds of trying one envelope."
    )
    backoff_s: float = Field(
        0.5, gt=0, title="Backoff", description="Pause after the first failure; then it doubles."
    )
    backoff_max_s: float = Field(
        60.0, gt=0, title="Longest pause", description="Seconds; also bounds Retry-After."
    )
    start: Literal["beginning", "now"] = Field(
        "beginning", title="Start", description="Where a sink new to the journal begins."
    )


@dataclass(frozen=True, slots=True)
class DeliveryStats:
    """A snapshot since the process started. `pending` envelopes wait, the oldest for `lag_s`.

    `failing` is whether the last try failed, and `last_error` says why (no secrets in it).
    """

    sink: str
    delivered: int
    failures: int
    dead: int
    pending: int
    lag_s: float
    failing: bool
    last_error: str


class Delivery:
    """Carries one sink's envelopes. `start` it, `drain` it, `close` it.

    Envelopes go in the order of the journal, so the order within each room is kept. One that
    fails is tried again after pauses that double and vary, and holds back what is behind it; when
    it is given up it goes to the dead letters and the sink's cursor moves on. The cursor is in the
    journal and moves after the sink took the envelopes: killed in between, the last envelopes go
    out again, with the same ids.

    The pauses are waited for here and not by a retrying library, whose sleep could not end at
    SIGTERM and which would not know that one envelope of a batch is at fault.
    """

    def __init__(
        self, journal: Journal, sink: Sink, options: DeliveryOptions, dead_letters: Path
    ) -> None:
        self.sink = sink
        self._journal = journal
        self._options = options
        self._dead_letters = DeadLetters(dead_letters, sink.name)
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._delivered = self._failures = self._dead = 0
        self._failing = False
        self._last_error = ""
        self._size = sink.batch_size
        self._unsaved: tuple[int, int] = (0, 0)
        cursor = journal.cursor(sink.name)
        if cursor is None:
            cursor = journal.last() if options.start == "now" else 0
            journal.move_cursor(sink.name, cursor)
        self._position = cursor
        self._saved_at = time.monotonic()
        self._moved = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drain(self, timeout_s: float) -> bool:
        """Wait until what is in the journal now has arrived or is a dead letter; False if not.

        What has not arrived stays in the journal for the next run.
        """
        target = self._journal.last()
        deadline = time.monotonic() + timeout_s
        self._hurry.set()
        self._journal.wake()
        with self._moved:
            return self._moved.wait_for(
                lambda: self._position >= target or not self._thread.is_alive(),
                max(0.0, deadline - time.monotonic()),
            ) and (self._position >= target)

    def close(self, timeout_s: float = 15.0) -> None:
        """Stop after the delivery that is under way, and close the sink."""
        self._stop.set()
        self._hurry.set()
        self._journal.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def stats(self) -> DeliveryStats:
        types = sorted(self.sink.types)
        marks = ",".join("?" * len(types))
        count, oldest = self._journal.read(
            f"SELECT count(*), min(time) FROM events WHERE n > ? AND type IN ({marks})",  # noqa: S608
            (self._position, *types),
        )[0]
        lag_s = 0.0
        if oldest is not None:
            lag_s = (datetime.now(UTC) - datetime.fromisoformat(oldest)).total_seconds()
        return DeliveryStats(
            sink=self.sink.name,
            delivered=self._delivered,
            failures=self._failures,
            dead=self._dead,
            pending=count,
            lag_s=max(0.0, lag_s),
            failing=self._failing,
            last_error=self._last_error,
        )

    # --- the thread -----------------------------------------------------------------

    def _run(self) -> None:
        seen = -1
        try:
            while not self._stop.is_set():
                try:
                    found = self._look()
                    if found:
                        self._carry(found)
                        continue
                    self._save()
                except (ModeratorError, OSError) as error:
                    # The journal or the dead letters cannot be used now; nothing was passed over.
                    self._note_failure(error)
                    self._pause(LOOK_AGAIN_S)
                    continue
                seen = self._journal.wait(seen, LOOK_AGAIN_S)
            self._save()
        except Exception:
            log.exception("sink_stopped", sink=self.sink.name)
            self._failing = True
        finally:
            self.sink.close()
            with self._moved:
                self._moved.notify_all()

    def _look(self) -> list[tuple[int, Envelope]]:
        """The next envelopes; when there are none, what others may have is passed over."""
        found = self._journal.after(self._position, self._size, types=self.sink.types)
        if not found:
            # The end is read before a second look, or what comes in between would be passed over.
            head = self._journal.last()
            found = self._journal.after(self._position, self._size, types=self.sink.types)
            if not found:
                self._move(max(head, self._position))
        return found

    def _carry(self, found: Sequence[tuple[int, Envelope]]) -> None:
        """Deliver `found` or, after as many tries as the options allow, give up its first."""
        began = time.monotonic()
        failures = 0
        while not self._stop.is_set():
            try:
                self.sink.send([envelope for _, envelope in found])
            except Exception as error:
                failures += 1
                self._note_failure(error)
                spent_s = time.monotonic() - began
                hopeless = isinstance(error, Rejected) or (
                    failures >= self._options.attempts or spent_s >= self._options.give_up_s
                )
                if hopeless and len(found) == 1:
                    place, envelope = found[0]
                    self._dead_letters.add(envelope, self._last_error, failures)
                    self._dead += 1
                    log.error(
                        "dead_letter", sink=self.sink.name, id=envelope.id, reason=self._last_error
                    )
                    self._move(place, dead=1)
                    return
                if not isinstance(error, Rejected):
                    self._pause(self._backoff_s(failures, error))
                if len(found) > 1:
                    # One of them may be at fault: go on singly until the sink takes them again.
                    self._size = 1
                    return
            else:
                if self._failing:
                    log.info("sink_recovered", sink=self.sink.name)
                self._failing = False
                self._delivered += len(found)
                self._move(found[-1][0], delivered=len(found))
                self._size = min(self.sink.batch_size, 2 * self._size)
                return

    def _backoff_s(self, failures: int, error: Exception) -> float:
        longest_s = self._options.backoff_max_s
        pause_s = min(longest_s, self._options.backoff_s * 2.0 ** min(failures - 1, 30))
        # Half of it is chance, so that sinks which failed together do not come back together.
        pause_s *= random.uniform(0.5, 1.0)  # noqa: S311
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        return max(pause_s, min(asked_s or 0.0, longest_s))

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer once someone drains or closes."""
        self._hurry.wait(seconds)
        if self._hurry.is_set() and not self._stop.is_set():
            self._hurry.clear()

    def _note_failure(self, error: Exception) -> None:
        self._failures += 1
        self._last_error = (
            str(error) if isinstance(error, SinkError | ModeratorError) else type(error).__name__
        )
        if not self._failing:
            log.warning("sink_failing", sink=self.sink.name, reason=self._last_error)
        self._failing = True

    def _move(self, place: int, *, delivered: int = 0, dead: int = 0) -> None:
        unsaved_delivered, unsaved_dead = self._unsaved
        self._unsaved = (unsaved_delivered + delivered, unsaved_dead + dead)
        with self._moved:
            self._position = place
            self._moved.notify_all()
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        """Write the cursor, unless all that it passed over was not for this sink.

        When the disk is full the next call writes it: at least once.
        """
        if self._unsaved == (0, 0):
            return
        self._saved_at = time.monotonic()
        delivered, dead = self._unsaved
        try:
            self._journal.move_cursor(
                self.sink.name, self._position, delivered=delivered, dead=dead
            )
        except ModeratorError as error:
            log.warning("cursor_not_saved", sink=self.sink.name, reason=str(error))
            return
        self._unsaved = (0, 0)


class Deliveries:
    """All sinks of a journal."""

    def __init__(self, deliveries: Iterable[Delivery]) -> None:
        self.all = tuple(deliveries)

    def start(self) -> None:
        for delivery in self.all:
            delivery.start()

    def drain(self, timeout_s: float) -> bool:
        """Wait for every sink, `timeout_s` in all; whether everything arrived."""
        deadline = time.monotonic() + timeout_s
        arrived = [delivery.drain(max(0.0, deadline - time.monotonic())) for delivery in self.all]
        return all(arrived)

    def close(self) -> None:
        _at_once([delivery.close for delivery in self.all])

    def stats(self) -> list[DeliveryStats]:
        return [delivery.stats() for delivery in self.all]


def _at_once(calls: Sequence[Callable[[], None]]) -> None:
    """Run `calls` side by side, so that slow sinks do not add up."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
