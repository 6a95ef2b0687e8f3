"""`moderator doctor`: what is installed, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moderator.cli.application import app, out


@app.command("doctor")
def doctor_command(
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).")] = None,
) -> None:
    """What is installed, what runs where, what is missing and the command that mends it."""
    from moderator.config import load_settings
    from moderator.doctor import examine

    table = Table("", "what", "state", "mend")
    findings = list(examine(load_settings(config)))
    for finding in findings:
        table.add_row("✓" if finding.good else "✗", finding.what, finding.state, finding.mend)
    out().print(table)
    if any(not finding.good and finding.needed for finding in findings):
        raise typer.Exit(1)
