"""Freed memory goes back to the system, so that a process that runs for days stays its size.

Sound, pictures and their copies are freed out of order on many threads; glibc keeps such holes for
later and the process seems to grow. `malloc_trim(3)` returns them.
"""

from __future__ import annotations

import ctypes
from functools import cache
from time import monotonic
from typing import Any

TRIM_EVERY_S = 60.0


@cache
def _malloc_trim() -> Any:
    """glibc's function, None where the C library has none (musl, macOS, Windows)."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):
        return None


class Trimmer:
    """Call it often; it trims once in `every_s` seconds. A trim takes some milliseconds."""

    def __init__(self, every_s: float = TRIM_EVERY_S) -> None:
        self._every_s = every_s
        self._next = monotonic() + every_s

    def __call__(self) -> bool:
        """Whether it trimmed."""
        trim = _malloc_trim()
        if trim is None or monotonic() < self._next:
            return False
        self._next = monotonic() + self._every_s
        trim(0)
        return True
