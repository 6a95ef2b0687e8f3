"""The first tables, the search index, and the guard of the audit log."""

from __future__ import annotations

from alembic import op

from moderator.review.models import Base

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQLITE = (
    "CREATE VIRTUAL TABLE violation_search USING fts5("
    "grams, masked, private, tokenize='unicode61 remove_diacritics 0')",
    "CREATE VIRTUAL TABLE observation_search USING fts5("
    "grams, masked, private, tokenize='unicode61 remove_diacritics 0')",
    "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit_entry "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
    "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit_entry "
    "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END",
)

POSTGRESQL = (
    "CREATE TABLE violation_search (rowid bigint PRIMARY KEY, norm text NOT NULL, "
    "grams text[] NOT NULL, masked text, masked_grams text[])",
    "CREATE INDEX ix_violation_search ON violation_search USING gin (grams)",
    "CREATE INDEX ix_violation_search_masked ON violation_search USING gin (masked_grams)",
    "CREATE TABLE observation_search (rowid bigint PRIMARY KEY, norm text NOT NULL, "
    "grams text[] NOT NULL, masked text, masked_grams text[])",
    "CREATE INDEX ix_observation_search ON observation_search USING gin (grams)",
    "CREATE INDEX ix_observation_search_masked ON observation_search USING gin (masked_grams)",
    "CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
    "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit_entry "
    "FOR EACH ROW EXECUTE FUNCTION audit_append_only()",
    "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit_entry "
    "EXECUTE FUNCTION audit_append_only()",
)


def upgrade() -> None:
    connection = op.get_bind()
    Base.metadata.create_all(connection)
    for statement in SQLITE if connection.dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    connection = op.get_bind()
    op.execute("DROP TABLE violation_search")
    op.execute("DROP TABLE observation_search")
    Base.metadata.drop_all(connection)
    if connection.dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_append_only()")
