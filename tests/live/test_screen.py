from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from moderator.live.screen import Picture, ScreenWatch, ScreenWorker, Seen
from moderator.media.blocks import VideoFrame
from moderator.records import Box
from moderator.vision.ocr import Image, TextLine
from moderator.vision.tracks import ScreenTracker
from tests.live.fakes import Clock, FakeOcr, picture
from tests.outputs.builders import code, screen_text

Told = tuple[int, str, float | None]


def test_screen_watch_tells_of_a_text_when_two_frames_agree_and_once() -> None:
    watch = ScreenWatch()
    text = screen_text("国家级品质", 0, 2)
    assert watch.update([text], []) == ([], [])
    later = replace(text, end=4.0)
    assert watch.update([later], []) == ([later], [])
    assert watch.update([replace(text, end=6.0)], []) == ([], [])
    gone = replace(text, end=7.0)
    assert watch.update([], [gone]) == ([], [(later, gone)])


def test_screen_watch_half_a_word_of_an_animation_is_not_told() -> None:
    watch = ScreenWatch()
    watch.update([screen_text("国家")], [])
    whole = screen_text("国家级品质")
    assert watch.update([whole], []) == ([], [])
    assert watch.update([whole], []) == ([whole], [])


def test_screen_watch_a_running_text_is_told_before_all_of_it_has_run_through() -> None:
    watch = ScreenWatch()
    run = "新来的朋友看公告·大师开光加持·助你财运亨通·拍下四十八小时内发货"
    assert watch.update([screen_text(run[:12])], []) == ([], [])
    first, second = screen_text(run[:20]), screen_text(run[:34])
    assert watch.update([first], []) == ([first], [])
    assert watch.update([second], []) == ([replace(second, start=first.end)], [])
    assert watch.update([screen_text(run)], [])[0] == []


def test_screen_watch_a_running_text_that_says_more_is_told_again_from_when_it_may_have() -> None:
    watch = ScreenWatch()
    offer = "安禾优选·拍下四十八小时内发货·七天无理由退换·足银手镯支持复检·新来的老铁记得看详情页"
    grown = offer + "·大师开光加持·助你好运"
    for end in (2.0, 4.0, 6.0):
        watch.update([screen_text(offer, 0, end)], [])
    new, _ = watch.update([screen_text(grown, 0, 8)], [])
    assert [(seen.text, seen.start) for seen in new] == [(grown, 6.0)]
    last = screen_text(grown, 0, 118)
    new, gone = watch.update([], [last])
    assert new == []
    assert [(first.text, ended.end) for first, ended in gone[:1]] == [(grown, 118.0)]


def test_screen_watch_a_few_characters_more_are_told_of_once_they_stay() -> None:
    watch = ScreenWatch()
    for text in ("源头工厂直供今日到手价看小黄车", "源头工厂直供今日到手价看小黄车"):
        watch.update([screen_text(text)], [])
    more = screen_text("源头工厂直供今日到手价看小黄车国家级")
    assert watch.update([more], [])[0] == []
    assert [seen.text for seen in watch.update([more], [])[0]] == [more.text]


def test_screen_watch_a_piece_of_a_running_text_is_not_told_again() -> None:
    watch = ScreenWatch()
    whole = screen_text("大师开光加持·助你财运亨通·戴上好运来")
    watch.update([whole], [])
    assert watch.update([whole], [])[0] == [whole]
    assert watch.update([whole], [screen_text("助你财运亨通·戴")])[0] == []
    elsewhere = replace(whole, text="助你财运亨通", box=Box(0, 900, 200, 940))
    watch.update([whole, elsewhere], [])
    assert watch.update([whole, elsewhere], [])[0] == [elsewhere]


def test_screen_watch_tells_of_what_was_gone_at_once_when_it_ends() -> None:
    text = screen_text("限时")
    assert ScreenWatch().update([], [text]) == ([text], [(text, text)])


def test_screen_watch_a_text_read_a_little_differently_is_the_same() -> None:
    watch = ScreenWatch()
    watch.update([screen_text("全网最低价只要九块九")], [])
    watch.update([screen_text("全网最低价只要九块九")], [])
    assert watch.update([screen_text("全网最低价只耍九块九")], []) == ([], [])


