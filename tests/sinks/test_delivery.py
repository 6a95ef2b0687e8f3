from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from moderator.sinks.dead_letters import DeadLetters
from moderator.sinks.delivery import Deliveries, Delivery, DeliveryOptions
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Rejected, Unavailable
from tests.sinks.builders import ListSink, until

QUICK: dict[str, Any] = {"backoff_s": 0.001, "backoff_max_s": 0.01}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.sqlite3") as opened:
        yield opened


@pytest.fixture
def started(journal: Journal, tmp_path: Path) -> Iterator[Any]:
    running: list[Delivery] = []

    def start(sink: ListSink, **options: Any) -> Delivery:
        known = DeliveryOptions(**{**QUICK, **options})
        delivery = Delivery(journal, sink, known, tmp_path / "dead-letter")
        delivery.start()
        running.append(delivery)
        return delivery

    yield start
    for delivery in running:
        delivery.close()


def say(journal: Journal, count: int, room: str = "r", type: str = "violation") -> None:
    for n in range(count):
        journal.append(f"s-{room}", room, type, {"n": n})


def numbers(envelopes: Sequence[Envelope]) -> list[Any]:
    return [e.body["n"] for e in envelopes if e.body]


def test_delivery_brings_what_was_there_and_what_comes(journal: Journal, started: Any) -> None:
    sink = ListSink()
    say(journal, 25)
    delivery = started(sink)
    assert until(lambda: len(sink.got) == 25)
    journal.append("s-r", "r", "violation", {"n": 25})
    assert delivery.drain(20)
    assert numbers(sink.got) == list(range(26))
    stats = delivery.stats()
    assert (stats.delivered, stats.pending, stats.failing) == (26, 0, False)


def test_delivery_brings_only_the_types_asked_for(journal: Journal, started: Any) -> None:
    sink = ListSink(types=frozenset({"alert"}))
    say(journal, 5)
    say(journal, 3, type="alert")
    say(journal, 5)
    assert started(sink).drain(20)
    assert {e.type for e in sink.got} == {"alert"}
    assert len(sink.got) == 3


def test_delivery_goes_on_where_the_last_run_stopped(
    journal: Journal, started: Any, tmp_path: Path
) -> None:
    first, second = ListSink(), ListSink()
    say(journal, 7)
    delivery = started(first)
    assert delivery.drain(20)
    delivery.close()
    say(journal, 4, room="other")
    assert started(second).drain(20)
    assert {e.room for e in second.got} == {"other"}


def test_delivery_a_sink_may_begin_now(journal: Journal, started: Any) -> None:
    sink = ListSink()
    say(journal, 7)
    delivery = started(sink, start="now")
    say(journal, 2, room="other")
    assert delivery.drain(20)
    assert {e.room for e in sink.got} == {"other"}


def test_delivery_a_sink_that_fails_at_times_gets_all_in_order(
    journal: Journal, started: Any
) -> None:
    sink = ListSink(batch_size=4)

    def fault(batch: Sequence[Envelope]) -> None:
        if sink.calls % 3 == 0:
            raise Unavailable("HTTP 503")

    sink.fault = fault
    say(journal, 60)
    delivery = started(sink)
    assert delivery.drain(20)
    assert numbers(sink.got) == list(range(60))
    assert delivery.stats().failures > 5
    assert delivery.stats().dead == 0


def test_delivery_what_is_refused_becomes_a_dead_letter_and_the_rest_arrives(
    journal: Journal, started: Any, tmp_path: Path
) -> None:
    def fault(batch: Sequence[Envelope]) -> None:
        if 13 in numbers(batch):
            raise Rejected("HTTP 422")

    sink = ListSink(fault=fault)
    say(journal, 30)
    delivery = started(sink)
    assert delivery.drain(20)
    assert numbers(sink.got) == [n for n in range(30) if n != 13]
    (letter,) = DeadLetters(tmp_path / "dead-letter", "list").read()
    assert (letter.event.body, letter.reason, letter.sink) == ({"n": 13}, "HTTP 422", "list")
    assert delivery.stats().dead == 1
    delivery.close()
    assert journal.cursors()["list"] == (30, 29, 1)


def test_delivery_is_given_up_after_the_attempts_that_were_asked_for(
    journal: Journal, started: Any, tmp_path: Path
) -> None:
    def fault(batch: Sequence[Envelope]) -> None:
        if 0 in numbers(batch):
            raise Unavailable("HTTP 500")

    sink = ListSink(fault=fault, batch_size=1)
    say(journal, 2)
    assert started(sink, attempts=3).drain(20)
    (letter,) = DeadLetters(tmp_path / "dead-letter", "list").read()
    assert letter.attempts == 3
    assert numbers(sink.got) == [1]


