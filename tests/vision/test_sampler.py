from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from moderator.vision.ocr import Image
from moderator.vision.sampler import Decision, FrameSampler
from tests.vision.frames import drawn, host, room_background

NOTICE = ("本品不能代替药物", 20, 60, 20)


def striped(image: Image, x: int, y: int) -> Image:
    """Something like text without needing a font: dense strokes."""
    marked = image.copy()
    for stroke in range(8):
        marked[y : y + 24, x + 8 * stroke : x + 8 * stroke + 4] = 250
    return marked


def decisions(frames: list[Image], sampler: FrameSampler | None = None) -> list[Decision]:
    sampler = sampler or FrameSampler()
    return [sampler.decide(float(second), frame) for second, frame in enumerate(frames)]


def test_sampler_reads_the_first_frame_and_no_unchanged_one() -> None:
    room = room_background()
    made = decisions([room] * 30)
    assert made[0] is Decision.FIRST
    assert made[1:] == [Decision.UNCHANGED] * 29


def test_sampler_reads_at_least_every_max_interval() -> None:
    made = decisions([room_background()] * 91, FrameSampler(max_interval_s=30.0))
    assert [second for second, decision in enumerate(made) if decision.reads] == [0, 30, 60, 90]
    assert made[30] is Decision.DUE


def test_sampler_ignores_light_and_noise() -> None:
    room = striped(room_background(), 60, 100)
    rng = np.random.default_rng(1)
    frames = [room]
    for second in range(1, 25):
        dimmed = room.astype(np.int16) - second // 2 + rng.integers(-4, 5, room.shape)
        frames.append(np.clip(dimmed, 0, 255).astype(np.uint8))
    assert not any(decision.reads for decision in decisions(frames)[1:])


def test_sampler_sees_a_small_text_come_and_go() -> None:
    room = room_background()
    made = decisions([room] * 5 + [striped(room, 60, 100)] * 15 + [room] * 5)
    assert [second for second, decision in enumerate(made) if decision.reads] == [0, 5, 20]
    assert made[5] is made[20] is Decision.CHANGED


def test_sampler_ignores_change_that_is_not_like_text() -> None:
    room = room_background()
    passing = room.copy()
    passing[300:500, 200:400] = 200
    assert not any(d.reads for d in decisions([room] * 3 + [passing] * 3)[1:])


def test_sampler_keeps_the_minimum_interval() -> None:
    sampler = FrameSampler(min_interval_s=1.0)
    room = room_background()
    shown = striped(room, 60, 100)
    assert sampler.decide(0.0, room) is Decision.FIRST
    assert sampler.decide(0.5, shown) is Decision.WAIT
    assert sampler.decide(1.0, shown) is Decision.CHANGED


def restless(count: int) -> list[Image]:
    """A room in which a patch like text never rests."""
    rng = np.random.default_rng(3)
    frames = []
    for _ in range(count):
        frame = room_background()
        frame[600:760, 100:420] = rng.integers(0, 255, (160, 320, 3), dtype=np.uint8)
        frames.append(frame)
    return frames


def test_sampler_paces_what_never_rests() -> None:
    sampler = FrameSampler(busy_interval_s=3.0)
    made = decisions(restless(60), sampler)
    assert set(made[6:]) == {Decision.BUSY, Decision.WAIT}
    assert sum(decision.reads for decision in made[6:]) == len(made[6:]) // 3


@pytest.mark.parametrize(("news", "every_s"), [(False, 6), (True, 2)])
def test_sampler_looks_seldomer_where_there_is_no_news(news: bool, every_s: int) -> None:
    """Nothing new for forty seconds, then, or not, something at every reading."""
    sampler = FrameSampler(busy_interval_s=2.0)
    reads = []
    for second, frame in enumerate(restless(60)):
        if sampler.decide(float(second), frame).reads:
            reads.append(second)
            if news and second >= 40:
                sampler.found_something_new()
            else:
                sampler.found_nothing_new()
    assert {after - before for before, after in pairwise(reads[-5:])} == {every_s}


def test_sampler_sees_what_comes_to_rest_where_nothing_rests() -> None:
    sampler = FrameSampler(busy_interval_s=2.0)
    frames = restless(40)
    shown = striped(frames[0], 0, 0)[:24, 8:72]
    for frame in frames[31:]:
        frame[640:664, 160:224] = shown
        frame[640:664, 224:288] = shown
    made = []
    for second, frame in enumerate(frames):
        made.append(sampler.decide(float(second), frame))
        if made[-1].reads:
            sampler.found_nothing_new()
    # Unless it was read by chance as it came, it is at the next frame that shows it still.
    assert made[31].reads or made[32] is Decision.SETTLED