def test_screen_watch_another_price_is_another_text() -> None:
    watch = ScreenWatch()
    for price in ("到手价 ¥199", "到手价 ¥299"):
        watch.update([screen_text(price)], [])
        new, _ = watch.update([screen_text(price)], [])
        assert [seen.text for seen in new] == [price]


def test_screen_watch_a_code_is_sure_at_once() -> None:
    seen = code("https://example.com")
    assert ScreenWatch().update([seen], []) == ([seen], [])


def test_screen_watch_forgets_tracks_that_were_merged_away() -> None:
    watch = ScreenWatch()
    piece = screen_text("七天", 0, 2)
    watch.update([piece], [])
    watch.update([piece], [])
    whole = screen_text("买一送一", 0, 100)
    new, gone = watch.update([whole], [])
    assert gone == [(piece, piece)]
    assert new == []


def frames_of(watch: ScreenWatch, frames: Iterable[list[TextLine]]) -> Iterator[Told]:
    """What is told of, a frame a second: the second, the text, and None or when it ended."""
    tracker = ScreenTracker()
    for second, lines in enumerate(frames):
        ended = tracker.update(float(second), lines)
        new, gone = watch.update(tracker.open_tracks(), ended)
        yield from ((second, seen.text, None) for seen in new)
        yield from ((second, first.text, last.end) for first, last in gone)


def test_screen_watch_a_line_that_stays_when_its_neighbour_changes_is_not_told_again() -> None:
    claim = TextLine("七天祛斑美白", Box(40, 100, 300, 140), 0.99)
    price = TextLine("今天只要九十九", Box(40, 145, 320, 185), 0.99)
    other = TextLine("明天就恢复原价", Box(40, 145, 320, 185), 0.99)
    shown = [[claim, price]] * 60 + [[claim, other]] * 40 + [[]] * 30
    told = list(frames_of(ScreenWatch(), shown))
    assert [(at, text) for at, text, end in told if end is None] == [
        (1, "七天祛斑美白\n今天只要九十九"),
        (61, "明天就恢复原价"),
    ]
    ends = {text: end for _, text, end in told if end is not None}
    assert ends == {"七天祛斑美白\n今天只要九十九": 99.0, "明天就恢复原价": 99.0}


def test_screen_watch_a_line_that_comes_back_alone_is_told_again() -> None:
    claim = TextLine("七天祛斑美白", Box(40, 100, 300, 140), 0.99)
    price = TextLine("今天只要九十九", Box(40, 145, 320, 185), 0.99)
    shown = [[claim, price]] * 20 + [[]] * 40 + [[claim]] * 5
    told = [(at, text) for at, text, end in frames_of(ScreenWatch(), shown) if end is None]
    assert told == [(1, "七天祛斑美白\n今天只要九十九"), (61, "七天祛斑美白")]


def test_screen_watch_lines_of_a_block_that_end_apart_are_not_told_again() -> None:
    watch = ScreenWatch()
    block = screen_text("七天祛斑美白\n今天只要九十九", 0, 2)
    lines = [screen_text("七天祛斑美白", 0, 90), screen_text("今天只要九十九", 0, 88)]
    watch.update([block], [])
    assert watch.update([block], [])[0] == [block]
    new, gone = watch.update([], lines)
    assert new == []
    assert [(first, last.end) for first, last in gone] == [(block, 90.0)]


def test_screen_watch_a_mark_read_otherwise_later_is_not_told_again() -> None:
    watch = ScreenWatch()
    for text in ("全网最低·", "全网最低·"):
        watch.update([screen_text(text)], [])
    assert watch.update([screen_text("全网最低…")], []) == ([], [])
    assert watch.update([screen_text("全网最低…")], []) == ([], [])


@dataclass
class Listener:
    seen: list[Picture] = field(default_factory=list)
    gone: list[tuple[Seen, Seen]] = field(default_factory=list)
    ended: int = 0

    def on_seen(self, picture: Picture) -> None:
        self.seen.append(picture)

    def on_gone(self, first: Seen, last: Seen) -> None:
        self.gone.append((first, last))

    def on_screen_end(self) -> None:
        self.ended += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr("moderator.live.screen.IDLE_S", 0.0)
    return Clock()


