from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.records import Box, ScreenText
from moderator.vision.codes import CodeSighting
from moderator.vision.ocr import TextLine
from moderator.vision.tracks import CodeTracker, ScreenTracker
from tests.vision.frames import line

BANNER = "国家级美白神器全网最低价"


def run(frames: list[tuple[float, list[TextLine]]]) -> list[ScreenText]:
    tracker = ScreenTracker(engine="hand")
    texts = [text for time, lines in frames for text in tracker.update(time, lines)]
    return sorted(texts + tracker.close(), key=lambda text: (text.start, text.box.y0))


def test_tracks_banner_of_ten_minutes_is_one_text() -> None:
    (text,) = run([(float(second), [line(BANNER)]) for second in range(600)])
    assert (text.text, text.start, text.end, text.sightings) == (BANNER, 0.0, 599.0, 600)
    assert text.engine == "hand"
    assert text.box == line(BANNER).box
    assert text.start <= text.frame_time <= text.end


def test_tracks_unread_frames_keep_a_banner_on_the_screen() -> None:
    tracker = ScreenTracker()
    tracker.update(0.0, [line(BANNER)])
    for second in range(1, 121):
        assert tracker.hold(float(second)) == []
    (text,) = tracker.close()
    assert (text.start, text.end, text.sightings) == (0.0, 120.0, 1)


def test_tracks_unread_frames_do_not_keep_what_was_already_gone() -> None:
    tracker = ScreenTracker()
    tracker.update(0.0, [line(BANNER)])
    tracker.update(1.0, [])
    ended = [text for second in range(2, 20) for text in tracker.hold(float(second))]
    assert [(text.text, text.end) for text in ended] == [(BANNER, 0.0)]


def test_tracks_flicker_is_one_text() -> None:
    frames = [(float(t), [] if t % 3 == 1 else [line(BANNER)]) for t in range(60)]
    (text,) = run(frames)
    assert (text.start, text.end) == (0.0, 59.0)


def test_tracks_return_after_the_gap_is_a_new_text() -> None:
    shown = [line(BANNER)]
    frames = [(0.0, shown), (1.0, shown), (2.0, []), (8.0, shown), (9.0, []), (20.0, shown)]
    first, second = run(frames)
    assert (first.start, first.end) == (0.0, 8.0)
    assert (second.start, second.end) == (20.0, 20.0)


def test_tracks_stream_gap_ends_a_text() -> None:
    first, second = run([(0.0, [line(BANNER)]), (300.0, [line(BANNER)])])
    assert (first.end, second.start) == (0.0, 300.0)


def test_tracks_text_ends_when_the_gap_is_over_not_before() -> None:
    tracker = ScreenTracker(gap_s=10.0)
    tracker.update(0.0, [line(BANNER)])
    assert tracker.update(10.0, []) == []
    assert [text.text for text in tracker.update(10.5, [])] == [BANNER]
    assert tracker.close() == []


def test_tracks_jitter_keeps_the_majority_wording() -> None:
    rng = random.Random(7)
    frames = []
    for second in range(200):
        text = BANNER
        if rng.random() < 0.3:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice("圾申禹紙肖") + text[at + 1 :]
        jitter = rng.randrange(-2, 3)
        frames.append((float(second), [line(text, 40 + jitter, 100 - jitter, confidence=0.95)]))
    (text,) = run(frames)
    assert text.text == BANNER
    assert text.sightings == 200


@given(
    st.lists(st.booleans(), min_size=3, max_size=40),
    st.integers(min_value=0, max_value=len(BANNER) - 1),
)
def test_tracks_wrong_readings_in_the_minority_change_nothing(wrong: list[bool], at: int) -> None:
    misread = BANNER[:at] + "某" + BANNER[at + 1 :]
    frames = [(0.0, [line(BANNER)]), (1.0, [line(BANNER)])]
    for second, is_wrong in enumerate(wrong, start=1):
        frames.append((2.0 * second, [line(misread if is_wrong else BANNER, confidence=0.8)]))
        frames.append((2.0 * second + 1, [line(BANNER)]))
    (text,) = run(frames)
    assert text.text == BANNER


