from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from moderator.errors import CLIP_FAILED, ModeratorError
from moderator.outputs import folder as folder_module
from moderator.outputs.folder import check_out_dir, write_folder
from moderator.records import Violation
from tests.outputs.builders import code, media_report, screen_text, script_report, violation


def make_clip(record: Violation, path: Path) -> None:
    path.write_bytes(f"clip of {record.start}".encode())


def make_frame(record: Violation, path: Path) -> None:
    if record.channel == "screen":
        path.write_bytes(f"frame of {record.quote}".encode())


def contents(path: Path) -> dict[str, bytes]:
    return {
        item.relative_to(path).as_posix(): item.read_bytes()
        for item in sorted(path.rglob("*"))
        if item.is_file()
    }


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


SPEECH = violation(start=10.0, end=11.0)
SCREEN = violation("最低价", channel="screen", start=30.0, end=50.0)
REPORT = media_report(
    SPEECH, SCREEN, screen_texts=(screen_text("最低价", 30, 50),), codes=(code("x", 2),)
)


def test_folder_holds_what_the_manifest_says(tmp_path: Path) -> None:
    out = tmp_path / "new" / "结果"
    report = write_folder(out, REPORT, make_clip, make_frame)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    files = contents(out)
    del files["manifest.json"]
    assert (
        set(files)
        == set(manifest["files"])
        == {
            "violations.jsonl",
            "transcript.jsonl",
            "screen.jsonl",
            "report.html",
            "clips/001_0-10.mp4",
            "clips/002_0-30.mp4",
            "frames/001_0-30.jpg",
        }
    )
    for name, data in files.items():
        assert manifest["files"][name] == {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    assert manifest["tool"]["name"] == "moderator"
    assert manifest["summary"]["total"] == 2
    records = [Violation.from_json(row) for row in lines(out / "violations.jsonl")]
    assert tuple(records) == report.violations
    assert [row["channel"] for row in lines(out / "screen.jsonl")] == ["code", "screen"]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_folder_fills_in_the_evidence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    speech, screen = write_folder(out, REPORT, make_clip, make_frame).violations
    assert speech.evidence.clip == "clips/001_0-10.mp4"
    assert speech.evidence.frames == ()
    assert speech.evidence.transcript == "transcript.jsonl"
    assert screen.evidence.frames == ("frames/001_0-30.jpg",)
    assert screen.evidence.transcript is None
    for record in (speech, screen):
        for name, digest in record.evidence.sha256.items():
            assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "./clips/001_0-10.mp4" in page
    assert speech.id == SPEECH.id


def test_folder_neighbours_share_a_clip(tmp_path: Path) -> None:
    made: list[float] = []

    def counted(record: Violation, path: Path) -> None:
        made.append(record.start)
        make_clip(record, path)

    times = [
        (10.0, 12.0),
        (10.5, 12.8),
        (14.0, 15.0),
        (100.0, 400.0),
        (350.0, 351.0),
        (100.0, 400.0),
    ]
    records = [violation(start=start, end=end) for start, end in times]
    report = write_folder(tmp_path / "out", media_report(*records), counted)
    assert made == [10.0, 14.0, 100.0, 350.0]
    clips = [record.evidence.clip for record in report.violations]
    assert clips[0] == clips[1]
    assert clips[3] == clips[5]
    assert len(set(clips)) == 4


def test_folder_cuts_no_clip_for_what_the_whole_session_lacks(tmp_path: Path) -> None:
    report = write_folder(
        tmp_path / "out", media_report(violation(channel="stream")), make_clip, make_frame
    )
    assert report.violations[0].evidence.clip is None


def test_folder_of_a_script_holds_its_lines(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_folder(out, script_report("开场\n国家级", "国家级"))
    assert sorted(contents(out)) == [
        "manifest.json",
        "report.html",
        "script.jsonl",
        "violations.jsonl",
    ]
    assert [row["line"] for row in lines(out / "script.jsonl")] == [1, 2]


def test_folder_reports_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    write_folder(
        tmp_path / "out",
        REPORT,
        make_clip,
        make_frame,
        lambda done, total: steps.append((done, total)),
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_folder_a_clip_that_cannot_be_cut_leaves_a_note(tmp_path: Path) -> None:
    def refuse(record: Violation, path: Path) -> None:
        path.write_bytes(b"half")
        if record is SPEECH:
            raise ModeratorError(CLIP_FAILED, start=record.start, reason="damaged")

    report = write_folder(tmp_path / "out", REPORT, refuse)
    assert report.violations[0].evidence.clip is None
    assert report.violations[1].evidence.clip == "clips/001_0-30.mp4"
    assert "LM-503" in report.notes[0]
    assert list(contents(tmp_path / "out" / "clips")) == ["001_0-30.mp4"]
    assert "LM-503" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


# --- what is in the way -------------------------------------------------------------


def test_folder_replaces_an_earlier_result_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_folder(out, REPORT, make_clip, make_frame)
    (out / ".DS_Store").touch()
    write_folder(out, media_report())
    assert "clips/001_0-10.mp4" not in contents(out)
    assert lines(out / "violations.jsonl") == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folder_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", media_report())
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.parametrize(
    "prepare",
    [
        lambda out: (out.mkdir(), (out / "notes.txt").write_text("mine")),
        lambda out: (out.mkdir(), (out / "manifest.json").write_text('{"name": "my app"}')),
        lambda out: (out.mkdir(), (out / "manifest.json").write_text("not json")),
        lambda out: out.write_text("a file"),
        lambda out: (write_folder(out, media_report()), (out / "verdict.docx").write_text("mine")),
    ],
)
def test_folder_never_removes_what_is_not_ours(tmp_path: Path, prepare: object) -> None:
    out = tmp_path / "out"
    prepare(out)  # type: ignore[operator]
    before = contents(tmp_path)
    for attempt in (lambda: write_folder(out, REPORT, make_clip), lambda: check_out_dir(out)):
        with pytest.raises(ModeratorError) as error:
            attempt()
        assert error.value.code == "LM-501"
    assert contents(tmp_path) == before


# --- when it goes wrong -------------------------------------------------------------


def full_disk(record: Violation, path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(record: Violation, path: Path) -> None:
    path.write_bytes(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("earlier", [False, True])
def test_folder_disk_full_leaves_what_was_there(tmp_path: Path, earlier: bool) -> None:
    out = tmp_path / "a" / "out"
    if earlier:
        write_folder(out, media_report())
    before = contents(tmp_path)
    with pytest.raises(ModeratorError) as error:
        write_folder(out, REPORT, full_disk)
    assert error.value.code == "LM-502"
    assert os.strerror(errno.ENOSPC) in str(error.value)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["a"] if earlier else [])


def test_folder_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "a" / "out", REPORT, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_folder_interrupt_while_publishing_restores_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_folder(out, media_report())
    before = contents(tmp_path)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        write_folder(out, REPORT, make_clip)
    assert contents(tmp_path) == before


def test_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for attempt in (
        lambda: write_folder(tmp_path / "file" / "out", REPORT),
        lambda: check_out_dir(tmp_path / "file" / "out"),
        lambda: check_out_dir(tmp_path / ("x" * 300)),
    ):
        with pytest.raises(ModeratorError) as error:
            attempt()
        assert error.value.code == "LM-502"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_folder_check_leaves_no_trace(tmp_path: Path) -> None:
    check_out_dir(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_mounted_volume_is_filled_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_folder(out, REPORT, make_clip, make_frame)
    monkeypatch.setattr(folder_module, "_fixed", lambda folder: folder.is_dir())
    inode = out.stat().st_ino
    write_folder(out, media_report(SPEECH), make_clip)
    assert out.stat().st_ino == inode
    assert "frames/001_0-30.jpg" not in contents(out)
    assert set(contents(out)) >= {"manifest.json", "clips/001_0-10.mp4", "report.html"}
    assert not [path for path in out.iterdir() if ".partial-" in path.name]
    with pytest.raises(ModeratorError):
        write_folder(out, REPORT, full_disk)
    assert set(contents(out)) >= {"manifest.json", "clips/001_0-10.mp4"}
