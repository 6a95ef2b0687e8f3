"""Who is served when, with clocks that the test moves."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from moderator.live.queues import FairQueue, InterimPacer, NewestFirst
from moderator.live.speech import whisper_row_cost


def queue(max_wait_s: float = 60.0) -> FairQueue[str]:
    return FairQueue(max_wait_s=max_wait_s, row_cost=whisper_row_cost)


def put(fair: FairQueue[str], room: str, name: str, *, at: float, length_s: float = 4.0) -> None:
    fair.put(room, name, length_s=length_s, now=at, deadline=at + 1.5)


def names(fair: FairQueue[str], most: int = 4) -> list[str]:
    return [one.item for one in fair.take(most)]


def test_queues_a_room_that_never_pauses_does_not_starve_the_others() -> None:
    fair = queue()
    for n in range(20):
        put(fair, "talker", f"t{n}", at=0.0 + n / 100)
    put(fair, "quiet", "q", at=1.0)
    put(fair, "calm", "c", at=1.0)
    first = names(fair)
    assert first[0] == "t0"
    assert {"q", "c"} <= set(first)


def test_queues_keep_the_order_inside_a_room() -> None:
    fair = queue()
    for n in range(6):
        put(fair, "a", f"a{n}", at=n)
        put(fair, "b", f"b{n}", at=n + 0.5)
    taken = [name for _ in range(4) for name in names(fair, 3)]
    assert [name for name in taken if name[0] == "a"] == [f"a{n}" for n in range(6)]
    assert [name for name in taken if name[0] == "b"] == [f"b{n}" for n in range(6)]


def test_queues_leave_rooms_out_that_are_in_work() -> None:
    fair = queue()
    for room in ("a", "b", "c"):
        put(fair, room, room, at=1.0)
    assert fair.holds_other_than({"a", "b"})
    assert [one.item for one in fair.take(4, without={"a", "c"})] == ["b"]
    assert not fair.holds_other_than({"a", "c"})
    assert fair.take(4, without={"a", "c"}) == []
    assert sorted(names(fair)) == ["a", "c"]


def test_queues_begin_with_the_oldest_deadline() -> None:
    fair = queue()
    put(fair, "late", "later", at=5.0)
    put(fair, "early", "sooner", at=1.0)
    assert names(fair, 1) == ["sooner"]
    assert names(fair, 1) == ["later"]
    assert names(fair, 1) == []


def test_queues_do_not_make_short_items_pay_for_a_long_one() -> None:
    fair = queue()
    put(fair, "a", "short", at=0.0, length_s=2.0)
    put(fair, "b", "long", at=0.1, length_s=20.0)
    put(fair, "c", "short too", at=0.2, length_s=3.0)
    assert names(fair) == ["short", "short too"]
    assert names(fair) == ["long"]


def test_queues_one_room_alone_may_fill_the_batch() -> None:
    fair = queue()
    for n in range(6):
        put(fair, "a", f"a{n}", at=0.0)
    assert names(fair) == ["a0", "a1", "a2", "a3"]


def test_queues_drop_what_waited_too_long_and_count_it() -> None:
    fair = queue(max_wait_s=10.0)
    put(fair, "a", "old", at=0.0)
    put(fair, "a", "new", at=8.0)
    put(fair, "file", "patient", at=0.0)
    assert [one.item for one in fair.stale(12.0, spare={"file"})] == ["old"]
    assert fair.dropped == 1
    assert sorted(names(fair)) == ["new", "patient"]


def test_queues_tell_how_much_waits() -> None:
    fair = queue()
    put(fair, "a", "1", at=3.0)
    put(fair, "a", "2", at=4.0, length_s=6.0)
    assert (len(fair), fair.seconds, fair.waiting_since("a")) == (2, 10.0, 3.0)
    assert fair.waiting_since("b") is None
    assert fair.forget("a") == 2
    assert len(fair) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcde"),
            st.floats(0.2, 25.0),
            st.floats(0.0, 30.0),
        ),
        max_size=60,
    ),
    st.integers(1, 8),
)
def test_queues_lose_nothing_and_serve_every_room_within_its_turn(
    items: list[tuple[str, float, float]], most: int
) -> None:
    fair: FairQueue[int] = FairQueue(max_wait_s=1e9, row_cost=whisper_row_cost)
    for number, (room, length_s, at) in enumerate(items):
        fair.put(room, number, length_s=length_s, now=at, deadline=at)
    served: list[int] = []
    while batch := fair.take(most):
        assert len(batch) <= most
        heads = {one.room: one.deadline for one in reversed(batch)}
        assert batch[0].deadline == min(heads.values())
        served += [one.item for one in batch]
    assert Counter(served) == Counter(range(len(items)))


def test_queues_interim_text_goes_round_the_rooms() -> None:
    pacer = InterimPacer(every_s=1.0, share=1.0)
    served = []
    for tick in range(8):
        now = 10 + tick * 0.5
        chosen = pacer.next(["a", "b", "c"], now)
        if chosen:
            served.append(chosen)
            pacer.served(chosen, now, 0.1)
    assert served[:3] == ["a", "b", "c"]
    assert Counter(served).most_common()[0][1] - Counter(served).most_common()[-1][1] <= 1


def test_queues_interim_text_takes_no_more_than_its_share() -> None:
    pacer = InterimPacer(every_s=0.1, share=0.25, window_s=4.0)
    spent, now = 0.0, 0.0
    while now < 40.0:
        if pacer.next(["a"], now):
            pacer.served("a", now, 0.3)
            spent += 0.3
            now += 0.3
        now += 0.05
    assert spent <= (0.25 * 4.0 + 0.3) * 10  # the last of a window may begin just before
    assert spent > 5.0


def test_queues_interim_text_can_be_off() -> None:
    assert InterimPacer(every_s=0.0, share=1.0).next(["a"], 5.0) is None
    assert InterimPacer(every_s=1.0, share=0.0).next(["a"], 5.0) is None


def test_queues_the_newest_frame_wins() -> None:
    frames: NewestFirst[str] = NewestFirst()
    frames.open("a", interval_s=2.0)
    frames.put("a", "old")
    frames.put("a", "new")
    assert frames.take(0.6) == [("a", "new")]
    assert frames.replaced("a") == 1
    assert frames.take(0.7) == []


def test_queues_frames_are_no_closer_than_the_interval() -> None:
    frames: NewestFirst[int] = NewestFirst()
    frames.open("a", interval_s=2.0)
    taken = []
    for tick in range(100):
        frames.put("a", tick)
        taken += frames.take(tick * 0.1)
    assert len(taken) <= 6
    frames.set_interval("a", 0.2)
    frames.put("a", 1000)
    assert frames.take(10.2) == [("a", 1000)]


def test_queues_frames_of_a_room_that_left_are_forgotten() -> None:
    frames: NewestFirst[int] = NewestFirst()
    frames.open("a", interval_s=1.0)
    frames.put("a", 1)
    frames.close("a")
    frames.put("a", 2)
    assert len(frames) == 0
    assert frames.take(5.0) == []