def test_delivery_an_error_of_a_foreign_sink_is_no_end(journal: Journal, started: Any) -> None:
    sink = ListSink()

    def fault(batch: Sequence[Envelope]) -> None:
        if sink.calls < 3:
            raise ZeroDivisionError("a value that may be secret")

    sink.fault = fault
    say(journal, 1)
    delivery = started(sink)
    assert delivery.drain(20)
    assert delivery.stats().last_error == "ZeroDivisionError"


def test_delivery_waits_as_long_as_the_receiver_asks(journal: Journal, started: Any) -> None:
    sink = ListSink()
    times: list[float] = []

    def fault(batch: Sequence[Envelope]) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Unavailable("HTTP 429", retry_after_s=0.4)

    sink.fault = fault
    say(journal, 1)
    started(sink, backoff_max_s=1)
    assert until(lambda: len(sink.got) == 1)
    assert times[1] - times[0] >= 0.4


def test_delivery_a_slow_sink_does_not_hold_up_another(journal: Journal, started: Any) -> None:
    gate = threading.Event()
    slow = ListSink(name="slow", fault=lambda batch: gate.wait(20) and None)
    quick = ListSink(name="quick")
    say(journal, 20)
    waiting = started(slow)
    assert started(quick).drain(20)
    assert len(quick.got) == 20
    assert not waiting.drain(0.05)
    assert waiting.stats().pending == 20
    gate.set()
    assert waiting.drain(20)


def test_delivery_drains_at_once_though_a_pause_is_long(journal: Journal, started: Any) -> None:
    sink = ListSink()

    def fault(batch: Sequence[Envelope]) -> None:
        if sink.calls == 1:
            raise Unavailable("HTTP 503")

    sink.fault = fault
    say(journal, 1)
    delivery = started(sink, backoff_s=600, backoff_max_s=600)
    assert until(lambda: delivery.stats().failing)
    assert delivery.drain(20)


def test_delivery_closes_at_once_though_the_receiver_is_down(
    journal: Journal, started: Any
) -> None:
    def fault(batch: Sequence[Envelope]) -> None:
        raise Unavailable("down")

    sink = ListSink(fault=fault)
    say(journal, 1)
    delivery = started(sink, backoff_s=600, backoff_max_s=600)
    assert until(lambda: delivery.stats().failing)
    Deliveries([delivery]).close()
    assert sink.closed
    assert not delivery.drain(0)
    assert journal.cursor("list") == 0


def test_delivery_a_dead_letter_that_cannot_be_written_is_not_passed_over(
    journal: Journal, started: Any, tmp_path: Path
) -> None:
    def fault(batch: Sequence[Envelope]) -> None:
        if 0 in numbers(batch):
            raise Rejected("HTTP 400")

    (tmp_path / "dead-letter").write_text("a file where the folder should be")
    sink = ListSink(fault=fault)
    say(journal, 2)
    delivery = started(sink)
    assert until(lambda: sink.calls >= 2)
    assert not delivery.drain(0.05)
    assert sink.got == []
    (tmp_path / "dead-letter").unlink()
    assert delivery.drain(20)
    assert len(DeadLetters(tmp_path / "dead-letter", "list").read()) == 1
    assert numbers(sink.got) == [1]


def test_dead_letters_are_replayed_and_what_fails_again_stays(
    journal: Journal, tmp_path: Path
) -> None:
    letters = DeadLetters(tmp_path, "list")
    say(journal, 6)
    for _, envelope in journal.after(0, 10):
        letters.add(envelope, "HTTP 400", 1)
        letters.add(envelope, "HTTP 400", 1)

    def fault(batch: Sequence[Envelope]) -> None:
        if numbers(batch)[0] % 2:
            raise Rejected("HTTP 422")

    sink = ListSink(fault=fault)
    done = letters.replay(sink)
    assert (done.delivered, done.failed, done.reason) == (3, 3, "HTTP 422")
    assert numbers(sink.got) == [0, 2, 4]
    assert numbers([letter.event for letter in letters.read()]) == [1, 3, 5]
    sink.fault = lambda batch: None
    assert letters.replay(sink).failed == 0
    assert letters.read() == []


def test_dead_letters_survive_a_replay_and_a_writer_that_were_killed(
    journal: Journal, tmp_path: Path
) -> None:
    letters = DeadLetters(tmp_path, "list")
    say(journal, 4)
    said = [envelope for _, envelope in journal.after(0, 10)]
    for envelope in said[:3]:
        letters.add(envelope, "HTTP 400", 1)

    def killed(batch: Sequence[Envelope]) -> None:
        if numbers(batch)[0] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        letters.replay(ListSink(fault=killed))
    with letters.path.open("ab") as file:
        file.write(b'{"sink": "li')
    assert numbers([letter.event for letter in letters.read()]) == [0, 1, 2]
    letters.add(said[3], "HTTP 400", 1)
    sink = ListSink()
    letters.replay(sink)
    assert numbers(sink.got) == [0, 1, 2, 3]
    assert letters.read() == []
