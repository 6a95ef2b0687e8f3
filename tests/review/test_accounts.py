"""Logging in and staying so: first start, throttling, expiry, revocation, tokens, CSRF."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderator.review import accounts
from moderator.review.models import ApiToken, LoginSession, User, utcnow
from moderator.review.permissions import PERMISSIONS, Permission, Role
from tests.review.world import PASSWORD, World

LOGIN = "/api/v1/auth/login"


def log_in(http: TestClient, username: str, password: str = PASSWORD) -> dict[str, object]:
    answer = http.post(LOGIN, json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    http.headers["X-CSRF-Token"] = str(body["csrf_token"])
    return body


@pytest.fixture
def empty(world: World) -> World:
    """Nobody is there yet."""
    with world.house.database.write() as db:
        db.execute(User.__table__.delete())
    return world


def test_accounts_first_start_makes_an_admin_whose_password_is_good_once(empty: World) -> None:
    password = accounts.ensure_admin(empty.house.database)
    assert password is not None
    assert accounts.ensure_admin(empty.house.database) is None
    http = empty.anonymous()
    assert log_in(http, "admin", password)["must_change_password"] is True
    refused = http.get("/api/v1/violations")
    assert (refused.status_code, refused.json()["code"]) == (403, "LM-905")
    assert http.get("/api/v1/auth/me").status_code == 200
    change = {"old": password, "new": "walrus umbrella 7"}
    assert http.post("/api/v1/auth/password", json=change).status_code == 200
    assert http.get("/api/v1/violations").status_code == 200
    old = empty.anonymous().post(LOGIN, json={"username": "admin", "password": password})
    assert old.status_code == 401


@pytest.mark.parametrize(
    "new",
    ["short", "admin admin admin", "passwordpassword", "aaaaaaaaaaaaaa", PASSWORD, "x" * 1025],
)
def test_accounts_a_weak_or_equal_new_password_is_refused(world: World, new: str) -> None:
    answer = world.caller().post("/auth/password", {"old": PASSWORD, "new": new})
    assert answer.status_code == 422


def test_accounts_passwords_are_kept_as_argon2_only(world: World) -> None:
    with world.house.database.read() as db:
        kept = db.scalars(select(User.password_hash)).all()
    assert all(value.startswith("$argon2id$") and PASSWORD not in value for value in kept)


def test_accounts_wrong_passwords_are_throttled_and_the_right_one_waits_too(world: World) -> None:
    http = world.anonymous("10.1.1.1")
    wrong = {"username": "reviewer", "password": "no"}
    assert [http.post(LOGIN, json=wrong).status_code for _ in range(5)] == [401] * 5
    answer = http.post(LOGIN, json={"username": "reviewer", "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (429, "LM-904")
    assert int(answer.headers["retry-after"]) > 0
    # Somebody else's guessing does not lock the person out elsewhere.
    log_in(world.anonymous("10.1.1.2"), "reviewer")


def test_accounts_one_name_is_throttled_over_many_addresses(world: World) -> None:
    wrong = {"username": "auditor", "password": "no"}
    codes = [world.anonymous(f"10.2.{n}.1").post(LOGIN, json=wrong).status_code for n in range(22)]
    assert codes[:20] == [401] * 20
    assert codes[20:] == [429, 429]


def test_accounts_an_unknown_name_answers_like_a_wrong_password(world: World) -> None:
    answers = [
        world.anonymous(f"10.3.1.{n}").post(LOGIN, json={"username": name, "password": "no"}).json()
        for n, name in enumerate(["reviewer", "nobody-at-all"])
    ]
    assert answers[0] == answers[1]


def test_accounts_a_session_ends_by_age_and_by_idleness(world: World) -> None:
    for change in (
        {"expires_at": utcnow() - timedelta(seconds=1)},
        {"seen_at": utcnow() - timedelta(hours=3)},
    ):
        http = world.anonymous()
        log_in(http, "reviewer")
        assert http.get("/api/v1/violations").status_code == 200
        with world.house.database.write() as db:
            db.execute(update(LoginSession).values(**change))
        answer = http.get("/api/v1/violations")
        assert (answer.status_code, answer.json()["code"]) == (401, "LM-901")


def test_accounts_logging_out_ends_the_session_for_its_cookie_too(world: World) -> None:
    http = world.anonymous()
    log_in(http, "reviewer")
    cookie = http.cookies["moderator_session"]
    assert http.post("/api/v1/auth/logout").status_code == 200
    http.cookies.set("moderator_session", cookie)
    assert http.get("/api/v1/auth/me").status_code == 401


def test_accounts_sessions_are_listed_and_revoked(world: World) -> None:
    first, second = world.anonymous(), world.anonymous()
    log_in(first, "reviewer")
    log_in(second, "reviewer")
    sessions = first.get("/api/v1/auth/sessions").json()
    assert len(sessions) == 2
    other = next(one for one in sessions if not one["current"])
    assert first.delete(f"/api/v1/auth/sessions/{other['id']}").status_code == 200
    assert second.get("/api/v1/auth/me").status_code == 401
    assert first.get("/api/v1/auth/me").status_code == 200


def test_accounts_somebody_elses_session_cannot_be_revoked(world: World) -> None:
    http = world.anonymous()
    log_in(http, "reviewer")
    mine = http.get("/api/v1/auth/sessions").json()[0]["id"]
    assert world.caller("auditor").delete(f"/auth/sessions/{mine}").status_code == 404
    assert world.caller("admin", "b").delete(f"/auth/sessions/{mine}").status_code == 404
    assert world.caller().delete(f"/auth/sessions/{mine}").status_code == 200


def test_accounts_changing_the_password_ends_the_other_sessions(world: World) -> None:
    first, second = world.anonymous(), world.anonymous()
    log_in(first, "reviewer")
    log_in(second, "reviewer")
    change = {"old": PASSWORD, "new": "walrus umbrella 7"}
    assert first.post("/api/v1/auth/password", json=change).status_code == 200
    assert first.get("/api/v1/auth/me").status_code == 200
    assert second.get("/api/v1/auth/me").status_code == 401


def test_accounts_a_disabled_or_demoted_person_is_out_at_once(world: World) -> None:
    http = world.anonymous()
    user = log_in(http, "reviewer")
    assert world.caller().patch(f"/users/{user['id']}", {"disabled": True}).status_code == 200
    assert http.get("/api/v1/auth/me").status_code == 401
    assert http.post(LOGIN, json={"username": "reviewer", "password": PASSWORD}).status_code == 401
    other = world.anonymous()
    user = log_in(other, "second_reviewer")
    world.caller().patch(f"/users/{user['id']}", {"role": "auditor"})
    assert other.get("/api/v1/auth/me").status_code == 401


def test_accounts_a_reset_password_is_one_time(world: World) -> None:
    user = world.caller("reviewer").id
    given = world.caller().post(f"/users/{user}/password").json()["password"]
    assert log_in(world.anonymous(), "reviewer", given)["must_change_password"] is True


def test_accounts_nobody_takes_their_own_rights_away(world: World) -> None:
    admin = world.caller()
    assert admin.patch(f"/users/{admin.id}", {"disabled": True}).status_code == 422
    assert admin.patch(f"/users/{admin.id}", {"role": "auditor"}).status_code == 422


def test_accounts_an_organisations_admin_manages_only_its_own_people(world: World) -> None:
    mine = world.caller("admin", "a")
    assert {user["organisation_id"] for user in mine.get("/users").json()} == {
        world.organisations["a"]
    }
    theirs = world.caller("reviewer", "b").id
    assert mine.patch(f"/users/{theirs}", {"disabled": True}).status_code == 404
    assert mine.post(f"/users/{theirs}/password").status_code == 404
    body = {"username": "new.one", "role": "reviewer", "organisation_id": world.organisations["b"]}
    assert mine.post("/users", body).status_code == 404
    made = mine.post("/users", {"username": "new.one", "role": "reviewer"})
    assert made.json()["organisation_id"] == world.organisations["a"]
    assert mine.post("/organisations", {"name": "丙"}).status_code == 403


def test_accounts_a_streamer_belongs_to_an_organisation(world: World) -> None:
    answer = world.caller().post("/users", {"username": "host.one", "role": "streamer"})
    assert answer.status_code == 422
    # One that lost it sees nothing at all, not everything.
    world.add()
    assert world.caller("streamer").get("/violations").json()["items"] == []


def test_accounts_names_are_taken_once_whatever_their_case(world: World) -> None:
    answer = world.caller().post("/users", {"username": "Reviewer", "role": "reviewer"})
    assert (answer.status_code, answer.json()["code"]) == (409, "LM-924")


# --- CSRF -----------------------------------------------------------------------------


def test_accounts_an_unsafe_request_needs_the_sessions_csrf_token(world: World) -> None:
    http = world.anonymous()
    body = log_in(http, "reviewer")
    note = {"name": "mine", "query": {}}
    for token in (None, "", "wrong", str(body["csrf_token"]) + "x"):
        http.headers.pop("X-CSRF-Token", None)
        if token is not None:
            http.headers["X-CSRF-Token"] = token
        answer = http.post("/api/v1/filters", json=note)
        assert (answer.status_code, answer.json()["code"]) == (403, "LM-907")
    http.headers["X-CSRF-Token"] = str(body["csrf_token"])
    assert http.post("/api/v1/filters", json=note).status_code == 201


@pytest.mark.parametrize(
    "header",
    [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}],
)
def test_accounts_another_sites_page_cannot_use_the_session_or_log_in(
    world: World, header: dict[str, str]
) -> None:
    http = world.anonymous()
    log_in(http, "reviewer")
    answer = http.post("/api/v1/filters", json={"name": "x", "query": {}}, headers=header)
    assert answer.json()["code"] == "LM-907"
    body = {"username": "reviewer", "password": PASSWORD}
    assert http.post(LOGIN, json=body, headers=header).status_code == 403


def test_accounts_the_cookie_is_out_of_reach_of_scripts_and_other_sites(world: World) -> None:
    http = TestClient(world.app, base_url="https://testserver")
    answer = http.post(LOGIN, json={"username": "reviewer", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("httponly", "samesite=lax", "secure", "path=/"))
    assert answer.headers["strict-transport-security"]


# --- headers --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/violations", "/nothing", "/openapi.json"])
def test_accounts_every_answer_carries_the_security_headers(world: World, path: str) -> None:
    headers = world.anonymous().get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    if path.startswith("/api/"):
        assert headers["cache-control"] == "no-store"


# --- tokens ---------------------------------------------------------------------------


def with_token(world: World, token: str) -> TestClient:
    http = world.anonymous()
    http.headers["Authorization"] = f"Bearer {token}"
    return http


def test_accounts_a_token_does_what_its_scopes_say_and_no_more(world: World) -> None:
    body = {"name": "export", "scopes": ["violations:read"]}
    made = world.caller("reviewer").post("/auth/tokens", body)
    assert made.status_code == 201
    http = with_token(world, made.json()["token"])
    violation = world.add()
    assert http.get("/api/v1/violations").status_code == 200
    refused = http.post(f"/api/v1/violations/{violation}/claim")
    assert (refused.status_code, refused.json()["code"]) == (403, "LM-902")
    assert "violations:decide" in refused.json()["detail"]


def test_accounts_a_token_needs_no_csrf_token(world: World) -> None:
    body = {"name": "decide", "scopes": ["violations:read", "violations:decide"]}
    token = world.caller("reviewer").post("/auth/tokens", body).json()["token"]
    http = with_token(world, token)
    assert http.post(f"/api/v1/violations/{world.add()}/claim").status_code == 200


def test_accounts_a_token_cannot_have_a_scope_that_its_owner_lacks(world: World) -> None:
    body = {"name": "x", "scopes": ["users:manage"]}
    assert world.caller("reviewer").post("/auth/tokens", body).status_code == 403
    body["scopes"] = ["made:up"]
    assert world.caller("reviewer").post("/auth/tokens", body).status_code == 422


def test_accounts_tokens_are_kept_hashed_and_shown_once(world: World) -> None:
    caller = world.caller("reviewer")
    token = caller.post("/auth/tokens", {"name": "x", "scopes": ["rooms:read"]}).json()["token"]
    with world.house.database.read() as db:
        (kept,) = db.scalars(select(ApiToken)).all()
    assert token not in (kept.token_hash, kept.hint)
    assert len(kept.token_hash) == 64
    assert "token" not in caller.get("/auth/tokens").json()[0]


def test_accounts_a_token_ends_when_revoked_expired_or_its_owner_goes(world: World) -> None:
    caller = world.caller("reviewer")
    body = {"name": "x", "scopes": ["rooms:read"]}
    made = caller.post("/auth/tokens", body).json()
    http = with_token(world, made["token"])
    assert http.get("/api/v1/rooms").status_code == 200
    assert caller.delete(f"/auth/tokens/{made['id']}").status_code == 200
    assert http.get("/api/v1/rooms").status_code == 401
    later = (utcnow() + timedelta(minutes=5)).isoformat()
    made = caller.post("/auth/tokens", body | {"expires_at": later}).json()
    http = with_token(world, made["token"])
    assert http.get("/api/v1/rooms").status_code == 200
    with world.house.database.write() as db:
        row = db.scalars(select(ApiToken).where(ApiToken.id == made["id"])).one()
        assert row.expires_at is not None
        row.expires_at -= timedelta(minutes=5)
    assert http.get("/api/v1/rooms").status_code == 401
    made = caller.post("/auth/tokens", body).json()
    world.caller().patch(f"/users/{caller.id}", {"disabled": True})
    assert with_token(world, made["token"]).get("/api/v1/rooms").status_code == 401


def test_accounts_a_token_loses_what_its_owner_lost(world: World) -> None:
    caller = world.caller("second_reviewer")
    body = {"name": "x", "scopes": ["violations:read", "violations:second", "evidence:export"]}
    token = caller.post("/auth/tokens", body).json()["token"]
    world.caller().patch(f"/users/{caller.id}", {"role": "auditor"})
    http = with_token(world, token)
    assert http.get("/api/v1/violations").status_code == 200
    held = http.put(f"/api/v1/violations/{world.add()}/hold", json={"held": True})
    assert held.status_code == 403


@pytest.mark.parametrize("token", ["", "lm_nonsense", "x" * 5000, "\u00e9"])
def test_accounts_a_token_that_is_none_is_refused_and_never_falls_back_to_the_cookie(
    world: World, token: str
) -> None:
    http = world.anonymous()
    log_in(http, "reviewer")
    answer = http.get("/api/v1/rooms", headers={"Authorization": f"Bearer {token}".encode()})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_accounts_the_auditor_has_no_right_that_changes_anything() -> None:
    writes = ("decide", "second", "export", "invite", "answer", "write", "manage", "watch", "run")
    assert not [p for p in PERMISSIONS[Role.AUDITOR] if str(p).endswith(writes)]
    assert PERMISSIONS[Role.ADMIN] == frozenset(Permission)
