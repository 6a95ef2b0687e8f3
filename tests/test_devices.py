"""A device is named, found or done without, and the reason is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderator import devices
from moderator.devices import Offer
from moderator.errors import ModeratorError


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    devices._warn_once.cache_clear()
    monkeypatch.setattr(
        devices.log, "warning", lambda event, **more: said.append((event, more["reason"]))
    )
    return said


def test_devices_auto_takes_the_gpu_where_there_is_one() -> None:
    assert devices.settle("auto", Offer(2), "torch") == "cuda:0"
    assert devices.settle("auto", Offer(0, "no driver"), "torch") == "cpu"
    assert devices.settle("cpu", Offer(2), "torch") == "cpu"
    assert devices.settle("cuda:1", Offer(2), "torch") == "cuda:1"


def test_devices_that_are_not_there_fall_back_with_one_warning(
    told: list[tuple[str, str]],
) -> None:
    for _ in range(3):
        assert devices.settle("cuda", Offer(0, "no driver"), "torch") == "cpu"
    assert told == [("device.fallback", "no driver")]


def test_devices_auto_without_a_gpu_warns_of_nothing(told: list[tuple[str, str]]) -> None:
    devices.settle("auto", Offer(0, "no driver"), "torch")
    assert told == []


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "CUDA", "cuda:0;rm"])
def test_devices_refuse_what_is_no_device(name: str) -> None:
    with pytest.raises(ModeratorError, match="LM-408"):
        devices.devices_of(name)


def test_devices_spread_over_every_gpu_or_those_named() -> None:
    assert devices.spread("auto", Offer(3)) == ("cuda:0", "cuda:1", "cuda:2")
    assert devices.spread("cuda", Offer(1)) == ("cuda",)
    assert devices.spread("cuda:1, cuda:2,cuda:1", Offer(4)) == ("cuda:1", "cuda:2")
    assert devices.spread("auto", Offer(0)) == ("auto",)


def test_devices_onnx_sessions_end_on_the_cpu() -> None:
    assert devices.onnx_providers("cpu") == ["CPUExecutionProvider"]
    (name, options), last = devices.onnx_providers("cuda:3")
    assert (name, options["device_id"], last) == (
        "CUDAExecutionProvider",
        3,
        "CPUExecutionProvider",
    )


@pytest.mark.parametrize(
    ("quota", "most"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)]
)
def test_devices_cores_are_no_more_than_the_container_may_use(
    tmp_path: Path, quota: str, most: int | None
) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    free = devices.cores(tmp_path / "none")
    assert free >= 1
    assert devices.cores(file) == (free if most is None else min(free, most))
