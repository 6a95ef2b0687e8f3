from __future__ import annotations

import pytest

from moderator.media.session_clock import SessionClock


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock = SessionClock(lambda: self.now, lambda: self.now + 500_000)

    def arrive(self, media_s: float, after_s: float = 0.0) -> None:
        self.now += after_s
        self.clock.arrived(media_s, self.now)


@pytest.fixture
def hands() -> Hands:
    return Hands()


def test_clock_first_connection_is_zero(hands: Hands) -> None:
    assert hands.clock.media_now() == 0
    assert hands.clock.place(77.0, 3.0, hands.now).base_s == 0
    hands.arrive(3.0)
    hands.now += 2
    assert hands.clock.media_now() == pytest.approx(5.0)
    assert hands.clock.wall_at(1.0) == pytest.approx(hands.now + 500_000 - 4)


def test_clock_what_arrives_now_is_told_by_the_fastest_arrivals(hands: Hands) -> None:
    hands.clock.place(0.0, 0.0, hands.now)
    hands.arrive(0.0)
    hands.arrive(4.0, after_s=0.1)
    hands.arrive(4.2, after_s=3.0)
    assert hands.clock.media_now() == pytest.approx(7.0)


def test_clock_time_stamps_that_continue_are_kept(hands: Hands) -> None:
    hands.clock.place(100.0, 0.0, hands.now)
    hands.arrive(0.0)
    hands.arrive(10.0, after_s=10.0)
    hands.now += 6
    placement = hands.clock.place(115.0, 0.4, hands.now)
    assert placement.by_pts
    assert placement.base_s == pytest.approx(15.0)


@pytest.mark.parametrize("start_pts_s", [0.0, 4000.0, None])
def test_clock_other_time_stamps_go_by_the_wall_clock(
    hands: Hands, start_pts_s: float | None
) -> None:
    hands.clock.place(100.0, 0.0, hands.now)
    hands.arrive(0.0)
    hands.arrive(10.0, after_s=10.0)
    hands.now += 6
    placement = hands.clock.place(start_pts_s, 2.5, hands.now)
    assert not placement.by_pts
    assert placement.base_s + 2.5 == pytest.approx(16.0)


def test_clock_many_reconnects_do_not_gain_on_the_wall_clock(hands: Hands) -> None:
    began = hands.now
    hands.clock.place(0.0, 0.0, hands.now)
    hands.arrive(0.0)
    for _ in range(50):
        hands.now += 20
        # The server begins with three seconds of what it has cached.
        base_s = hands.clock.place(None, 3.0, hands.now).base_s
        hands.arrive(base_s + 3.0)
        hands.arrive(base_s + 8.0, after_s=5.0)
    assert hands.clock.media_now() == pytest.approx(hands.now - began)


def test_clock_drift_is_of_this_connection(hands: Hands) -> None:
    hands.clock.place(0.0, 0.0, hands.now)
    for second in range(200):
        hands.arrive(second * 0.99, after_s=1.0)
    assert hands.clock.drift_s == pytest.approx(-1.9, abs=0.2)
    hands.clock.place(None, 0.0, hands.now)
    assert hands.clock.drift_s == 0


def test_clock_of_a_resumed_session(hands: Hands) -> None:
    hands.clock.resume(60.0, hands.now + 500_000 - 90)
    assert hands.clock.media_now() == pytest.approx(90)
    assert hands.clock.place(5.0, 0.5, hands.now).base_s == pytest.approx(89.5)


def test_clock_never_says_less_than_was_handed_out(hands: Hands) -> None:
    hands.clock.place(0.0, 0.0, hands.now)
    hands.arrive(1.0)
    hands.clock.handed_out(5.0)
    assert hands.clock.media_now() == 5.0
