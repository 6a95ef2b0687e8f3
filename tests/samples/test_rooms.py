"""The sample rooms and scripts say what their ground truth says they say."""

import json
import subprocess
from pathlib import Path
from typing import Any

import docx
import pytest
import yaml

from moderator.claims.passports import load_passports
from moderator.records import CATEGORIES, Disposition, Room

SAMPLES = Path(__file__).parents[2] / "samples"
ROOMS = sorted(path.name.removesuffix(".truth.json") for path in SAMPLES.glob("rooms/*.truth.json"))
SCRIPTS: dict[str, Any] = yaml.safe_load((SAMPLES / "scripts/planted.yaml").read_text("utf-8"))
CHANNELS = {"speech", "screen", "code", "stream"}


def truth_of(room: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / f"rooms/{room}.truth.json").read_text("utf-8"))
    return found


def screenplay_of(room: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SAMPLES / f"rooms/{room}.yaml").read_text("utf-8"))
    return found


def text_of(script: Path) -> str:
    if script.suffix != ".docx":
        return script.read_text("utf-8")
    document = docx.Document(str(script))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *cells])


def test_rooms_there_are_at_least_three() -> None:
    assert len(ROOMS) >= 3
    written = {p.stem for p in SAMPLES.glob("rooms/*.yaml") if not p.name.endswith(".room.yaml")}
    assert written == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_video_is_small(room: str) -> None:
    assert 0 < (SAMPLES / f"rooms/{room}.mp4").stat().st_size < 6_000_000


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_last_two_to_four_minutes(room: str) -> None:
    assert 120 <= truth_of(room)["duration_s"] <= 240


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_description_is_a_room(room: str) -> None:
    fields = yaml.safe_load((SAMPLES / f"rooms/{room}.room.yaml").read_text("utf-8"))
    described = Room(**{**fields, "products": tuple(fields["products"])})
    assert described.id == room
    known = {passport.id for passport in load_passports(SAMPLES / "passports.yaml")}
    assert set(described.products) <= known
    assert truth_of(room)["products"] == fields["products"]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_truth_holds_every_line_of_the_screenplay(room: str) -> None:
    play = screenplay_of(room)
    written = [line[who] for line in play["lines"] for who in play["speakers"] if who in line]
    assert [line["text"] for line in truth_of(room)["lines"]] == written


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_truth_holds_every_planted_violation(room: str) -> None:
    play = screenplay_of(room)
    places = [*play["lines"], *play["screen"], play]
    planted = sorted(
        (p["category"], p["quote"]) for place in places for p in place.get("planted", [])
    )
    assert sorted((v["category"], v["quote"]) for v in truth_of(room)["violations"]) == planted


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_lines_follow_one_another(room: str) -> None:
    truth = truth_of(room)
    edges = [edge for line in truth["lines"] for edge in (line["start"], line["end"])]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= truth["duration_s"]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_quotes_are_said_or_shown_when_the_truth_says(room: str) -> None:
    truth = truth_of(room)
    lines = {line["text"]: line for line in truth["lines"]}
    for violation in truth["violations"]:
        assert violation["quote"] in violation["text"]
        assert 0 <= violation["start"] < violation["end"] <= truth["duration_s"] + 0.01
        assert violation["within"][0] <= violation["start"]
        assert violation["end"] <= violation["within"][1]
        if violation["channel"] == "speech":
            line = lines[violation["text"]]
            assert violation["within"] == [line["start"], line["end"]]


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_truth_uses_the_words_of_the_records(room: str) -> None:
    for violation in truth_of(room)["violations"]:
        assert violation["channel"] in CHANNELS
        assert {violation["category"], *violation["also"]} <= set(CATEGORIES)
        assert violation["disposition"] in set(Disposition)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_mostly_lawful(room: str) -> None:
    truth = truth_of(room)
    spoken = [violation for violation in truth["violations"] if violation["channel"] == "speech"]
    assert 0 < len(spoken) < len(truth["lines"]) / 2
    assert any("near_miss" in line for line in truth["lines"])


def test_rooms_plant_on_every_channel() -> None:
    found = {v["channel"] for room in ROOMS for v in truth_of(room)["violations"]}
    assert found == CHANNELS


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS)
def test_rooms_video_is_as_long_as_the_truth(room: str) -> None:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams"]
    probed = subprocess.run(
        [*command, str(SAMPLES / f"rooms/{room}.mp4")], capture_output=True, check=True
    )
    media = json.loads(probed.stdout)
    kinds = {stream["codec_type"]: stream for stream in media["streams"]}
    assert (kinds["video"]["codec_name"], kinds["audio"]["codec_name"]) == ("h264", "aac")
    assert (kinds["video"]["width"], kinds["video"]["height"]) == (540, 960)
    assert float(media["format"]["duration"]) == pytest.approx(
        truth_of(room)["duration_s"], abs=0.5
    )


def test_scripts_there_are_at_least_eight_kinds_of_trade() -> None:
    files = {p.name for p in SAMPLES.glob("scripts/*") if p.is_file()} - {"planted.yaml"}
    assert files == set(SCRIPTS)
    assert len(files) >= 8
    assert {Path(name).suffix for name in files} == {".txt", ".srt", ".md", ".docx"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_hold_what_was_planted(name: str) -> None:
    text = text_of(SAMPLES / "scripts" / name)
    for planted in SCRIPTS[name]["planted"]:
        assert planted["quote"] in text
        assert {planted["category"], *planted.get("also", [])} <= set(CATEGORIES)
        assert planted["disposition"] in set(Disposition)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_are_mostly_lawful(name: str) -> None:
    text = text_of(SAMPLES / "scripts" / name)
    planted = SCRIPTS[name]["planted"]
    assert planted
    assert sum(len(each["quote"]) for each in planted) < len(text) / 2


def test_scripts_sell_products_that_have_passports() -> None:
    known = {passport.id for passport in load_passports(SAMPLES / "passports.yaml")}
    assert {product for script in SCRIPTS.values() for product in script["products"]} <= known
