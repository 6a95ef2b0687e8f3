from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from jsonschema import Draft202012Validator

from moderator import pipeline
from moderator.claims.engine import ClaimEngine
from moderator.claims.passports import passport_from
from moderator.claims.rules import load_rules
from moderator.config import Settings
from moderator.episodes import Provenance
from moderator.errors import ModeratorError
from moderator.media.command import find_ffmpeg
from moderator.media.probe import probe
from moderator.outputs.report import Report
from moderator.pipeline import check, check_batch, check_script, is_script, judge
from moderator.records import Disposition, Room, Violation
from moderator.rooms import load_room
from samples.truth import compare
from tests.command import (
    LAWFUL,
    NEEDS_PROOF,
    REPOSITORY,
    SUSPECT,
    VIOLATION,
    Result,
    environment,
    moderator,
    write_pack,
)
from tests.media.inputs import H264, beep, claim_duration, numbered_frames
from tests.outputs.builders import screen_text, utterance

RECORD = Draft202012Validator(
    json.loads((files("moderator") / "schemas" / "violation.schema.json").read_text("utf-8"))
)

ROOMS = REPOSITORY / "samples" / "rooms"
PASSPORTS = REPOSITORY / "samples" / "passports.yaml"
ROOM = ROOMS / "food_and_tea.mp4"
ABOUT = ("--room", ROOMS / "food_and_tea.room.yaml", "--passports", PASSPORTS)


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "en")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> ClaimEngine:
    return ClaimEngine(load_rules(write_pack(tmp_path_factory.mktemp("rules") / "pack")))


def quotes(report: Report) -> list[str]:
    return [record.quote for record in report.violations]


def lasting(record: Violation | dict[str, Any]) -> dict[str, Any]:
    """A record without what differs from run to run."""
    body = dict(record if isinstance(record, dict) else record.to_json())
    for name in ("id", "session", "wall_time", "evidence"):
        del body[name]
    return body


# --- scripts ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("talk.txt", True),
        ("TALK.MD", True),
        ("talk.srt", True),
        ("-", True),
        (Path("talk.docx"), True),
        ("talk.mp4", False),
        ("talk", False),
        ("https://example.com/talk.txt", False),
    ],
)
def test_pipeline_tells_scripts_by_their_ending(name: str | Path, expected: bool) -> None:
    assert is_script(name) is expected


def test_pipeline_script_is_the_same_from_text_file_and_path(
    engine: ClaimEngine, tmp_path: Path
) -> None:
    text = f"{LAWFUL}\n{VIOLATION}，{NEEDS_PROOF}\n"
    path = tmp_path / "talk.txt"
    path.write_text(text, encoding="utf-8")
    from_text = check_script(text, rules=engine.pack)
    from_path = check_script(path, rules=engine.pack)
    from_name = check(str(path), rules=engine.pack)
    assert quotes(from_text) == ["国家级", "销量领先"]
    assert (from_text.source, from_path.source) == ("script", str(path))
    assert list(map(lasting, from_path.violations)) == list(map(lasting, from_name.violations))
    for one, other in zip(from_text.violations, from_path.violations, strict=True):
        assert lasting(one) | {"source": ""} == lasting(other) | {"source": ""}
        RECORD.validate(one.to_json())


def test_pipeline_rules_may_be_a_folder_or_a_loaded_pack(
    engine: ClaimEngine, tmp_path: Path
) -> None:
    home = write_pack(tmp_path / "pack")
    for rules in (home, str(home), engine.pack):
        assert quotes(check_script(VIOLATION, rules=rules)) == ["国家级"]


def test_pipeline_passports_may_be_a_file_or_loaded(engine: ClaimEngine, tmp_path: Path) -> None:
    body = {"id": "cream", "proofs": [{"kind": "sales_report"}]}
    path = tmp_path / "passports.yaml"
    path.write_text(yaml.safe_dump([body]), encoding="utf-8")
    for passports in (path, str(path), [passport_from(body, "here")]):
        assert quotes(check_script(NEEDS_PROOF, rules=engine.pack, passports=passports)) == []
    assert quotes(check_script(NEEDS_PROOF, rules=engine.pack)) == ["销量领先"]


