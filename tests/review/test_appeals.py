"""Appeals: the merchant answers by a signed link, with words and documents, and is answered."""

from __future__ import annotations

import io
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moderator.errors import ModeratorError
from moderator.review.app import prepare
from moderator.review.house import House
from moderator.review.models import utcnow
from moderator.review.settings import ReviewSettings
from moderator.review.signing import Signer
from tests.review.world import Caller, World

PDF = ("证明.pdf", b"%PDF-1.7 proof")


def invite(world: World, case: str) -> tuple[str, str]:
    """The appeal's id and the path of its link in the API."""
    made = world.caller("reviewer").post(f"/violations/{case}/appeals")
    assert made.status_code == 201, made.text
    token = made.json()["url"].rsplit("/", 1)[1]
    return made.json()["appeal"]["id"], f"/api/v1/appeal-links/{token}"


@pytest.fixture
def confirmed(world: World) -> str:
    case = world.add_with_evidence()
    world.caller("reviewer").decide(case, "confirm")
    return case


def test_appeals_the_link_shows_the_case_without_an_account(world: World, confirmed: str) -> None:
    _, link = invite(world, confirmed)
    http = world.anonymous()
    shown = http.get(link).json()
    assert shown["quote"] == "国家级"
    assert shown["room_title"] == "甲的直播间"
    assert shown["articles"]
    clip = next(file for file in shown["evidence"] if file["kind"] == "clip")
    assert http.get(clip["url"], headers={"Range": "bytes=0-3"}).status_code == 206
    assert "reviewer" not in http.get(link).text
    assert {file["kind"] for file in shown["evidence"]} == {"clip", "frame"}
    assert http.get(f"{link}/evidence/transcript.jsonl").status_code == 404
    seen = world.caller().get("/audit", params={"object_id": confirmed}).json()["items"]
    assert any(entry["actor_id"].startswith("appeal:") for entry in seen)


def test_appeals_text_and_documents_reach_the_queue_and_the_answer_the_merchant(
    world: World, confirmed: str
) -> None:
    appeal, link = invite(world, confirmed)
    http = world.anonymous()
    document = http.post(f"{link}/documents", files={"file": PDF})
    assert document.status_code == 201, document.text
    sent = http.post(link, json={"text": "我们有检测报告", "name": "甲商行 法务"})
    assert sent.json()["state"] == "submitted"
    assert world.status(confirmed) == "appealed"
    second = world.caller("second_reviewer")
    (found,) = second.get("/appeals?state=submitted").json()["items"]
    assert (found["text"], found["documents"][0]["name"]) == ("我们有检测报告", "证明.pdf")
    file = second.get(f"/appeals/{appeal}/documents/{found['documents'][0]['id']}")
    assert file.content == PDF[1]
    assert file.headers["content-disposition"].startswith("attachment")
    body = {"accepted": True, "answer": "材料属实"}
    assert second.post(f"/appeals/{appeal}/answer", body).json()["state"] == "accepted"
    assert world.status(confirmed) == "dismissed"
    shown = http.get(link).json()
    assert (shown["state"], shown["answer"]) == ("accepted", "材料属实")


def test_appeals_a_rejected_one_confirms_the_violation(world: World, confirmed: str) -> None:
    appeal, link = invite(world, confirmed)
    world.anonymous().post(link, json={"text": "不服"})
    body = {"accepted": False, "answer": "证据充分"}
    assert world.caller("second_reviewer").post(f"/appeals/{appeal}/answer", body).is_success
    assert world.status(confirmed) == "confirmed"


def test_appeals_whoever_decided_does_not_answer(world: World) -> None:
    case = world.add_with_evidence()
    judge = world.caller("second_reviewer")
    judge.decide(case, "confirm")
    appeal, link = invite(world, case)
    world.anonymous().post(link, json={"text": "不服"})
    body = {"accepted": False, "answer": "维持"}
    answer = judge.post(f"/appeals/{appeal}/answer", body)
    assert (answer.status_code, answer.json()["code"]) == (403, "LM-913")
    other = Caller(world.app, "second_reviewer2")
    assert other.post(f"/appeals/{appeal}/answer", body).status_code == 200
    assert other.post(f"/appeals/{appeal}/answer", body).json()["code"] == "LM-916"


def test_appeals_are_made_once(world: World, confirmed: str) -> None:
    _, link = invite(world, confirmed)
    http = world.anonymous()
    assert http.post(link, json={"text": "一"}).status_code == 200
    again = http.post(link, json={"text": "二"})
    assert (again.status_code, again.json()["code"]) == (409, "LM-916")
    assert http.post(f"{link}/documents", files={"file": PDF}).status_code == 409


def test_appeals_a_new_link_ends_the_old_one_and_a_revoked_one_is_dead(
    world: World, confirmed: str
) -> None:
    _, old = invite(world, confirmed)
    appeal, new = invite(world, confirmed)
    assert world.anonymous().get(old).json()["code"] == "LM-915"
    assert world.anonymous().get(new).status_code == 200
    assert world.caller("reviewer").post(f"/appeals/{appeal}/revoke").status_code == 200
    assert world.anonymous().get(new).status_code == 404


