"""Checking scripts and recordings before going live."""

from __future__ import annotations

import io
import time
import wave
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from moderator.errors import NOT_MEDIA, ModeratorError
from moderator.outputs.folder import write_folder
from moderator.outputs.report import Report
from moderator.review import jobs
from moderator.review.app import create_app, prepare
from moderator.review.jobs import JobRunner
from moderator.review.models import Job, utcnow
from moderator.review.precheck import rewrites
from moderator.review.settings import ReviewSettings
from tests.outputs.builders import media_report, violation
from tests.review.world import World, populate

BAD = "家人们，这是国家级的品质"


def check(world: World, text: str, **fields: Any) -> Any:
    return world.caller("streamer", "a").post("/check", {"text": text, **fields})


def test_precheck_marks_the_words_with_article_reason_and_place(world: World) -> None:
    text = f"第一行没事\n{BAD}\n"
    body = check(world, text).json()
    mark = next(m for m in body["marks"] if "国家级" in m["record"]["quote"])
    assert body["text"][mark["begin"] : mark["end"]] == "国家级"
    assert (mark["line"], mark["column"]) == (2, 7)
    assert mark["record"]["explanation"]
    assert any("广告法" in article["title"] for article in mark["articles"])
    assert any(article["text"] for article in mark["articles"])
    assert body["summary"]["total"] >= 1


def test_precheck_offsets_hold_with_line_ends_of_every_kind_and_wide_characters(
    world: World,
) -> None:
    body = check(world, f"😀好\r\n二\r{BAD}").json()
    mark = next(m for m in body["marks"] if "国家级" in m["record"]["quote"])
    assert body["text"][mark["begin"] : mark["end"]] == "国家级"


def test_precheck_a_clean_or_empty_script_has_no_marks(world: World) -> None:
    for text in ("", "   \n", "今天给大家介绍一款保温杯，容量五百毫升。"):
        answer = check(world, text)
        assert (answer.status_code, answer.json()["marks"]) == (200, [])


def test_precheck_accepting_a_rewrite_clears_the_mark(world: World) -> None:
    body = check(world, BAD).json()
    mark = next(m for m in body["marks"] if "国家级" in m["record"]["quote"])
    offered = mark["rewrites"]
    text = body["text"][: mark["begin"]] + offered[0] + body["text"][mark["end"] :]
    again = check(world, text).json()
    assert not [m for m in again["marks"] if "国家级" in m["record"]["quote"]]


@pytest.mark.parametrize(
    ("suggestion", "offered"),
    [
        ("改说“清爽”“温和”等使用感受。", ["清爽", "温和"]),
        ("删去“包治、根除”等说法，只介绍配料。", []),
        ("改为“用料讲究”。", ["用料讲究"]),
        ("直接说明情况。", []),
        ("改说“有助于……”，并提示。", []),
        ("说“我自己很喜欢，已经回购两次了”。", ["我自己很喜欢，已经回购两次了"]),
        ("说“回购的人很多”“用的是好料”，不说“最好”。", ["回购的人很多", "用的是好料"]),
        ("没有证书别说“第一”，说具体的，例如“今早刚摘的”。", ["今早刚摘的"]),
        ("画面标明“广告”。", []),
        ("不说谁推荐，改说“国家级的品质”。", []),
        ("Say “I like it a lot”, not “the best”.", ["I like it a lot"]),
        ("Name the standard instead, e.g. “made to it”.", ["made to it"]),
    ],
)
def test_precheck_rewrites_are_what_the_suggestion_offers(
    suggestion: str, offered: list[str]
) -> None:
    assert rewrites(suggestion, "国家级") == offered


def test_precheck_a_passport_makes_a_lawful_claim_lawful(world: World) -> None:
    passport = {
        "id": "sun",
        "name": "防晒霜",
        "category": "cosmetic",
        "registrations": [
            {"kind": "special_cosmetic", "number": "国妆特字20250000", "functions": ["防晒"]}
        ],
    }
    made = world.caller("reviewer").post("/passports", {"passport": passport})
    assert made.status_code == 201
    names = [one["id"] for one in world.caller("streamer", "a").get("/passports").json()]
    assert names == ["sun"]
    given = check(world, "这款防晒霜真好用", products=["sun"])
    assert given.status_code == 200
    assert check(world, "x", products=["nothing"]).status_code == 404
    assert check(world, "x", passports=[{"category": "bogus"}]).json()["code"] == "LM-301"


def test_precheck_another_organisations_passport_is_not_there(world: World) -> None:
    body = {
        "passport": {"id": "theirs", "category": "food"},
        "organisation_id": world.organisations["b"],
    }
    assert world.caller().post("/passports", body).status_code == 201
    assert check(world, "x", products=["theirs"]).status_code == 404
    mine = {"passport": {"id": "theirs", "category": "food"}}
    assert world.caller("reviewer", "a").post("/passports", mine).status_code == 409