def test_sampler_sees_text_beside_what_never_rests() -> None:
    frames = [host(room_background(), second) for second in range(30)]
    frames[20:] = [striped(frame, 40, 60) for frame in frames[20:]]
    made = decisions(frames, FrameSampler(busy_interval_s=8.0))
    assert Decision.CHANGED in made[20:22]


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize("size", [18, 28, 44])
def test_sampler_sees_one_digit_of_a_price_change(size: int) -> None:
    before = drawn([NOTICE, ("现价93元", 60, 200, size)], room_background())
    after = drawn([NOTICE, ("现价98元", 60, 200, size)], room_background())
    made = decisions([before] * 3 + [after])
    assert made == [Decision.FIRST, Decision.UNCHANGED, Decision.UNCHANGED, Decision.CHANGED]


def test_sampler_takes_a_second_look_when_asked() -> None:
    sampler = FrameSampler(min_interval_s=1.0)
    room = room_background()
    sampler.decide(0.0, room)
    sampler.ask_again()
    assert sampler.decide(0.5, room) is Decision.UNCHANGED
    assert sampler.decide(1.0, room) is Decision.CONFIRM
    assert sampler.decide(2.5, room) is Decision.UNCHANGED


def test_sampler_tells_which_places_are_worth_reading() -> None:
    sampler = FrameSampler()
    room = room_background()
    assert sampler.look(0.0, room) is Decision.FIRST
    assert sampler.places() is None
    sampler.taken()
    assert sampler.look(2.0, room) is Decision.UNCHANGED
    assert sampler.places() == []
    assert sampler.look(4.0, striped(striped(room, 60, 100), 400, 700)) is Decision.CHANGED
    above, below = sorted(sampler.places() or [], key=lambda place: place.y0)
    for place, (x, y) in ((above, (60, 100)), (below, (400, 700))):
        assert place.x0 <= x < x + 64 <= place.x1
        assert place.y0 <= y < y + 24 <= place.y1
        assert place.area < 0.05 * 540 * 960


def test_sampler_a_frame_that_was_only_looked_at_is_not_what_later_ones_are_compared_with() -> None:
    sampler = FrameSampler()
    room = room_background()
    sampler.decide(0.0, room)
    assert sampler.look(2.0, striped(room, 60, 100)) is Decision.CHANGED
    assert sampler.look(4.0, striped(room, 60, 100)) is Decision.CHANGED
    assert sampler.look(6.0, room) is Decision.UNCHANGED


def test_sampler_what_was_not_read_stays_to_be_read() -> None:
    sampler = FrameSampler(max_interval_s=30.0)
    room = room_background()
    both = striped(striped(room, 60, 100), 400, 700)
    sampler.decide(0.0, room)
    sampler.look(2.0, both)
    above, below = sorted(sampler.places() or [], key=lambda place: place.y0)
    sampler.taken([above])
    assert sampler.look(4.0, both) is Decision.CHANGED
    assert sampler.places() == [below]
    sampler.taken([below])
    # Reading in parts puts off reading all of it no farther.
    made = [sampler.decide(float(second), both) for second in range(6, 32, 2)]
    assert made == [Decision.UNCHANGED] * 12 + [Decision.DUE]


def test_sampler_starts_over_when_time_or_size_jumps() -> None:
    sampler = FrameSampler()
    room = room_background()
    sampler.decide(100.0, room)
    assert sampler.decide(3.0, room) is Decision.FIRST
    turned = np.ascontiguousarray(room.transpose(1, 0, 2))
    assert sampler.decide(4.0, turned) is Decision.CHANGED
    assert sampler.decide(5.0, turned) is Decision.UNCHANGED


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 400, 3), (2160, 3840, 3)])
def test_sampler_takes_frames_of_any_size(shape: tuple[int, int, int]) -> None:
    image = np.zeros(shape, dtype=np.uint8)
    assert decisions([image] * 2) == [Decision.FIRST, Decision.UNCHANGED]


def test_sampler_refuses_intervals_out_of_order() -> None:
    with pytest.raises(ValueError, match="min_interval_s"):
        FrameSampler(min_interval_s=5.0, busy_interval_s=2.0)
