"""Screenplays get their times, and mistakes in them are found when they are read."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from samples import screenplay

PLAY: dict[str, Any] = {
    "room": {"id": "small", "products": ["tea"]},
    "look": {},
    "seed": 1,
    "music": False,
    "pause_s": 0.5,
    "speakers": {"host": {"name": "小茶", "voice": "jf_nezumi", "speed": 1.0, "figure": 0}},
    "lines": [
        {"host": "大家好。", "id": "hello", "pinned": "tea"},
        {
            "host": "这个茶，能治百病。",
            "id": "claim",
            "planted": [
                {"category": "medical_efficacy", "quote": "能治百病", "disposition": "violation"}
            ],
        },
    ],
    "screen": [{"kind": "banner", "text": ["价 ¥9"], "start": "claim-0.5", "end": "end"}],
    "comments": [],
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**PLAY, **changes}, allow_unicode=True), encoding="utf-8")
    return path


def test_screenplay_lines_come_one_after_the_other(tmp_path: Path) -> None:
    timeline = screenplay.time(screenplay.load(write(tmp_path)), [1.0, 2.0])
    first, second = timeline.lines
    assert (first.start, first.end) == (screenplay.LEAD_IN_S, screenplay.LEAD_IN_S + 1.0)
    assert 0.4 <= second.start - first.end <= 0.8
    assert timeline.duration_s == pytest.approx(second.end + screenplay.LEAD_OUT_S)


def test_screenplay_event_starts_relative_to_its_line(tmp_path: Path) -> None:
    timeline = screenplay.time(screenplay.load(write(tmp_path)), [1.0, 2.0])
    (shown,) = timeline.events
    assert shown.start == pytest.approx(timeline.lines[1].start - 0.5)
    assert shown.end == timeline.duration_s


def test_screenplay_quote_is_timed_by_its_place_in_the_line(tmp_path: Path) -> None:
    timeline = screenplay.time(screenplay.load(write(tmp_path)), [1.0, 7.0])
    (violation,) = timeline.truth()["violations"]
    line = timeline.lines[1]
    # Three of seven characters are spoken before the quote; punctuation takes no time.
    assert violation["start"] == pytest.approx(line.start + 3.0, abs=0.01)
    assert violation["end"] == pytest.approx(line.end, abs=0.01)
    assert violation["product"] == "tea"


def test_screenplay_quote_that_is_not_said_is_refused(tmp_path: Path) -> None:
    lines = [{**PLAY["lines"][1], "host": "这个茶很香。"}]
    with pytest.raises(ValueError, match="能治百病"):
        screenplay.load(write(tmp_path, lines=lines))


@pytest.mark.parametrize("start", ["nowhere", "hello*2", "-3"])
def test_screenplay_event_at_no_known_moment_is_refused(tmp_path: Path, start: str) -> None:
    play = screenplay.load(write(tmp_path, screen=[{**PLAY["screen"][0], "start": start}]))
    with pytest.raises(ValueError, match="neither seconds nor"):
        screenplay.time(play, [1.0, 2.0])


def test_screenplay_event_that_ends_before_it_starts_is_refused(tmp_path: Path) -> None:
    play = screenplay.load(write(tmp_path, screen=[{**PLAY["screen"][0], "end": "hello"}]))
    with pytest.raises(ValueError, match="does not fit"):
        screenplay.time(play, [1.0, 2.0])
