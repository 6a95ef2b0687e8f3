"""`moderator watch`: live rooms, until stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from moderator.cli.application import JurisdictionOption, Lang, RulesOption, app, err

if TYPE_CHECKING:
    from moderator.live.config import WatchConfig
    from moderator.live.supervisor import Supervisor
    from moderator.records import Violation

DEFAULT_OUT = Path("moderator-watch")
NOT_DRAINED_EXIT = 3


@app.command("watch")
def watch_command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...",
            help="直播地址或录像 · Stream URLs (rtmp, http-flv, hls, srt, rtsp) or files.",
        ),
    ] = None,
    rooms: Annotated[
        Path | None, typer.Option("--rooms", help="Rooms and everything else (YAML).")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the journal, records, clips and frames.")
    ] = DEFAULT_OUT,
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
    passports: Annotated[
        Path | None, typer.Option("--passports", help="商品档案 · Product passports.")
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play files at live speed.")] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Allow streams on private addresses.")
    ] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option("--metrics-port", min=0, max=65535, help="Port for /metrics; 0: a free one."),
    ] = None,
    lang: Annotated[Lang | None, typer.Option("--lang", help="Language of explanations.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="Settings file (YAML).")] = None,
    log_format: Annotated[
        str | None, typer.Option("--log-format", help="json or pretty; pretty on a terminal.")
    ] = None,
    view: Annotated[
        bool | None,
        typer.Option(
            "--view/--no-view", help="Live table on the terminal; default if there is one."
        ),
    ] = None,
) -> None:
    """看直播 · Watch live rooms until stopped; records come within seconds.

    Records are in --out, and on stdout as JSON lines where stdout is no terminal. SIGTERM or
    Ctrl-C finishes what was said so far and ends; a second one ends at once. SIGHUP reads rules
    and rooms again. Exit 0: everything was written. 3: the bound for draining was too short.
    """
    from moderator.config import load_settings
    from moderator.live.launch import watching
    from moderator.live.logs import configure_logs

    if log_format not in (None, "json", "pretty"):
        raise typer.BadParameter("json or pretty", param_hint="--log-format")
    settings = load_settings(
        config, lang=lang.value if lang else None, allow_private=allow_private or None
    )

    def read() -> WatchConfig:
        return _config(sources, rooms, rules, jurisdiction, passports, metrics_port)

    the_config = read()
    shows = (view if view is not None else True) and err.is_terminal
    with ExitStack() as stack:
        if shows:
            out.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((out / "watch.log").open("a", encoding="utf-8"))
            configure_logs("json" if log_format is None else log_format, stream=file)  # type: ignore[arg-type]
        else:
            configure_logs(log_format)  # type: ignore[arg-type]
        stop, reload = threading.Event(), threading.Event()
        _on_signals(stop, reload)
        on_tick = stack.enter_context(_view()) if shows else None
        supervisor = stack.enter_context(
            watching(
                the_config,
                settings,
                out,
                realtime=realtime,
                reload_config=read,
                on_record=_printer(),
                on_tick=on_tick,
            )
        )
        supervisor.run(stop, reload)
    if not supervisor.drained:
        raise typer.Exit(NOT_DRAINED_EXIT)


def _config(
    sources: list[str] | None,
    rooms: Path | None,
    rules: Path | None,
    jurisdiction: str,
    passports: Path | None,
    metrics_port: int | None,
) -> WatchConfig:
    """What the file says, with the command line before it."""
    from moderator.live.config import MetricsConfig, WatchConfig, load_watch_config, rooms_of

    if bool(sources) == (rooms is not None):
        raise typer.BadParameter("name stream URLs, or --rooms with a file", param_hint="URL")
    if rooms is not None:
        config = load_watch_config(rooms)
    else:
        config = WatchConfig(
            # Streams named by hand: when the broadcast is over, so is the command.
            rooms=[
                room.model_copy(update={"wait_for_next": False}) for room in rooms_of(sources or [])
            ]
        )
    changes: dict[str, object] = {}
    if rules is not None:
        changes["rules"] = rules
    if jurisdiction != "cn":
        changes["jurisdiction"] = jurisdiction
    if passports is not None:
        changes["passports"] = passports
    if metrics_port is not None:
        changes["metrics"] = MetricsConfig(host=config.metrics.host, port=metrics_port)
    return config.model_copy(update=changes)


def _on_signals(stop: threading.Event, reload: threading.Event) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            # What is in the journal is safe; what was not heard yet is given up.
            os._exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: reload.set())


def _printer() -> Callable[[Violation], None] | None:
    """Prints each record as a line of JSON where a program reads stdout."""
    if sys.stdout.isatty():
        return None
    from moderator.outputs.json_lines import json_text

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    lock = threading.Lock()
    closed = threading.Event()

    def show(record: Violation) -> None:
        with lock:
            if closed.is_set():
                return
            try:
                sys.stdout.write(json_text(record.to_json()) + "\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):
                # The reader left; the records are in the journal all the same.
                closed.set()

    return show


@contextmanager
def _view() -> Iterator[Callable[[Supervisor], None]]:
    from rich.live import Live

    from moderator.live.display import render

    with Live(console=err, auto_refresh=False, transient=False) as live:

        def tick(supervisor: Supervisor) -> None:
            live.update(render(supervisor.rows(), supervisor.overview()), refresh=True)

        yield tick
