from __future__ import annotations

from moderator.live.config import DegradationConfig
from moderator.live.degrade import Ladder, StepChange


def ladder(**changes: object) -> Ladder:
    values = {
        "order": ["frames", "beam"],
        "lag_s": 4.0,
        "after_s": 5.0,
        "recover_lag_s": 1.0,
        "recover_after_s": 20.0,
    }
    return Ladder(DegradationConfig.model_validate(values | changes))


def run(steps: Ladder, lag_s: float, *, begin: int, end: int) -> list[StepChange]:
    changes = (steps.watch(lag_s, float(now)) for now in range(begin, end))
    return [change for change in changes if change]


def test_degrade_takes_the_steps_in_the_configured_order() -> None:
    steps = ladder()
    changes = run(steps, 6.0, begin=0, end=30)
    assert [(change.step, change.active) for change in changes] == [
        ("frames", True),
        ("beam", True),
    ]
    assert steps.active == ["frames", "beam"]


def test_degrade_gives_each_step_time_to_help() -> None:
    steps = ladder()
    assert run(steps, 6.0, begin=0, end=5) == []
    assert len(run(steps, 6.0, begin=5, end=9)) == 1


def test_degrade_a_moment_of_lag_is_no_reason() -> None:
    steps = ladder()
    for second in range(40):
        assert steps.watch(6.0 if second % 4 else 0.0, float(second)) is None


def test_degrade_takes_steps_back_in_reverse_after_a_good_while() -> None:
    steps = ladder()
    run(steps, 6.0, begin=0, end=30)
    assert run(steps, 2.0, begin=30, end=90) == []  # neither slow nor quick: nothing moves
    changes = run(steps, 0.5, begin=90, end=150)
    assert [(change.step, change.active) for change in changes] == [
        ("beam", False),
        ("frames", False),
    ]
    assert steps.active == []


def test_degrade_longer_phrases_delay_all_text_and_wait_for_more_lag() -> None:
    steps = ladder(order=["phrases", "beam"], lag_s=2.0, phrases_lag_s=6.0)
    assert run(steps, 4.0, begin=0, end=60) == []
    assert [change.step for change in run(steps, 7.0, begin=60, end=66)] == ["phrases"]
    assert [change.step for change in run(steps, 4.0, begin=66, end=76)] == ["beam"]


def test_degrade_without_steps_only_watches() -> None:
    assert run(ladder(order=[]), 60.0, begin=0, end=100) == []