def test_tracks_covered_banner_keeps_its_whole_text() -> None:
    frames = [(0.0, [line(BANNER)]), (1.0, [line(BANNER)])]
    frames += [(float(t), [line(BANNER[:6])]) for t in range(2, 40)]
    (text,) = run(frames)
    assert text.text == BANNER
    assert text.frame_time in (0.0, 1.0)


def test_tracks_text_typed_out_is_one_text() -> None:
    (text,) = run([(0.5 * n, [line(BANNER[: n + 2])]) for n in range(len(BANNER) - 1)])
    assert text.text == BANNER


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("现价99元", "现价9元"),
        ("¥99", "¥9"),
        ("¥9", "¥99"),
        ("原价999", "原价1999"),
        ("9.9元", "9.8元"),
    ],
)
def test_tracks_price_change_is_a_new_text(before: str, after: str) -> None:
    frames = [(float(t), [line(before)]) for t in range(5)]
    frames += [(float(t), [line(after)]) for t in range(5, 10)]
    texts = run(frames)
    assert [(text.text, text.start, text.end) for text in texts] == [
        (before, 0.0, 4.0),
        (after, 5.0, 9.0),
    ]


def test_tracks_price_seen_on_a_single_frame_is_not_lost() -> None:
    frames = [(0.0, [line("现价99元")]), (1.0, [line("现价19元")]), (2.0, [line("现价99元")])]
    assert [text.text for text in run(frames)] == ["现价99元", "现价19元"]


def test_tracks_countdown_is_one_text() -> None:
    frames = [
        (float(t), [line(f"距结束00:{59 - t // 60:02d}:{59 - t % 60:02d}")]) for t in range(120)
    ]
    (text,) = run(frames)
    assert (text.start, text.end) == (0.0, 119.0)


def test_tracks_restless_counter_is_bounded() -> None:
    texts = run([(float(t), [line(f"仅剩{900 - t}件")]) for t in range(300)])
    assert len(texts) <= 5
    assert max(text.end for text in texts) == 299.0


def test_tracks_lasting_change_of_one_character_is_a_new_text() -> None:
    frames = [(float(t), [line("本店全网最低价")]) for t in range(20)]
    frames += [(float(t), [line("本店全网最高价")]) for t in range(20, 40)]
    first, second = run(frames)
    assert (first.text, first.end) == ("本店全网最低价", 19.0)
    assert (second.text, second.start, second.end) == ("本店全网最高价", 20.0, 39.0)


def test_tracks_lasting_change_is_seen_through_unread_frames() -> None:
    tracker = ScreenTracker()
    tracker.update(0.0, [line("本店全网最低价")])
    for second in range(1, 60):
        tracker.hold(float(second))
    tracker.update(60.0, [line("本店全网最高价")])
    for second in range(61, 66):
        tracker.hold(float(second))
    first, second_text = tracker.open_tracks()
    assert (first.text, first.end) == ("本店全网最低价", 59.0)
    assert (second_text.text, second_text.start) == ("本店全网最高价", 60.0)


MESSAGE = "关注主播加入粉丝团领取专属优惠券今晚八点整点抽奖送豪礼"


def scrolled(
    message: str, *, window: int = 10, step: int = 3
) -> list[tuple[float, list[TextLine]]]:
    """A message entering at the right edge and leaving at the left, glyphs of 40 pixels."""
    frames = []
    for frame, offset in enumerate(range(-window + 2, len(message) - 1, step)):
        begin, end = max(0, offset), min(len(message), offset + window)
        piece = TextLine(
            message[begin:end],
            Box(40 * (begin - offset), 900, 40 * (end - offset), 940),
            0.97,
        )
        frames.append((float(frame), [piece]))
    return frames


def test_tracks_scrolling_message_is_put_together() -> None:
    (text,) = run(scrolled(MESSAGE))
    assert text.text == MESSAGE


def test_tracks_scrolling_message_that_comes_round_is_one_text() -> None:
    once = scrolled(MESSAGE)
    again = [(time + 20, lines) for time, lines in once]
    (text,) = run(once + again)
    assert text.text == MESSAGE
    assert text.end == again[-1][0]


