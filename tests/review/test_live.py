"""Live rooms in the console: delivered by a sink from elsewhere, and watched from here."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from moderator.errors import ModeratorError
from moderator.media.command import find_ffmpeg
from moderator.outputs.folder import write_folder
from moderator.outputs.report import observation_json
from moderator.records import Room
from moderator.review import ingest, watching
from moderator.review.models import RoomRow
from moderator.review.settings import ReviewSettings
from moderator.review.watching import RUNNING, Watchers
from moderator.sinks.config import build_deliveries, build_sink
from moderator.sinks.envelope import seal
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Rejected, Unavailable
from tests.command import REPOSITORY
from tests.live.stations import Broadcast, Station
from tests.outputs.builders import media_report, utterance
from tests.outputs.builders import violation as found
from tests.review.serving import served
from tests.review.world import Caller, World
from tests.sinks.builders import tell, tell_evidence, violation

ROOM = {
    "room": "live1",
    "platform": "douyin",
    "title": "直播",
    "host": "阿甲",
    "merchant": "甲商行",
    "products": [],
    "ai_host": False,
    "source": "rtmp://example.com/live/1",
    "engines": {"asr": "e"},
    "media_zero": "2026-03-01T10:00:00.000+00:00",
}
"""What a live session says of itself when it starts."""


@pytest.fixture
def token(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    made = world.caller().post("/auth/tokens", {"name": "watch", "scopes": ["ingest:write"]})
    monkeypatch.setenv("CONSOLE_TOKEN", made.json()["token"])
    return str(made.json()["token"])


def told(out: Path) -> tuple[Journal, Any]:
    """A session with one violation, its clip, and its end."""
    out.mkdir()
    journal = Journal.open(out / "journal.sqlite3", owner=True)
    record = violation(room="live1", session="s1")
    journal.append("s1", "live1", "session.started", ROOM, key="session.started")
    body = observation_json(utterance("这是国家级的品质", 1, 2))
    journal.append("s1", "live1", "observation", body, key="speech/1")
    tell(journal, record, "violation/1")
    tell_evidence(journal, out, record, b"the clip", f"rooms/live1/s1/clips/{record.id}.mp4")
    journal.append("s1", "live1", "session.ended", {"reason": "ended"}, key="session.ended")
    return journal, record


def carried(journal: Journal, out: Path, address: str, name: str = "console") -> Any:
    config = {"type": "console", "name": name, "url": address, "token_env": "CONSOLE_TOKEN"}
    deliveries = build_deliveries(journal, [config], out=out)
    deliveries.start()
    arrived = deliveries.drain(60)
    (stats,) = deliveries.stats()
    deliveries.close()
    assert arrived, stats
    return stats


@pytest.mark.usefixtures("token")
def test_live_the_sink_brings_room_record_and_clip_into_the_queue_once(
    world: World, tmp_path: Path
) -> None:
    out = tmp_path / "watched"
    journal, record = told(out)
    with served(world.app) as address:
        for name in ("console", "again"):
            stats = carried(journal, out, address, name)
            assert (stats.delivered, stats.dead) == (5, 0), stats
    journal.close()
    caller = world.caller("reviewer", "a")
    (item,) = caller.get("/violations").json()["items"]
    assert (item["id"], item["host"], item["room_id"]) == (record.id, "阿甲", "live1")
    detail = caller.get(f"/violations/{record.id}").json()
    (clip,) = detail["evidence"]
    assert clip["there"]
    assert caller.get(clip["url"].removeprefix("/api/v1")).content == b"the clip"
    assert detail["transcript"][0]["text"] == "这是国家级的品质"
    (room,) = [one for one in caller.get("/rooms").json() if one["id"] == "live1"]
    assert (room["state"], room["last_words"]) == ("ended", "这是国家级的品质")
    (broadcast,) = caller.get("/rooms/live1/broadcasts").json()
    assert broadcast["started_at"].startswith("2026-03-01T10:00:00")


@pytest.mark.usefixtures("token")
def test_live_a_clip_that_was_changed_is_refused_and_becomes_a_dead_letter(
    world: World, tmp_path: Path
) -> None:
    out = tmp_path / "watched"
    journal, record = told(out)
    (out / f"rooms/live1/s1/clips/{record.id}.mp4").write_bytes(b"another")
    with served(world.app) as address:
        stats = carried(journal, out, address)
    journal.close()
    assert (stats.dead, stats.delivered) == (1, 4)
    assert "LM-927" in (out / "dead-letter" / "console.jsonl").read_text("utf-8")
    (file,) = world.caller().get(f"/violations/{record.id}").json()["evidence"]
    assert not file["there"]
    assert not list(world.data.rglob("*.partial"))


def test_live_the_sink_says_what_the_console_answered(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = seal(session="s", room="r", seq=0, type="observation", body={"a": 1}, prev="0" * 64)
    config = {"type": "console", "token_env": "CONSOLE_TOKEN"}
    monkeypatch.setenv("CONSOLE_TOKEN", "lm_wrong")
    with served(world.app) as address:
        sink = build_sink(config | {"url": address}, out=tmp_path)
        with pytest.raises(Unavailable, match="401 LM-901"):
            sink.send([envelope])
        sink.close()
    gone = build_sink(config | {"url": address, "timeout_s": 2}, out=tmp_path)
    with pytest.raises(Unavailable, match="ConnectError"):
        gone.send([envelope])
    gone.close()


@pytest.mark.usefixtures("token")
def test_live_an_envelope_that_was_changed_is_refused(world: World, tmp_path: Path) -> None:
    envelope = seal(
        session="s", room="r", seq=0, type="session.started", body=dict(ROOM), prev="0" * 64
    )
    forged = type(envelope)(**{**vars_of(envelope), "body": {**ROOM, "host": "别人"}})
    with served(world.app) as address:
        config = {"type": "console", "url": address, "token_env": "CONSOLE_TOKEN"}
        sink = build_sink(config, out=tmp_path)
        with pytest.raises(Rejected, match="LM-927"):
            sink.send([forged])
        sink.send([envelope])
        sink.close()
    assert world.caller().get("/rooms/r").json()["host"] == "阿甲"


def vars_of(envelope: Any) -> dict[str, Any]:
    return {name: getattr(envelope, name) for name in envelope.__dataclass_fields__}


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("url", "ftp://console", "LM-805"),
        ("url", "http://me:secret@console", "LM-805"),
        ("url", "console", "LM-805"),
        ("token_env", "NOBODY_SET_THIS", "LM-813"),
        ("tokens", "x", "LM-805"),
    ],
)
def test_live_a_sink_that_cannot_work_is_refused_at_the_start(
    field: str, value: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSOLE_TOKEN", "lm_x")
    config = {"type": "console", "url": "https://console", "token_env": "CONSOLE_TOKEN"}
    with pytest.raises(ModeratorError, match=code) as caught:
        build_sink(config | {field: value}, out=tmp_path)
    assert "secret@" not in str(caught.value)


# --- evidence that is sent in -----------------------------------------------------------


def put(world: World, violation_id: str, path: str, body: bytes, who: str = "") -> Any:
    caller = world.caller("admin", who)
    url = f"/api/v1/ingest/violations/{violation_id}/evidence/{path}"
    return caller.http.put(url, content=body)


@pytest.mark.parametrize(
    "path", ["clips/other.mp4", "../../x.mp4", "%2e%2e/%2e%2e/x.mp4", "/etc/passwd", "a%00.mp4"]
)
def test_live_no_file_is_taken_that_the_record_does_not_name(world: World, path: str) -> None:
    case = world.add_with_evidence("a")
    answer = put(world, case, path, b"x")
    assert answer.status_code in (400, 404, 405, 422), answer.text


def test_live_a_record_cannot_name_a_file_elsewhere(world: World, tmp_path: Path) -> None:
    for number, path in enumerate(("../../../x.mp4", str(tmp_path / "x.mp4"), "rc.d/run.sh")):
        record = found(room="room_x", session=f"S{number}").to_json()
        record["evidence"] |= {"clip": path, "sha256": {path: "0" * 64}}
        assert world.caller().post("/ingest/violations", {"records": [record]}).is_success
        assert put(world, record["id"], path.replace("/", "%2f"), b"x").status_code in (404, 422)
    assert not list(tmp_path.rglob("x.mp4"))


def test_live_evidence_is_taken_again_without_harm_and_not_into_anothers_case(
    world: World,
) -> None:
    case = world.add_with_evidence("a")
    clip = world.caller().get(f"/violations/{case}/evidence/clips/001.mp4").content
    assert put(world, case, "clips/001.mp4", clip).status_code == 200
    assert put(world, case, "clips/001.mp4", clip + b"x").json()["code"] == "LM-927"
    assert put(world, case, "clips/001.mp4", clip, who="b").status_code == 404
    assert world.caller().get(f"/violations/{case}/evidence/clips/001.mp4").content == clip


# --- the wall -----------------------------------------------------------------------------


def say(world: World, kind: str, body: dict[str, Any], session: str = "L1") -> None:
    envelope = {"type": kind, "room": "live1", "session": session, "body": body}
    ingest.put_envelopes(world.house.database, [envelope])


def test_live_states_and_problems_are_on_the_wall_with_their_reasons(world: World) -> None:
    def shown() -> tuple[str, str]:
        room = world.caller().get("/rooms/live1").json()
        return room["state"], room["state_reason"]

    say(world, "session.started", ROOM)
    assert shown() == ("live", "")
    change = {"before": "live", "after": "stalled", "reason": "no_packets", "detail": "5 s"}
    say(world, "session.state", change)
    assert shown() == ("stalled", "no_packets 5 s")
    say(world, "session.state", {"before": "stalled", "after": "live", "reason": "resumed"})
    assert shown() == ("live", "")
    say(world, "session.state", {"problem": "silent", "active": True, "detail": ""})
    assert shown() == ("live", "silent")
    say(world, "session.state", {"problem": "silent", "active": False, "detail": ""})
    say(world, "session.ended", {"reason": "ended"})
    assert shown() == ("ended", "")
    # A dead letter that was sent again comes late.
    say(world, "session.state", {"before": "live", "after": "stalled", "reason": "no_packets"})
    assert shown() == ("ended", "")


def test_live_a_recording_on_the_wall_has_a_picture_and_its_last_words(
    world: World, tmp_path: Path
) -> None:
    def frame(_: object, path: Path) -> None:
        Image.new("RGB", (8, 8), (1, 2, 3)).save(path)

    report = media_report(found(), utterances=(utterance("大家好"), utterance("再见", 5, 6)))
    write_folder(tmp_path / "out", report, frame_maker=frame)
    ingest.put_folder(
        world.house.database, tmp_path / "out", world.data, room=Room(id="r9", merchant="甲商行")
    )
    caller = world.caller("reviewer", "a")
    room = caller.get("/rooms/r9").json()
    assert room["last_words"] == "再见"
    picture = caller.get(room["last_frame_url"].removeprefix("/api/v1"))
    assert picture.headers["content-type"] == "image/jpeg"


# --- watched from here ----------------------------------------------------------------------


PRETENDER = """
import json, pathlib, signal, sys, time
out = pathlib.Path(sys.argv[1]); out.mkdir(exist_ok=True)
n = len(list(out.glob("run-*"))); (out / f"run-{n}").touch()
def say(kind, body):
    line = {"type": kind, "room": "live1", "session": f"S{n}", "body": body}
    with (out / "events.jsonl").open("a") as file: file.write(json.dumps(line) + "\\n")
