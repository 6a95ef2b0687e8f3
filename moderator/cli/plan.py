"""`moderator plan`: machines for a number of rooms, from measured files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moderator.cli.application import app, out
from moderator.errors import in_ui_language


@app.command("plan")
def plan_command(
    rooms: Annotated[int, typer.Option("--rooms", help="直播间数 · Rooms live at the same time.")],
    machine: Annotated[
        list[Path],
        typer.Option(
            "--machine",
            help="实测文件 · Result of gpu_rooms, gpu_ocr or suite; repeat it for one machine.",
        ),
    ],
    speech_share: Annotated[
        float, typer.Option("--speech-share", help="Share of time in which somebody speaks.")
    ] = 0.7,
    frame_every: Annotated[
        float, typer.Option("--frame-every", help="Seconds between frames that are read.")
    ] = 2.0,
    no_frames: Annotated[bool, typer.Option("--no-frames", help="Speech alone.")] = False,
    headroom: Annotated[
        float, typer.Option("--headroom", help="Share of the measured capacity to use.")
    ] = 0.8,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, help="What a machine costs an hour, in any currency."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """容量规划 · Machines, cost an hour and expected p95 for a number of rooms.

    Everything comes from the measured files; docs/capacity.md has the formula.
    """
    from moderator.capacity import Demand, plan, read_machine

    demand = Demand(rooms, speech_share, None if no_frames else frame_every, headroom)
    found = plan(demand, read_machine(machine), price)
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False, indent=2))
        return
    none = in_ui_language("give --price", "请用 --price 给出单价")
    cost = none if found.cost_an_hour is None else f"{found.cost_an_hour:,.2f}"
    table = Table(show_header=False)
    for en, zh, value in (
        ("machine", "机器", f"{found.machine.name} · {found.machine.engine}"),
        ("rooms a machine", "每台直播间数", str(found.rooms_a_machine)),
        ("machines", "机器数", str(found.machines)),
        ("cost an hour", "每小时费用", cost),
        ("expected p95, words → text", "预计 p95（话说完 → 文字）", f"{found.p95_s:.2f} s"),
        ("used of the measured capacity", "占实测容量", f"{found.used:.0%}"),
        ("measured in", "实测文件", ", ".join(found.machine.files)),
    ):
        table.add_row(in_ui_language(en, zh), value)
    out().print(table)
