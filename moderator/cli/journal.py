"""`moderator verify`, `sinks` and `hold`: what became of the records of `moderator watch`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from moderator.cli.application import app, err, out
from moderator.errors import (
    HOLD_UNKNOWN,
    SINK_CONFIG,
    ModeratorError,
    in_ui_language,
)

if TYPE_CHECKING:
    from moderator.holds import Scope
    from moderator.sinks.journal import Journal

sinks_app = typer.Typer(
    help="投递 · Where records were delivered, and what was not.", no_args_is_help=True
)
hold_app = typer.Typer(help="证据保全 · Legal holds: what is never removed.", no_args_is_help=True)
app.add_typer(sinks_app, name="sinks")
app.add_typer(hold_app, name="hold")

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder that `moderator watch --out` wrote.")
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with the hold.")]
ByOption = Annotated[str, typer.Option("--by", help="Who; the system's user if not given.")]
RoomsOption = Annotated[
    Path | None, typer.Option("--rooms", help="The rooms.yaml that describes the sinks.")
]


@app.command("verify")
def verify_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|DB",
            help="Folder of `watch` or `check --out`, a journal, an events.jsonl, or a database "
            "URL.",
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option("--against", help="events.jsonl or webhook bodies kept elsewhere."),
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", help="Folder of the clips, if elsewhere.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="A copy that holds only some envelope types.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """校验记录与片段未被改动 · Prove records and clips untouched, or name the first break.

    Exit 0: intact. 1: something was changed or is missing. 2: there is nothing to verify.
    """
    from moderator.sinks.verify import verify

    result = verify(target, against=against, evidence=evidence, partial=partial)
    if as_json:
        body: dict[str, Any] = {
            "what": result.what,
            "intact": result.intact,
            "envelopes": result.envelopes,
            "files": result.files,
            "pruned": result.pruned,
            "removed_files": result.removed_files,
            "heads": {
                name: {"envelopes": count, "hash": head}
                for name, (count, head) in sorted(result.heads.items())
            },
            "breaks": [
                {"place": one.place, "session": one.session, "seq": one.seq, "what": one.what}
                for one in result.breaks
            ],
        }
        typer.echo(json.dumps(body, ensure_ascii=False))
    else:
        for one in result.breaks:
            out().print(f"✗ {one.text()}", markup=False, soft_wrap=True)
        mark, state = (
            ("✓", in_ui_language("intact", "完好"))
            if result.intact
            else ("✗", in_ui_language("BROKEN", "已破坏"))
        )
        counts = in_ui_language(
            f"{result.envelopes} envelopes in {len(result.heads)} sessions, {result.files} files",
            f"{len(result.heads)} 个场次 {result.envelopes} 条记录，{result.files} 个文件",
        )
        if result.pruned or result.removed_files:
            counts += in_ui_language(
                f"; retention removed {result.pruned} contents and {result.removed_files} files",
                f"；到期清理了 {result.pruned} 条内容和 {result.removed_files} 个文件",
            )
        out().print(f"{mark} {result.what}: {state} ({counts})", markup=False, soft_wrap=True)
    if not result.intact:
        raise typer.Exit(1)


# --- sinks --------------------------------------------------------------------------


@sinks_app.command("list")
def sinks_list(folder: FolderArgument) -> None:
    """每个投递目标的进度与死信 · Each sink: delivered, waiting, dead letters and why."""
    from moderator.sinks.dead_letters import FOLDER, DeadLetters

    with _journal(folder) as journal:
        cursors, last = journal.cursors(), journal.last()
        home = journal.path.parent / FOLDER
    table = Table("sink", "delivered", "behind", "dead letters", "latest reason")
    files = {path.stem for path in home.glob("*.jsonl") if not path.name.startswith(".")}
    names = {name.removesuffix(".replaying") for name in files}
    for name in sorted(names | cursors.keys()):
        place, delivered, _dead = cursors.get(name, (0, 0, 0))
        letters = DeadLetters(home, name).read()
        reason = letters[-1].reason if letters else ""
        table.add_row(name, str(delivered), str(last - place), str(len(letters)), reason)
    out().print(table)


@sinks_app.command("replay")
def sinks_replay(
    folder: FolderArgument,
    name: Annotated[str, typer.Argument(metavar="SINK", help="Name of the sink.")],
    rooms: RoomsOption = None,
) -> None:
    """重新投递死信 · Send the dead letters of a sink again; what fails stays.

    Exit 0: all arrived. 1: some are dead still.
    """
    from moderator.sinks.config import DEFAULT_SINKS, build_sink
    from moderator.sinks.dead_letters import FOLDER, DeadLetters

    configs: list[dict[str, Any]] = list(DEFAULT_SINKS)
    if rooms is not None:
        from moderator.live.config import load_watch_config

        configs = load_watch_config(rooms).sinks or configs
    chosen = [one for one in configs if (one.get("name") or one.get("type")) == name]
    if not chosen:
        known = ", ".join(str(one.get("name") or one.get("type")) for one in configs)
        reason = in_ui_language(
            f"no sink '{name}'; there are: {known}", f"没有 '{name}'；现有：{known}"
        )
        raise ModeratorError(SINK_CONFIG, place=f"{rooms or '--rooms'}: sinks", reason=reason)
    home = (folder if folder.is_dir() else folder.parent) / FOLDER
    sink = build_sink(chosen[0], out=home.parent)
    try:
        done = DeadLetters(home, name).replay(sink)
    finally:
        sink.close()
    text = in_ui_language(
        f"{done.delivered} delivered, {done.failed} still dead",
        f"已投递 {done.delivered} 条，仍有 {done.failed} 条死信",
    )
    err.print(f"{name}: {text} {done.reason}".rstrip(), markup=False, soft_wrap=True)
    if done.failed:
        raise typer.Exit(1)


# --- holds --------------------------------------------------------------------------


@hold_app.command("add")
def hold_add(
    folder: FolderArgument,
    reason: ReasonOption,
    violation: Annotated[str, typer.Option("--violation", help="Id of a record.")] = "",
    session: Annotated[str, typer.Option("--session", help="Id of a session.")] = "",
    room: Annotated[str, typer.Option("--room", help="Id of a room.")] = "",
    by: ByOption = "",
) -> None:
    """新增保全 · Keep a record, a session or a room whatever its age. Prints the hold's id."""
    from moderator.holds import add_hold

    given: dict[Scope, str] = {"violation": violation, "session": session, "room": room}
    chosen = [(scope, target) for scope, target in given.items() if target]
    if len(chosen) != 1:
        what = in_ui_language(
            "name one of --violation, --session, --room",
            "请在 --violation、--session、--room 中指定一个",
        )
        raise ModeratorError(HOLD_UNKNOWN, what=what)
    with _journal(folder) as journal:
        typer.echo(add_hold(journal, *chosen[0], reason, by).id)


@hold_app.command("remove")
def hold_remove(
    folder: FolderArgument,
    hold: Annotated[str, typer.Argument(metavar="HOLD", help="Id of the hold.")],
    reason: ReasonOption,
    by: ByOption = "",
) -> None:
    """解除保全 · Lift a hold; what it kept is removed when its time is up."""
    from moderator.holds import remove_hold

    with _journal(folder) as journal:
        remove_hold(journal, hold, reason, by)


@hold_app.command("list")
def hold_list(folder: FolderArgument) -> None:
    """现行保全 · The holds in force."""
    from moderator.holds import list_holds

    table = Table("hold", "scope", "target", "since", "by", "reason")
    with _journal(folder) as journal:
        for hold in list_holds(journal):
            table.add_row(
                *(hold.id, hold.scope, hold.target, hold.placed, hold.placed_by, hold.reason)
            )
    out().print(table)


def _journal(folder: Path) -> Journal:
    from moderator.live.logs import configure_logs
    from moderator.sinks.journal import Journal, journal_at

    configure_logs(level="warning")
    return Journal.open(journal_at(folder), patience_s=5.0)
