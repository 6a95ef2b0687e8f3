"""Alembic's entry: `Database.migrate` hands over the connection to use."""

from __future__ import annotations

from alembic import context

from moderator.review.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
