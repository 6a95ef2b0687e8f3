"""How glibc's heap is kept: large buffers are reused while we work, holes go back once a minute.
And what the memory of this process consists of, for who watches it grow.

Where the C library is another one (musl, macOS, Windows), nothing here does anything.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

TRIM_EVERY_S = 60.0

KEPT_BYTES = 256 * 2**20
"""Buffers below this are taken from the heap, and so much may lie free at its end. Left to itself
glibc now and then takes a network's buffers from the system for every single run and gives them
back after it: 36,000 page faults an utterance, which cost a third of the time that decoding it
took, and 9,200 a frame whose text is found, a tenth of it (2026-11-27)."""

ARENAS = 2
"""Heaps. glibc makes eight for each core, and each keeps holes of its own: two workers of Whisper
base took 607 MiB with them and 421 with one heap, at the same speed (2026-11-27)."""

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_heap() -> bool:
    """Call it once, before threads are started, in a process that is ours. Says whether it did.

    What the environment says of it (`MALLOC_ARENA_MAX` …) is overruled.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    done = [
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES),
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES),
        mallopt(_M_ARENA_MAX, ARENAS),
    ]
    return all(done)


class Trimmer:
    """Gives freed memory back, so that a process that runs for days stays its size.

    Sound, pictures and their copies are freed out of order on many threads; glibc keeps such holes
    for later and the process seems to grow. Call it often; it trims once in `every_s` seconds. A
    trim takes some milliseconds.
    """

    def __init__(self, every_s: float = TRIM_EVERY_S) -> None:
        self._every_s = every_s
        self._next = monotonic() + every_s

    def __call__(self) -> bool:
        """Whether it trimmed."""
        trim = _of_glibc("malloc_trim")
        if trim is None or monotonic() < self._next:
            return False
        self._next = monotonic() + self._every_s
        trim(0)
        return True


def memory_bytes() -> dict[str, float]:
    """What this process's memory is, in bytes, as far as the system tells: `resident`, and of
    glibc's heap what is in use (`heap_used`: networks, buffers, Python's large objects) and what
    lies free in it (`heap_free`, of which holes have gone back). Python's small objects lie beside
    that heap; `sys.getallocatedblocks` counts them.
    """
    found: dict[str, float] = {}
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        found["resident"] = pages * os.sysconf("SC_PAGE_SIZE")
    mallinfo = _of_glibc("mallinfo2")
    if mallinfo is not None:
        mallinfo.restype = _MallInfo
        heap = mallinfo()
        found["heap_used"] = heap.uordblks + heap.hblkhd
        found["heap_free"] = heap.fordblks
    return found


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h (glibc 2.33)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@cache
def _of_glibc(name: str) -> Any:
    """A function of glibc, None where there is none."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None