def test_pipeline_min_confidence_and_language(engine: ClaimEngine) -> None:
    (record,) = check_script(VIOLATION, rules=engine.pack).violations
    above = record.confidence + 0.01
    assert quotes(check_script(VIOLATION, rules=engine.pack, min_confidence=above)) == []
    english = Settings(lang="en")
    (record,) = check_script(VIOLATION, rules=engine.pack, settings=english).violations
    assert (record.suggestion, record.rule.title) == ("State a fact", "Superlatives")


def test_pipeline_report_carries_the_text_of_cited_articles(engine: ClaimEngine) -> None:
    report = check_script(VIOLATION, rules=engine.pack)
    (record,) = report.violations
    assert report.law_text(record.law[0]) == "广告不得有下列情形"
    assert check_script(LAWFUL, rules=engine.pack).articles == {}


def test_pipeline_script_with_out_writes_the_folder(engine: ClaimEngine, tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text(VIOLATION, encoding="utf-8")
    report = check(path, rules=engine.pack, out=tmp_path / "out")
    kept = (tmp_path / "out" / "violations.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in kept] == [v.id for v in report.violations]


def test_pipeline_room_chooses_among_the_passports(engine: ClaimEngine) -> None:
    proven = passport_from({"id": "with", "proofs": [{"kind": "sales_report"}]}, "here")
    bare = passport_from({"id": "without", "name": "别的"}, "here")
    found = {
        product: quotes(
            check_script(
                NEEDS_PROOF,
                rules=engine.pack,
                room=Room(id="r", products=(product,)),
                passports=[proven, bare],
            )
        )
        for product in ("with", "without")
    }
    assert found == {"with": [], "without": ["销量领先"]}


def test_pipeline_batch_is_lazy_and_prefers_its_own_product(
    engine: ClaimEngine, tmp_path: Path
) -> None:
    proven = {"id": "own", "proofs": [{"kind": "sales_report"}]}
    items = [
        {"id": "a", "text": NEEDS_PROOF, "product": proven},
        {"id": "b", "text": NEEDS_PROOF},
        "broken",
    ]
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    reports = check_batch(path, rules=engine.pack)
    assert [(r.source, quotes(r)) for r in (next(reports), next(reports))] == [
        ("a", []),
        ("b", ["销量领先"]),
    ]
    with pytest.raises(ModeratorError, match=r"LM-604 .*batch\.jsonl:3"):
        next(reports)


# --- observations -------------------------------------------------------------------


def test_pipeline_judges_observations_in_order_of_time(engine: ClaimEngine) -> None:
    provenance = Provenance(Room(id="r"), "S", "a.mp4", {"rules": "test"})
    seen = [
        screen_text(VIOLATION, 40, 50),
        utterance(f"{SUSPECT}", 20, 23),
        utterance(VIOLATION, 1, 4),
        utterance(VIOLATION, 60, 64, distrust="music"),
    ]
    found = judge(seen, engine, [], provenance, 70.0)
    assert [(record.channel, record.disposition) for record in found] == [
        ("speech", Disposition.VIOLATION),
        ("speech", Disposition.SUSPECT),
        ("screen", Disposition.VIOLATION),
    ]
    surest = max(record.confidence for record in found)
    assert len(judge(seen, engine, [], provenance, 70.0, min_confidence=surest)) < 3
    for record in found:
        RECORD.validate(record.to_json())


# --- recordings: small ones ---------------------------------------------------------

AAC = ("-c:a", "aac")
Make = Callable[..., Path]


def ffmpeg(path: Path, *arguments: object) -> Path:
    try:
        binary = find_ffmpeg()
    except ModeratorError:
        pytest.skip("no ffmpeg")
    words = [binary, "-nostdin", "-y", "-loglevel", "error", *map(str, arguments), f"file:{path}"]
    subprocess.run(words, check=True)
    return path


def renamed_text(path: Path) -> Path:
    path.write_text("家人们，这不是视频。" * 50, encoding="utf-8")
    return path


def without_index(path: Path) -> Path:
    ffmpeg(path, *numbered_frames(2), *beep(0, 2), *H264, *AAC)
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def subtitles_alone(path: Path) -> Path:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    ffmpeg(path, "-i", text)
    text.unlink()
    return path


def frames_of_8k(path: Path) -> Path:
    return ffmpeg(path, "-f", "lavfi", "-i", "color=s=7680x4320:r=1:d=1", "-frames:v", 1, *H264)


def encrypted(path: Path) -> Path:
    key = (
        "-encryption_scheme",
        "cenc-aes-ctr",
        "-encryption_key",
        "00112233445566778899aabbccddeeff",
    )
    kid = ("-encryption_kid", "ffeeddccbbaa99887766554433221100")
    return ffmpeg(path, *numbered_frames(1), *beep(0, 1), *H264, *AAC, *key, *kid)


def sound_of_no_length(path: Path) -> Path:
    return ffmpeg(path, *beep(0, 1), "-t", 0)


BAD_MEDIA = [
    ("text.mp4", renamed_text, "LM-105"),
    ("truncated.mp4", without_index, "LM-105"),
    ("encrypted.mp4", encrypted, "LM-105"),
    ("no streams.mkv", subtitles_alone, "LM-106"),
    ("8k.mp4", frames_of_8k, "LM-107"),
    ("silence.wav", sound_of_no_length, "LM-110"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "make", "code"), BAD_MEDIA, ids=[bad[0] for bad in BAD_MEDIA])
def test_pipeline_bad_media_is_exit_2_and_leaves_nothing(
    tmp_path: Path, name: str, make: Make, code: str
) -> None:
    path = make(tmp_path / name)
    result = moderator("check", path, "--format", "jsonl", "--out", tmp_path / "deep" / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"{code} ")
    assert name in result.err
    assert "Traceback" not in result.err
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.slow
def test_pipeline_header_that_lies_about_ten_hours_is_noted(tmp_path: Path) -> None:
    path = ffmpeg(tmp_path / "a.flv", *numbered_frames(2), *beep(0, 2), *H264, *AAC)
    claim_duration(path, 36_000)
    result = moderator("check", path, "--format", "jsonl")
    assert (result.code, result.out) == (0, "")
    assert "LM-115 " in result.err


@pytest.mark.slow
def test_pipeline_half_a_recording_is_checked_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    ffmpeg(path, *numbered_frames(6), *beep(0, 6), *H264, *AAC, "-movflags", "+faststart")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = moderator("check", path, "--format", "json")
    assert result.code == 0
    assert any("LM-113 " in note for note in json.loads(result.out)["notes"])


@pytest.mark.slow
def test_pipeline_says_which_track_was_not_there_to_check(tmp_path: Path) -> None:
    silent = check(ffmpeg(tmp_path / "a.mp4", *numbered_frames(1), *H264))
    assert [note for note in silent.notes if "no speech was checked" in note]
    blind = check(ffmpeg(tmp_path / "a.wav", *beep(0, 1)))
    assert [note for note in blind.notes if "no screen was checked" in note]
    assert "asr" not in silent.engines
    assert "ocr" not in blind.engines


@pytest.mark.slow
@pytest.mark.parametrize("settings", [Settings(audio=False, video=False), Settings(audio=False)])
def test_pipeline_nothing_to_check_is_not_taken_for_clean(
    tmp_path: Path, settings: Settings
) -> None:
    path = ffmpeg(tmp_path / "a.wav", *beep(0, 1))
    with pytest.raises(ModeratorError, match=r"LM-303 .*nothing would be checked"):
        check(path, settings=settings)


@pytest.mark.slow
def test_pipeline_any_media_name_and_a_leading_dash(tmp_path: Path) -> None:
    name = "-引号\"' `$(touch x)`;\n中文 room.mp4"
    ffmpeg(tmp_path / "plain.mp4", *numbered_frames(0.4), *beep(0, 0.4), *H264, *AAC)
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    result = moderator("check", "--format", "json", "--out", "out", "--", name, cwd=tmp_path)
    assert result.code == 0
    assert result.err == ""
    assert json.loads(result.out)["source"] == name
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, "out"])


