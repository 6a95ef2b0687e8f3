"""Hostile and broken input in every field: refused or kept as text, never a 500."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.review.world import World

HOSTILE = [
    "' OR '1'='1",
    "'; DROP TABLE violation; --",
    '"; SELECT pg_sleep(5); --',
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "%s%n%x",
    "../../../etc/passwd",
    "\u202e\u2066反向",
    "a\u0301\u0301\u0301" * 50,
    "\ufeff\ufffe",
    "😀" * 20,
    "\x1b[31mred\x07",
    "\r\nSet-Cookie: x=1",
    "NaN",
    "-1",
    "9" * 400,
]

NUL = "a\0b"
LONE = "\ud800"


@pytest.mark.parametrize("text", HOSTILE)
def test_bad_input_in_every_query_of_the_queue_finds_nothing_and_breaks_nothing(
    world: World, text: str
) -> None:
    world.add()
    caller = world.caller("reviewer")
    fields = [
        *("status", "category", "severity", "disposition", "room", "host", "merchant", "rule"),
        *("channel", "organisation", "assignee", "q"),
    ]
    for name in fields:
        for path in ("/violations", "/violations/counts"):
            answer = caller.get(path, params={name: text})
            assert answer.status_code == 200, (name, answer.text)
            if path == "/violations":
                assert answer.json()["items"] == [], name
    for name in ("cursor", "sort", "limit", "since", "min_confidence", "exported"):
        if (name, text) != ("since", "-1"):  # a Unix time
            assert caller.get("/violations", params={name: text}).status_code == 422, name
    assert caller.get("/search", params={"q": text}).status_code in (200, 422)
    assert caller.get("/violations").json()["items"]


@pytest.mark.parametrize("text", HOSTILE)
def test_bad_input_that_people_write_is_kept_as_it_is(world: World, text: str) -> None:
    case = world.add(context=f"这是{text}国家级")
    caller = world.caller("reviewer")
    assert caller.post(f"/violations/{case}/notes", {"text": text}).status_code == 201
    assert caller.decide(case, "dismiss", reason="other", comment=text).status_code == 201
    saved = caller.post("/filters", {"name": text[:100], "query": {"q": text[:500]}})
    assert saved.status_code == 201
    detail = caller.get(f"/violations/{case}")
    assert detail.headers["content-type"] == "application/json"
    assert detail.json()["notes"][0]["text"] == text
    assert detail.json()["decisions"][0]["comment"] == text
    assert world.caller().get("/audit/verify").json()["sound"]


@pytest.mark.parametrize("text", HOSTILE)
def test_bad_input_in_a_path_is_not_found(world: World, text: str) -> None:
    from urllib.parse import quote

    caller = world.caller()
    name = quote(text, safe="")
    for path in (
        f"/violations/{name}",
        f"/rooms/{name}",
        f"/broadcasts/{name}/timeline",
        f"/exports/{name}",
        f"/appeals/{name}",
        f"/jobs/{name}",
        f"/dashboards/{name}",
        f"/appeal-links/{name}",
    ):
        assert caller.get(path).status_code in (400, 404), path


@pytest.mark.parametrize("text", [NUL, LONE])
def test_bad_input_that_no_database_keeps_is_refused(world: World, text: str) -> None:
    case = world.add()
    caller = world.caller()
    for method, path, body in (
        ("POST", f"/violations/{case}/notes", {"text": text}),
        ("POST", f"/violations/{case}/decisions", {"action": "confirm", "comment": text}),
        ("POST", "/filters", {"name": text, "query": {}}),
        ("POST", "/filters", {"name": "x", "query": {"q": text}}),
        ("POST", "/check", {"text": text}),
        ("POST", "/users", {"username": text, "role": "reviewer"}),
        ("POST", "/organisations", {"name": text}),
        ("PATCH", "/auth/me", {"display_name": text}),
        ("POST", "/auth/tokens", {"name": text, "scopes": ["rooms:read"]}),
        ("POST", "/jobs", {"name": f"{text}.mp4", "size_bytes": 1}),
        ("POST", "/auth/login", {"username": text, "password": "x"}),
    ):
        answer = caller.http.request(
            method,
            f"/api/v1{path}",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 422, (path, answer.status_code, answer.text)
    for path in ("/violations?q=%00", "/violations/%00", "/rooms/a%00b", "/search?q=a%00"):
        assert caller.get(path).status_code in (400, 404), path
    preferences = json.dumps({"preferences": {"x": text}})
    answer = caller.http.patch(
        "/api/v1/auth/me", content=preferences, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"text": NaN}',
        b'{"text": 1e999}',
        b'{"text": {"$ne": null}}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"text": "x", "unknown": 1}',
        b'{"text": "x", "kind": "exe"}',
    ],
)
def test_bad_input_bodies_that_are_no_request_are_refused(world: World, body: bytes) -> None:
    answer = world.caller("reviewer").http.post(
        "/api/v1/check", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_bad_input_huge_bodies_are_cut_off(world: World) -> None:
    caller = world.caller("reviewer")
    case = world.add()
    big: dict[str, Any] = {"text": "国" * 3_000_000}
    assert caller.post(f"/violations/{case}/notes", big).status_code == 413
    assert caller.post("/check", big).status_code == 413

    def endless() -> Any:
        for _ in range(64):
            yield b"x" * 65536

    answer = caller.http.post(
        "/api/v1/check", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "LM-917")


def test_bad_input_words_beyond_their_bounds_are_refused(world: World) -> None:
    case = world.add()
    caller = world.caller("reviewer")
    assert caller.post(f"/violations/{case}/notes", {"text": "国" * 5001}).status_code == 422
    assert caller.get("/violations", params={"q": "国" * 501}).status_code == 422
    assert caller.patch("/auth/me", {"preferences": {"x": "y" * 20_000}}).status_code == 413
    many = {"status": ["x"] * 300}
    assert caller.get("/violations", params=many).status_code == 422


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "====",
        "WyJ4Il0",
        "bnVsbA",
        "W10",
        "WyJ2aW9sYXRpb25zL3Jpc2siLCJhIiwiYiJd",
        "é",
        "W" * 490,
    ],
)
def test_bad_input_cursors_of_other_lists_are_refused(world: World, cursor: str) -> None:
    caller = world.caller("auditor")
    for path in ("/violations", "/appeals", "/audit"):
        answer = caller.get(path, params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (422, "LM-923"), path
    newest = caller.get("/violations?sort=newest&limit=1").json()["next_cursor"]
    assert newest is None


def test_bad_input_a_cursor_of_another_sort_is_refused(world: World) -> None:
    world.add()
    world.add()
    caller = world.caller("reviewer")
    cursor = caller.get("/violations?limit=1&sort=newest").json()["next_cursor"]
    answer = caller.get("/violations", params={"sort": "risk", "cursor": cursor})
    assert answer.status_code == 422


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_bad_input_idempotency_keys(world: World, key: str) -> None:
    answer = world.caller("reviewer").post(
        "/check", {"text": "x"}, headers={"Idempotency-Key": key}
    )
    assert answer.status_code == 422


def test_bad_input_an_unknown_route_and_method_are_problems(world: World) -> None:
    caller = world.caller()
    for answer in (caller.get("/nothing"), caller.delete("/violations"), caller.put("/meta", {})):
        assert answer.status_code in (404, 405)
        assert answer.json()["code"] == "LM-936"


def test_bad_input_an_unexpected_fault_is_a_500_without_its_insides(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moderator.review import queue
    from tests.review.world import Caller

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret insides")

    monkeypatch.setattr(queue, "counts", fail)
    answer = Caller(world.app, "reviewer", raising=False).get("/violations/counts")
    assert (answer.status_code, answer.json()["code"]) == (500, "LM-937")
    assert "secret" not in answer.text
    assert "nosniff" in answer.headers.get("x-content-type-options", "")


@pytest.mark.parametrize(
    ("lang", "words"), [("zh-CN,zh;q=0.9", "尚未登录"), ("en-GB", "logged in")]
)
def test_bad_input_problems_speak_the_readers_language(world: World, lang: str, words: str) -> None:
    answer = world.anonymous().get("/api/v1/violations", headers={"Accept-Language": lang})
    assert words in answer.json()["detail"]
    assert set(answer.json()) >= {"type", "title", "status", "detail", "code", "instance"}
