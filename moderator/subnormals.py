"""Numbers too small to matter, which some processors take many times as long to multiply.

A network with GELU layers makes many of them: far below zero it is not zero but 1e-40. The text
detector of PP-OCRv6 spent two thirds of its time on two small layers full of them; flushed to zero,
a frame takes 105 ms instead of 305 and its answer is the same to the last bit (Intel Xeon with
AMX, 2026-11-28). Whisper, the voice gate, the classifier and the text recogniser take as long
either way. onnxruntime's `session.set_denormal_as_zero` made no difference to the thread that calls
a session, and loading the first session undid what had been set for the thread before.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

FLUSH = 0x8000 | 0x0040
"""Results (flush-to-zero, bit 15) and operands (denormals-are-zero, bit 6) of MXCSR: Intel 64 and
IA-32 Architectures Software Developer's Manual, volume 1, section 10.2.3."""


class _Environment(ctypes.Structure):
    """`fenv_t` of fenv.h on Linux, x86-64 (glibc and musl alike)."""

    _fields_ = [("x87", ctypes.c_uint32 * 7), ("mxcsr", ctypes.c_uint32)]


def can_flush() -> bool:
    """Whether `flushed` does anything: on Linux with an x86-64 processor."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


@contextmanager
def flushed() -> Iterator[None]:
    """Within it, what this thread computes has no subnormal numbers: below 1.2e-38 (float32) or
    2.2e-308 (float64) there is zero. Other threads compute as before. Takes some microseconds.
    """
    if not can_flush():
        yield
        return
    c, before = _library(), _Environment()
    c.fegetenv(ctypes.byref(before))
    c.fesetenv(ctypes.byref(_Environment(before.x87, before.mxcsr | FLUSH)))
    try:
        yield
    finally:
        c.fesetenv(ctypes.byref(before))


@cache
def _library() -> ctypes.PyDLL:
    return ctypes.PyDLL(None)