@pytest.mark.slow
def test_pipeline_failing_stage_stops_ffmpeg_and_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ffmpeg(tmp_path / "a.mp4", *numbered_frames(1), *H264)

    def broken(self: object, item: object) -> None:
        raise ValueError("reader broke")

    monkeypatch.setattr(pipeline._Screen, "feed", broken)
    before = children()
    with pytest.raises(ValueError, match="reader broke"):
        check(path, settings=Settings(audio=False), out=tmp_path / "out")
    assert children() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def children() -> set[str]:
    found: set[str] = set()
    for listed in Path("/proc/self/task").glob("*/children"):
        found.update(listed.read_text().split())
    return found


# --- a recorded room from end to end ------------------------------------------------


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """One sample room through the command, once for all tests here, and its `--out` folder."""
    out = tmp_path_factory.mktemp("room") / "out"
    return moderator(
        "check", ROOM, *ABOUT, "--format", "jsonl", "--out", out, limit_s=600
    ), out  # fmt: skip


@pytest.fixture(scope="module")
def piece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of the room: words and banners at fault, long enough to be interrupted."""
    path = tmp_path_factory.mktemp("piece") / "piece.mp4"
    return ffmpeg(path, "-ss", 134, "-t", 30, "-i", ROOM, *H264, *AAC)


def found_in(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.out.splitlines()]


@pytest.mark.slow
def test_pipeline_room_gives_valid_records_and_nothing_else(checked: tuple[Result, Path]) -> None:
    result, _ = checked
    assert result.code == 1
    assert result.err == ""
    for record in found_in(result):
        RECORD.validate(record)
        assert record["room"] == "food_and_tea"
        assert record["law"]
        assert record["explanation"]
        assert record["suggestion"]
        begin, end = record["span"]
        heard = record["heard"] or record["quote"]
        assert record["context"][begin:end] == heard or record["channel"] != "speech"


@pytest.mark.slow
def test_pipeline_room_every_planted_violation_is_found(checked: tuple[Result, Path]) -> None:
    truth = json.loads(ROOM.with_suffix(".truth.json").read_text("utf-8"))
    comparison = compare(truth, found_in(checked[0]))
    assert len(comparison.found) >= 8
    assert [(planted["start"], planted["quote"]) for planted in comparison.missed] == []


@pytest.mark.slow
def test_pipeline_room_no_lawful_line_is_accused(checked: tuple[Result, Path]) -> None:
    truth = json.loads(ROOM.with_suffix(".truth.json").read_text("utf-8"))
    accused = compare(truth, found_in(checked[0])).accusations
    assert [(record["start"], record["quote"], record["rule"]["id"]) for record in accused] == []


@pytest.mark.slow
def test_pipeline_room_folder_is_complete(checked: tuple[Result, Path]) -> None:
    result, out = checked
    assert (out / "violations.jsonl").read_text("utf-8") == result.out
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == {"manifest.json", *manifest["files"]}
    assert {"violations.jsonl", "transcript.jsonl", "screen.jsonl", "report.html"} < there
    for name, entry in manifest["files"].items():
        data = (out / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest["summary"]["total"] == len(found_in(result))
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.slow
def test_pipeline_room_evidence_shows_the_words(checked: tuple[Result, Path]) -> None:
    result, out = checked
    channels = set()
    for record in found_in(result):
        evidence = record["evidence"]
        channels.add(record["channel"])
        if record["channel"] == "stream":
            assert evidence["clip"] is None
            continue
        clip = probe(out / evidence["clip"])
        assert clip.has_audio
        assert clip.has_video
        assert (clip.duration_s or 0) >= min(record["end"] - record["start"], 60)
        assert bool(evidence["frames"]) == (record["channel"] in ("screen", "code"))
        for name in evidence["frames"]:
            picture = cv2.imread(str(out / name))
            assert picture is not None
            assert picture.shape[0] > picture.shape[1] > 200
        assert (evidence["transcript"] is not None) == (record["channel"] == "speech")
        for name, digest in evidence["sha256"].items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert {"speech", "screen", "stream"} <= channels


@pytest.mark.slow
def test_pipeline_room_report_holds_every_finding(checked: tuple[Result, Path]) -> None:
    result, out = checked
    page = (out / "report.html").read_text("utf-8")
    for record in found_in(result):
        assert record["suggestion"][:6] in page
        assert record["evidence"]["clip"] is None or record["evidence"]["clip"] in page


@pytest.mark.slow
def test_pipeline_python_and_command_find_the_same(piece: Path) -> None:
    done: list[tuple[float, float]] = []
    report = check(
        piece,
        rules=load_rules(),
        room=load_room(ROOMS / "food_and_tea.room.yaml"),
        passports=PASSPORTS,
        progress=lambda at, total: done.append((at, total)),
    )
    result = moderator("check", piece, *ABOUT, "--format", "jsonl", limit_s=300)
    found = found_in(result)
    assert report.engines == found[0]["engine"], "the rules changed while this test ran"
    assert list(map(lasting, report.violations)) == list(map(lasting, found))
    assert {"speech", "screen"} <= {record.channel for record in report.violations}
    assert report.duration_s == pytest.approx(30, abs=0.5)
    assert done == sorted(done)
    assert done[-1][0] == pytest.approx(30, abs=1)
    assert done[-1][1] == pytest.approx(30, abs=0.5)
    assert {"asr", "ocr", "rules"} <= set(report.engines)


# --- interrupted --------------------------------------------------------------------


def alive(token: str) -> set[str]:
    """Names of the processes that were started, by whomever, with `token` in the environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and token in (entry / "environ").read_bytes().decode("latin-1"):
                found.add((entry / "comm").read_text().strip())
        except OSError:
            continue
    return found


