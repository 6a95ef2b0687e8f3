"""`--format`: the name of an output format → the function that writes it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TextIO, get_args

from moderator.errors import FORMAT_UNFIT, ModeratorError, ui_language
from moderator.outputs.labels import pick
from moderator.outputs.report import Report

Format = Literal["table", "jsonl", "json", "html", "srt", "csv", "sarif"]

FORMATS: tuple[str, ...] = get_args(Format)


def write(
    format: Format, reports: Iterable[Report], stream: TextIO, lang: str | None = None
) -> None:
    """Write `reports` to `stream`, which takes Unicode text and translates no line ends.

    `table` and `jsonl` write each report as it comes; the others gather all of them.
    `lang` (`zh` or `en`) is the language of headings, the user's own by default.

    Raises LM-504 where the format does not fit, before anything is written.
    """
    lang = lang or ui_language()
    if format == "jsonl":
        from moderator.outputs.json_lines import write_jsonl

        write_jsonl(reports, stream)
    elif format == "json":
        from moderator.outputs.json_lines import write_json

        write_json(reports, stream)
    elif format == "csv":
        from moderator.outputs.csv_rows import write_csv

        write_csv(reports, stream)
    elif format == "srt":
        from moderator.outputs.subtitles import write_srt

        write_srt(reports, stream, lang)
    elif format == "sarif":
        from moderator.outputs.sarif import write_sarif

        write_sarif(reports, stream, lang)
    elif format == "html":
        from moderator.outputs.html import write_html

        write_html(reports, stream, lang)
    else:
        from moderator.outputs.table import write_table

        write_table(reports, stream, lang)


def check_fit(format: Format, *, media: bool, inputs: int = 1) -> None:
    """Raise LM-504 before a long run whose result could not be written in this format."""
    if format == "sarif" and media:
        reason = ("SARIF 只用于脚本", "SARIF is for scripts")
    elif format == "srt" and inputs > 1:
        reason = ("字幕只对应一个输入", "subtitles belong to one input")
    else:
        return
    raise ModeratorError(FORMAT_UNFIT, format=format, reason=pick(reason, ui_language()))
