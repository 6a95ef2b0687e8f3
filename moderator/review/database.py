"""The database: SQLite in WAL mode or PostgreSQL, and what happens when it is away.

A block of `read()` or `write()` is one transaction. On SQLite a writer takes its lock at the
start (BEGIN IMMEDIATE), so that a decision read before it is written cannot change between.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from moderator.errors import (
    DATABASE_NEWER,
    DATABASE_UNREACHABLE,
    DATABASE_UNSUITABLE,
    ENGINE_MISSING,
    ModeratorError,
)

MIGRATIONS = Path(__file__).with_name("migrations")

BUSY_TIMEOUT_S = 10.0
"""How long a writer on SQLite waits for another one."""

CONNECT_TIMEOUT_S = 3


class Database:
    """An engine with the two kinds of transaction. Thread-safe."""

    def __init__(self, url: str) -> None:
        """Raises LM-930 for a URL that is none, or of a database that is not supported."""
        self.engine = _engine(url)
        self.shown = self.engine.url.render_as_string(hide_password=True)
        self.dialect = self.engine.dialect.name
        self._one_writer = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that changes nothing; what it changed is rolled back."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits at the end of the block, or rolls back on an error."""
        if self.dialect != "sqlite":
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                yield session
            return
        # Threads of this process queue here, where waiting is fair, not in SQLite's busy loop.
        if not self._one_writer.acquire(timeout=BUSY_TIMEOUT_S):
            raise PoolTimeout("another writer holds the database")
        try:
            connection = self.engine.connect().execution_options(writes=True)
            with connection, Session(connection, expire_on_commit=False) as session:
                yield session
                session.commit()
        finally:
            self._one_writer.release()

    def healthy(self) -> bool:
        """Whether it answers now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def migrate(self) -> None:
        """Bring the tables up to date.

        Raises LM-932 when it cannot be reached, LM-931 when a newer program made them.
        """
        config = alembic_config()
        head = ScriptDirectory.from_config(config)
        try:
            with self.engine.connect().execution_options(writes=True) as connection:
                current = MigrationContext.configure(connection).get_current_revision()
                known = {script.revision for script in head.walk_revisions()}
                if current is not None and current not in known:
                    raise ModeratorError(DATABASE_NEWER, url=self.shown, revision=current)
                if current == head.get_current_head():
                    return
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except DBAPIError as error:
            raise ModeratorError(
                DATABASE_UNREACHABLE, url=self.shown, reason=_first_line(error)
            ) from None

    def is_current(self) -> bool:
        """Whether the tables are those of this program."""
        head = ScriptDirectory.from_config(alembic_config()).get_current_head()
        with self.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision() == head

    def close(self) -> None:
        self.engine.dispose()


def is_away(error: BaseException) -> bool:
    """Whether `error` says that the database cannot be used now, and may be again soon."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    return type(error).__name__ in ("OperationalError", "InterfaceError")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
        if name == "sqlite":
            return _sqlite(url, parsed.database)
        if name != "postgresql":
            raise ModeratorError(DATABASE_UNSUITABLE, url=name)
        return create_engine(
            parsed,
            pool_size=20,
            max_overflow=20,
            pool_timeout=5,
            pool_pre_ping=True,
            pool_recycle=1800,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "options": "-c statement_timeout=60000 -c lock_timeout=10000 -c timezone=UTC",
                "application_name": "moderator",
            },
        )
    except ModuleNotFoundError as error:
        raise ModeratorError(
            ENGINE_MISSING,
            name="PostgreSQL",
            package=error.name,
            install="live-stream-moderator[postgres]",
        ) from None
    except (ArgumentError, ValueError) as error:
        raise ModeratorError(DATABASE_UNSUITABLE, url=str(error).splitlines()[0]) from None


def _sqlite(url: str, path: str | None) -> Engine:
    if path and path != ":memory:":
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModeratorError(
                DATABASE_UNREACHABLE, url=url, reason=error.strerror or error
            ) from None
    engine = create_engine(
        url,
        pool_size=20,
        max_overflow=20,
        pool_timeout=5,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _open(connection: Any, record: Any) -> None:
        # The driver would begin transactions by itself, and too late; `_begin` does.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "cache_size=-32768",
            "mmap_size=268435456",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def alembic_config() -> Config:
    """Where the migrations are; `attributes['connection']` says on what to run them."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