def wait_until(holds: Callable[[], bool], limit_s: float, what: str, every_s: float = 0.02) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(every_s)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look into")
@pytest.mark.parametrize(
    ("during", "sent_to"),
    [("decoding", "the process"), ("decoding", "its group"), ("cutting", "its group")],
)
def test_pipeline_interrupt_leaves_no_folder_and_no_ffmpeg(
    piece: Path, tmp_path: Path, during: str, sent_to: str
) -> None:
    home, token = tmp_path / "new", f"interrupt-{uuid.uuid4()}"
    command = [sys.executable, "-m", "moderator", "check", ROOM if during == "decoding" else piece]
    with subprocess.Popen(
        [*map(str, command), "--format", "jsonl", "--out", str(home / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(TEST_TOKEN=token),
        start_new_session=True,
    ) as process:
        try:
            if during == "decoding":
                wait_until(lambda: "ffmpeg" in alive(token), 60, "ffmpeg starts", 0.25)
                time.sleep(2)
            else:
                wait_until(lambda: bool(list(home.glob(".out.partial-*/clips"))), 120, "clips")
            assert process.poll() is None
            (os.kill if sent_to == "the process" else os.killpg)(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    # The interpreter ends itself by the signal where it struck inside `exec`; shells say 130 too.
    assert process.returncode in (130, -signal.SIGINT), err.decode()
    assert err.decode().startswith("LM-701 ")
    assert out == b""
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not alive(token), 5, "ffmpeg ends")
