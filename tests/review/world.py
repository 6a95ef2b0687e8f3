"""A small world to test in: two organisations, somebody of every role, a few violations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio.abc import BlockingPortal
from fastapi import FastAPI
from fastapi.testclient import TestClient

from moderator.records import Evidence, Room, Severity
from moderator.review import accounts, ingest
from moderator.review.house import House
from moderator.review.models import Organisation, User
from moderator.review.permissions import Role
from tests.outputs.builders import utterance, violation

PASSWORD = "a quite good secret"
HASH: list[str] = []

ROOMS = {
    "a": Room(id="room_a", host="阿甲", merchant="甲商行", title="甲的直播间", platform="douyin"),
    "b": Room(id="room_b", host="阿乙", merchant="乙商行", title="乙的直播间", platform="kuaishou"),
}

_numbers = itertools.count(1)

LOOP: list[BlockingPortal] = []
"""The event loop that every caller shares; without one each request would start its own."""


def browser(app: FastAPI, address: str, **options: Any) -> TestClient:
    """Somebody's browser, at an address of their own."""
    client = TestClient(app, client=(address, 50000), **options)
    client.portal = LOOP[0] if LOOP else None
    return client


class Caller:
    """Somebody who has logged in, with the CSRF token in every request."""

    def __init__(self, app: FastAPI, username: str, *, raising: bool = True) -> None:
        address = f"10.0.{next(_numbers) % 250}.1"
        self.http = browser(app, address, raise_server_exceptions=raising)
        self.username = username
        answer = self.http.post(
            "/api/v1/auth/login", json={"username": username, "password": PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        self.me = answer.json()
        self.id: str = self.me["id"]
        self.http.headers["X-CSRF-Token"] = self.me["csrf_token"]

    def get(self, path: str, **options: Any) -> Any:
        return self.http.get(f"/api/v1{path}", **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.http.post(f"/api/v1{path}", json=body, **options)

    def put(self, path: str, body: Any) -> Any:
        return self.http.put(f"/api/v1{path}", json=body)

    def patch(self, path: str, body: Any) -> Any:
        return self.http.patch(f"/api/v1{path}", json=body)

    def delete(self, path: str) -> Any:
        return self.http.delete(f"/api/v1{path}")

    def decide(self, violation_id: str, action: str, **fields: Any) -> Any:
        return self.post(f"/violations/{violation_id}/decisions", {"action": action, **fields})


@dataclass
class World:
    app: FastAPI
    house: House
    data: Path
    organisations: dict[str, str] = field(default_factory=dict)
    _callers: dict[str, Caller] = field(default_factory=dict)

    def caller(self, role: str = "admin", organisation: str = "") -> Caller:
        """`admin` of the platform, or with `organisation` `a` or `b` of that one."""
        name = f"{role}-{organisation}" if organisation else role
        if name not in self._callers:
            self._callers[name] = Caller(self.app, name)
        return self._callers[name]

    def anonymous(self, address: str = "10.9.9.9") -> TestClient:
        return browser(self.app, address)

    def add(self, quote: str = "国家级", room: str = "a", **changes: Any) -> str:
        """One more violation in the room of `a` or `b`; returns its id."""
        place = ROOMS[room]
        record = violation(quote, **{"room": place.id, "session": f"S-{room}", **changes}).to_json()
        with self.house.database.write() as db:
            ingest.put_room(db, place)
            ingest.put_violations(db, [record])
        return str(record["id"])

    def add_critical(self, room: str = "a", **changes: Any) -> str:
        return self.add("包治百病", room, severity=Severity.CRITICAL, **changes)

    def add_with_evidence(self, room: str = "a", quote: str = "国家级") -> str:
        """One with a clip and a frame that lie where they should, and a transcript."""
        import hashlib

        from PIL import Image

        place = ROOMS[room]
        folder = self.data / "evidence" / f"S-{room}"
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        (folder / "frames").mkdir(exist_ok=True)
        (folder / "clips" / "001.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 8)
        Image.new("RGB", (72, 128), (200, 30, 30)).save(folder / "frames" / "001.jpg")
        (folder / "transcript.jsonl").write_text('{"text": "这是国家级的品质"}\n', encoding="utf-8")
        names = ("clips/001.mp4", "frames/001.jpg", "transcript.jsonl")
        sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
        record = violation(
            quote,
            room=place.id,
            session=f"S-{room}",
            evidence=Evidence(names[0], (names[1],), names[2], sums),
        ).to_json()
        from moderator.outputs.report import observation_json

        with self.house.database.write() as db:
            row = ingest.put_room(db, place)
            broadcast = ingest.put_broadcast(
                db, row, f"S-{room}", folder=folder, owned=True, media=""
            )
            ingest.put_observations(
                db,
                broadcast,
                [
                    observation_json(utterance("大家好欢迎来到直播间", 0.0, 1.0)),
                    observation_json(utterance(f"这是{quote}的品质", 1.0, 2.0)),
                ],
            )
            ingest.put_violations(db, [record])
        return str(record["id"])

    def status(self, violation_id: str) -> str:
        detail = self.caller().get(f"/violations/{violation_id}").json()
        return str(detail["violation"]["status"])


def populate(app: FastAPI, data: Path) -> World:
    """Organisations `甲商行` and `乙商行`, and one person of every role in each and above."""
    house: House = app.state.house
    if not HASH:
        HASH.append(accounts.HASHER.hash(PASSWORD))
    world = World(app, house, data)
    with house.database.write() as db:
        for key, place in ROOMS.items():
            organisation = Organisation(name=place.merchant)
            db.add(organisation)
            db.flush()
            world.organisations[key] = organisation.id
        for role in Role:
            for key in ("", "a", "b"):
                db.add(
                    User(
                        username=f"{role}-{key}" if key else str(role),
                        display_name=f"{role} {key}".strip(),
                        password_hash=HASH[0],
                        role=role,
                        organisation_id=world.organisations.get(key),
                        must_change_password=False,
                    )
                )
        for number in (2, 3):
            db.add(
                User(
                    username=f"second_reviewer{number}",
                    password_hash=HASH[0],
                    role=Role.SECOND_REVIEWER,
                    must_change_password=False,
                )
            )
    return world
