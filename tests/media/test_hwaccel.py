"""A method of hardware decoding is tried before a room depends on it."""

from __future__ import annotations

import pytest

from moderator.media import hwaccel


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    hwaccel._warn_once.cache_clear()
    monkeypatch.setattr(hwaccel.log, "warning", lambda event, **more: told.append(more["reason"]))
    return told


def works(monkeypatch: pytest.MonkeyPatch, *methods: str) -> None:
    monkeypatch.setattr(
        hwaccel, "why_not", lambda method: "" if method in methods else f"no {method}"
    )


def test_hwaccel_auto_takes_the_first_that_works(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    works(monkeypatch, "vaapi", "qsv")
    assert hwaccel.settled("auto") == "vaapi"
    works(monkeypatch)
    assert hwaccel.settled("auto") == "none"
    assert said == []


def test_hwaccel_a_named_method_that_fails_is_done_without_and_told_once(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    works(monkeypatch, "vaapi")
    assert [hwaccel.settled("cuda") for _ in range(2)] == ["none", "none"]
    assert said == ["no cuda"]
    assert hwaccel.settled("vaapi") == "vaapi"
    assert hwaccel.settled("none") == "none"


def test_hwaccel_ffmpeg_says_why_a_method_cannot_be_set_up() -> None:
    assert hwaccel.why_not("no_such_method")
