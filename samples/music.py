"""A quiet music bed: four chords on a soft pad with plucked notes over them, made from sines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BEAT_S = 60 / 84
_CHORDS = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 55, 60, 64), (55, 59, 62, 67))
"""Am, F, C and G as MIDI notes."""

_SCALE = (69, 72, 74, 76, 79, 81)


def bed(duration_s: float, rate_hz: int, seed: int) -> NDArray[np.float32]:
    """Mono music at `rate_hz`, peak 1, with a fade of two seconds at both ends."""
    dice = np.random.default_rng(seed)
    track = np.zeros(int(duration_s * rate_hz) + rate_hz * 4, np.float64)
    bar_s = 4 * _BEAT_S
    for bar in range(int(duration_s / bar_s) + 1):
        for note in _CHORDS[bar % len(_CHORDS)]:
            _add(track, _pad(note, bar_s + 0.6, rate_hz), bar * bar_s, rate_hz, 0.16)
        for beat in range(8):
            if dice.random() < 0.55:
                note = int(dice.choice(_SCALE))
                start_s = bar * bar_s + beat * _BEAT_S / 2
                _add(track, _pluck(note, rate_hz), start_s, rate_hz, float(dice.uniform(0.15, 0.3)))
    track = track[: int(duration_s * rate_hz)]
    fade = np.minimum(1, np.arange(len(track)) / (2 * rate_hz))
    track *= fade * fade[::-1]
    return np.asarray(track / np.abs(track).max(), np.float32)


def _add(
    track: NDArray[np.float64],
    sound: NDArray[np.float64],
    start_s: float,
    rate_hz: int,
    gain: float,
) -> None:
    begin = int(start_s * rate_hz)
    room = track[begin : begin + len(sound)]
    room += gain * sound[: len(room)]


def _pad(note: int, length_s: float, rate_hz: int) -> NDArray[np.float64]:
    t = np.arange(int(length_s * rate_hz)) / rate_hz
    f = _hertz(note)
    wave = np.sin(2 * np.pi * f * t) + 0.5 * np.sin(2 * np.pi * f * 1.003 * t)
    swell = np.minimum(1, t / 0.5) * np.minimum(1, (length_s - t) / 0.6)
    return np.asarray(wave * swell)


def _pluck(note: int, rate_hz: int) -> NDArray[np.float64]:
    t = np.arange(int(1.4 * rate_hz)) / rate_hz
    f = _hertz(note)
    wave = np.sin(2 * np.pi * f * t) + 0.4 * np.sin(4 * np.pi * f * t) * np.exp(-6 * t)
    return np.asarray(wave * np.exp(-3.5 * t) * np.minimum(1, t / 0.006))


def _hertz(note: int) -> float:
    return float(440.0 * 2 ** ((note - 69) / 12))
