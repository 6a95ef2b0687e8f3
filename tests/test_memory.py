"""Freed memory goes back to the system, not more often than is asked, and buffers are kept."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from moderator import memory
from moderator.memory import Trimmer


def test_trimmer_trims_once_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    now = [100.0]
    monkeypatch.setattr(memory, "_of_glibc", lambda name: calls.append)
    monkeypatch.setattr(memory, "monotonic", lambda: now[0])
    trim = Trimmer(60.0)
    assert [trim(), trim()] == [False, False]
    now[0] += 61
    assert [trim(), trim()] == [True, False]
    assert calls == [0]


def test_memory_does_nothing_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_glibc", lambda name: None)
    assert Trimmer(0.0)() is False
    assert memory.keep_heap() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_a_large_buffer_is_had_again_without_page_faults() -> None:
    """Sixteen of 16 MiB, one after the other: 4,096 pages each, unless they are kept."""
    program = """
import resource
from moderator.memory import keep_heap
assert keep_heap()
faults = []
def work():
    for _ in range(16):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytearray(16 << 20)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
work()
assert sum(faults[1:]) < 400, faults
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_bytes_tell_what_grew() -> None:
    program = """
from moderator.memory import memory_bytes
before = memory_bytes()
kept = bytearray(48 << 20)
kept[:] = b"x" * len(kept)
grown = {part: size - before[part] for part, size in memory_bytes().items()}
assert 47 << 20 < grown["heap_used"] < 50 << 20, grown
assert grown["resident"] > 40 << 20, grown
assert grown["heap_free"] < 1 << 20, grown
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_memory_bytes_without_such_a_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_of_glibc", lambda name: None)
    assert "heap_used" not in memory.memory_bytes()
