"""`moderator serve`: the review console, the pre-check page and the API."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moderator.cli.application import app, err
from moderator.errors import SERVE_PORT, SERVER_EXTRA, ModeratorError, in_ui_language

if TYPE_CHECKING:
    from moderator.review.house import House


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0: a free one.")
    ] = 8080,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder for evidence, uploads and SQLite.")
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Load the sample rooms and play one as if live.")
    ] = False,
    proxy: Annotated[
        str, typer.Option("--proxy", help="Address of the reverse proxy whose headers are true.")
    ] = "",
) -> None:
    """审核台 · The review console and its API, until stopped. DATABASE_URL names PostgreSQL.

    The first start makes an administrator and prints a one-time password on stderr.
    """
    try:
        from moderator.live.logs import configure_logs
        from moderator.review.accounts import ensure_admin
        from moderator.review.app import create_app, prepare
        from moderator.review.server import ConsoleServer
        from moderator.review.settings import load_review_settings
    except ModuleNotFoundError as error:
        raise ModeratorError(SERVER_EXTRA, package=error.name) from None

    configure_logs()
    settings = load_review_settings(data_dir=data)
    application = create_app(settings)
    house: House = application.state.house
    prepare(house)
    listening = _listen(host, port)
    _greet(listening, house)
    password = ensure_admin(house.database)
    if password is not None:
        _print_password(password)
    if demo:
        house.demo.start(live=True)
    ConsoleServer(application, proxy=proxy).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything is announced, so that a taken port is one clear message."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ModeratorError(SERVE_PORT, place=f"{host}:{port}", reason=reason) from None
    return listening


def _greet(listening: socket.socket, house: House) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    where = in_ui_language("console", "审核台")
    err.print(f"{where}: http://{shown}:{port}/", markup=False, highlight=False)
    err.print(
        f"  {house.database.shown}\n  {house.data_dir}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _print_password(password: str) -> None:
    words = in_ui_language(
        "first start: log in as admin with this one-time password, then choose your own:",
        "首次启动：请用户名 admin 和以下一次性密码登录，并设置自己的密码：",
    )
    err.print(f"{words}\n\n  {password}\n", markup=False, highlight=False, soft_wrap=True)
