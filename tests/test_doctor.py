from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from moderator import doctor
from moderator.config import Settings
from moderator.devices import Gpu, Offer
from moderator.doctor import Finding, examine


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the bare package: no extra, no ffmpeg, no weights."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "version", missing)
    monkeypatch.setattr("moderator.models.is_installed", lambda name: False)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    named = {finding.what: finding for finding in findings}
    assert len(named) == len(findings)
    return named


@pytest.mark.usefixtures("nothing_installed")
def test_doctor_names_what_is_missing_and_the_command_that_mends_it() -> None:
    found = by_name(list(examine()))
    missing = {what: finding for what, finding in found.items() if not finding.good}
    assert {"ffmpeg", "faster-whisper", "onnxruntime", "rapidocr", "torch"} <= set(missing)
    assert {"speech runs on", "screen runs on", "model whisper-base"} <= set(missing)
    assert all("install" in finding.mend for finding in missing.values())
    assert found["rules"].good


@pytest.mark.usefixtures("nothing_installed")
def test_doctor_tells_what_is_needed_from_what_is_extra() -> None:
    found = by_name(list(examine()))
    assert found["faster-whisper"].needed
    assert not found["torch"].needed
    assert not found["transformers"].needed


def test_doctor_finds_ffmpeg_where_the_path_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "ffmpeg"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert by_name(list(examine()))["ffmpeg"].state == str(binary)


def test_doctor_reports_a_broken_rule_pack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("moderator.claims.rules.rules_home", lambda: tmp_path)
    rules = by_name(list(examine()))["rules"]
    assert not rules.good
    assert rules.state.startswith("LM-209 ")


def test_doctor_says_what_each_stage_runs_on_and_why_not_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = Offer(0, "nothing to be seen")
    monkeypatch.setattr("moderator.devices.speech_offer", lambda engine: nowhere)
    monkeypatch.setattr("moderator.devices.onnxruntime_offer", lambda: nowhere)
    monkeypatch.setattr("moderator.devices.torch_offer", lambda: nowhere)
    found = by_name(list(examine(Settings(asr_device="cuda", ocr_device="auto"))))
    assert "nothing to be seen" in found["gpu"].state
    assert found["speech runs on"].state == "faster-whisper: CPU int8 (nothing to be seen)"
    assert "nothing to be seen" in found["screen runs on"].state
    assert found["classifier runs on"].state.startswith("CPU (")
    assert found["pictures are decoded on"].state.startswith("CPU (")


def test_doctor_says_which_gpus_each_stage_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Offer(2)
    monkeypatch.setattr("moderator.devices.speech_offer", lambda engine: two)
    monkeypatch.setattr("moderator.devices.onnxruntime_offer", lambda: two)
    monkeypatch.setattr(
        "moderator.devices.gpus", lambda: [Gpu(0, "One", 80.0, (9, 0)), Gpu(1, "Two", 80.0, (9, 0))]
    )
    settings = Settings(asr_engine="transformers", ocr_device="cuda:1", classifier_device="auto")
    found = by_name(list(examine(settings)))
    assert found["cuda:1"].state == "Two, 80.0 GiB, sm_90"
    assert found["speech runs on"].state == "transformers: cuda:0 float16, cuda:1 float16"
    assert found["screen runs on"].state.startswith("rapidocr: cuda:1")
    assert found["classifier runs on"].state == "cuda:0"
