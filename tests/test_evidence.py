from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from moderator import evidence
from moderator.config import Settings
from moderator.errors import CLIP_FAILED, DECODE_FAILED, FFMPEG_MISSING, ModeratorError
from moderator.evidence import LONGEST_CLIP_S, write_evidence
from moderator.media.command import find_ffmpeg
from moderator.media.probe import MediaInfo, probe
from moderator.records import Box, ScreenText
from tests.outputs.builders import code, media_report, script_report, violation

SETTINGS = Settings(clip_pre_s=1.0, clip_post_s=2.0)
SEEN = MediaInfo("mov,mp4", 60.0, True, True, 160, 90, 0.0, None, None)


@pytest.fixture
def cuts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of ffmpeg, which stays out of these tests."""
    asked: list[dict[str, Any]] = []

    def cut(source: str, start: float, end: float, path: Path, **options: Any) -> Path:
        asked.append({"what": "clip", "start": start, "end": end, **options})
        path.write_bytes(b"clip")
        return path

    def frame(source: str, time: float, **options: Any) -> Any:
        asked.append({"what": "frame", "time": time, **options})
        return np.zeros((90, 160, 3), np.uint8)

    def save(image: Any, boxes: list[Box], path: Path) -> Path:
        asked.append({"what": "box", "boxes": boxes})
        path.write_bytes(b"frame")
        return path

    monkeypatch.setattr(evidence, "probe", lambda source, **options: SEEN)
    monkeypatch.setattr(evidence, "cut_clip", cut)
    monkeypatch.setattr(evidence, "frame_at", frame)
    monkeypatch.setattr(evidence, "save_frame", save)
    return asked


def text_at(text: str, box: Box, start: float, frame_time: float) -> ScreenText:
    return ScreenText(text, start, start + 10, box, frame_time, 0.9, "test-ocr")


UP, DOWN = Box(0, 0, 50, 20), Box(0, 60, 50, 80)


def test_evidence_speech_has_a_clip_and_no_frame(
    cuts: list[dict[str, Any]], tmp_path: Path
) -> None:
    # Both begin at 0.0 by chance: the banner is no evidence of what was said.
    report = media_report(
        violation(start=0.0, end=2.0), screen_texts=(text_at("别的", UP, 0.0, 1.0),)
    )
    (record,) = write_evidence(report, "room.mp4", tmp_path / "out", SETTINGS).violations
    assert [asked["what"] for asked in cuts] == ["clip"]
    assert (record.evidence.clip, record.evidence.frames) == ("clips/001_0-00.mp4", ())


def test_evidence_boxes_the_text_at_fault_on_its_best_frame(
    cuts: list[dict[str, Any]], tmp_path: Path
) -> None:
    shown = (text_at("好茶", UP, 5.0, 6.0), text_at("全国\n最低价", DOWN, 5.0, 9.5))
    record = violation("全国最低价", channel="screen", start=5.0, end=15.0)
    report = media_report(record, screen_texts=shown)
    (record,) = write_evidence(report, "room.mp4", tmp_path / "out", SETTINGS).violations
    assert [asked["time"] for asked in cuts if asked["what"] == "frame"] == [9.5]
    assert [asked["boxes"] for asked in cuts if asked["what"] == "box"] == [[DOWN]]
    assert len(record.evidence.frames) == 1


def test_evidence_shows_a_code_where_it_was_seen(
    cuts: list[dict[str, Any]], tmp_path: Path
) -> None:
    payload = code("https://u.wechat.com/x", 7.0)
    record = violation("u.wechat.com", channel="code", start=7.0, end=9.0)
    report = media_report(record, codes=(payload,), screen_texts=(text_at("扫码", UP, 7.0, 8.0),))
    write_evidence(report, "room.mp4", tmp_path / "out", SETTINGS)
    assert [asked["boxes"] for asked in cuts if asked["what"] == "box"] == [[payload.box]]


def test_evidence_of_a_banner_that_stays_for_hours_is_its_first_minute(
    cuts: list[dict[str, Any]], tmp_path: Path
) -> None:
    report = media_report(violation(channel="screen", start=30.0, end=7200.0))
    write_evidence(report, "room.mp4", tmp_path / "out", SETTINGS)
    assert (cuts[0]["start"], cuts[0]["end"]) == (30.0, 30.0 + LONGEST_CLIP_S)


def test_evidence_cutting_follows_the_settings(cuts: list[dict[str, Any]], tmp_path: Path) -> None:
    settings = Settings(
        clip_pre_s=4, clip_post_s=5, max_frame_pixels=40_000_000, allow_private=True
    )
    record = violation(channel="screen", start=5.0, end=6.0)
    report = media_report(record, screen_texts=(text_at("国家级", UP, 5.0, 5.5),))
    write_evidence(report, "http://10.0.0.1/a.mp4", tmp_path / "out", settings)
    clip, frame = cuts[:2]
    assert (clip["pre_s"], clip["post_s"]) == (4, 5)
    for asked in (clip, frame):
        assert (asked["max_frame_pixels"], asked["allow_private"]) == (40_000_000, True)


def test_evidence_of_a_script_is_its_text(cuts: list[dict[str, Any]], tmp_path: Path) -> None:
    report = script_report("这是国家级的品质", "国家级")
    (record,) = write_evidence(report, "script.txt", tmp_path / "out", SETTINGS).violations
    assert cuts == []
    assert record.evidence.clip is None
    assert (tmp_path / "out" / "script.jsonl").is_file()


def test_evidence_a_clip_that_fails_costs_its_record_the_clip(
    cuts: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ModeratorError(CLIP_FAILED, start="1", reason="damaged there")

    monkeypatch.setattr(evidence, "cut_clip", fail)
    report = write_evidence(media_report(violation()), "a.mp4", tmp_path / "out", SETTINGS)
    assert report.violations[0].evidence.clip is None
    assert any("LM-503" in note for note in report.notes)


def test_evidence_a_full_disk_behind_an_error_fails_the_folder(
    cuts: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        reason = OSError(28, "No space left on device")
        raise ModeratorError(CLIP_FAILED, start="1", reason=reason) from reason

    monkeypatch.setattr(evidence, "cut_clip", fail)
    with pytest.raises(ModeratorError, match=r"LM-502 .*No space left") as error:
        write_evidence(media_report(violation()), "a.mp4", tmp_path / "new" / "out", SETTINGS)
    assert error.value.code == "LM-502"
    assert list(tmp_path.iterdir()) == []


def test_evidence_a_frame_that_cannot_be_decoded_leaves_the_clip(
    cuts: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ModeratorError(DECODE_FAILED, path="a.mp4", reason="damaged there")

    monkeypatch.setattr(evidence, "frame_at", fail)
    record = violation(channel="screen", start=5.0, end=6.0)
    report = media_report(record, screen_texts=(text_at("国家级", UP, 5.0, 5.5),))
    (record,) = write_evidence(report, "a.mp4", tmp_path / "out", SETTINGS).violations
    assert record.evidence.clip is not None
    assert record.evidence.frames == ()


# --- with ffmpeg --------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Six seconds of moving noise, which compresses badly, and a tone."""
    try:
        binary = find_ffmpeg()
    except ModeratorError as error:
        pytest.skip(str(error) if error.code == FFMPEG_MISSING.code else "no ffmpeg")
    path = tmp_path / "room.mp4"
    noise = "nullsrc=s=320x240:r=10:d=6,geq=random(1)*255:128:128"
    command = [binary, "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", noise]
    command += ["-f", "lavfi", "-i", "sine=d=6", "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run([*command, "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB; only root can mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("cannot mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


REPORT = media_report(
    violation(start=1.0, end=2.0),
    violation(channel="screen", start=3.0, end=5.0),
    screen_texts=(text_at("国家级", DOWN, 3.0, 3.5),),
)


@pytest.mark.slow
def test_evidence_clips_and_frames_are_cut_from_the_recording(
    recording: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    speech, screen = write_evidence(REPORT, recording, out, SETTINGS).violations
    clip = probe(out / str(speech.evidence.clip))
    assert clip.has_audio
    assert clip.has_video
    assert clip.duration_s == pytest.approx(4.0, abs=0.3)
    picture = cv2.imread(str(out / screen.evidence.frames[0]))
    assert picture is not None
    assert picture.shape == (240, 320, 3)


@pytest.mark.slow
def test_evidence_on_a_full_disk_is_an_error_and_leaves_nothing(
    recording: Path, small_disk: Path
) -> None:
    with pytest.raises(ModeratorError) as error:
        write_evidence(REPORT, recording, small_disk / "out", SETTINGS)
    assert error.value.code == "LM-502"
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_evidence_manifest_is_that_of_the_folder(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_evidence(REPORT, recording, out, SETTINGS)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    there = {p.relative_to(out).as_posix(): p.stat().st_size for p in out.rglob("*") if p.is_file()}
    del there["manifest.json"]
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == there
