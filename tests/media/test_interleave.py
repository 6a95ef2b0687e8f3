from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, sleep

import pytest

from moderator.media.interleave import Interleaver, NothingYet, Stalled


def two_lanes(bound: int = 100, patience_s: float = 30.0) -> Interleaver[str]:
    return Interleaver({"a": bound, "v": bound}, patience_s)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_interleave_earliest_comes_first() -> None:
    items = two_lanes()
    for time in (0.0, 0.5, 1.0, 1.5, 2.0):
        items.put("a", time, f"a{time}")
    for time in (0.2, 1.2):
        items.put("v", time, f"v{time}")
    items.finish("a")
    items.finish("v")
    taken = list(iter(lambda: items.take(1.0), None))
    assert taken == ["a0.0", "v0.2", "a0.5", "a1.0", "v1.2", "a1.5", "a2.0"]


def test_interleave_waits_for_a_lane_that_may_bring_something_earlier() -> None:
    items = two_lanes()
    items.put("a", 1.0, "late")
    in_thread(lambda: (sleep(0.1), items.put("v", 0.5, "early"), items.finish("v")))
    items.finish("a")
    assert [items.take(5.0), items.take(5.0)] == ["early", "late"]


def test_interleave_goes_on_once_the_other_lane_has_passed() -> None:
    items = two_lanes()
    items.put("a", 1.0, "sound")
    items.reached("v", 1.0)
    assert items.take(0.01) == "sound"


def test_interleave_full_lane_does_not_wait_for_a_silent_one() -> None:
    items = two_lanes(bound=2)
    written = threading.Event()

    def write() -> None:
        for number in range(6):
            items.put("v", float(number), str(number))
        written.set()

    in_thread(write)
    first = [items.take(5.0) for _ in range(4)]
    assert first == ["0", "1", "2", "3"]
    assert written.wait(5.0)


def test_interleave_item_waits_no_longer_than_patience() -> None:
    items = two_lanes(patience_s=0.05)
    items.put("a", 1.0, "sound")
    began = monotonic()
    assert items.take(5.0) == "sound"
    assert monotonic() - began < 2.0


def test_interleave_put_blocks_while_the_lane_is_full_and_close_frees_it() -> None:
    items = two_lanes(bound=1)
    items.put("a", 0.0, "first")
    answer: list[bool] = []
    thread = in_thread(lambda: answer.append(items.put("a", 1.0, "second")))
    thread.join(0.1)
    assert thread.is_alive()
    items.close()
    thread.join(5.0)
    assert answer == [False]


def test_interleave_silence_of_all_writers_is_a_stall() -> None:
    items = two_lanes()
    with pytest.raises(Stalled):
        items.take(0.05)


def test_interleave_signs_of_life_hold_off_the_stall() -> None:
    items = two_lanes()

    def work_long_without_output() -> None:
        for step in range(20):
            items.reached("v", float(step))
            sleep(0.05)
        items.put("v", 20.0, "frame")
        items.finish("v")

    items.finish("a")
    in_thread(work_long_without_output)
    assert items.take(0.5) == "frame"


def test_interleave_time_the_reader_takes_is_no_stall() -> None:
    items = two_lanes()
    items.put("a", 0.0, "one")
    items.reached("v", 0.0)
    items.take(0.2)
    sleep(0.3)
    in_thread(lambda: (sleep(0.05), items.put("a", 1.0, "two"), items.finish("v")))
    assert items.take(0.2) == "two"


def test_interleave_error_of_a_writer_reaches_the_reader_after_the_rest() -> None:
    items = two_lanes()
    items.put("a", 0.0, "good")
    items.finish("a", OSError("disk gone"))
    items.finish("v")
    assert items.take(1.0) == "good"
    with pytest.raises(OSError, match="disk gone"):
        items.take(1.0)


def test_interleave_lane_that_drops_never_blocks_its_writer() -> None:
    items: Interleaver[str] = Interleaver({"a": 2}, when_full="drop")
    for time in range(5):
        assert items.put("a", float(time), f"a{time}")
    items.finish("a")
    assert list(iter(lambda: items.take(1.0), None)) == ["a3", "a4"]
    assert items.dropped("a") == 3


def test_interleave_lane_may_be_told_to_wait_later() -> None:
    items: Interleaver[str] = Interleaver({"a": 1}, when_full="drop")
    items.wait_when_full()
    items.put("a", 0.0, "first")
    writer = in_thread(lambda: items.put("a", 1.0, "second"))
    assert items.take(5.0) == "first"
    assert items.take(5.0) == "second"
    writer.join(5)
    assert items.dropped("a") == 0


def test_interleave_gives_up_waiting_when_told_to() -> None:
    items = two_lanes()
    items.put("v", 1.0, "waits for the sound")
    with pytest.raises(NothingYet):
        items.take(60.0, 0.01)


def test_interleave_newest_is_the_lane_that_is_furthest() -> None:
    items = two_lanes()
    assert items.newest() is None
    items.put("a", 3.0, "sound")
    items.reached("v", 7.0)
    newest = items.newest()
    assert newest is not None
    assert newest[0] == 7.0
    assert newest[1] <= monotonic()
    assert items.last_sign("v") >= items.last_sign("a") > 0
