"""Evidence: served in ranges, never from elsewhere, every view on record; bundle and report."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from moderator.errors import ModeratorError
from moderator.review import bundle, printing
from moderator.review.models import Broadcast, ViolationRecord
from moderator.review.settings import ReviewSettings
from tests.review.world import World


def views(world: World, case: str) -> list[dict[str, Any]]:
    found = world.caller().get("/audit", params={"object_id": case, "action": "evidence.view"})
    return list(found.json()["items"])


def test_evidence_a_clip_is_served_whole_and_in_ranges(world: World) -> None:
    case = world.add_with_evidence()
    caller = world.caller("reviewer")
    url = f"/violations/{case}/evidence/clips/001.mp4"
    whole = caller.get(url)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.headers["accept-ranges"] == "bytes"
    part = caller.get(url, headers={"Range": "bytes=4-11"})
    assert (part.status_code, part.content) == (206, whole.content[4:12])
    assert part.headers["content-range"] == f"bytes 4-11/{len(whole.content)}"
    tail = caller.get(url, headers={"Range": "bytes=-5"})
    assert tail.content == whole.content[-5:]
    assert caller.get(url, headers={"Range": "bytes=99999-"}).status_code == 416


def test_evidence_every_view_is_on_record_once(world: World) -> None:
    case = world.add_with_evidence()
    caller = world.caller("auditor")
    for start in (0, 100, 200):
        caller.get(
            f"/violations/{case}/evidence/clips/001.mp4", headers={"Range": f"bytes={start}-"}
        )
    caller.get(f"/violations/{case}/evidence/frames/001.jpg")
    caller.get(f"/violations/{case}")
    seen = views(world, case)
    assert {entry["detail"]["path"] for entry in seen} == {
        "clips/001.mp4",
        "frames/001.jpg",
        "record",
    }
    assert len(seen) == 3
    assert all(entry["actor"] == "auditor" and entry["address"] for entry in seen)


@pytest.mark.parametrize(
    "path",
    [
        "../../console.sqlite3",
        "..%2f..%2fconsole.sqlite3",
        "%2e%2e/%2e%2e/secret",
        "clips/../../secret",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "clips",
        "clips/",
        ".",
        "clips\\001.mp4",
        "clips/001.mp4%00.jpg",
        "clips/002.mp4",
        "C:/windows/win.ini",
    ],
)
def test_evidence_nothing_but_what_the_record_names_is_served(world: World, path: str) -> None:
    case = world.add_with_evidence()
    (world.data / "secret").write_text("kept to itself")
    answer = world.caller().get(f"/violations/{case}/evidence/{path}")
    assert answer.status_code in (400, 404)
    assert b"kept to itself" not in answer.content
    assert b"root:" not in answer.content


@pytest.mark.parametrize("named", ["../../secret", "/etc/passwd", "clips/link.mp4", "clips"])
def test_evidence_a_record_that_names_a_file_elsewhere_gets_nothing(
    world: World, named: str
) -> None:
    case = world.add_with_evidence()
    (world.data / "secret").write_text("kept to itself")
    (world.data / "evidence" / "S-a" / "clips" / "link.mp4").symlink_to("/etc/passwd")
    with world.house.database.write() as db:
        kept = db.get_one(ViolationRecord, case)
        kept.body = {**kept.body, "evidence": {**kept.body["evidence"], "clip": named}}
    caller = world.caller()
    assert caller.get(f"/violations/{case}/evidence/{named}").status_code == 404
    shown = caller.get(f"/violations/{case}").json()["evidence"]
    assert [file["there"] for file in shown if file["kind"] == "clip"] == [False]
    made = caller.post(f"/violations/{case}/exports", {"kind": "zip"})
    archive = zipfile.ZipFile(io.BytesIO(caller.get(f"/exports/{made.json()['id']}").content))
    assert not any(b"root:" in archive.read(name) for name in archive.namelist())


def test_evidence_a_folder_outside_the_servers_places_is_not_served(
    world: World, tmp_path: Path
) -> None:
    case = world.add_with_evidence()
    outside = tmp_path / "outside"
    (outside / "clips").mkdir(parents=True)
    (outside / "clips" / "001.mp4").write_bytes(b"x")
    with world.house.database.write() as db:
        db.execute(update(Broadcast).values(folder=str(outside)))
    url = f"/violations/{case}/evidence/clips/001.mp4"
    assert world.caller().get(url).status_code == 404


def test_evidence_another_organisation_gets_nothing(world: World) -> None:
    case = world.add_with_evidence("b")
    caller = world.caller("reviewer", "a")
    assert caller.get(f"/violations/{case}/evidence/clips/001.mp4").status_code == 404
    assert caller.post(f"/violations/{case}/exports", {}).status_code == 404
    made = world.caller().post(f"/violations/{case}/exports", {}).json()
    assert caller.get(f"/exports/{made['id']}").status_code == 404


def test_evidence_frames_and_clips_never_run_as_pages(world: World) -> None:
    case = world.add_with_evidence()
    page = world.data / "evidence" / "S-a" / "frames" / "x.html"
    page.write_text("<script>alert(1)</script>")
    with world.house.database.write() as db:
        kept = db.get_one(ViolationRecord, case)
        kept.body = {
            **kept.body,
            "evidence": {**kept.body["evidence"], "frames": ["frames/x.html"]},
        }
    answer = world.caller().get(f"/violations/{case}/evidence/frames/x.html")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in answer.headers["content-security-policy"]


# --- the bundle -----------------------------------------------------------------------


def export(world: World, case: str, kind: str = "zip") -> bytes:
    caller = world.caller("reviewer")
    made = caller.post(f"/violations/{case}/exports", {"kind": kind})
    assert made.status_code == 201, made.text
    file = caller.get(f"/exports/{made.json()['id']}")
    assert file.status_code == 200
    assert hashlib.sha256(file.content).hexdigest() == made.json()["sha256"]
    return bytes(file.content)


def test_evidence_the_bundle_holds_the_case_and_its_hashes_hold(
    world: World, tmp_path: Path
) -> None:
    case = world.add_with_evidence()
    caller = world.caller("reviewer")
    caller.post(f"/violations/{case}/notes", {"text": "查过资质"})
    caller.decide(case, "confirm")
    path = tmp_path / "case.zip"
    path.write_bytes(export(world, case))
    manifest = bundle.verify(path)
    archive = zipfile.ZipFile(path)
    assert {
        *("README.txt", "record.json", "transcript.json", "law.json", "decisions.json"),
        *("notes.json", "audit.json", "clips/001.mp4", "frames/001.jpg", "report.pdf"),
        *("manifest.json", "transcript.jsonl"),
    } <= set(archive.namelist())
    assert all(check["matches"] for check in manifest["evidence"])
    assert json.loads(archive.read("record.json"))["quote"] == "国家级"
    assert json.loads(archive.read("decisions.json"))[0]["action"] == "confirm"
    assert json.loads(archive.read("audit.json"))[-1]["hash"]
    for name, entry in manifest["files"].items():
        assert hashlib.sha256(archive.read(name)).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("harm", ["change", "remove", "add", "reorder", "seal"])
def test_evidence_a_bundle_that_was_meddled_with_is_found_out(
    world: World, tmp_path: Path, harm: str
) -> None:
    source = zipfile.ZipFile(io.BytesIO(export(world, world.add_with_evidence())))
    parts = [(name, source.read(name)) for name in source.namelist()]
    if harm == "change":
        parts = [(n, d.replace("国家级".encode(), "国家及".encode())) for n, d in parts]
    elif harm == "remove":
        parts = [(n, d) for n, d in parts if n != "notes.json"]
    elif harm == "add":
        parts.insert(1, ("more.json", b"{}"))
    elif harm == "reorder":
        parts[0], parts[1] = parts[1], parts[0]
    else:
        parts = [
            (n, d if n != "manifest.json" else json.dumps({**json.loads(d), "seal": "0"}).encode())
            for n, d in parts
        ]
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts:
            archive.writestr(name, data)
    with pytest.raises(ModeratorError, match="LM-938"):
        bundle.verify(path)


def test_evidence_a_clip_that_changed_since_is_named_in_the_manifest(
    world: World, tmp_path: Path
) -> None:
    case = world.add_with_evidence()
    (world.data / "evidence" / "S-a" / "clips" / "001.mp4").write_bytes(b"other")
    path = tmp_path / "case.zip"
    path.write_bytes(export(world, case))
    checks = {check["path"]: check["matches"] for check in bundle.verify(path)["evidence"]}
    assert checks == {"clips/001.mp4": False, "frames/001.jpg": True, "transcript.jsonl": True}


def test_evidence_that_it_was_exported_is_visible_and_on_record(world: World) -> None:
    case = world.add_with_evidence()
    caller = world.caller("reviewer")
    assert caller.get(f"/violations/{case}").json()["violation"]["exported_at"] is None
    export(world, case)
    detail = caller.get(f"/violations/{case}").json()
    assert detail["violation"]["exported_at"]
    assert [one["user_name"] for one in detail["exports"]] == ["reviewer"]
    entries = caller_audit(world, case)
    assert "evidence.export" in entries


def caller_audit(world: World, case: str) -> list[str]:
    found = world.caller().get("/audit", params={"object_id": case}).json()["items"]
    return [entry["action"] for entry in found]


# --- the report -----------------------------------------------------------------------


def test_evidence_the_report_prints_chinese_with_its_own_font_and_pictures(
    world: World,
) -> None:
    pdfium = pytest.importorskip("pypdfium2")
    case = world.add_with_evidence()
    world.caller("reviewer").decide(case, "confirm", comment="情况属实 😀\x07 <b>")
    data = export(world, case, "pdf")
    assert data.startswith(b"%PDF-")
    assert b"/FontFile" in data
    document = pdfium.PdfDocument(data)
    text = "".join(page.get_textpage().get_text_range() for page in document)
    for words in (
        "直播合规违规线索报告",
        "国家级",
        "第九条（三）",
        "甲商行",
        "确认违规",
        "情况属实",
    ):
        assert words in text
    kinds = {item.type for page in document for item in page.get_objects()}
    assert 3 in kinds  # FPDF_PAGEOBJ_IMAGE


def test_evidence_without_any_chinese_font_the_report_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(printing, "SYSTEM_FONTS", ())
    monkeypatch.setattr(printing, "_packaged", lambda: None)
    case = world.add_with_evidence()
    caller = world.caller("reviewer")
    answer = caller.post(f"/violations/{case}/exports", {"kind": "pdf"})
    assert (answer.status_code, answer.json()["code"]) == (501, "LM-926")
    assert "pylopdf-fonts-zh-cn" in answer.json()["mend"]
    path = tmp_path / "case.zip"
    path.write_bytes(export(world, case))
    assert any("LM-926" in missing for missing in bundle.verify(path)["missing"])


def test_evidence_the_font_comes_with_the_server_extra_and_not_from_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("pylopdf_fonts_zh_cn")
    monkeypatch.setattr(printing, "SYSTEM_FONTS", ())
    path, _ = printing.find_font()
    assert path.name == "NotoSansSC-Regular.otf"
    assert ReviewSettings().font is None
