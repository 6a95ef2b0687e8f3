"""The audit log: chained, append-only, and it finds whoever changed it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from moderator.review import audit
from moderator.review.audit import SYSTEM
from moderator.review.models import AuditEntry
from tests.review.world import World


def write(world: World, count: int) -> None:
    with world.house.database.write() as db:
        for number in range(count):
            audit.append(db, SYSTEM, "test", "thing", str(number), detail={"说": "国家级"})


def without_guard(world: World, statement: str, **values: Any) -> None:
    """What somebody with the database in hand can do."""
    with world.house.database.write() as db:
        if world.house.database.dialect == "sqlite":
            db.execute(text("DROP TRIGGER audit_no_update"))
            db.execute(text("DROP TRIGGER audit_no_delete"))
        else:
            db.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER ALL"))
        db.execute(text(statement), values)


def test_audit_a_sound_chain_verifies(world: World) -> None:
    write(world, 25)
    answer = world.caller("auditor").get("/audit/verify").json()
    assert answer["sound"] is True
    assert answer["entries"] >= 25


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entry SET actor = 'x' WHERE seq = 3", "DELETE FROM audit_entry WHERE seq = 3"],
)
def test_audit_the_database_refuses_changes(world: World, statement: str) -> None:
    write(world, 5)
    with pytest.raises(DBAPIError, match="append-only"), world.house.database.write() as db:
        db.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET actor = 'x' WHERE seq = 3",
        "UPDATE audit_entry SET detail = '{}' WHERE seq = 3",
        "UPDATE audit_entry SET at = '2020-01-01' WHERE seq = 3",
        "DELETE FROM audit_entry WHERE seq = 3",
        "UPDATE audit_entry SET hash = prev WHERE seq = 3",
    ],
)
def test_audit_a_change_past_the_guard_is_found_at_its_place(world: World, statement: str) -> None:
    write(world, 6)
    without_guard(world, statement)
    with world.house.database.read() as db:
        found = audit.verify(db)
    assert (found.sound, found.first_bad) == (False, 3)
    assert found.reason


def test_audit_a_tail_cut_off_is_found_with_a_head_written_down(world: World) -> None:
    write(world, 6)
    with world.house.database.read() as db:
        head = db.execute(
            select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc())
        ).first()
    assert head is not None
    without_guard(world, "DELETE FROM audit_entry WHERE seq >= 5")
    with world.house.database.read() as db:
        assert audit.verify(db).sound
        found = audit.verify(db, head=(head.seq, head.hash))
    assert (found.sound, found.first_bad) == (False, 5)


def test_audit_writers_at_once_make_one_chain(world: World) -> None:
    def work() -> None:
        for _ in range(5):
            write(world, 1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with world.house.database.read() as db:
        assert db.scalar(select(func.count()).select_from(AuditEntry)) == 30
        assert audit.verify(db).sound


def test_audit_what_was_rolled_back_left_no_entry(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    before = len(world.caller().get("/audit?limit=200").json()["items"])
    assert caller.decide(case, "dismiss").status_code == 422
    assert len(world.caller().get("/audit?limit=200").json()["items"]) == before


def test_audit_every_decision_is_in_it_with_who_and_what(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    caller.decide(case, "dismiss", reason="context")
    caller.post(f"/violations/{case}/undo")
    caller.decide(case, "escalate")
    caller.post(f"/violations/{case}/notes", {"text": "x"})
    caller.put(f"/violations/{case}/assignee", {"user_id": caller.id})
    entries = world.caller().get("/audit", params={"object_id": case}).json()["items"]
    by_action = {entry["action"]: entry for entry in entries}
    assert set(by_action) >= {
        *("violation.dismiss", "violation.undo", "violation.escalate"),
        *("violation.note", "violation.assign"),
    }
    assert by_action["violation.dismiss"]["detail"]["reason"] == "context"
    assert {entry["actor_id"] for entry in entries} == {caller.id}


def test_audit_an_organisations_auditor_sees_its_own_entries(world: World) -> None:
    for room in ("a", "b"):
        world.caller("reviewer").decide(world.add(room=room), "confirm")
    entries = world.caller("auditor", "a").get("/audit").json()["items"]
    assert entries
    assert {entry["organisation_id"] for entry in entries} == {world.organisations["a"]}


def test_audit_is_paged_from_the_newest(world: World) -> None:
    write(world, 7)
    caller = world.caller()
    first = caller.get("/audit?limit=4").json()
    second = caller.get("/audit", params={"limit": 4, "cursor": first["next_cursor"]}).json()
    seen = [entry["seq"] for entry in (*first["items"], *second["items"])]
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen)
