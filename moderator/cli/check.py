"""`moderator check`: recordings, streams and scripts against advertising law."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from moderator.cli.application import (
    INTERRUPTED_EXIT,
    JurisdictionOption,
    Lang,
    RulesOption,
    app,
    err,
)
from moderator.errors import FORMAT_UNFIT, INTERRUPTED, ModeratorError
from moderator.records import Disposition, Room

if TYPE_CHECKING:
    from moderator.claims.passports import Passport
    from moderator.config import Settings
    from moderator.outputs.report import Report
    from moderator.pipeline import CompiledRules


class Format(StrEnum):
    TABLE = "table"
    JSONL = "jsonl"
    JSON = "json"
    HTML = "html"
    SRT = "srt"
    CSV = "csv"
    SARIF = "sarif"


class FailOn(StrEnum):
    SUSPECT = "suspect"
    NEEDS_PROOF = "needs_proof"
    VIOLATION = "violation"
    NEVER = "never"


@app.command("check")
def check_command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="录像、直播地址、脚本（.txt .md .srt .vtt .docx）、批量 .jsonl，或 - · "
            "A recording, a stream URL, a script, a .jsonl batch, or - for standard input.",
        ),
    ],
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
    room: Annotated[
        Path | None, typer.Option("--room", help="What is known of the room (YAML).")
    ] = None,
    passports: Annotated[
        Path | None,
        typer.Option("--passports", help="商品档案 · Product passports (YAML, JSON, CSV)."),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="Form of the result.")] = Format.TABLE,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for clips, frames, transcript and report.")
    ] = None,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0.0, max=1.0, help="Leave out what is less sure."),
    ] = 0.0,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Exit 1 from this disposition upwards.")
    ] = FailOn.VIOLATION,
    lang: Annotated[Lang | None, typer.Option("--lang", help="Language of explanations.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).")] = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Allow streams on private addresses.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """检查录像或脚本 · Check recordings, streams and scripts against advertising law.

    Exit 0: nothing at or above --fail-on. 1: something. 2: the call or the input is wrong.
    """
    from moderator.claims.passports import load_passports
    from moderator.config import load_settings
    from moderator.outputs.formats import write
    from moderator.pipeline import CompiledRules
    from moderator.rooms import load_room

    settings = load_settings(
        config, lang=lang.value if lang else None, allow_private=allow_private or None
    )
    known = load_passports(passports) if passports else []
    the_room = load_room(room) if room else None
    call = _CheckCall(CompiledRules(rules, jurisdiction), the_room, known, min_confidence, settings)
    targets = _targets(inputs, out)
    _refuse_unfit(inputs, output, targets)
    found: list[Report] = []

    def results() -> Iterator[Report]:
        for name, target in zip(inputs, targets, strict=True):
            for report in call.reports(name, target, show_progress=not quiet):
                if output in _WITHOUT_NOTES:
                    for note in report.notes:
                        err.print(note, markup=False, highlight=False, soft_wrap=True)
                # Only what the exit code needs is kept: a batch may have millions of lines.
                found.append(report if output is not Format.JSONL else _verdict_only(report))
                yield report

    try:
        write(output.value, results(), _result_stream(output))
    except KeyboardInterrupt:
        err.print(ModeratorError(INTERRUPTED).text(), markup=False, highlight=False)
        raise typer.Exit(INTERRUPTED_EXIT) from None
    if fail_on is not FailOn.NEVER:
        limit = Disposition(fail_on.value)
        if any(report.at_or_above(limit) for report in found):
            raise typer.Exit(1)


@dataclass(frozen=True)
class _CheckCall:
    """One `moderator check`: what every input of it shares."""

    rules: CompiledRules
    room: Room | None
    passports: list[Passport]
    min_confidence: float
    settings: Settings

    def reports(self, name: str, out: Path | None, *, show_progress: bool) -> Iterator[Report]:
        from moderator.pipeline import check, check_batch

        common: dict[str, Any] = {
            "rules": self.rules,
            "room": self.room,
            "passports": self.passports,
            "min_confidence": self.min_confidence,
            "settings": self.settings,
        }
        if _is_batch(name):
            yield from check_batch(name, **common)
            return
        with _progress(name, show_progress) as progress:
            yield check(name, out=out, progress=progress, **common)


_WITHOUT_NOTES = frozenset({Format.JSONL, Format.CSV, Format.SRT, Format.SARIF})


def _verdict_only(report: Report) -> Report:
    firmest = max(report.violations, key=lambda v: v.disposition.rank, default=None)
    return replace(
        report,
        violations=(firmest,) if firmest else (),
        script_lines=(),
        script_text="",
        utterances=(),
        screen_texts=(),
        articles={},
    )


def _targets(inputs: list[str], out: Path | None) -> list[Path | None]:
    """The folder of each input: `out` itself for one, a folder of its own in it for several."""
    if out is None or len(inputs) == 1:
        return [out] * len(inputs)
    targets: list[Path | None] = []
    for name in inputs:
        # a/talk.mp4 and b/talk.mp4 must not replace each other.
        stem, number = Path(name).stem, 1
        while (target := out / (stem if number == 1 else f"{stem}-{number}")) in targets:
            number += 1
        targets.append(target)
    return targets


def _refuse_unfit(inputs: list[str], output: Format, targets: list[Path | None]) -> None:
    """What can be known to be wrong before hours of work are done."""
    from moderator.outputs.folder import check_out_dir
    from moderator.outputs.formats import check_fit
    from moderator.pipeline import is_script

    for name, target in zip(inputs, targets, strict=True):
        check_fit(output.value, media=not (_is_batch(name) or is_script(name)), inputs=len(inputs))
        if target is not None and _is_batch(name):
            raise ModeratorError(FORMAT_UNFIT, format="--out", reason=f"{name} is a batch")
    for target in targets:
        if target is not None:
            check_out_dir(target)


def _result_stream(output: Format) -> TextIO:
    """stdout for people keeps the terminal's encoding, stdout for programs is UTF-8."""
    if isinstance(sys.stdout, TextIOWrapper):
        if output is Format.TABLE:
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", newline="")
    return sys.stdout


def _is_batch(name: str) -> bool:
    from moderator.script import BATCH_SUFFIXES

    return Path(name).suffix.lower() in BATCH_SUFFIXES and "://" not in name


@contextmanager
def _progress(name: str, show: bool) -> Iterator[Callable[[float, float], None] | None]:
    if not show or not err.is_terminal:
        yield None
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[clock]}"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task(Path(name).name, total=None, clock="")

        def update(done_s: float, total_s: float) -> None:
            bar.update(
                task,
                completed=min(done_s, total_s) if total_s else done_s,
                total=total_s or None,
                clock=f"{done_s:.0f}/{total_s:.0f} s" if total_s else f"{done_s:.0f} s",
            )

        yield update
