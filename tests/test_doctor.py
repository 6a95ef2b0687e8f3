from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from moderator import doctor
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
