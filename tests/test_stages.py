from typing import Any, ClassVar

import pytest

from moderator.errors import ModeratorError
from moderator.records import Observation, ScriptLine
from moderator.stages import QUEUE_ITEMS, StageThread, check_wiring


def feed(thread: StageThread, items: int) -> None:
    for _ in range(items):
        thread.put(1)


class Echo:
    name: ClassVar[str] = "echo"
    requires: ClassVar[frozenset[str]] = frozenset({"audio"})
    assigns: ClassVar[frozenset[str]] = frozenset({"utterances"})

    def __init__(self, break_at: int = -1) -> None:
        self.seen: list[Any] = []
        self.break_at = break_at

    def feed(self, item: Any) -> None:
        if len(self.seen) == self.break_at:
            raise ValueError("broken stage")
        self.seen.append(item)

    def finish(self) -> list[Observation]:
        return [ScriptLine(str(len(self.seen)))]


def test_stages_wiring_names_what_is_missing() -> None:
    check_wiring(frozenset({"audio"}), [Echo()])
    with pytest.raises(ModeratorError, match=r"LM-702 .*echo.*audio"):
        check_wiring(frozenset({"frames"}), [Echo()])


def test_stages_thread_keeps_order_and_loses_nothing() -> None:
    stage = Echo()
    thread = StageThread(stage)
    count = QUEUE_ITEMS * 3
    for number in range(count):
        thread.put(number)
    assert [line.text for line in thread.result()] == [str(count)]
    assert stage.seen == list(range(count))


def test_stages_thread_hands_the_error_to_its_feeder() -> None:
    thread = StageThread(Echo(break_at=2))
    with pytest.raises(ValueError, match="broken stage"):
        feed(thread, QUEUE_ITEMS * 4)
    thread.stop()


def test_stages_thread_hands_the_error_over_at_the_end() -> None:
    thread = StageThread(Echo(break_at=0))
    thread._queue.put(1)
    with pytest.raises(ValueError, match="broken stage"):
        thread.result()


def test_stages_thread_can_be_stopped_in_the_middle() -> None:
    thread = StageThread(Echo())
    thread.put(1)
    thread.stop()
    assert not thread._thread.is_alive()
