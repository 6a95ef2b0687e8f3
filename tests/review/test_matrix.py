"""Every route × every role × one's own and another organisation.

The routes come from the application itself: one that is not in the table fails the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import select, update

from moderator.review.demo import Demo
from moderator.review.models import Job, LoginSession, User
from moderator.review.permissions import PERMISSIONS, Permission, Role
from tests.review.world import PASSWORD, ROOMS, World

P = Permission
Make = Callable[[World, str], dict[str, str]]


@dataclass(frozen=True)
class Expect:
    """Who may call a route, and with what.

    `needs` None: nobody needs to be logged in. `make` gives the path's parameters for an
    object of organisation `a` or `b`; with it, another organisation's object is a 404.
    `listing`: another organisation's things are not in the answer. `mine`: only the owner's own.
    """

    needs: Permission | None
    make: Make | None = None
    body: Any = None
    listing: bool = False
    mine: bool = False
    platform: bool = False
    page: bool = False
    stream: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    other: tuple[int, ...] = (404,)


def case(world: World, key: str) -> dict[str, str]:
    return {"violation_id": world.add_with_evidence(key)}


def evidence(world: World, key: str) -> dict[str, str]:
    return case(world, key) | {"path": "clips/001.mp4"}


def exported(world: World, key: str) -> dict[str, str]:
    made = world.caller().post(f"/violations/{case(world, key)['violation_id']}/exports", {})
    return {"export_id": made.json()["id"]}


def invited(world: World, key: str) -> tuple[str, str, str]:
    """Violation, appeal and link token."""
    violation = world.add_with_evidence(key)
    world.caller("second_reviewer").decide(violation, "confirm")
    made = world.caller().post(f"/violations/{violation}/appeals").json()
    return violation, made["appeal"]["id"], made["url"].rsplit("/", 1)[1]


def appeal(world: World, key: str) -> dict[str, str]:
    return {"appeal_id": invited(world, key)[1]}


def submitted(world: World, key: str) -> dict[str, str]:
    _, appeal_id, token = invited(world, key)
    http = world.anonymous()
    document = http.post(
        f"/api/v1/appeal-links/{token}/documents", files={"file": ("a.pdf", b"%PDF-1.7 x")}
    ).json()
    http.post(f"/api/v1/appeal-links/{token}", json={"text": "我们有证明"})
    return {"appeal_id": appeal_id, "document_id": document["id"]}


def link(world: World, key: str) -> dict[str, str]:
    return {"token": invited(world, key)[2], "path": "clips/001.mp4"}


def room(world: World, key: str) -> dict[str, str]:
    world.add_with_evidence(key)
    return {"room_id": ROOMS[key].id}


def broadcast(world: World, key: str) -> dict[str, str]:
    world.add_with_evidence(key)
    return {"broadcast_id": f"S-{key}"}


def passport(world: World, key: str) -> dict[str, str]:
    body = {"id": f"cream_{key}", "name": "面霜", "category": "cosmetic"}
    organisation = world.organisations[key]
    world.caller().post("/passports", {"passport": body, "organisation_id": organisation})
    return {"passport_id": body["id"]}


def person(world: World, key: str) -> dict[str, str]:
    with world.house.database.read() as db:
        user = db.scalar(select(User.id).where(User.username == f"auditor-{key}"))
    return {"user_id": str(user)}


def job(world: World, key: str) -> dict[str, str]:
    with world.house.database.write() as db:
        owner = db.scalars(select(User.id).where(User.username == f"reviewer-{key}")).one()
        made = Job(user_id=owner, name="a.mp4", size_bytes=10)
        db.add(made)
        db.flush()
        return {"job_id": made.id}


def somebodys(name: str) -> Make:
    return lambda world, key: {name: "00000000000000000000000000"}


TEXT = {"text": "这是国家级的品质"}
RECORDS = {"records": []}
UPLOAD = {"content": b"x", "headers": {"Upload-Offset": "0"}}
SCRIPT = {"files": {"file": ("a.txt", "这是国家级的品质".encode())}}
V = "/api/v1/violations"

TABLE: dict[tuple[str, str], Expect] = {
    ("POST", "/api/v1/auth/login"): Expect(None, body={"username": "x", "password": "x"}),
    ("POST", "/api/v1/auth/logout"): Expect(None),
    ("GET", "/api/v1/auth/me"): Expect(P.ACCOUNT),
    ("PATCH", "/api/v1/auth/me"): Expect(P.ACCOUNT, body={}),
    ("POST", "/api/v1/auth/password"): Expect(P.ACCOUNT, body={"old": PASSWORD, "new": "short"}),
    ("GET", "/api/v1/auth/sessions"): Expect(P.ACCOUNT),
    ("DELETE", "/api/v1/auth/sessions/{session_id}"): Expect(
        P.ACCOUNT, somebodys("session_id"), mine=True
    ),
    ("GET", "/api/v1/auth/tokens"): Expect(P.ACCOUNT),
    ("POST", "/api/v1/auth/tokens"): Expect(
        P.ACCOUNT, body={"name": "x", "scopes": ["rooms:read"]}
    ),
    ("DELETE", "/api/v1/auth/tokens/{token_id}"): Expect(
        P.ACCOUNT, somebodys("token_id"), mine=True
    ),
    ("GET", "/api/v1/users"): Expect(P.USERS_MANAGE, listing=True),
    ("POST", "/api/v1/users"): Expect(
        P.USERS_MANAGE, body={"username": "fresh", "role": "reviewer"}
    ),
    ("PATCH", "/api/v1/users/{user_id}"): Expect(P.USERS_MANAGE, person, {"display_name": "x"}),
    ("POST", "/api/v1/users/{user_id}/password"): Expect(P.USERS_MANAGE, person),
    ("GET", "/api/v1/organisations"): Expect(P.USERS_MANAGE, listing=True),
    ("POST", "/api/v1/organisations"): Expect(P.USERS_MANAGE, body={"name": "x"}, platform=True),
    ("GET", "/api/v1/colleagues"): Expect(P.VIOLATIONS_DECIDE, listing=True),
    ("GET", V): Expect(P.VIOLATIONS_READ, listing=True),
    ("GET", f"{V}/counts"): Expect(P.VIOLATIONS_READ, listing=True),
    ("GET", f"{V}/values"): Expect(P.VIOLATIONS_READ, listing=True),
    ("POST", f"{V}/next"): Expect(P.VIOLATIONS_DECIDE, body={}, listing=True),
    ("GET", f"{V}/{{violation_id}}"): Expect(P.VIOLATIONS_READ, case),
    ("POST", f"{V}/{{violation_id}}/claim"): Expect(P.VIOLATIONS_DECIDE, case),
    ("POST", f"{V}/{{violation_id}}/release"): Expect(P.VIOLATIONS_DECIDE, case),
    ("POST", f"{V}/{{violation_id}}/decisions"): Expect(
        P.VIOLATIONS_DECIDE, case, {"action": "confirm"}
    ),
    ("POST", f"{V}/{{violation_id}}/undo"): Expect(P.VIOLATIONS_DECIDE, case),
    ("PUT", f"{V}/{{violation_id}}/assignee"): Expect(P.VIOLATIONS_DECIDE, case, {"user_id": None}),
    ("POST", f"{V}/{{violation_id}}/notes"): Expect(P.VIOLATIONS_DECIDE, case, TEXT),
    ("PUT", f"{V}/{{violation_id}}/hold"): Expect(P.VIOLATIONS_SECOND, case, {"held": True}),
    ("GET", f"{V}/{{violation_id}}/evidence/{{path}}"): Expect(P.EVIDENCE_READ, evidence),
    ("POST", f"{V}/{{violation_id}}/appeals"): Expect(P.APPEALS_INVITE, case),
    ("POST", f"{V}/{{violation_id}}/exports"): Expect(P.EVIDENCE_EXPORT, case, {}),
    ("GET", "/api/v1/exports/{export_id}"): Expect(P.EVIDENCE_EXPORT, exported),
    ("GET", "/api/v1/appeals"): Expect(P.VIOLATIONS_READ, listing=True),
    ("GET", "/api/v1/appeals/{appeal_id}"): Expect(P.VIOLATIONS_READ, appeal),
    ("POST", "/api/v1/appeals/{appeal_id}/answer"): Expect(
        P.APPEALS_ANSWER, submitted, {"accepted": True, "answer": "x"}
    ),
    ("POST", "/api/v1/appeals/{appeal_id}/revoke"): Expect(P.APPEALS_INVITE, appeal),
    ("GET", "/api/v1/appeals/{appeal_id}/documents/{document_id}"): Expect(
        P.PRIVATE_DATA, submitted
    ),
    ("GET", "/api/v1/appeal-links/{token}"): Expect(None, link),
    ("POST", "/api/v1/appeal-links/{token}"): Expect(None, link, TEXT),
    ("POST", "/api/v1/appeal-links/{token}/documents"): Expect(
        None, link, extra={"files": {"file": ("a.pdf", b"%PDF-1.7 x")}}
    ),
    ("GET", "/api/v1/appeal-links/{token}/evidence/{path}"): Expect(None, link),
    ("GET", "/api/v1/filters"): Expect(P.ACCOUNT),
    ("POST", "/api/v1/filters"): Expect(P.ACCOUNT, body={"name": "x", "query": {}}),
    ("DELETE", "/api/v1/filters/{filter_id}"): Expect(P.ACCOUNT, somebodys("filter_id"), mine=True),
    ("GET", "/api/v1/rooms"): Expect(P.ROOMS_READ, listing=True),
    ("POST", "/api/v1/rooms"): Expect(P.ROOMS_WATCH, body={"id": "room_new"}),
    ("GET", "/api/v1/rooms/{room_id}"): Expect(P.ROOMS_READ, room),
    ("PATCH", "/api/v1/rooms/{room_id}"): Expect(P.USERS_MANAGE, room, {"title": "新"}),
    ("GET", "/api/v1/rooms/{room_id}/frame"): Expect(P.EVIDENCE_READ, room, mine=True),
    ("POST", "/api/v1/rooms/{room_id}/watch"): Expect(
        P.ROOMS_WATCH, room, {"source": "https://127.0.0.1/live.flv"}
    ),
    ("DELETE", "/api/v1/rooms/{room_id}/watch"): Expect(P.ROOMS_WATCH, room),
    ("GET", "/api/v1/rooms/{room_id}/broadcasts"): Expect(P.ROOMS_READ, room),
    ("GET", "/api/v1/broadcasts/{broadcast_id}/timeline"): Expect(P.ROOMS_READ, broadcast),
    ("GET", "/api/v1/broadcasts/{broadcast_id}/media"): Expect(
        P.EVIDENCE_READ, broadcast, mine=True
    ),
    ("GET", "/api/v1/search"): Expect(
        P.VIOLATIONS_READ, listing=True, extra={"params": {"q": "国家级"}}
    ),
    ("POST", "/api/v1/check"): Expect(P.CHECK, body=TEXT),
    ("POST", "/api/v1/check/file"): Expect(P.CHECK, extra=SCRIPT),
    ("POST", "/api/v1/check/download"): Expect(P.CHECK, body=TEXT | {"format": "txt"}),
    ("GET", "/api/v1/passports"): Expect(P.PASSPORTS_READ, listing=True),
    ("POST", "/api/v1/passports"): Expect(
        P.PASSPORTS_WRITE, body={"passport": {"id": "new", "category": "food"}}
    ),
    ("DELETE", "/api/v1/passports/{passport_id}"): Expect(P.PASSPORTS_WRITE, passport),
    ("GET", "/api/v1/jobs"): Expect(P.CHECK),
    ("POST", "/api/v1/jobs"): Expect(P.CHECK, body={"name": "a.mp4", "size_bytes": 9}),
    ("GET", "/api/v1/jobs/{job_id}"): Expect(P.CHECK, job, mine=True),
    ("PATCH", "/api/v1/jobs/{job_id}/content"): Expect(P.CHECK, job, mine=True, extra=UPLOAD),
    ("DELETE", "/api/v1/jobs/{job_id}"): Expect(P.CHECK, job, mine=True),
    ("GET", "/api/v1/dashboards/{name}"): Expect(
        P.DASHBOARDS_READ, lambda world, key: {"name": "room"}, listing=True
    ),
    ("GET", "/api/v1/verdicts"): Expect(P.VERDICTS_EXPORT, listing=True),
    ("GET", "/api/v1/audit"): Expect(P.AUDIT_READ, listing=True),
    ("GET", "/api/v1/audit/verify"): Expect(P.AUDIT_READ),
    ("POST", "/api/v1/retention"): Expect(P.RETENTION, body={}),
    ("POST", "/api/v1/ingest/violations"): Expect(P.INGEST, body=RECORDS),
    ("POST", "/api/v1/ingest/envelopes"): Expect(P.INGEST, body={"envelopes": []}),
    ("PUT", "/api/v1/ingest/violations/{violation_id}/evidence/{path}"): Expect(P.INGEST, evidence),
    ("GET", "/api/v1/meta"): Expect(P.ACCOUNT),
    ("GET", "/api/v1/events"): Expect(P.ACCOUNT, stream=True),
    ("GET", "/api/v1/demo"): Expect(P.USERS_MANAGE),
    ("POST", "/api/v1/demo"): Expect(P.USERS_MANAGE, platform=True),
    ("GET", "/healthz"): Expect(None),
    ("GET", "/readyz"): Expect(None),
    ("GET", "/metrics"): Expect(P.DASHBOARDS_READ),
    # Pages: their data comes from the routes above, so they differ by right alone.
    ("GET", "/"): Expect(P.ACCOUNT, page=True),
    ("GET", "/login"): Expect(None, page=True),
    ("GET", "/appeal/{token}"): Expect(None, link, page=True),
    ("GET", "/password"): Expect(P.ACCOUNT, page=True),
    ("GET", "/account"): Expect(P.ACCOUNT, page=True),
    ("GET", "/queue"): Expect(P.VIOLATIONS_READ, page=True),
    ("GET", "/violations/{violation_id}"): Expect(P.VIOLATIONS_READ, case, page=True),
    ("GET", "/rooms"): Expect(P.ROOMS_READ, page=True),
    ("GET", "/rooms/{room_id}"): Expect(P.ROOMS_READ, room, page=True),
    ("GET", "/check"): Expect(P.CHECK, page=True),
    ("GET", "/dashboards"): Expect(P.DASHBOARDS_READ, page=True),
    ("GET", "/audit"): Expect(P.AUDIT_READ, page=True),
    ("GET", "/users"): Expect(P.USERS_MANAGE, page=True),
}

OPEN_PATHS = {"/openapi.json", "/static"}
"""No handlers of ours: the description of the API, and files that anybody may have."""


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """What can be called, as (method, path) with the converters taken off."""
    found = set()
    for route in every_route(app.routes):
        path = getattr(route, "path", "").replace(":path}", "}")
        if path in OPEN_PATHS:
            continue
        methods = getattr(route, "methods", None) or {"GET"}
        found |= {(method, path) for method in methods - {"HEAD", "OPTIONS"}}
    return found


def every_route(routes: Any) -> list[Any]:
    """Flattened: an included router may be one entry that holds its own routes."""
    found: list[Any] = []
    for route in routes:
        inner = getattr(route, "effective_routes", None) or getattr(
            route, "effective_route_contexts", None
        )
        if not isinstance(route, APIRoute) and inner is not None:
            found += every_route(inner() if callable(inner) else inner)
        else:
            found.append(route)
    return found


def test_matrix_covers_every_route_there_is(world: World) -> None:
    there = routes_of(world.app)
    assert there - set(TABLE) == set(), "routes without an expectation"
    assert set(TABLE) - there == set(), "expectations without a route"
    assert len(there) > 80


def call(world: World, role: str, key: str, route: tuple[str, str], target: str) -> Any:
    """Call `route` on an object of organisation `target` as `role` of organisation `key`."""
    method, path = route
    expect = TABLE[route]
    if expect.make is not None:
        for name, value in expect.make(world, target).items():
            path = path.replace(f"{{{name}}}", value)
    http = world.caller(role, key).http if role else world.anonymous()
    options = dict(expect.extra)
    if expect.body is not None:
        options["json"] = expect.body
    return http.request(method, path, follow_redirects=False, **options)


@pytest.fixture(autouse=True)
def no_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Demo, "start", lambda self, **_: None)


@pytest.mark.parametrize("role", list(Role))
def test_matrix_each_role_may_what_its_rights_say_and_nothing_else(
    world: World, role: Role
) -> None:
    wrong = []
    for route, expect in TABLE.items():
        if expect.stream or route[1] == "/api/v1/auth/logout":
            continue
        allowed = expect.needs is None or expect.needs in PERMISSIONS[role]
        if allowed and expect.make and not expect.mine and not expect.listing:
            # The right kind of object is worth making only where it will be looked at.
            answer = call(world, role, "a", route, "a")
        elif allowed:
            answer = call(world, role, "a", route, "a")
        else:
            answer = call_without_objects(world, role, route)
        code = answer.status_code
        if not allowed:
            fine = code == 403
        elif expect.platform:
            fine = code == 403 and "LM-902" in answer.text
        elif route[1] == "/api/v1/auth/login":
            fine = code == 401 and "LM-903" in answer.text
        elif expect.mine:
            fine = code in (200, 201, 404) and "LM-902" not in answer.text
        else:
            fine = code not in (401, 403, 404, 500)
        if not fine:
            wrong.append((role, route, code, answer.text[:150]))
    assert wrong == []


def call_without_objects(world: World, role: str, route: tuple[str, str]) -> Any:
    """Who lacks the right is refused before anything is looked up."""
    method, path = route
    expect = TABLE[route]
    path = path.replace("{", "").replace("}", "")
    options = dict(expect.extra)
    if expect.body is not None:
        options["json"] = expect.body
    http = world.caller(role, "a").http if role else world.anonymous()
    return http.request(method, path, follow_redirects=False, **options)


@pytest.mark.parametrize("role", list(Role))
def test_matrix_no_role_reaches_into_another_organisation(world: World, role: Role) -> None:
    wrong = []
    foreign = (ROOMS["b"].id, ROOMS["b"].merchant, world.organisations["b"])
    world.add_with_evidence("b")
    world.caller("reviewer", "b")
    world.caller().post(
        "/passports",
        {
            "passport": {"id": "theirs", "name": ROOMS["b"].merchant, "category": "food"},
            "organisation_id": world.organisations["b"],
        },
    )
    for route, expect in TABLE.items():
        if expect.needs is None or expect.needs not in PERMISSIONS[role]:
            continue
        if expect.listing:
            answer = call(world, role, "a", route, "b")
            fine = answer.status_code in (200, 202) and not any(w in answer.text for w in foreign)
        elif expect.make is not None and not expect.page:
            answer = call(world, role, "a", route, "b")
            fine = answer.status_code in expect.other
        else:
            continue
        if not fine:
            wrong.append((role, route, answer.status_code, answer.text[:150]))
    assert wrong == []


def test_matrix_the_platforms_people_see_every_organisation(world: World) -> None:
    wrong = []
    for route, expect in TABLE.items():
        if expect.make is None or expect.needs is None or expect.mine or expect.listing:
            continue
        answer = call(world, "admin", "", route, "b")
        if answer.status_code in (401, 403, 404, 500):
            wrong.append((route, answer.status_code, answer.text[:150]))
    assert wrong == []


def test_matrix_without_logging_in_there_is_nothing(world: World) -> None:
    wrong = []
    for route, expect in TABLE.items():
        if expect.needs is None:
            continue
        answer = call_without_objects(world, "", route)
        if expect.page:
            home = answer.status_code in (302, 303, 307) and "/login" in answer.headers["location"]
            fine = home or answer.status_code == 401
        else:
            fine = answer.status_code == 401 and answer.json()["code"] == "LM-901"
        if not fine:
            wrong.append((route, answer.status_code, answer.text[:150]))
    assert wrong == []


def test_matrix_with_a_given_password_there_is_only_changing_it(world: World) -> None:
    caller = world.caller("admin", "a")
    with world.house.database.write() as db:
        db.execute(update(User).where(User.id == caller.id).values(must_change_password=True))
    free = {"/api/v1/auth/me", "/api/v1/auth/password"}
    wrong = []
    for route, expect in TABLE.items():
        if expect.needs is None or expect.page or (route[1] in free and route[0] != "PATCH"):
            continue
        answer = call_without_objects(world, "admin", route)
        if answer.status_code != 403 or answer.json()["code"] != "LM-905":
            wrong.append((route, answer.status_code, answer.text[:150]))
    assert wrong == []


def test_matrix_every_scope_of_a_token_opens_its_routes_and_no_other(
    world: World, backend: str
) -> None:
    wrong = []
    admin = world.caller("admin", "a")
    routes = [
        route
        for route, expect in TABLE.items()
        if not (expect.needs is None or expect.page or expect.stream)
    ]
    for number, scope in enumerate(Permission):
        made = admin.post("/auth/tokens", {"name": str(scope), "scopes": [str(scope)]}).json()
        http = world.anonymous()
        http.headers["Authorization"] = f"Bearer {made['token']}"
        # What a token may is decided above the database: the second sees every scope and every
        # route, not every pair.
        share = routes if backend == "sqlite" else routes[number :: len(Permission)]
        for method, path in share:
            expect = TABLE[method, path]
            if expect.needs is scope:
                continue
            options = dict(expect.extra)
            if expect.body is not None:
                options["json"] = expect.body
            url = path.replace("{", "").replace("}", "")
            answer = http.request(method, url, **options)
            if answer.status_code != 403:
                wrong.append((scope, method, path, answer.status_code, answer.text[:100]))
    assert wrong == []
    with world.house.database.read() as db:
        assert db.scalar(select(LoginSession.id).limit(1)) is not None