# --- files ----------------------------------------------------------------------------


def send(world: World, name: str, data: bytes) -> Any:
    return world.caller("streamer", "a").post("/check/file", files={"file": (name, data)})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_precheck_files_are_read_in_the_encodings_people_save(world: World, encoding: str) -> None:
    text = f"{BAD}，大家好，今天直播间给大家带来一款面霜。\n" * 5
    body = send(world, "稿子.txt", text.encode(encoding)).json()
    assert BAD in body["text"]
    assert body["marks"]


def test_precheck_a_word_document_is_read(world: World) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_paragraph(BAD)
    out = io.BytesIO()
    document.save(out)
    assert send(world, "稿子.docx", out.getvalue()).json()["marks"]


def bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", b"<w>" + b"A" * 300_000_000)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.exe", b"MZ", "LM-918"),
        ("a.txt", b"", "LM-103"),
        ("a.txt", b"abc\0def", "LM-602"),
        ("a.docx", b"PK\x03\x04 broken", "LM-605"),
        ("a.docx", b"\xd0\xcf\x11\xe0 old", "LM-605"),
        ("noname", b"x", "LM-918"),
    ],
)
def test_precheck_files_that_cannot_be_read_say_why(
    world: World, name: str, data: bytes, code: str
) -> None:
    answer = send(world, name, data)
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"] == code
    assert str(world.data) not in answer.text


def test_precheck_a_zip_bomb_is_refused(world: World) -> None:
    answer = send(world, "a.docx", bomb())
    assert answer.status_code in (413, 422)
    assert answer.json()["code"] in ("LM-603", "LM-605")


def test_precheck_too_much_text_is_refused(world: World) -> None:
    assert check(world, "好" * 200_001).status_code == 413
    assert send(world, "a.txt", b"a" * (6 << 20)).status_code == 413


@pytest.mark.parametrize("format_", ["docx", "txt", "html"])
def test_precheck_the_script_is_taken_away_with_its_marks(world: World, format_: str) -> None:
    hostile = f"{BAD}\n<script>alert(1)</script>\x07"
    body = {"text": hostile, "format": format_, "name": "../稿\r\n子"}
    answer = world.caller("streamer", "a").post("/check/download", body)
    assert answer.status_code == 200, answer.text
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment")
    assert "/" not in disposition.split("''")[1]
    if format_ == "txt":
        assert answer.content.decode() == hostile
    elif format_ == "html":
        assert "<mark" in answer.text
        assert "<script>" not in answer.text
    else:
        from moderator.script import script_from_bytes

        kept = script_from_bytes(answer.content, source="x.docx", kind="docx")
        assert BAD in kept.text


# --- jobs -----------------------------------------------------------------------------


def announce(world: World, size: int, name: str = "录像.mp4", **fields: Any) -> Any:
    body = {"name": name, "size_bytes": size, **fields}
    return world.caller("streamer", "a").post("/jobs", body)


def piece(world: World, job: str, offset: int, data: bytes) -> Any:
    http: TestClient = world.caller("streamer", "a").http
    return http.patch(
        f"/api/v1/jobs/{job}/content",
        content=data,
        headers={"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"},
    )


def test_precheck_an_upload_goes_on_where_it_stands(world: World) -> None:
    job = announce(world, 10).json()
    assert (job["state"], job["received_bytes"]) == ("uploading", 0)
    assert piece(world, job["id"], 0, b"12345").json()["received_bytes"] == 5
    # The answer was lost, and the piece comes again; or one is left out.
    for offset in (0, 7):
        answer = piece(world, job["id"], offset, b"12345")
        assert (answer.status_code, answer.json()["code"]) == (409, "LM-919")
    # After a reload the page asks where it stands.
    again = world.caller("streamer", "a").get("/jobs").json()[0]
    assert again["received_bytes"] == 5
    done = piece(world, job["id"], again["received_bytes"], b"67890").json()
    assert done["state"] == "queued"
    (file,) = world.data.glob("uploads/*/upload.mp4")
    assert file.read_bytes() == b"1234567890"
    assert piece(world, job["id"], 10, b"x").json()["code"] == "LM-920"


def test_precheck_uploads_are_bounded_and_of_known_kinds(world: World) -> None:
    assert announce(world, 5 << 40).status_code == 413
    assert announce(world, 5, "a.exe").status_code == 415
    assert announce(world, 0).status_code == 422
    job = announce(world, 4).json()
    assert piece(world, job["id"], 0, b"12345").status_code == 413
    assert piece(world, job["id"], 0, b"").status_code == 409
    assert piece(world, job["id"], 0, b"x" * ((16 << 20) + 1)).status_code == 413
    codes = [announce(world, 4).status_code for _ in range(20)]
    assert codes == [201] * 19 + [429]


