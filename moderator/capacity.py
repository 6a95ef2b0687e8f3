"""How many machines a number of live rooms needs, from what was measured on one machine.

A benchmark file holds how many rooms of speech a machine carried and how late their text was at
each step, another how many frames a second it read. A machine with n rooms is used to the share

    u(n) = n · s / S + n / (e · F)

where s is the share of time in which somebody speaks, S the seconds of speech a second that were
carried at the latency bound, e the seconds between frames and F the frames read a second. Speech
and frames are taken to compete for the same device, which is the cautious side. The rooms of a
machine are the largest n with u(n) ≤ h, h being the headroom. The p95 is read off the measured
steps, between two of them on the straight line, at the step that carried as much: no figure lies
outside of what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor
from pathlib import Path
from typing import Any

from moderator.errors import CAPACITY_INVALID, MISSING_FILE, ModeratorError, in_ui_language


@dataclass(frozen=True, slots=True)
class Step:
    """One measured step: rooms, seconds of speech a second in them all, p95 of words → text."""

    rooms: int
    speech_per_s: float
    p95_s: float
    carried: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """What was measured on one machine. `frames_per_s` is None where no frames were read."""

    name: str
    engine: str
    limit_s: float
    steps: tuple[Step, ...]
    frames_per_s: float | None
    files: tuple[str, ...]

    @property
    def speech_per_s(self) -> float:
        """Seconds of speech a second at the largest step within the bound; 0 if none was."""
        return max((step.speech_per_s for step in self.steps if step.carried), default=0.0)


@dataclass(frozen=True, slots=True)
class Demand:
    """Rooms that are live at the same time, and what each asks for.

    `speech_share` in 0–1; `frame_every_s` None for speech alone; `headroom` is the share (0–1] of
    what was measured that may be used.
    """

    rooms: int
    speech_share: float
    frame_every_s: float | None
    headroom: float = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """`p95_s` is that of the fullest machine; `used` its share of what was measured."""

    machine: Machine
    demand: Demand
    rooms_a_machine: int
    machines: int
    used: float
    p95_s: float
    cost_an_hour: float | None


def plan(demand: Demand, machine: Machine, price_an_hour: float | None = None) -> Plan:
    """Machines for the demand; the formula is this module's docstring.

    Raises LM-411 for a demand that makes no sense, and when the machine carries not one such room
    or its frames were not measured.
    """
    _check(demand)
    room = _share_of_a_room(demand, machine)
    fits = floor(demand.headroom / room + 1e-9)
    if fits < 1:
        raise _unfit(
            machine.name,
            f"carries not one such room at p95 ≤ {machine.limit_s:g} s",
            f"在 p95 ≤ {machine.limit_s:g} 秒的条件下一个直播间也承载不了",
        )
    machines = ceil(demand.rooms / fits)
    fullest = ceil(demand.rooms / machines)
    used = fullest * room
    return Plan(
        machine=machine,
        demand=demand,
        rooms_a_machine=fits,
        machines=machines,
        used=used,
        p95_s=p95_at(machine, used * machine.speech_per_s),
        cost_an_hour=None if price_an_hour is None else machines * price_an_hour,
    )


def p95_at(machine: Machine, speech_per_s: float) -> float:
    """Between the measured steps on the straight line; below the first one, the first's."""
    known = sorted(machine.steps, key=lambda step: step.speech_per_s)
    if speech_per_s <= known[0].speech_per_s:
        return known[0].p95_s
    for low, high in pairwise(known):
        if speech_per_s <= high.speech_per_s:
            part = (speech_per_s - low.speech_per_s) / (high.speech_per_s - low.speech_per_s)
            return low.p95_s + part * (high.p95_s - low.p95_s)
    return known[-1].p95_s


def read_machine(paths: Sequence[Path]) -> Machine:
    """One machine from its benchmark files: `gpu_rooms`, and `gpu_ocr` where frames are read; or a
    `suite`, which has both.

    Raises LM-101 for a file that is not there, LM-411 for one that says something else, or files of
    two machines.
    """
    name, speech, frames_per_s = "", None, None
    for path in paths:
        body = _read(path)
        try:
            here = str(body["machine"]["name"]) + _device(body)
            if name and here != name:
                raise _unfit(
                    path, f"is of {here}, the others are of {name}", f"属于 {here}，其他属于 {name}"
                )
            name = here
            parts = body["parts"] if body["benchmark"] == "suite" else {body["benchmark"]: body}
            if "gpu_rooms" in parts:
                speech = _speech(parts["gpu_rooms"])
            if "gpu_ocr" in parts:
                rates = [float(row["frames_per_s"]) for row in parts["gpu_ocr"]["rows"]]
                frames_per_s = max(rates)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise _unfit(
                path,
                f"is no result of gpu_rooms, gpu_ocr or suite ({error!r})",
                f"不是 gpu_rooms、gpu_ocr 或 suite 的结果（{error!r}）",
            ) from None
    if speech is None:
        raise _unfit(
            ", ".join(map(str, paths)),
            "none of the files says how many rooms of speech were carried (gpu_rooms)",
            "没有一个文件包含语音承载量（gpu_rooms）",
        )
    engine, limit_s, steps = speech
    return Machine(name, engine, limit_s, steps, frames_per_s, tuple(str(path) for path in paths))


def _share_of_a_room(demand: Demand, machine: Machine) -> float:
    if not machine.speech_per_s:
        raise _unfit(
            machine.name,
            f"carried not one room of speech at p95 ≤ {machine.limit_s:g} s",
            f"在 p95 ≤ {machine.limit_s:g} 秒的条件下没有承载任何直播间",
        )
    share = demand.speech_share / machine.speech_per_s
    if demand.frame_every_s is None:
        return share
    if not machine.frames_per_s:
        raise _unfit(
            machine.name,
            "its frames were not measured: add a gpu_ocr file, or plan with --no-frames",
            "没有画面的实测数据：请加上 gpu_ocr 文件，或使用 --no-frames",
        )
    return share + 1.0 / (demand.frame_every_s * machine.frames_per_s)


def _check(demand: Demand) -> None:
    for name, good in (
        ("--rooms", demand.rooms >= 1),
        ("--speech-share", 0 < demand.speech_share <= 1),
        ("--frame-every", demand.frame_every_s is None or 0 < demand.frame_every_s <= 3600),
        ("--headroom", 0 < demand.headroom <= 1),
    ):
        if not good:
            raise _unfit(name, "is out of its range", "超出范围")


def _speech(part: dict[str, Any]) -> tuple[str, float, tuple[Step, ...]]:
    limit_s = float(part["limit_s"])
    steps = tuple(
        Step(
            int(step["rooms"]),
            float(step["speech_per_s"]),
            float(step["p95_s"]),
            float(step["p95_s"]) <= limit_s and not step["lost_s"],
        )
        for step in part["steps"]
        if step["p95_s"] is not None
    )
    if not steps:
        raise ValueError("no step has a p95")
    return str(part["engine"]), limit_s, steps


def _device(body: dict[str, Any]) -> str:
    gpu = body["machine"].get("gpu")
    return f" + {gpu}" if gpu else ""


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModeratorError(MISSING_FILE, path=path)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unfit(path, f"cannot be read ({error})", f"无法读取（{error}）") from None
    if not isinstance(body, dict):
        raise _unfit(path, "is no benchmark result", "不是基准结果")
    return body


def _unfit(place: object, en: str, zh: str) -> ModeratorError:
    return ModeratorError(CAPACITY_INVALID, place=place, reason=in_ui_language(en, zh))
