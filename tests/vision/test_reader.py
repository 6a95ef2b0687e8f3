from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from moderator.records import Box
from moderator.vision.codes import CodeSighting
from moderator.vision.ocr import FrameLines, Image, TextLine
from moderator.vision.reader import ScreenReader, boxed_jpeg
from moderator.vision.sampler import Decision
from tests.vision.frames import line, room_background
from tests.vision.test_sampler import striped


class ScriptedOcr:
    """Reads what stands in the script for the frame, told by the frame's first pixel."""

    name = "scripted"

    def __init__(self, script: Callable[[Image], list[TextLine]]) -> None:
        self.script = script
        self.calls = 0

    def read(self, image: Image) -> list[TextLine]:
        self.calls += 1
        return self.script(image)


class InParts(ScriptedOcr):
    """Reads parts of a frame as well; notes which."""

    def __init__(self, script: Callable[[Image], list[TextLine]]) -> None:
        super().__init__(script)
        self.parts: list[Sequence[Box]] = []

    def read_places(self, image: Image, places: Sequence[Box]) -> FrameLines:
        self.parts.append(places)
        lines = [one for one in self.script(image) if any(one.box.shared(p) for p in places)]
        return FrameLines(lines, places)


class ScriptedCodes:
    name = "scripted-codes"

    def read(self, image: Image) -> list[CodeSighting]:
        return [CodeSighting("vx:abc", "QRCode", Box(300, 600, 400, 700))]


ROOM = room_background()
WITH_BANNER = striped(ROOM, 60, 100)


def is_shown(image: Image) -> bool:
    return bool((image[110, 60:124] == 250).any())


def banner(image: Image) -> list[TextLine]:
    return [line("全网最低价", 60, 100)] if is_shown(image) else []


def test_reader_banner_of_ten_minutes_costs_few_readings() -> None:
    ocr = ScriptedOcr(banner)
    reader = ScreenReader(ocr)
    for second in range(700):
        reader.feed(float(second), WITH_BANNER if 40 <= second < 640 else ROOM)
    ((text,), codes) = reader.finish()
    assert (text.text, text.start, text.end) == ("全网最低价", 40.0, 639.0)
    assert text.engine == "scripted"
    assert codes == []
    assert ocr.calls == reader.stats.frames_read <= 27
    assert reader.stats.frames_seen == 700
    assert reader.stats.decisions[Decision.UNCHANGED] >= 670


def test_reader_reads_only_what_changed_and_takes_over_the_rest() -> None:
    lines = {
        (60, 100): line("全网最低价", 60, 90),
        (60, 160): line("今天只要九十九", 60, 150),
        (300, 700): line("加微信领福利", 300, 690),
    }

    def shown(image: Image) -> list[TextLine]:
        return [found for (x, y), found in lines.items() if (image[y, x : x + 64] == 250).any()]

    ocr = InParts(shown)
    reader = ScreenReader(ocr)
    both = striped(striped(ROOM, 60, 100), 60, 160)
    for second in range(24):
        reader.feed(float(second), striped(both, 300, 700) if second >= 10 else both)
    assert ocr.calls == 1
    ((place,),) = ocr.parts
    # All of the line, and nothing of the others.
    assert place.shared(line("加微信领福利", 300, 690).box) <= place.area < 540 * 960 // 10
    texts, _ = reader.finish()
    assert [(one.text, one.start, one.end) for one in texts] == [
        ("全网最低价\n今天只要九十九", 0.0, 23.0),
        ("加微信领福利", 10.0, 23.0),
    ]
    assert (reader.stats.frames_read, reader.stats.frames_read_in_part) == (2, 1)


def test_reader_a_line_that_goes_is_looked_for_where_it_was_and_whole_frames_still_come() -> None:
    ocr = InParts(banner)
    reader = ScreenReader(ocr)
    for second in range(64):
        reader.feed(float(second), WITH_BANNER if second < 10 else ROOM)
    ((text,), _) = reader.finish()
    assert (text.text, text.end) == ("全网最低价", 9.0)
    # Gone, and once more to be sure; then all of it every half minute.
    assert len(ocr.parts) == 2
    for (place,) in ocr.parts:
        assert place.shared(text.box) == text.box.area
    assert ocr.calls == 3


