"""Server-sent events, the Python client, and stopping while consoles listen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moderator.errors import ModeratorError
from moderator.review import bundle, events
from moderator.review.client import ApiProblem, ModeratorClient
from tests.outputs.builders import violation
from tests.review.serving import served
from tests.review.world import World

EVERYTHING = [
    *("violations:read", "violations:decide", "rooms:read", "check:run", "evidence:read"),
    *("evidence:export", "private:read", "account:own", "dashboards:read"),
]


@pytest.fixture
def server(world: World) -> Iterator[str]:
    with served(world.app) as address:
        yield address


def token(world: World, role: str = "reviewer", key: str = "", extra: tuple[str, ...] = ()) -> str:
    body = {"name": "t", "scopes": [*EVERYTHING, *extra]}
    made = world.caller(role, key).post("/auth/tokens", body)
    assert made.status_code == 201, made.text
    return str(made.json()["token"])


class Listener:
    """Collects events on a thread."""

    def __init__(self, address: str, token: str, after: int | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self._client = ModeratorClient(address, token)
        self._after = after
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for kind, data in self._client.events(self._after):
                self.seen.append((kind, data["id"]))
        except (httpx.HTTPError, ModeratorError):
            pass
        self.ended.set()

    def wait_for(self, kind: str, object_id: str) -> None:
        for _ in range(200):
            if (kind, object_id) in self.seen:
                return
            time.sleep(0.05)
        raise AssertionError(f"no {kind} {object_id} in {self.seen}")


def connected(world: World, count: int = 1) -> None:
    for _ in range(200):
        if world.house.hub.listeners >= count:
            time.sleep(2 * events.POLL_S)
            return
        time.sleep(0.05)
    raise AssertionError("nobody listens")


def test_events_new_and_changed_violations_arrive_and_only_ones_own(
    world: World, server: str
) -> None:
    mine = Listener(server, token(world, "reviewer", "a"))
    everything = Listener(server, token(world))
    connected(world, 2)
    own, other = world.add(room="a"), world.add(room="b")
    everything.wait_for("violation.new", other)
    mine.wait_for("violation.new", own)
    world.caller("reviewer").post(f"/violations/{own}/claim")
    mine.wait_for("violation.updated", own)
    assert other not in {object_id for _, object_id in mine.seen}


def test_events_what_was_missed_comes_first_after_a_reconnect(world: World, server: str) -> None:
    world.add()
    with (
        httpx.Client() as http,
        http.stream(
            "GET",
            f"{server}/api/v1/events?after=0",
            headers={"Authorization": f"Bearer {token(world)}"},
        ) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        first = next(line for line in lines if line.startswith("id: "))
    missed = world.add()
    listener = Listener(server, token(world), after=int(first.removeprefix("id: ")))
    listener.wait_for("violation.new", missed)


def test_events_private_numbers_are_masked(world: World, server: str) -> None:
    world.add("加微信xiaotang99")
    with (
        httpx.Client() as http,
        http.stream(
            "GET",
            f"{server}/api/v1/events?after=0",
            headers={"Authorization": f"Bearer {auditor_token(world)}"},
        ) as response,
    ):
        for line in response.iter_lines():
            if line.startswith("data: ") and "quote" in line:
                assert "xiaotang99" not in line
                assert "x********9" in line
                break


def auditor_token(world: World) -> str:
    body = {"name": "t", "scopes": ["violations:read", "account:own"]}
    return str(world.caller("auditor").post("/auth/tokens", body).json()["token"])


def test_events_a_stream_ends_when_its_session_is_revoked(
    world: World, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEPALIVE_S", 0.3)
    made = world.caller("reviewer").post("/auth/tokens", {"name": "t", "scopes": EVERYTHING}).json()
    listener = Listener(server, made["token"])
    connected(world)
    assert not listener.ended.is_set()
    world.caller("reviewer").delete(f"/auth/tokens/{made['id']}")
    assert listener.ended.wait(10)


def test_events_a_server_that_stops_is_not_held_up_by_those_who_listen(world: World) -> None:
    with served(world.app) as address:
        listener = Listener(address, token(world))
        connected(world)
        began = time.monotonic()
    assert time.monotonic() - began < 25
    assert listener.ended.wait(5)


# --- the client -----------------------------------------------------------------------


def test_client_does_what_a_script_needs(world: World, server: str, tmp_path: Path) -> None:
    case = world.add_with_evidence()
    for _ in range(5):
        world.add()
    with ModeratorClient(server, token(world)) as client:
        assert client.check("这是国家级的品质")["marks"]
        assert len(list(client.violations(status="open", page=2))) == 6
        assert client.counts()["open"] == 6
        client.claim(case)
        client.note(case, "来自脚本")
        decided = client.decide(case, "confirm")
        assert decided["violation"]["status"] == "confirmed"
        assert client.undo(case)["status"] == "open"
        client.export(case, tmp_path / "case.zip")
        assert bundle.verify(tmp_path / "case.zip")["case"] == case
        client.evidence(case, "clips/001.mp4", tmp_path / "clip.mp4")
        assert (tmp_path / "clip.mp4").stat().st_size > 100
        recording = tmp_path / "a.mp4"
        recording.write_bytes(b"x" * 100)
        assert client.upload(recording)["state"] == "queued"
        assert client.dashboard("category")["rows"]
        with pytest.raises(ApiProblem) as caught:
            client.decide(case, "dismiss")
        assert (caught.value.status, caught.value.problem_code) == (422, "LM-909")
        with pytest.raises(ApiProblem):
            client.evidence(case, "clips/nothing.mp4", tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()


def test_client_ingests_with_a_token_of_that_scope(world: World, server: str) -> None:
    made = world.caller().post("/auth/tokens", {"name": "in", "scopes": ["ingest:write"]}).json()
    with ModeratorClient(server, made["token"]) as client:
        assert client.ingest([violation().to_json()])["new"] == 1


def test_client_says_where_nobody_answers() -> None:
    client = ModeratorClient("http://127.0.0.1:9", "lm_x", attempts=1)
    with pytest.raises(ModeratorError, match="LM-939"):
        client.counts()
    client.close()