def test_tracks_more_of_a_scrolling_message_is_news_until_all_has_run_through() -> None:
    tracker = ScreenTracker()
    news = []
    for round_ in range(3):
        for time, lines in scrolled(MESSAGE):
            tracker.update(round_ * 20 + time, lines)
            news.append(tracker.found_new)
    a_round = len(news) // 3
    assert sum(news[:a_round]) > a_round // 2
    assert not any(news[-a_round:])


def test_tracks_scrolling_message_survives_half_glyphs() -> None:
    frames = []
    for time, (piece,) in scrolled(MESSAGE):
        clipped = piece.box.x0 == 0 and len(piece.text) > 5
        frames.append(
            (time, [TextLine("亻" + piece.text[1:], piece.box, 0.9) if clipped else piece])
        )
    (text,) = run(frames)
    assert text.text == MESSAGE


def test_tracks_scrolling_message_survives_spaces_that_come_and_go() -> None:
    frames = []
    for time, (piece,) in scrolled(MESSAGE):
        spaced = piece.text.replace("专属", " 专属 ") if time % 2 else piece.text
        frames.append((time, [TextLine(spaced, piece.box, 0.97)]))
    (text,) = run(frames)
    assert text.text.replace(" ", "") == MESSAGE


def test_tracks_message_wrapping_round_shows_no_second_text() -> None:
    frames = scrolled(MESSAGE)
    last = frames[-1][0]
    for step, (time, (piece,)) in enumerate(scrolled(MESSAGE)[:3]):
        tail = TextLine(MESSAGE[-4 + step :], Box(0, 900, 160 - 40 * step, 940), 0.97)
        frames.append((last + 1 + time, [tail, piece]))
    (text,) = run(frames)
    assert text.text == MESSAGE


def test_tracks_two_messages_one_after_the_other_are_two_texts() -> None:
    other = "全场美妆买一送一假一赔十支持七天无理由退换"
    frames = scrolled(MESSAGE)
    start = frames[-1][0] + 1
    frames += [(start + time, lines) for time, lines in scrolled(other)]
    assert [text.text for text in run(frames)] == [MESSAGE, other]


@given(
    st.text(alphabet="天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏", min_size=14, max_size=40),
    st.integers(min_value=7, max_value=12),
    st.integers(min_value=1, max_value=3),
)
def test_tracks_scrolling_never_invents_characters(message: str, window: int, step: int) -> None:
    for text in run(scrolled(message, window=window, step=step)):
        assert set(text.text) <= set(message)
        assert text.start <= text.frame_time <= text.end


def test_tracks_moving_comment_is_one_text() -> None:
    frames = [(float(t), [line("用户张三：这个真的好用吗", 20, 800 - 45 * t)]) for t in range(8)]
    (text,) = run(frames)
    assert text.sightings == 8


def test_tracks_claim_over_two_lines_is_one_text() -> None:
    poster = [line("七天", 20, 150, height=60), line("美白", 22, 222, height=60)]
    (text,) = run([(float(t), poster) for t in range(5)])
    assert text.text == "七天\n美白"
    assert text.box == Box(20, 150, 142, 282)


def test_tracks_pieces_of_one_line_read_left_to_right() -> None:
    pieces = [line("限时", 20, 100), line("秒杀", 120, 101)]
    (text,) = run([(0.0, pieces[::-1])])
    assert text.text == "限时 秒杀"


def test_tracks_columns_read_right_to_left() -> None:
    columns = [
        TextLine("不复发", Box(400, 100, 440, 220), 0.98),
        TextLine("根治糖尿病", Box(450, 100, 490, 300), 0.98),
    ]
    (text,) = run([(0.0, columns)])
    assert text.text == "根治糖尿病\n不复发"


def test_tracks_far_lines_stay_apart() -> None:
    lines = [line("七天", 20, 150), line("美白", 20, 400), line("包邮", 400, 155)]
    assert sorted(text.text for text in run([(0.0, lines)])) == ["七天", "包邮", "美白"]


def test_tracks_title_stays_one_text_while_the_line_below_it_changes() -> None:
    title = line("今日主推玻尿酸面膜", 20, 100)
    frames = [(float(t), [title, line("现价99元", 20, 145)]) for t in range(20)]
    frames += [(float(t), [title, line("现价79元", 20, 145)]) for t in range(20, 40)]
    texts = run(frames)
    assert [(text.text, text.start, text.end) for text in texts] == [
        ("今日主推玻尿酸面膜", 0.0, 39.0),
        ("现价99元", 0.0, 19.0),
        ("现价79元", 20.0, 39.0),
    ]


