from __future__ import annotations

import sys

import numpy as np
import pytest

import moderator.vision  # noqa: F401 - registers the engine
from moderator.errors import ModeratorError
from moderator.records import Box
from moderator.subnormals import can_flush
from moderator.vision.ocr import ENGINES, Image, TextLine
from moderator.vision.rapid_ocr import RapidOcr, _load
from moderator.vision.reader import ScreenReader
from tests.vision.frames import drawn, host, room_background


def texts(lines: list[TextLine]) -> list[str]:
    return [line.text.replace(" ", "") for line in lines]


def test_rapid_ocr_is_registered() -> None:
    assert "rapidocr" in ENGINES.names()


def test_rapid_ocr_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    _load.cache_clear()
    with pytest.raises(ModeratorError, match="LM-402") as refused:
        RapidOcr()
    assert "[embedded]" in str(refused.value)
    _load.cache_clear()


@pytest.fixture(scope="module")
def engine() -> RapidOcr:
    pytest.importorskip("rapidocr")
    return RapidOcr(threads=1)


@pytest.fixture
def poster() -> Image:
    return drawn(
        [
            ("国家级美白神器", 30, 60, 36),
            ("现价99元", 330, 180, 34),
            ("加微信领福利", 30, 860, 20),
        ],
        room_background(),
    )


@pytest.mark.slow
@pytest.mark.usefixtures("chinese")
class TestRapidOcr:
    def test_rapid_ocr_reads_top_to_bottom_with_boxes(
        self, engine: RapidOcr, poster: Image
    ) -> None:
        lines = engine.read(poster)
        assert texts(lines) == ["国家级美白神器", "现价99元", "加微信领福利"]
        first = lines[0]
        assert first.confidence > 0.9
        assert abs(first.box.x0 - 30) < 15
        assert abs(first.box.x1 - (30 + 7 * 36)) < 15
        assert engine.name.startswith("rapidocr-")

    def test_rapid_ocr_reads_a_column(self, engine: RapidOcr) -> None:
        column = "根治糖尿病不复发"
        frame = drawn(
            [(char, 470, 200 + 42 * index, 36) for index, char in enumerate(column)],
        )
        assert column in texts(engine.read(frame))

    def test_rapid_ocr_reads_a_part_as_it_reads_the_whole(
        self, engine: RapidOcr, poster: Image
    ) -> None:
        whole = engine.read(poster)
        for wanted in whole:
            box = wanted.box
            place = Box(box.x0 - 10, box.y0 - 10, box.x1 + 10, box.y1 + 10)
            read = RapidOcr(threads=1, cache_lines=0).read_places(poster, [place])
            assert read.places == [place]
            assert texts(list(read.lines)) == texts([wanted])
            found = read.lines[0].box
            assert found.shared(box) > 0.8 * max(found.area, box.area)
        empty = engine.read_places(poster, [Box(100, 400, 300, 500)])
        assert list(empty.lines) == []

    def test_rapid_ocr_reads_all_where_a_part_would_cut_a_line(
        self, engine: RapidOcr, poster: Image
    ) -> None:
        first = engine.read(poster)[0].box
        width = first.x1 - first.x0
        cut = Box(first.x0 + width // 4, first.y0, first.x1 - width // 4, first.y1)
        read = engine.read_places(poster, [cut])
        assert read.places is None
        assert texts(list(read.lines)) == texts(engine.read(poster))

    def test_rapid_ocr_many_frames_at_once_read_as_one_by_one(self, poster: Image) -> None:
        small = poster[:400, :300].copy()
        blank = np.full(poster.shape, 90, dtype=np.uint8)
        alone = RapidOcr(threads=1, cache_lines=0)
        found = RapidOcr(threads=1, cache_lines=0, batch=4).read_many([poster, small, blank])
        for image, lines in zip((poster, small, blank), found, strict=True):
            wanted = alone.read(image)
            assert texts(lines) == texts(wanted)
            assert [line.box for line in lines] == [line.box for line in wanted]

    @pytest.mark.skipif(not can_flush(), reason="Linux on x86-64")
    def test_rapid_ocr_detects_without_subnormal_numbers(
        self, engine: RapidOcr, poster: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detector = engine._engine.text_det
        network, smallest, met = detector.session, sys.float_info.min, []

        def detect(frame: object) -> object:
            met.append(smallest / 4)
            return network(frame)

        monkeypatch.setattr(detector, "session", detect)
        engine.read(poster)
        engine.read_many([poster, poster])
        engine.read_places(poster, [Box(100, 400, 300, 500)])
        assert len(met) == 3
        assert set(met) == {0.0}

    def test_rapid_ocr_frame_without_text_is_empty(self, engine: RapidOcr) -> None:
        for shape in ((960, 540, 3), (20, 20, 3), (300, 30, 3)):
            assert engine.read(np.full(shape, 90, dtype=np.uint8)) == []

    def test_rapid_ocr_unchanged_lines_are_not_recognised_again(self, poster: Image) -> None:
        engine = RapidOcr(threads=1)
        first = engine.read(poster)
        noisy = poster.astype(np.int16) + np.random.default_rng(3).integers(-5, 6, poster.shape)
        again = engine.read(np.clip(noisy, 0, 255).astype(np.uint8))
        assert texts(again) == texts(first)
        assert engine.lines_recognised == len(first)
        assert engine.lines_reused == len(first)

    @pytest.mark.parametrize("size", [18, 34])
    def test_rapid_ocr_changed_digit_is_recognised_anew(self, size: int) -> None:
        engine = RapidOcr(threads=1)
        for price in ("现价93元", "现价98元", "现价90元"):
            frame = drawn([(price, 330, 180, size), ("包邮", 40, 500, 30)], room_background())
            assert texts(engine.read(frame)) == [price, "包邮"]

    def test_rapid_ocr_appended_text_is_recognised_anew(self) -> None:
        engine = RapidOcr(threads=1)
        for slogan in ("全网销量第1", "全网销量第10", "全网销量第100名"):
            assert texts(engine.read(drawn([(slogan, 40, 180, 34)]))) == [slogan]

    def test_rapid_ocr_room_with_a_moving_host_end_to_end(self, engine: RapidOcr) -> None:
        reader = ScreenReader(engine)
        for second in range(16):
            price = "现价99元" if second < 8 else "现价79元"
            frame = drawn(
                [("国家级美白神器", 30, 40, 36), (price, 330, 140, 34)],
                host(room_background(), second),
            )
            reader.feed(float(second), frame)
        found, _ = reader.finish()
        spans = {text.text: (text.start, text.end) for text in found}
        assert spans["国家级美白神器"] == (0.0, 15.0)
        assert abs(spans["现价99元"][1] - 7.0) <= 2.0
        assert abs(spans["现价79元"][0] - 8.0) <= 2.0
        assert len(found) == 3
