from __future__ import annotations

import pytest

from moderator.media.clock import Jump, TrackClock


def place_all(
    clock: TrackClock, stamps: list[float | None], duration_s: float
) -> list[float | None]:
    return [clock.place(stamp, duration_s) for stamp in stamps]


def test_clock_zero_is_subtracted() -> None:
    assert TrackClock(1.4).place(3.4, 0.064) == pytest.approx(2.0)


def test_clock_jitter_does_not_break_a_run_of_sound() -> None:
    placed = place_all(TrackClock(), [0.0, 1.02, 1.97, 3.05], 1.0)
    assert placed == [0.0, 1.0, 2.0, 3.0]


def test_clock_gap_is_left_open() -> None:
    clock = TrackClock()
    assert place_all(clock, [0.0, 1.0, 61.0, 62.0], 1.0) == [0.0, 1.0, 61.0, 62.0]
    assert clock.jumps == [Jump(2.0, 59.0)]


def test_clock_set_back_is_counted_on() -> None:
    clock = TrackClock()
    placed = place_all(clock, [100.0, 101.0, 0.0, 1.0], 1.0)
    assert placed == [100.0, 101.0, 102.0, 103.0]
    assert clock.jumps == [Jump(102.0, -102.0)]


def test_clock_content_sent_twice_is_dropped() -> None:
    placed = place_all(TrackClock(), [0.0, 0.3, 0.6, 0.3, 0.6, 0.9], 0.3)
    assert placed == [0.0, 0.3, 0.6, None, None, pytest.approx(0.9)]


def test_clock_pieces_without_a_time_follow_each_other() -> None:
    assert place_all(TrackClock(), [None, None, None], 0.5) == [0.0, 0.5, 1.0]


def test_clock_never_runs_below_zero() -> None:
    assert TrackClock(0.02).place(0.0, 0.064) == 0.0


def test_clock_pictures_keep_their_own_times() -> None:
    placed = place_all(TrackClock(), [0.0, 0.04, 5.0, 5.01], 0.0)
    assert placed == [0.0, 0.04, 5.0, 5.01]


def test_clock_hostile_jumps_are_counted_only_so_far() -> None:
    clock = TrackClock()
    for number in range(10_000):
        clock.place(number * 10.0, 1.0)
    assert len(clock.jumps) == 100
