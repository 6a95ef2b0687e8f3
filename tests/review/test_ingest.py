"""Taking records in: idempotent, growing, from folders and from live sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moderator.errors import ModeratorError
from moderator.outputs.folder import write_folder
from moderator.outputs.report import observation_json
from moderator.records import Room, Severity
from moderator.review import ingest
from tests.outputs.builders import media_report, utterance, violation
from tests.review.world import World


def send(world: World, *records: dict[str, Any]) -> Any:
    return world.caller().post("/ingest/violations", {"records": list(records)})


def test_ingest_the_same_record_twice_is_one(world: World) -> None:
    record = violation().to_json()
    assert send(world, record).json() == {"received": 1, "new": 1}
    assert send(world, record).json() == {"received": 1, "new": 0}
    assert world.caller().get("/violations/counts").json()["total"] == 1


def test_ingest_an_episode_that_goes_on_grows_and_keeps_its_verdict(world: World) -> None:
    record = violation().to_json()
    send(world, record)
    world.caller("reviewer").decide(record["id"], "confirm")
    send(world, {**record, "end": 9.0, "occurrences": 4})
    row = world.caller().get(f"/violations/{record['id']}").json()["violation"]
    assert (row["end"], row["occurrences"], row["status"]) == (9.0, 4, "confirmed")


def test_ingest_an_episode_that_grows_within_one_delivery_is_one_record_as_it_ended(
    world: World,
) -> None:
    first, other = violation().to_json(), violation("全网最低").to_json()
    grown = {**first, "end": 9.0, "occurrences": 4}
    assert send(world, first, other, grown, grown).json() == {"received": 4, "new": 2}
    row = world.caller().get(f"/violations/{first['id']}").json()
    assert (row["violation"]["end"], row["record"]["occurrences"]) == (9.0, 4)
    assert world.caller().get("/violations?q=全网最低").json()["items"][0]["id"] == other["id"]


def test_ingest_evidence_that_came_is_not_lost_by_a_later_record_without_it(world: World) -> None:
    case = world.add_with_evidence()
    record = world.caller().get(f"/violations/{case}").json()["record"]
    empty = {"clip": None, "frames": [], "transcript": None, "sha256": {}}
    send(world, {**record, "occurrences": 2, "evidence": empty})
    kept = world.caller().get(f"/violations/{case}").json()["record"]
    assert kept["evidence"]["clip"] == "clips/001.mp4"
    assert kept["occurrences"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "other"},
        {"severity": "worst"},
        {"confidence": 7},
        {"wall_time": "yesterday"},
        {"room": "x" * 101},
        {"rule": None},
    ],
)
def test_ingest_what_is_no_record_is_refused_with_its_place_and_nothing_is_taken(
    world: World, change: dict[str, Any]
) -> None:
    answer = send(world, violation().to_json(), violation().to_json() | change)
    assert (answer.status_code, answer.json()["code"]) == (422, "LM-927")
    assert "record 2" in answer.json()["detail"]
    assert world.caller().get("/violations/counts").json()["total"] == 0


def test_ingest_text_that_no_database_keeps_is_mended(world: World) -> None:
    record = violation("国\0家级", context="a\ud800国\0家级").to_json()
    with world.house.database.write() as db:
        ingest.put_violations(db, [record])
    kept = world.caller().get(f"/violations/{record['id']}").json()["record"]
    assert kept["quote"] == "国\ufffd家级"


def test_ingest_a_room_belongs_to_the_organisation_named_like_its_merchant(world: World) -> None:
    with world.house.database.write() as db:
        old = ingest.put_room(db, Room(id="r1", merchant="甲商行"))
        new = ingest.put_room(db, Room(id="r2", merchant="新商行"))
        none = ingest.put_room(db, Room(id="r3"))
    assert old.organisation_id == world.organisations["a"]
    assert new.organisation_id not in (None, *world.organisations.values())
    assert none.organisation_id is None


def test_ingest_an_organisations_program_cannot_write_into_anothers_room(world: World) -> None:
    world.add(room="b")
    record = violation(room="room_b").to_json()
    answer = world.caller("admin", "a").post("/ingest/violations", {"records": [record]})
    assert (answer.status_code, answer.json()["code"]) == (422, "LM-927")
    fresh = violation(room="room_new", session="S-new").to_json()
    assert world.caller("admin", "a").post("/ingest/violations", {"records": [fresh]}).is_success
    mine = world.caller("reviewer", "a").get("/violations?room=room_new").json()["items"]
    assert [item["id"] for item in mine] == [fresh["id"]]


def test_ingest_moving_a_room_moves_everything_it_holds(world: World) -> None:
    case = world.add_with_evidence("a")
    body = {"organisation_id": world.organisations["b"]}
    assert world.caller().patch("/rooms/room_a", body).status_code == 200
    assert world.caller("reviewer", "a").get(f"/violations/{case}").status_code == 404
    assert world.caller("reviewer", "b").get(f"/violations/{case}").status_code == 200
    assert world.caller("reviewer", "b").get("/broadcasts/S-a/timeline").json()["observations"]


def test_ingest_risk_orders_by_severity_firmness_confidence_and_repetition() -> None:
    def risk(**changes: Any) -> float:
        return ingest.risk_of(violation(**changes).to_json())

    assert risk(severity=Severity.CRITICAL) > risk(severity=Severity.HIGH)
    assert risk(confidence=0.9) > risk(confidence=0.5)
    assert risk(occurrences=5) > risk(occurrences=1)
    assert risk(severity=Severity.CRITICAL, occurrences=99, confidence=1.0) <= 1


# --- folders --------------------------------------------------------------------------


def test_ingest_a_folder_of_check_out_comes_in_whole_and_stays_when_it_goes(
    world: World, tmp_path: Path
) -> None:
    def clip(found: object, path: Path) -> None:
        path.write_bytes(b"clip")

    report = media_report(violation(), utterances=(utterance("这是国家级的品质"),))
    out = tmp_path / "out"
    write_folder(out, report, clip)
    session = ingest.put_folder(
        world.house.database, out, world.data, room=Room(id="r9", merchant="甲商行")
    )
    for path in sorted(out.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    caller = world.caller("reviewer", "a")
    (item,) = caller.get("/violations?room=r9").json()["items"]
    assert item["broadcast_id"] == session
    detail = caller.get(f"/violations/{item['id']}").json()
    assert [file["there"] for file in detail["evidence"] if file["kind"] == "clip"] == [True]
    assert caller.get(detail["evidence"][0]["url"].removeprefix("/api/v1")).content == b"clip"
    assert detail["transcript"][0]["text"] == "这是国家级的品质"


def test_ingest_a_folder_that_is_none_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-703"):
        ingest.put_folder(world.house.database, tmp_path, world.data)


def test_ingest_a_manifest_cannot_name_files_elsewhere(world: World, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_folder(out, media_report(violation()))
    (tmp_path / "secret").write_text("secret")
    manifest = (out / "manifest.json").read_text()
    (out / "manifest.json").write_text(
        manifest.replace('"files": {', '"files": {"../secret": {"bytes": 1, "sha256": ""},')
    )
    ingest.put_folder(world.house.database, out, world.data)
    assert not list(world.data.rglob("secret"))


# --- live sessions ----------------------------------------------------------------------


def test_ingest_what_a_live_session_says_builds_room_timeline_and_queue(world: World) -> None:
    def say(type_: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"type": type_, "room": "live1", "session": "L1", "body": body}

    record = violation(room="live1", session="L1").to_json()
    room = {"room": "live1", "title": "直播", "host": "阿甲", "merchant": "甲商行"}
    envelopes = [
        say("session.started", {**room, "source": "rtmp://x", "engines": {"asr": "e"}}),
        say("observation", observation_json(utterance("这是国家级的品质", 1, 2))),
        say("session.gap", {"start": 2.0, "end": 4.5, "reason": "stalled"}),
        say("violation", record),
        say("violation.updated", {"id": record["id"], "end": 6.0}),
        say("evidence", {"violation": record["id"], "clip": "clips/1.mp4", "sha256": {}}),
        say("something.new", {}),
    ]
    for _ in range(2):
        answer = world.caller().post("/ingest/envelopes", {"envelopes": envelopes})
        assert answer.json() == {"received": 7, "new": 6}
    caller = world.caller("reviewer", "a")
    (shown,) = caller.get("/rooms").json()
    assert (shown["state"], shown["last_words"]) == ("live", "这是国家级的品质")
    assert (shown["recent"], shown["open"]) == (1, 1)
    timeline = caller.get("/broadcasts/L1/timeline").json()
    assert [one["channel"] for one in timeline["observations"]] == ["speech", "gap"]
    detail = caller.get(f"/violations/{record['id']}").json()
    assert detail["record"]["end"] == 6.0
    assert detail["record"]["evidence"]["clip"] == "clips/1.mp4"
    world.caller().post("/ingest/envelopes", {"envelopes": [say("session.ended", {})]})
    assert caller.get("/rooms/live1").json()["state"] == "ended"


@pytest.mark.parametrize(
    "envelope",
    [
        {"type": "observation", "room": "r", "session": "s", "body": [1]},
        {"type": "observation", "room": "r", "session": "s", "body": {"start": "soon"}},
        {"type": "observation", "room": "r" * 200, "session": "s", "body": {}},
        {"type": "observation", "room": "r", "session": "s" * 200, "body": {}},
        {"type": "violation", "room": "r", "session": "s", "body": {}},
        {"type": "violation", "room": "r", "session": "s"},
        {"type": "evidence", "room": "r", "session": "s", "body": 7},
        {"type": "session.started", "room": "", "session": "s", "body": {}},
        {"type": 5, "room": "r", "session": "s"},
        {},
    ],
)
def test_ingest_envelopes_that_are_none_are_refused_whole(
    world: World, envelope: dict[str, Any]
) -> None:
    good = {"type": "session.started", "room": "ok", "session": "S9", "body": {}}
    answer = world.caller().post("/ingest/envelopes", {"envelopes": [good, envelope]})
    assert (answer.status_code, answer.json()["code"]) == (422, "LM-927"), answer.text
    assert world.caller().get("/rooms/ok").status_code == 404


def test_ingest_names_longer_than_their_columns_are_cut(world: World) -> None:
    long = "长" * 500
    with world.house.database.write() as db:
        ingest.put_room(db, Room(id="long", title=long, host=long, merchant=long, platform=long))
        ingest.put_violations(db, [violation(long, room="long", product=long).to_json()])
    (item,) = world.caller().get("/violations?room=long").json()["items"]
    assert item["quote"] == long
    assert len(item["host"]) == 200
