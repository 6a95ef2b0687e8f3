"""Freed memory goes back to the system, and not more often than is asked."""

from __future__ import annotations

import pytest

from moderator.live import memory
from moderator.live.memory import Trimmer


def test_trimmer_trims_once_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    now = [100.0]
    monkeypatch.setattr(memory, "_malloc_trim", lambda: calls.append)
    monkeypatch.setattr(memory, "monotonic", lambda: now[0])
    trim = Trimmer(60.0)
    assert [trim(), trim()] == [False, False]
    now[0] += 61
    assert [trim(), trim()] == [True, False]
    assert calls == [0]


def test_trimmer_does_nothing_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    assert Trimmer(0.0)() is False
