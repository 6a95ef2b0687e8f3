"""Every test that takes `world` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from moderator import models
from moderator.review import accounts
from moderator.review.app import create_app, prepare
from moderator.review.database import Database
from moderator.review.house import House
from moderator.review.settings import ReviewSettings
from tests.review import postgres
from tests.review.world import LOOP, World, populate

_names = itertools.count(1)


@pytest.fixture(autouse=True, scope="session")
def quick_hashes() -> Iterator[None]:
    """Real argon2 with the least work it takes: the tests log in hundreds of times."""
    patch = pytest.MonkeyPatch()
    hasher = Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1)
    patch.setattr(accounts, "HASHER", PasswordHash((hasher,)))
    patch.setattr(accounts, "_NOBODYS_HASH", [])
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def one_loop() -> Iterator[None]:
    with start_blocking_portal() as portal:
        LOOP.append(portal)
        yield
        LOOP.clear()


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL server with a database `ready` whose tables are made."""
    reason = postgres.missing()
    if reason:
        pytest.skip(reason)
    made = postgres.Cluster()
    made.create()
    made.sql("CREATE DATABASE ready")
    database = Database(ReviewSettings(database_url=made.url("ready")).url)
    database.migrate()
    database.close()
    yield made
    made.stop()
    made.remove()


@pytest.fixture(scope="session")
def ready_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file whose tables are made."""
    path = tmp_path_factory.mktemp("ready") / "ready.sqlite3"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def embedded_weights() -> None:
    """Skips a test of real speech where the weights are not installed."""
    for name in ("whisper-base", "silero-vad-v6"):
        if not models.is_installed(name):
            pytest.skip(f"the weights {name} are not installed")


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own, with tables and nothing in them."""
    if backend == "sqlite":
        path = tmp_path / "console.sqlite3"
        shutil.copy(request.getfixturevalue("ready_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server: postgres.Cluster = request.getfixturevalue("cluster")
    name = f"test_{next(_names)}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE ready")
    yield server.url(name)
    server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def application(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The routes take longer to make than a test takes; each test puts its own house in."""
    data = tmp_path_factory.mktemp("nothing")
    return create_app(ReviewSettings(database_url="", data_dir=data), background=False)


@pytest.fixture
def world(application: FastAPI, database_url: str, tmp_path: Path) -> Iterator[World]:
    data = tmp_path / "data"
    settings = ReviewSettings(database_url=database_url, data_dir=data, secret_key="test")
    house = House(settings)
    prepare(house)
    application.state.house = house
    yield populate(application, data)
    house.database.close()
