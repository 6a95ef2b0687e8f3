"""What every command shares: the application, both consoles, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from moderator.errors import INTERRUPTED, ModeratorError
from moderator.memory import keep_heap

app = typer.Typer(
    name="moderator",
    help="直播合规检查 · Find advertising-law violations in live-stream selling.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

err = Console(stderr=True)

RulesOption = Annotated[
    Path | None, typer.Option("--rules", help="Folder of rules instead of the shipped pack.")
]
JurisdictionOption = Annotated[str, typer.Option("--jurisdiction", help="Rule pack to use.")]


INTERRUPTED_EXIT = 130
"""What a shell expects of a program that SIGINT ended."""


class Lang(StrEnum):
    ZH = "zh"
    EN = "en"


def main() -> None:
    """Entry point: ModeratorError becomes one message on stderr and exit 2."""
    _remember_interrupts()
    # numpy multiplies small matrices here; its other threads would spin between them, which cost
    # a tenth of the CPU that speech takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    keep_heap()
    try:
        app(prog_name="moderator")
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


def out() -> Console:
    """stdout, for results; as wide as it needs to be where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


PIPED_WIDTH = 1000
"""Columns where stdout is no terminal: a table cut to 80 loses the ids that grep looks for."""