def show(worker: ScreenWorker, clock: Clock, room: str, second: float, brightness: int) -> None:
    clock.now = 100 + second
    worker.look(room, VideoFrame(second, picture(brightness)))


def test_screen_text_is_told_while_it_is_on_the_screen_with_its_frame(clock: Clock) -> None:
    worker, listener = ScreenWorker(FakeOcr({200: "国家级品质"}), clock=clock), Listener()
    worker.open("a", listener, interval_s=2.0)
    for second in (0, 2, 4):
        show(worker, clock, "a", second, 200)
        worker.step()
    (told,) = listener.seen
    assert told.seen.text == "国家级品质"
    assert told.jpeg is not None
    assert told.jpeg.startswith(b"\xff\xd8")
    assert listener.gone == []
    worker.finish("a")
    worker.step()
    assert [last.text for _, last in listener.gone] == ["国家级品质"]
    assert listener.ended == 1


def test_screen_older_frames_give_way_and_are_counted(clock: Clock) -> None:
    worker, listener = ScreenWorker(FakeOcr({}), clock=clock), Listener()
    worker.open("a", listener, interval_s=1.0)
    for second in range(5):
        show(worker, clock, "a", second, 50)
    worker.step()
    assert worker.stats.frames == 1
    assert worker.stats.replaced == 4


def test_screen_rarer_frames_and_low_risk_rooms_when_degraded(clock: Clock) -> None:
    ocr = FakeOcr({})
    worker = ScreenWorker(ocr, clock=clock)
    calm, risky = Listener(), Listener()
    worker.open("calm", calm, interval_s=1.0, low_risk=True)
    worker.open("risky", risky, interval_s=1.0)

    def frames(begin: int, end: int) -> int:
        before = worker.stats.frames
        for second in range(begin, end):
            for room in ("calm", "risky"):
                show(worker, clock, room, second, 50 + second)
            for _ in range(3):
                worker.step()
        return worker.stats.frames - before

    assert frames(0, 8) == 16
    worker.set_factor(2.0)
    assert frames(8, 16) == 8
    worker.skip_low_risk = True
    assert frames(16, 24) == 4


def test_screen_a_room_that_is_given_up_tells_at_once_what_it_had_seen(clock: Clock) -> None:
    ocr = FakeOcr({200: "国家级品质", 90: "全网最低"})
    worker, calm = ScreenWorker(ocr, clock=clock), Listener()
    worker.open("calm", calm, interval_s=2.0, low_risk=True)
    show(worker, clock, "calm", 0, 200)
    worker.step()
    assert calm.seen == []
    worker.skip_low_risk = True
    worker.step()
    assert [(one.seen.text, one.seen.end) for one in calm.seen] == [("国家级品质", 0.0)]
    assert len(calm.gone) == 1
    worker.step()
    show(worker, clock, "calm", 900, 90)
    worker.skip_low_risk = False
    for second in (1000, 1002):
        show(worker, clock, "calm", second, 90)
        worker.step()
    assert [one.seen.text for one in calm.seen] == ["国家级品质", "全网最低"]
    assert (calm.ended, ocr.read_count) == (0, 2)


def test_screen_a_picture_the_reader_cannot_stand_costs_that_picture(clock: Clock) -> None:
    class Broken(FakeOcr):
        def read(self, image: object) -> list[object]:  # type: ignore[override]
            raise RuntimeError("no")

    worker, listener = ScreenWorker(Broken({}), clock=clock), Listener()
    worker.open("a", listener, interval_s=1.0)
    show(worker, clock, "a", 0, 200)
    assert worker.step()
    show(worker, clock, "a", 2, 200)
    assert worker.step()
    worker.finish("a")
    worker.step()
    assert worker.stats.failures == 1
    assert listener.ended == 1


