"""Private numbers: masked for who need not see them, in every way out; and retention."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from moderator.review import retention, search
from moderator.review.models import (
    AuditEntry,
    Broadcast,
    Decision,
    Note,
    ObservationRow,
    ViolationRow,
    utcnow,
)
from moderator.review.privacy import mask, mask_text
from tests.review.world import World

SECRETS = [
    ("打这个电话13812345678就行", "138******78"),
    ("电话138-1234-5678", "1234"),
    ("电话１３８１２３４５６７８", "１２３４"),
    ("+86 138 1234 5678", "1234 5678"),
    ("幺三八一二三四五六七八", "一二三四五"),
    ("座机0755-12345678", "12345678"),
    ("身份证110101199003071234", "19900307"),
    ("身份证11010119900307123X", "19900307"),
    ("加微信 xiaotang_2024", "iaotang_202"),
    ("微信号：wx_abc-123", "x_abc-12"),
    ("薇信是 abcdef9", "bcdef"),
    ("加v：taotao888", "aotao88"),
    ("VX tangtang99", "angtang9"),
    ("加微信13812345678", "1381234567"),
    ("QQ号 123456789", "2345678"),
]

HARMLESS = [
    "原价1299元，现价899元",
    "订单编号 202511250001",
    "这款面霜50克，限量2000份",
    "国妆特字20250000",
    "微信支付立减十元",
    "第一百二十三条，二零二五年十一月二十五日",
    "GB/T 19460-2008",
    "12345678",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_privacy_numbers_and_names_are_masked_in_place(text: str, secret: str) -> None:
    masked = mask_text(text)
    assert len(masked) == len(text)
    assert "*" in masked
    if "*" not in secret:
        assert secret not in masked
    assert mask_text(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_privacy_prices_and_order_numbers_stay(text: str) -> None:
    assert mask_text(text) == text


@given(st.text(max_size=200))
def test_privacy_masking_keeps_the_length_of_any_text(text: str) -> None:
    assert len(mask_text(text)) == len(text)


def test_privacy_masking_reaches_lists_dicts_and_single_characters() -> None:
    text = "打13812345678"
    body = {"text": text, "chars": [[c, 0, 1, 0.9] for c in text], "deep": [{"x": [text]}]}
    masked = mask(body)
    assert "".join(char[0] for char in masked["chars"]) == masked["text"]
    assert "12345" not in str(masked)
    assert mask({"id": "13812345678", "room_id": "13812345678"})["id"] == "13812345678"


@pytest.fixture
def secret_case(world: World) -> str:
    case = world.add_with_evidence(quote="加微信xiaotang99打13812345678")
    reviewer = world.caller("reviewer")
    reviewer.post(f"/violations/{case}/notes", {"text": "回拨13812345678"})
    reviewer.decide(case, "confirm", comment="号码13812345678")
    return case


@pytest.mark.parametrize(
    ("role", "sees"), [("reviewer", True), ("auditor", False), ("streamer", False)]
)
def test_privacy_roles_that_need_not_see_numbers_never_get_them(
    world: World, secret_case: str, role: str, sees: bool
) -> None:
    caller = world.caller(role, "a")
    answers = [
        caller.get("/violations"),
        caller.get(f"/violations/{secret_case}"),
        caller.get("/broadcasts/S-a/timeline"),
        caller.get("/search", params={"q": "加微信"}),
        caller.get("/rooms"),
    ]
    assert all(answer.status_code == 200 for answer in answers)
    text = "".join(answer.text for answer in answers)
    assert ("13812345678" in text) is sees
    assert ("xiaotang99" in text) is sees
    file = caller.get(f"/violations/{secret_case}/evidence/transcript.jsonl")
    assert (file.status_code == 200) is sees


def test_privacy_search_does_not_give_away_what_is_masked(world: World, secret_case: str) -> None:
    def found(role: str, words: str) -> int:
        answer = world.caller(role, "a").get("/violations", params={"q": words}).json()
        return len(answer["items"])

    for words in ("13812345678", "12345", "345", "xiaotang99", "aotang"):
        assert found("reviewer", words) == 1
        assert found("auditor", words) == 0
    assert found("auditor", "加微信") == 1
    assert found("auditor", "的品质") == 1
    counts = world.caller("auditor", "a").get("/violations/counts?q=12345678").json()
    assert counts["total"] == 0
    lines = world.caller("auditor", "a").get("/search", params={"q": "12345"}).json()
    assert lines == {"violations": [], "transcript": []}


# --- retention ------------------------------------------------------------------------


def age(world: World, case: str, days: int, **values: object) -> None:
    at = utcnow() - timedelta(days=days)
    with world.house.database.write() as db:
        db.execute(update(ViolationRow).where(ViolationRow.id == case).values(at=at, **values))


def test_privacy_retention_keeps_by_what_was_decided(world: World) -> None:
    kept, gone = [], []
    for status, days, due in (
        ("dismissed", 200, True),
        ("dismissed", 100, False),
        ("open", 400, True),
        ("open", 300, False),
        ("confirmed", 1000, False),
        ("confirmed", 1200, True),
        ("needs_proof", 1000, False),
    ):
        case = world.add()
        age(world, case, days, status=status)
        (gone if due else kept).append(case)
    held = world.add()
    world.caller("second_reviewer").put(f"/violations/{held}/hold", {"held": True})
    age(world, held, 4000, status="dismissed")
    dry = world.caller().post("/retention", {"dry_run": True}).json()
    assert (dry["violations"], dry["held"]) == (len(gone), 1)
    with world.house.database.read() as db:
        assert db.scalar(select(func.count()).select_from(ViolationRow)) == 8
    done = world.caller().post("/retention", {"dry_run": False}).json()
    assert done["violations"] == len(gone)
    with world.house.database.read() as db:
        assert set(db.scalars(select(ViolationRow.id))) == {*kept, held}
        removed = db.scalars(
            select(AuditEntry.detail).where(AuditEntry.action == "retention.remove")
        ).all()
    assert all(any(case in detail for detail in removed) for case in gone)
    assert world.caller().get("/audit/verify").json()["sound"]


def test_privacy_retention_removes_every_trace_but_the_audit_log(world: World) -> None:
    case = world.add_with_evidence()
    caller = world.caller("reviewer")
    caller.post(f"/violations/{case}/notes", {"text": "x"})
    caller.post(f"/violations/{case}/exports", {"kind": "zip"})
    caller.decide(case, "dismiss", reason="context")
    age(world, case, 200)
    removed = retention.run(world.house.database, world.house.settings)
    assert (removed.violations, removed.files) == (1, 3)
    left = [path.name for path in world.data.rglob("*") if path.is_file()]
    assert not {"001.mp4", "001.jpg"} & set(left)
    assert not [name for name in left if name.endswith(".zip")]
    with world.house.database.read() as db:
        for table in (Decision, Note, ViolationRow):
            assert db.scalar(select(func.count()).select_from(table)) == 0
        assert (
            search.holds(db, search.VIOLATIONS, ViolationRow.seq, "国家级", private=True)
            is not None
        )
    assert caller.get("/violations?q=国家级").json()["items"] == []


def test_privacy_retention_leaves_a_clip_that_another_record_shows(world: World) -> None:
    first, second = world.add_with_evidence(), world.add_with_evidence()
    world.caller("reviewer").decide(first, "dismiss", reason="context")
    age(world, first, 200)
    retention.run(world.house.database, world.house.settings)
    url = f"/violations/{second}/evidence/clips/001.mp4"
    assert world.caller().get(url).status_code == 200


def test_privacy_retention_never_touches_folders_that_are_not_its_own(
    world: World, tmp_path: Path
) -> None:
    case = world.add_with_evidence()
    with world.house.database.write() as db:
        db.execute(update(Broadcast).values(owned=False))
    age(world, case, 5000, status="confirmed")
    assert retention.run(world.house.database, world.house.settings).files == 0
    assert (world.data / "evidence" / "S-a" / "clips" / "001.mp4").is_file()


def test_privacy_old_transcripts_go_unless_something_is_held(world: World) -> None:
    case = world.add_with_evidence()
    with world.house.database.write() as db:
        db.execute(update(Broadcast).values(started_at=utcnow() - timedelta(days=500)))
    world.caller("second_reviewer").put(f"/violations/{case}/hold", {"held": True})
    assert retention.run(world.house.database, world.house.settings).observations == 0
    world.caller("second_reviewer").put(f"/violations/{case}/hold", {"held": False})
    assert retention.run(world.house.database, world.house.settings).observations == 2
    with world.house.database.read() as db:
        assert db.scalar(select(func.count()).select_from(ObservationRow)) == 0
    assert not (world.data / "evidence" / "S-a" / "transcript.jsonl").exists()