def test_appeals_only_what_was_held_against_somebody_can_be_appealed(world: World) -> None:
    case = world.add()
    answer = world.caller("reviewer").post(f"/violations/{case}/appeals")
    assert (answer.status_code, answer.json()["code"]) == (409, "LM-912")


@pytest.mark.parametrize(
    "forge",
    [
        lambda token: token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        lambda token: token[1:],
        lambda token: token + "A",
        lambda token: token + "=",
        lambda token: "A" * len(token),
        lambda token: "é",
        lambda token: ".",
        lambda token: "x" * 9000,
    ],
)
def test_appeals_a_forged_link_opens_nothing(world: World, confirmed: str, forge: Any) -> None:
    _, link = invite(world, confirmed)
    base, token = link.rsplit("/", 1)
    answer = world.anonymous().get(f"{base}/{forge(token)}")
    assert answer.status_code in (404, 414)


def test_appeals_a_link_ends_with_its_time() -> None:
    signer = Signer("key")
    assert signer.read(signer.sign("A1", utcnow() + timedelta(minutes=1))) == "A1"
    token = signer.sign("A1", utcnow() + timedelta(seconds=1))
    time.sleep(1.1)
    with pytest.raises(ModeratorError, match="LM-915"):
        signer.read(token)
    with pytest.raises(ModeratorError, match="LM-915"):
        Signer("other").read(signer.sign("A1", utcnow() + timedelta(minutes=1)))


def test_appeals_the_key_that_signs_is_made_once_and_kept(
    database_url: str, tmp_path: Path
) -> None:
    settings = ReviewSettings(database_url=database_url, data_dir=tmp_path / "data")
    links = []
    for _ in range(2):
        house = House(settings)
        prepare(house)
        links.append(house.signer.sign("A1", datetime(2100, 1, 1, tzinfo=UTC)))
        house.database.close()
    assert links[0] == links[1]


# --- documents ------------------------------------------------------------------------


def docx(**parts: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"[Content_Types].xml": b"<Types/>", **parts}.items():
            archive.writestr(name, data)
    return out.getvalue()


def send(http: TestClient, link: str, name: str, data: bytes) -> Any:
    return http.post(f"{link}/documents", files={"file": (name, data)})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.exe", b"MZ\x90"),
        ("a.html", b"<script>alert(1)</script>"),
        ("a.svg", b"<svg onload=alert(1)>"),
        ("a.pdf", b"<html>not a pdf"),
        ("a.jpg", b"\x89PNG\r\n\x1a\n"),
        ("a.webp", b"RIFF\0\0\0\0WAVE"),
        ("a.docx", b"PK\x03\x04 broken"),
        ("a.docx", docx(bomb=b"\0" * 40_000_000)),
        ("a.zip", docx()),
        ("a.txt", b"text with \0 in it"),
        ("a.txt", b""),
        ("a", b"%PDF-"),
    ],
)
def test_appeals_documents_of_other_kinds_and_bombs_are_refused(
    world: World, confirmed: str, name: str, data: bytes
) -> None:
    _, link = invite(world, confirmed)
    answer = send(world.anonymous(), link, name, data)
    assert (answer.status_code, answer.json()["code"]) == (415, "LM-918")
    assert not list(world.data.glob("appeals/*/*"))


def test_appeals_documents_are_bounded_in_size_and_number(world: World, confirmed: str) -> None:
    _, link = invite(world, confirmed)
    http = world.anonymous()
    big = b"%PDF-" + b"x" * (11 << 20)
    assert send(http, link, "big.pdf", big).status_code == 413
    codes = [send(http, link, f"{n}.pdf", b"%PDF-1").status_code for n in range(11)]
    assert codes == [201] * 10 + [413]


@pytest.mark.parametrize(
    "name",
    ["../../../etc/cron.d/x.pdf", "..\\..\\x.pdf", "a\r\nSet-Cookie: x.pdf", "名" * 300 + ".pdf"],
)
def test_appeals_a_documents_name_never_reaches_the_disk_or_a_header(
    world: World, confirmed: str, name: str
) -> None:
    appeal, link = invite(world, confirmed)
    answer = send(world.anonymous(), link, name, b"%PDF-1.7")
    if answer.status_code in (415, 422):
        return  # not a name that was understood
    assert answer.status_code == 201, answer.text
    kept = [path for path in world.data.rglob("*") if path.is_file() and "appeals" in path.parts]
    assert [path.name for path in kept] == [answer.json()["id"]]
    url = f"/appeals/{appeal}/documents/{answer.json()['id']}"
    file = world.caller("second_reviewer").get(url)
    assert file.status_code == 200
    assert "x" not in file.headers.get("set-cookie", "")