def test_tracks_line_waits_for_the_rest_of_its_block() -> None:
    tracker = ScreenTracker(gap_s=10.0, together_s=5.0)
    poster = [line("七天", 20, 150), line("美白", 20, 195)]
    tracker.update(0.0, poster)
    tracker.update(3.0, poster[1:])
    assert tracker.update(11.0, []) == []
    assert [text.text for text in tracker.update(14.0, [])] == ["七天\n美白"]


def test_tracks_comments_that_come_one_by_one_are_no_block_since_the_first() -> None:
    comments = [line(text, 20, 150 + 45 * n) for n, text in enumerate(["来了", "包邮吗", "好吃吗"])]
    frames = [(float(t), comments[: 1 + t // 4]) for t in range(12)]
    frames += [(float(t), comments) for t in range(12, 30)]
    texts = run(frames)
    assert [(text.text, text.start) for text in texts] == [("来了\n包邮吗", 0.0), ("好吃吗", 8.0)]


def test_tracks_symbols_alone_are_not_text() -> None:
    assert run([(0.0, [line("→ ★"), line("", 40, 300)])]) == []


def test_tracks_same_words_in_two_places_are_two_texts() -> None:
    lines = [line("全网最低", 20, 100), line("全网最低", 300, 700)]
    assert len(run([(float(t), lines) for t in range(10)])) == 2


def test_tracks_first_miss_asks_for_a_second_look() -> None:
    tracker = ScreenTracker()
    tracker.update(0.0, [line(BANNER)])
    assert not tracker.just_missed()
    tracker.update(1.0, [])
    assert tracker.just_missed()
    tracker.update(2.0, [])
    assert not tracker.just_missed()


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["国家级", "美白神器", "现价9.9元", "全网最低价", "包邮", "七天", "A1"]
                ),
                st.integers(0, 4),
                st.integers(0, 12),
            ),
            max_size=5,
        ),
        max_size=25,
    )
)
def test_tracks_every_text_was_read_and_lies_within_its_time(
    screens: list[list[tuple[str, int, int]]],
) -> None:
    frames = [
        (1.7 * index, [line(text, 100 * x, 45 * y) for text, x, y in screen])
        for index, screen in enumerate(screens)
    ]
    seen = {text for screen in screens for text, _, _ in screen}
    texts = run(frames)
    for text in texts:
        assert text.start <= text.frame_time <= text.end
        assert text.box.x0 < text.box.x1
        assert text.box.y0 < text.box.y1
        assert 0 <= text.confidence <= 1
    told = "".join(text.text for text in texts)
    assert all(word in told for word in seen)


def code(text: str, size: int = 100) -> CodeSighting:
    return CodeSighting(text, "QRCode", Box(10, 10, 10 + size, 10 + size))


def test_tracks_code_is_one_however_often_it_decodes() -> None:
    tracker = CodeTracker(engine="hand")
    for second in range(100):
        visible = [code("vx:abc", 100 + second)] if second % 7 == 0 else []
        assert tracker.update(float(second), visible) == []
    (found,) = tracker.close()
    assert (found.text, found.symbology, found.start, found.end) == ("vx:abc", "QRCode", 0.0, 98.0)
    assert found.frame_time == 98.0
    assert found.box.x1 == 208


def test_tracks_code_that_returns_is_a_new_sighting() -> None:
    tracker = CodeTracker(gap_s=30.0)
    tracker.update(0.0, [code("a"), code("b")])
    ended = tracker.update(40.0, [code("a")])
    assert sorted(found.text for found in ended) == ["a", "b"]
    assert [(found.text, found.start) for found in tracker.close()] == [("a", 40.0)]


def test_tracks_code_stays_through_unread_frames() -> None:
    tracker = CodeTracker(gap_s=30.0)
    tracker.update(0.0, [code("a")])
    for second in range(1, 100):
        assert tracker.hold(float(second)) == []
    assert tracker.close()[0].end == 99.0
