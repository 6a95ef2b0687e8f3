"""Writes a script as a .docx of the kind that is handed to hosts: a title, paragraphs, a table."""

from __future__ import annotations

import zipfile
from datetime import datetime
from pathlib import Path

import docx
from docx.oxml.ns import qn


def write_docx(source: str, target: Path) -> None:
    """Turn a little Markdown (`#` headings, `| a | b |` rows, paragraphs) into `target`.

    The same source gives the same bytes.
    """
    document = docx.Document()
    document.styles["Normal"].font.name = "Noto Sans CJK SC"
    fonts = document.styles["Normal"].element.get_or_add_rPr().get_or_add_rFonts()
    fonts.set(qn("w:eastAsia"), "Noto Sans CJK SC")
    rows: list[list[str]] = []
    for line in [*source.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if rows:
            table = document.add_table(rows=len(rows), cols=len(rows[0]), style="Table Grid")
            for row, cells in zip(table.rows, rows, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
            rows = []
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            document.add_heading(line.lstrip("# "), level=level)
        elif line.strip():
            document.add_paragraph(line.strip())
    moment = datetime(2026, 2, 1)
    document.core_properties.created = document.core_properties.modified = moment
    document.save(str(target))
    _fix_times(target)


def _fix_times(target: Path) -> None:
    with zipfile.ZipFile(target) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members:
            archive.writestr(
                zipfile.ZipInfo(name, (2026, 2, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED
            )