def test_precheck_a_job_cannot_go_into_another_organisations_room(world: World) -> None:
    world.add(room="b")
    assert announce(world, 4, room="room_b").status_code == 404


def test_precheck_cancelling_removes_what_was_uploaded(world: World) -> None:
    job = announce(world, 10).json()
    piece(world, job["id"], 0, b"12345")
    cancelled = world.caller("streamer", "a").delete(f"/jobs/{job['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert not list(world.data.glob("uploads/*"))


def fake_check(path: Path, *, out: Path, room: Any, progress: Any, **_: Any) -> Report:
    progress(1.0, 4.0)
    if path.read_bytes().startswith(b"bad"):
        raise ModeratorError(NOT_MEDIA, path=path, reason="no tracks")
    if path.read_bytes().startswith(b"boom"):
        raise RuntimeError("a stage fell over")
    found = media_report(violation(session="J1", room=room.id), session="J1", room=room)
    return write_folder(out, found)


@pytest.fixture
def runner(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobRunner]:
    monkeypatch.setattr(jobs, "IDLE_S", 0.05)
    made = JobRunner(world.house.database, world.house.settings, fake_check)
    made.start()
    yield made
    made.stop()


def wait(world: World, job: str, *states: str) -> dict[str, Any]:
    for _ in range(400):
        found: dict[str, Any] = world.caller("streamer", "a").get(f"/jobs/{job}").json()
        if found["state"] in states:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {found['state']}")


def test_precheck_a_recording_is_checked_and_its_records_join_the_queue(
    world: World, runner: JobRunner
) -> None:
    job = announce(world, 4, room="mine").json()["id"]
    piece(world, job, 0, b"data")
    done = wait(world, job, "done", "failed")
    assert (done["state"], done["progress"]) == ("done", 1.0)
    assert done["summary"]["total"] == 1
    (item,) = world.caller("streamer", "a").get("/violations?room=mine").json()["items"]
    assert item["broadcast_id"] == done["broadcast_id"] == "J1"
    media = world.caller("streamer", "a").get("/broadcasts/J1/media")
    assert media.content == b"data"
    assert world.caller("reviewer", "b").get("/broadcasts/J1/media").status_code == 404


@pytest.mark.parametrize(("data", "code"), [(b"bad!", "LM-105"), (b"boom", "LM-937")])
def test_precheck_a_recording_that_cannot_be_checked_says_why(
    world: World, runner: JobRunner, data: bytes, code: str
) -> None:
    job = announce(world, 4).json()["id"]
    piece(world, job, 0, data)
    failed = wait(world, job, "failed")
    assert failed["error"]["code"] == code
    assert failed["error"]["zh"]


def test_precheck_a_job_that_a_dead_server_left_is_taken_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = announce(world, 4).json()["id"]
    piece(world, job, 0, b"data")
    with world.house.database.write() as db:
        old = utcnow() - 2 * jobs.LOST_AFTER
        db.execute(update(Job).values(state="running", worker="dead", beat_at=old))
    monkeypatch.setattr(jobs, "IDLE_S", 0.05)
    made = JobRunner(world.house.database, world.house.settings, fake_check)
    made.start()
    try:
        assert wait(world, job, "done")["state"] == "done"
    finally:
        made.stop()


def test_precheck_a_job_survives_a_restart_of_the_server(database_url: str, tmp_path: Path) -> None:
    settings = ReviewSettings(database_url=database_url, data_dir=tmp_path / "data")
    first = create_app(settings, background=False)
    prepare(first.state.house)
    world = populate(first, tmp_path / "data")
    job = announce(world, 4).json()["id"]
    piece(world, job, 0, b"data")
    first.state.house.database.close()
    second = create_app(settings, checker=fake_check)
    with TestClient(second):
        again = World(second, second.state.house, tmp_path / "data")
        assert wait(again, job, "done")["state"] == "done"


@pytest.mark.slow
def test_precheck_a_real_recording_goes_through_the_real_check(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_whisper")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 16000 * 2)
    data = out.getvalue()
    job = announce(world, len(data), "silence.wav").json()["id"]
    piece(world, job, 0, data)
    monkeypatch.setattr(jobs, "IDLE_S", 0.05)
    made = JobRunner(world.house.database, world.house.settings)
    made.start()
    try:
        done = wait(world, job, "done", "failed")
    finally:
        made.stop()
    assert done["state"] == "done", done["error"]
