"""The OpenAPI document: sound, with examples, and held to by the server under odd requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from moderator.review.app import create_app, prepare
from moderator.review.demo import Demo
from moderator.review.settings import ReviewSettings
from tests.review.world import PASSWORD, World, populate

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = int(os.environ.get("MODERATOR_TEST_API_EXAMPLES", "4"))
"""Requests for each operation; raise it for a longer look."""

STREAMS = {"/api/v1/events"}


def test_openapi_describes_every_route_with_security_and_problems(world: World) -> None:
    document = world.anonymous().get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    schemes = document["components"]["securitySchemes"]
    assert schemes["token"] == {"type": "http", "scheme": "bearer"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation.get("responses"), (method, path)
            if path.startswith("/api/"):
                problem = operation["responses"]["422"]["content"]
                assert set(problem) == {"application/problem+json"}, (method, path)
    text = str(document)
    assert "HTTPValidationError" not in str(document["paths"])
    assert text.count("examples") > 5


def test_openapi_examples_are_valid_against_their_own_schemas(world: World) -> None:
    from jsonschema import Draft202012Validator

    document = world.anonymous().get("/openapi.json").json()
    seen = 0
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            rooted = {**schema, "components": document["components"]}
            errors = list(Draft202012Validator(rooted).iter_errors(example))
            assert not errors, (name, errors[0].message)
            seen += 1
    assert seen >= 3


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Any]]:
    """One world for all requests; what they do to it must not break it either."""
    patch = pytest.MonkeyPatch()
    patch.setattr(Demo, "start", lambda self, **_: None)
    data: Path = tmp_path_factory.mktemp("fuzz")
    app = create_app(ReviewSettings(database_url="", data_dir=data), background=False)
    prepare(app.state.house)
    world = populate(app, data)
    world.add_with_evidence("a")
    world.add_critical("b")
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    yield world, schema
    app.state.house.database.close()
    patch.undo()


def fresh_token(world: World) -> str:
    """As a program with every right; made anew, since a request may have revoked the last."""
    http = world.anonymous("10.8.8.8")
    user = http.post("/api/v1/auth/login", json={"username": "admin", "password": PASSWORD}).json()
    body = {"name": "fuzz", "scopes": user["permissions"]}
    made = http.post("/api/v1/auth/tokens", json=body, headers={"X-CSRF-Token": user["csrf_token"]})
    return str(made.json()["token"])


def test_openapi_the_server_keeps_to_its_document(fuzzed: tuple[World, Any]) -> None:
    world, schema = fuzzed
    token = fresh_token(world)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 60
    checks = (
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.CHECKS.get_one("status_code_conformance"),
        schemathesis.checks.CHECKS.get_one("content_type_conformance"),
        schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
    )
    tried: list[str] = []
    broken: dict[str, str] = {}
    for operation in operations:
        if operation.path not in STREAMS and operation.path != "/metrics":
            try:
                requests_to(operation, token, checks, tried)()
            except Exception as error:
                broken[operation.label] = f"{type(error).__name__}: {error}"[:1500]
    assert broken == {}
    assert len(tried) > len(operations)
    with world.house.database.read() as db:
        from moderator.review import audit

        assert audit.verify(db).sound


def requests_to(operation: Any, token: str, checks: Any, tried: list[str]) -> Any:
    """A property test of one operation: whatever is sent, the answer is as the document says."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def try_it(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy())
        response = case.call(headers={"Authorization": f"Bearer {token}"})
        tried.append(operation.label)
        case.validate_response(response, checks=checks)

    return try_it
