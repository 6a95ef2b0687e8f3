"""Finding words inside Chinese text, where no spaces tell words apart.

Text is reduced to letters and digits (NFKC, lower case) and indexed as overlapping pairs of
characters. A query of two or more characters is the phrase of its pairs, so exactly the texts
that hold it are found; one character is the beginning of a pair. SQLite keeps the pairs in FTS5,
PostgreSQL in an array under GIN with the text beside it: neither asks the locale what a
letter is (pg_trgm knows no Chinese letters where the database was made with locale C).

Texts with private numbers are indexed twice, as written and masked: whoever sees numbers
masked cannot find them out by searching either.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, false, text
from sqlalchemy import column as sql_column
from sqlalchemy.orm import InstrumentedAttribute, Session

from moderator.review.privacy import mask_text

VIOLATIONS = "violation_search"
OBSERVATIONS = "observation_search"

_ROW = sql_column("rowid", BigInteger)

QUERY_CHARS = 100
"""Longer queries are cut: nobody types more, and each character costs a lookup."""


@dataclass(frozen=True, slots=True)
class Document:
    """`row` is the number of the row that `text` belongs to."""

    row: int
    text: str


def normalise(words: str) -> str:
    """Letters and digits only, NFKC, lower case: punctuation and spaces do not matter."""
    folded = unicodedata.normalize("NFKC", words).lower()
    return "".join(char for char in folded if char.isalnum())


def add(db: Session, table: str, documents: Sequence[Document]) -> None:
    """Index `documents`; a row that is there already is indexed anew."""
    if not documents:
        return
    remove(db, table, [document.row for document in documents])
    if db.get_bind().dialect.name == "sqlite":
        statement = (
            f"INSERT INTO {table} (rowid, grams, masked, private) "  # noqa: S608 - our own names
            "VALUES (:row, :grams, :masked, :private)"
        )
        rows = [_fts_row(document) for document in documents]
    else:
        statement = (
            f"INSERT INTO {table} (rowid, norm, grams, masked, masked_grams) "  # noqa: S608
            "VALUES (:row, :norm, :grams, :masked, :masked_grams)"
        )
        rows = [_array_row(document) for document in documents]
    db.execute(text(statement), rows)


def remove(db: Session, table: str, rows: Iterable[int]) -> None:
    parameters = [{"row": row} for row in rows]
    if parameters:
        db.execute(text(f"DELETE FROM {table} WHERE rowid = :row"), parameters)  # noqa: S608


def holds(
    db: Session,
    table: str,
    column: InstrumentedAttribute[int],
    words: str,
    *,
    private: bool,
) -> ColumnElement[bool] | None:
    """The condition that the text of row `column` holds `words`; None where `words` is blank.

    Words without a letter or a digit are held by nothing.

    `private`: whether the reader sees private numbers.
    """
    norm = normalise(words)[:QUERY_CHARS]
    if not norm:
        return false() if words.strip() else None
    if db.get_bind().dialect.name == "sqlite":
        found = text(f"SELECT rowid FROM {table} WHERE {table} MATCH :fts")  # noqa: S608
        return column.in_(found.bindparams(fts=_fts_query(norm, private)).columns(_ROW))
    where = "grams @> :grams AND norm LIKE :like"
    if not private:
        where = f"({where} AND masked IS NULL) OR (masked_grams @> :grams AND masked LIKE :like)"
    found = text(f"SELECT rowid FROM {table} WHERE {where}")  # noqa: S608
    bound: dict[str, Any] = {"grams": _query_grams(norm), "like": f"%{norm}%"}
    return column.in_(found.bindparams(**bound).columns(_ROW))


# --- pairs ----------------------------------------------------------------------------


def _pairs(norm: str) -> list[str]:
    """国家级 → 国家 家级 级: each character begins one, the last one alone."""
    return [norm[at : at + 2] for at in range(len(norm))]


def _query_grams(norm: str) -> list[str]:
    return sorted({norm[at : at + 2] for at in range(len(norm) - 1)}) or [norm]


def _fts_row(document: Document) -> dict[str, Any]:
    norm, masked = normalise(document.text), normalise(mask_text(document.text))
    private = norm != masked
    return {
        "row": document.row,
        "grams": " ".join(_pairs(norm)),
        "masked": " ".join(_pairs(masked)) if private else "",
        "private": "yes" if private else "",
    }


def _array_row(document: Document) -> dict[str, Any]:
    norm, masked = normalise(document.text), normalise(mask_text(document.text))
    private = norm != masked
    return {
        "row": document.row,
        "norm": norm,
        "grams": _row_grams(norm),
        "masked": masked if private else None,
        "masked_grams": _row_grams(masked) if private else None,
    }


def _row_grams(norm: str) -> list[str]:
    """Pairs, and single characters for queries of one."""
    return sorted({*_pairs(norm), *norm})


def _fts_query(norm: str, private: bool) -> str:
    """`norm` holds letters and digits only, so nothing in it can steer the query language."""
    phrase = " ".join(_pairs(norm)[:-1])
    term = f'"{phrase}"' if phrase else f'"{norm}" *'
    if private:
        return f"grams : {term}"
    return f"(grams : {term} NOT private : yes) OR masked : {term}"