def test_reader_line_skipped_once_by_the_recogniser_is_still_one_text() -> None:
    ocr = ScriptedOcr(lambda image: [] if ocr.calls == 2 else banner(image))
    reader = ScreenReader(ocr)
    for second in range(60):
        reader.feed(float(second), WITH_BANNER)
    ((text,), _) = reader.finish()
    assert (text.start, text.end) == (0.0, 59.0)


def test_reader_live_room_takes_texts_as_they_end() -> None:
    reader = ScreenReader(ScriptedOcr(banner), ScriptedCodes())
    taken = []
    for second in range(40):
        reader.feed(float(second), WITH_BANNER if second < 10 else ROOM)
        taken += reader.take()[0]
    assert [(text.text, text.end) for text in taken] == [("全网最低价", 9.0)]
    assert reader.open_texts() == []
    assert [code.text for code in reader.open_codes()] == ["vx:abc"]
    texts, (code,) = reader.finish()
    assert texts == []
    assert (code.engine, code.start, code.end) == ("scripted-codes", 0.0, 39.0)


def test_reader_pattern_of_a_code_is_no_text() -> None:
    lines = [
        line("器", 310, 610, height=80),
        line("扫码加群", 290, 720),
        line("全场包邮" * 4, 20, 630),
    ]
    reader = ScreenReader(ScriptedOcr(lambda _: lines), ScriptedCodes())
    reader.feed(0.0, ROOM)
    texts, codes = reader.finish()
    assert sorted(text.text for text in texts) == ["全场包邮" * 4, "扫码加群"]
    assert len(codes) == 1


def test_reader_keeps_the_frame_of_a_text_with_the_text_boxed() -> None:
    cv2 = pytest.importorskip("cv2")
    reader = ScreenReader(ScriptedOcr(banner))
    for second in range(5):
        reader.feed(float(second), WITH_BANNER)
    ((text,), _) = reader.finish()
    boxed, plain = reader.frame_jpeg(text), reader.frame_jpeg(text, boxed=False)
    assert boxed is not None
    assert plain is not None
    images = [
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in (boxed, plain)
    ]
    marked = np.abs(images[0].astype(int) - images[1].astype(int)).max(axis=2) > 60
    rows, columns = np.nonzero(marked)
    assert abs(int(rows.min()) - text.box.y0) <= 12
    assert abs(int(columns.max()) - text.box.x1) <= 12
    assert not marked[text.box.y0 + 4 : text.box.y1 - 4, text.box.x0 + 4 : text.box.x1 - 4].any()


def test_reader_frames_of_what_has_ended_are_forgotten_when_asked() -> None:
    def both(image: Image) -> list[TextLine]:
        sure = 0.9 if is_shown(image) else 0.99
        return [*banner(image), line("加微信领福利", 60, 700, confidence=sure)]

    reader = ScreenReader(ScriptedOcr(both))
    for second in range(40):
        reader.feed(float(second), WITH_BANNER if second < 10 else ROOM)
    ((ended,), _) = reader.take()
    (still,) = reader.open_texts()
    assert reader.frame_jpeg(ended) is not None
    reader.forget_frames()
    assert (ended.text, still.text) == ("全网最低价", "加微信领福利")
    assert reader.frame_jpeg(ended) is None
    assert reader.frame_jpeg(still) is not None


def test_reader_evidence_memory_is_bounded() -> None:
    def changing(image: Image) -> list[TextLine]:
        return [line(f"第{int(image[0, 0, 0])}款商品", 60, 100)]

    frames = []
    for index in range(30):
        frame = striped(ROOM, 60, 100 + 40 * (index % 15))
        frame[0, 0] = index
        frames.append(frame)
    size = len(boxed_jpeg(frames[0], []))
    reader = ScreenReader(ScriptedOcr(changing), max_evidence_bytes=3 * size)
    for index, frame in enumerate(frames):
        reader.feed(20.0 * index, frame)
    texts, _ = reader.finish()
    kept = [text for text in texts if reader.frame_jpeg(text) is not None]
    assert len(texts) == 30
    assert 1 <= len(kept) <= 3
    assert kept == texts[-len(kept) :]