say("session.started", {"room": "live1"})
say("observation", {"channel": "speech", "start": 1, "end": 2, "text": f"run {n}"})
def end(*_):
    say("session.ended", {"reason": "stopped"}); sys.exit(0)
signal.signal(signal.SIGTERM, end)
if sys.argv[2:] == ["fail"]: sys.exit("LM-112 no such host")
time.sleep(60)
"""


@pytest.fixture
def watchers(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Watchers]]:
    made = []

    def pretend(folder: Path, port: int) -> list[str]:
        source = yaml.safe_load((folder / "rooms.yaml").read_text("utf-8"))["rooms"][0]["source"]
        fail = ["fail"] if "fail" in source else []
        return [sys.executable, "-c", PRETENDER, str(folder / "out"), *fail]

    def make() -> Watchers:
        settings = ReviewSettings(data_dir=world.data, watch_private=True)
        made.append(Watchers(world.house.database, settings))
        return made[-1]

    monkeypatch.setattr(watching, "watch_command", pretend)
    yield make
    for one in made:
        one.close()


def wait_for(what: Callable[[], bool], limit_s: float = 20.0) -> None:
    until = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def room_of(world: World) -> RoomRow:
    with world.house.database.read() as db:
        return db.get_one(RoomRow, "live1")


def test_live_a_watched_room_goes_on_when_the_server_starts_again(
    world: World, watchers: Callable[[], Watchers]
) -> None:
    world.caller().post("/rooms", {"id": "live1", "merchant": "甲商行"})
    first = watchers()
    first.start(room_of(world), "http://127.0.0.1/live.flv?token=t", [{"id": "p"}])
    wait_for(lambda: room_of(world).last_words == "run 0")
    (folder,) = (world.data / "watch").iterdir()
    config = yaml.safe_load((folder / "rooms.yaml").read_text("utf-8"))
    assert config["passports"] == "passports.yaml"
    assert (folder / "rooms.yaml").stat().st_mode & 0o077 == 0
    first.close()
    assert room_of(world).state == "ended"
    second = watchers()
    second.resume()
    wait_for(lambda: room_of(world).last_words == "run 1")
    assert room_of(world).state == "live"
    second.stop("live1")
    wait_for(lambda: room_of(world).state == "ended")
    wait_for(lambda: not second.is_watching("live1"))
    assert not (folder / RUNNING).exists()
    third = watchers()
    third.resume()
    assert not third.is_watching("live1")


def test_live_what_a_failed_watch_said_is_on_the_wall(
    world: World, watchers: Callable[[], Watchers]
) -> None:
    world.caller().post("/rooms", {"id": "live1"})
    one = watchers()
    one.start(room_of(world), "http://127.0.0.1/fail")
    wait_for(lambda: room_of(world).state == "failed")
    assert room_of(world).state_reason == "LM-112 no such host"


def test_live_a_room_is_made_known_once(world: World) -> None:
    made = world.caller("reviewer", "a").post("/rooms", {"id": "new", "title": "新房间"})
    assert made.status_code == 201
    assert made.json()["organisation_id"] == world.organisations["a"]
    again = world.caller("reviewer", "b").post("/rooms", {"id": "new"})
    assert (again.status_code, again.json()["code"]) == (409, "LM-924")
    assert world.caller().post("/rooms", {"id": "a/b"}).status_code == 422


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_live_watching_a_stream_from_the_console_fills_the_queue(
    world: World, tmp_path: Path
) -> None:
    sample = REPOSITORY / "samples" / "rooms" / "skincare_and_health.mp4"
    piece = tmp_path / "piece.mp4"
    cut = ["-v", "error", "-ss", "40", "-i", str(sample), "-t", "20", "-c", "copy"]
    subprocess.run([find_ffmpeg(), *cut, str(piece)], check=True)
    station = Station(Broadcast(piece))
    source = f"{station.url}/live.flv"
    world.caller().post("/rooms", {"id": "live1", "merchant": "甲商行"})
    refused = world.caller().post("/rooms/live1/watch", {"source": source})
    assert refused.json()["code"] == "LM-111"
    settings = ReviewSettings(data_dir=world.data, watch_private=True)
    world.house.watchers = Watchers(world.house.database, settings)
    caller = world.caller("reviewer", "a")
    try:
        assert caller.post("/rooms/live1/watch", {"source": source}).json()["watching"]
        wait_for(lambda: any(file["there"] for file in clips(caller)), 240)
        assert caller.http.delete("/api/v1/rooms/live1/watch").status_code == 200
        wait_for(lambda: not caller.get("/rooms/live1").json()["watching"], 90)
    finally:
        world.house.watchers.close()
        station.close()
    assert all(file["there"] for file in clips(caller))
    assert caller.get("/rooms/live1").json()["state"] == "ended"


def clips(caller: Caller) -> list[dict[str, Any]]:
    found = caller.get("/violations").json()["items"]
    details = [caller.get(f"/violations/{one['id']}").json() for one in found]
    return [file for one in details for file in one["evidence"] if file["kind"] == "clip"]
