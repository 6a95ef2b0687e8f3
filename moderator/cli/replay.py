"""`moderator replay`: what other rules would have said of recorded sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moderator.cli.application import JurisdictionOption, app, err, out


@app.command("replay")
def replay_command(
    folder: Annotated[
        Path, typer.Argument(help="Folder that `moderator watch --out` wrote, or its journal.")
    ],
    rules: Annotated[
        Path | None,
        typer.Option("--rules", help="Folder of the new rules; the shipped pack if none."),
    ] = None,
    jurisdiction: JurisdictionOption = "cn",
    session: Annotated[str | None, typer.Option("--session", help="This session alone.")] = None,
    passports: Annotated[
        Path | None, typer.Option("--passports", help="Product passports (YAML, JSON, CSV).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """用新规则重放已录场次 · Run recorded sessions through other rules and show what changes.

    Nothing is listened to again and nothing recorded is changed. Exit 1 if anything differs.
    """
    from moderator.claims.passports import load_passports
    from moderator.live.replay import differences, recorded_sessions, replay
    from moderator.live.rulebook import Rulebook

    rulebook = Rulebook.load(rules, jurisdiction)
    known = load_passports(passports) if passports else []
    table = Table("room", "time", "", "rule", "before", "after", "quote")
    counts = {"found": 0, "gone": 0, "changed": 0}
    sessions = observations = same = 0
    for recorded in recorded_sessions(folder, session):
        sessions += 1
        observations += len(recorded.observations)
        replayed = replay(recorded, rulebook.engine, known)
        found = differences(recorded, replayed)
        same += len(replayed) - sum(one.after is not None for one in found)
        for one in found:
            counts[one.kind] += 1
            shown = one.shown
            before, after = (
                f"{side.disposition} {side.severity}" if side else "–"
                for side in (one.before, one.after)
            )
            if as_json:
                body = {
                    "session": one.session,
                    "room": one.room,
                    "change": one.kind,
                    "before": one.before.to_json() if one.before else None,
                    "after": one.after.to_json() if one.after else None,
                }
                typer.echo(json.dumps(body, ensure_ascii=False))
            else:
                where = f"{shown.start:.1f} s"
                quote = shown.quote.replace("\n", " ")
                table.add_row(one.room, where, one.kind, shown.rule.id, before, after, quote)
    if table.rows:
        out().print(table)
    err.print(
        f"{sessions} sessions, {observations} observations: {same} records the same, "
        f"{counts['found']} found, {counts['gone']} gone, {counts['changed']} changed",
        highlight=False,
    )
    if any(counts.values()):
        raise typer.Exit(1)
