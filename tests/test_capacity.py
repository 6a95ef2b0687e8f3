"""The planner: arithmetic over measured files, and no figure from outside of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from moderator import cli
from moderator.capacity import Demand, p95_at, plan, read_machine
from moderator.errors import ModeratorError

STEPS = [
    {"rooms": 100, "speech_per_s": 70.0, "p95_s": 1.0, "lost_s": 0},
    {"rooms": 500, "speech_per_s": 350.0, "p95_s": 2.0, "lost_s": 0},
    {"rooms": 600, "speech_per_s": 420.0, "p95_s": 4.0, "lost_s": 0},
]


def result(folder: Path, benchmark: str, machine: str = "box", **body: Any) -> Path:
    path = folder / f"{benchmark}-{machine}.json"
    whole = {"benchmark": benchmark, "machine": {"name": machine, "gpu": "One GPU"}, **body}
    path.write_text(json.dumps(whole), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [
        result(tmp_path, "gpu_rooms", engine="whisper", limit_s=3.0, steps=STEPS),
        result(tmp_path, "gpu_ocr", rows=[{"frames_per_s": 100.0}, {"frames_per_s": 400.0}]),
    ]


def test_capacity_adds_what_speech_and_frames_take(files: list[Path]) -> None:
    machine = read_machine(files)
    assert (machine.name, machine.speech_per_s, machine.frames_per_s) == (
        "box + One GPU",
        350.0,
        400.0,
    )
    # A room takes 0.7 / 350 and 1 / (2 · 400) of a machine: 0.00325, of 0.8.
    found = plan(Demand(3000, 0.7, 2.0), machine, price_an_hour=10.0)
    assert found.rooms_a_machine == 246
    assert found.machines == 13
    assert found.cost_an_hour == 130.0
    assert found.used == pytest.approx(231 * 0.00325)


def test_capacity_p95_lies_between_measured_steps(files: list[Path]) -> None:
    machine = read_machine(files)
    assert p95_at(machine, 10.0) == 1.0
    assert p95_at(machine, 210.0) == pytest.approx(1.5)
    assert p95_at(machine, 9999.0) == 4.0


def test_capacity_speech_alone_needs_no_frames(files: list[Path]) -> None:
    machine = read_machine(files[:1])
    assert plan(Demand(500, 0.7, None, headroom=1.0), machine).machines == 1
    with pytest.raises(ModeratorError, match=r"LM-411.*gpu_ocr"):
        plan(Demand(500, 0.7, 2.0), machine)


@pytest.mark.parametrize(
    "demand",
    [Demand(0, 0.7, 2.0), Demand(1, 0.0, 2.0), Demand(1, 1.1, 2.0), Demand(1, 0.7, 0.0)],
)
def test_capacity_refuses_demands_out_of_range(files: list[Path], demand: Demand) -> None:
    with pytest.raises(ModeratorError, match="LM-411"):
        plan(demand, read_machine(files))


def test_capacity_refuses_files_that_do_not_fit_together(files: list[Path], tmp_path: Path) -> None:
    other = result(tmp_path, "gpu_ocr", machine="another", rows=[{"frames_per_s": 1.0}])
    with pytest.raises(ModeratorError, match=r"LM-411.*another"):
        read_machine([files[0], other])
    nonsense = tmp_path / "x.json"
    nonsense.write_text("[]", encoding="utf-8")
    for path in (nonsense, result(tmp_path, "gpu_rooms", machine="empty", limit_s=3, steps=[])):
        with pytest.raises(ModeratorError, match="LM-411"):
            read_machine([path])


def test_capacity_a_machine_that_carries_nothing_is_told(tmp_path: Path) -> None:
    slow = [{"rooms": 1, "speech_per_s": 0.7, "p95_s": 9.0, "lost_s": 0}]
    path = result(tmp_path, "gpu_rooms", engine="whisper", limit_s=3.0, steps=slow)
    with pytest.raises(ModeratorError, match=r"LM-411"):
        plan(Demand(1, 0.7, None), read_machine([path]))


def test_capacity_command_prints_json(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", "--rooms", "3000", "--json"]
    for path in files:
        arguments += ["--machine", str(path)]
    assert _run(monkeypatch, arguments) == 0
    assert json.loads(capsys.readouterr().out)["machines"] == 13
    assert _run(monkeypatch, ["plan", "--rooms", "3", "--machine", "nowhere.json"]) == 2
    assert "LM-101" in capsys.readouterr().err


def _run(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["moderator", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
