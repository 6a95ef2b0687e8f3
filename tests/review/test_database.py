"""The database: migrations, newer tables, and being away for a while."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from moderator.errors import ModeratorError
from moderator.review.app import create_app, prepare
from moderator.review.database import Database
from moderator.review.models import Base
from moderator.review.settings import ReviewSettings
from tests.review import postgres
from tests.review.world import World, populate


def test_database_migrations_make_the_tables_of_the_models(
    database_url: str, tmp_path: Path
) -> None:
    database = Database(ReviewSettings(database_url=database_url, data_dir=tmp_path).url)
    database.migrate()
    found = inspect(database.engine)
    for table in Base.metadata.sorted_tables:
        columns = {column["name"] for column in found.get_columns(table.name)}
        assert columns == {column.name for column in table.columns}, table.name
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        assert {index.name for index in table.indexes} <= indexes, table.name
    assert database.is_current()
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_name": _ours})
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def _ours(name: str | None, type_: str, parents: object) -> bool:
    """Without the search index, which is made by hand."""
    return type_ != "table" or name in Base.metadata.tables


def test_database_the_first_migration_can_be_taken_back(database_url: str, tmp_path: Path) -> None:
    from alembic import command

    from moderator.review.database import alembic_config

    database = Database(ReviewSettings(database_url=database_url, data_dir=tmp_path).url)
    config = alembic_config()
    with database.engine.connect().execution_options(writes=True) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    left = set(inspect(database.engine).get_table_names())
    assert left <= {"alembic_version"}
    database.migrate()
    assert database.is_current()
    database.close()


def test_database_tables_of_a_newer_program_are_left_alone(
    database_url: str, tmp_path: Path
) -> None:
    database = Database(ReviewSettings(database_url=database_url, data_dir=tmp_path).url)
    with database.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ModeratorError, match="LM-931"):
        database.migrate()
    database.close()


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "not a url", "sqlite+bogus://", "postgresql+bogus://x/y", "://"]
)
def test_database_a_url_that_is_not_usable_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-930"):
        Database(ReviewSettings(database_url=url, data_dir=tmp_path).url)


def test_database_a_password_is_never_shown(tmp_path: Path) -> None:
    url = "postgresql://me:hunter2secret@127.0.0.1:9/none"
    database = Database(ReviewSettings(database_url=url, data_dir=tmp_path).url)
    with pytest.raises(ModeratorError, match="LM-932") as caught:
        database.migrate()
    assert "hunter2secret" not in str(caught.value)
    assert "hunter2secret" not in database.shown
    database.close()


def test_database_a_write_that_fails_leaves_nothing(world: World) -> None:
    case = world.add()

    def fail() -> None:
        with world.house.database.write() as db:
            db.execute(text("UPDATE violation SET status = 'confirmed'"))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fail()
    assert world.status(case) == "open"


def test_database_a_read_changes_nothing(world: World) -> None:
    case = world.add()
    with world.house.database.read() as db:
        db.execute(text("UPDATE violation SET status = 'confirmed'"))
    assert world.status(case) == "open"


def test_database_away_for_a_while_the_app_says_so_and_recovers(tmp_path: Path) -> None:
    reason = postgres.missing()
    if reason:
        pytest.skip(reason)
    # With its default durability: it is stopped as by a power cut.
    cluster = postgres.Cluster(durable=True)
    cluster.create()
    try:
        cluster.sql("CREATE DATABASE own")
        settings = ReviewSettings(database_url=cluster.url("own"), data_dir=tmp_path / "data")
        app = create_app(settings, background=False)
        prepare(app.state.house)
        world = populate(app, tmp_path / "data")
        caller = world.caller("reviewer")
        decided, pending = world.add(), world.add()
        caller.decide(decided, "confirm")
        cluster.stop()
        for answer in (
            caller.get("/violations"),
            caller.decide(pending, "confirm"),
            world.anonymous().post(
                "/api/v1/auth/login", json={"username": "reviewer", "password": "x"}
            ),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "LM-933")
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0
        http = world.anonymous()
        assert http.get("/healthz").status_code == 200
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["database"]) == (503, False)
        cluster.start()
        for _ in range(50):
            if http.get("/readyz").status_code == 200:
                break
            time.sleep(0.1)
        # The same session goes on; what was decided is there, what was refused is not.
        assert world.status(decided) == "confirmed"
        assert world.status(pending) == "open"
        assert caller.decide(pending, "confirm").status_code == 201
        assert world.caller().get("/audit/verify").json()["sound"]
        app.state.house.database.close()
    finally:
        cluster.stop()
        cluster.remove()


def test_database_sqlite_that_is_locked_is_a_503_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from moderator.review import database as module

    monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.3)
    app = create_app(ReviewSettings(database_url="", data_dir=tmp_path), background=False)
    prepare(app.state.house)
    world = populate(app, tmp_path)
    caller = world.caller("reviewer")
    case = world.add()
    blocker = sqlite3.connect(tmp_path / "console.sqlite3", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    answer = caller.decide(case, "confirm")
    assert (answer.status_code, answer.json()["code"]) == (503, "LM-933")
    blocker.execute("ROLLBACK")
    blocker.close()
    assert caller.decide(case, "confirm").status_code == 201
    app.state.house.database.close()