def test_screen_reads_what_is_new_before_what_never_rests(clock: Clock) -> None:
    ocr = FakeOcr({200: "国家级品质"})
    worker = ScreenWorker(ocr, clock=clock)
    restless, new = Listener(), Listener()
    worker.open("restless", restless, interval_s=2.0, urgency=9)
    worker.open("new", new, interval_s=2.0, urgency=0)
    for second in range(0, 40, 2):
        show(worker, clock, "restless", second, 50 + second % 4 * 20)
        show(worker, clock, "new", second, 0)
        for _ in range(3):
            worker.step()
    reads = ocr.read_count
    show(worker, clock, "restless", 40, 110)
    show(worker, clock, "new", 40, 200)
    worker.step()
    assert ocr.read_count == reads + 1
    # One that still stands there needs no reading, so it waits for none.
    show(worker, clock, "restless", 42, 50)
    show(worker, clock, "new", 42, 200)
    worker.step()
    assert [one.seen.text for one in new.seen] == ["国家级品质"]


def test_screen_every_room_has_its_frames_read_and_urgent_ones_first(clock: Clock) -> None:
    class Noting(FakeOcr):
        def read(self, image: Image) -> list[TextLine]:
            served[shades[int(image[-1, -1, 0]) % 100]] += 1
            # Always another text, so that it is worth looking there as often as may be.
            return [TextLine(chr(0x4E00 + served.total()) * 4, Box(20, 20, 300, 60), 0.97)]

    served: Counter[str] = Counter()
    worker = ScreenWorker(Noting({}), clock=clock)
    shades = {40: "calm", 60: "usual", 80: "risky"}
    for room, urgency in (("calm", 0), ("usual", 4), ("risky", 9)):
        worker.open(room, Listener(), interval_s=1.0, urgency=urgency)
    for second in range(300):
        for shade, room in shades.items():
            show(worker, clock, room, second, shade + second % 2 * 100)
        worker.step()  # one frame a second for three rooms that want three
    assert served["risky"] > served["usual"] >= served["calm"] > 30


def test_screen_a_frame_that_waited_for_its_reading_gives_way_to_a_newer_one(clock: Clock) -> None:
    ocr = FakeOcr({200: "国家级品质", 90: "全网最低"})
    worker = ScreenWorker(ocr, clock=clock)
    listeners = {room: Listener() for room in "abc"}
    for room, listener in listeners.items():
        worker.open(room, listener, interval_s=2.0)
        show(worker, clock, room, 0, 90)
    worker.step()
    assert (ocr.read_count, worker.waiting) == (1, 2)
    for room in "abc":
        show(worker, clock, room, 2, 200)
    for _ in range(4):
        worker.step()
    assert (ocr.read_count, worker.waiting) == (4, 0)
    assert worker.stats.replaced == 2
    for room in "abc":
        show(worker, clock, room, 4, 200)
        worker.step()
    told = [[one.seen.text for one in listener.seen] for listener in listeners.values()]
    assert told == [["全网最低", "国家级品质"], ["国家级品质"], ["国家级品质"]]


class ManyOcr(FakeOcr):
    """Reads several frames at once, and fails on a white one."""

    batch = 4

    def __init__(self, texts: dict[int, str]) -> None:
        super().__init__(texts)
        self.together: list[int] = []

    def read(self, image: Image) -> list[TextLine]:
        if int(image[-1, -1, 0]) == 255:
            raise RuntimeError("white")
        return super().read(image)

    def read_many(self, images: Sequence[Image]) -> list[list[TextLine]]:
        self.together.append(len(images))
        return [self.read(image) for image in images]


def test_screen_reads_frames_of_many_rooms_together_and_one_that_fails_costs_itself() -> None:
    ocr, clock = ManyOcr({40: "国家级", 80: "全网最低", 120: "买一送一"}), Clock()
    worker = ScreenWorker(ocr, batch=3, clock=clock)
    shades = {"a": 40, "b": 80, "c": 120, "white": 255}
    listeners = {room: Listener() for room in shades}
    for room, listener in listeners.items():
        worker.open(room, listener, interval_s=2.0)
    for at in (1.0, 3.0, 5.0):
        for room, shade in shades.items():
            worker.look(room, VideoFrame(at, picture(shade)))
        clock.now += 2.0
        worker.step()
        worker.step()
    assert max(ocr.together) == 3
    texts = {room: [one.seen.text for one in heard.seen] for room, heard in listeners.items()}
    assert texts == {"a": ["国家级"], "b": ["全网最低"], "c": ["买一送一"], "white": []}
    assert worker.stats.failures >= 1
