"""Sounds that are not speech, made from numbers. Mono float32 at 16 kHz."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moderator.asr.engine import SAMPLE_RATE_HZ, Samples


def silence(duration_s: float) -> Samples:
    return np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.float32)


def tone(duration_s: float, hz: float = 440.0) -> Samples:
    return _as_samples(0.3 * np.sin(2 * np.pi * hz * _times(duration_s)))


def beeps(duration_s: float) -> Samples:
    return tone(duration_s, 1000.0) * (_times(duration_s) % 1 < 0.2).astype(np.float32)


def hum(duration_s: float) -> Samples:
    return _as_samples(0.05 * np.sign(np.sin(2 * np.pi * 50 * _times(duration_s))))


def white_noise(duration_s: float) -> Samples:
    return _as_samples(0.1 * _rng().standard_normal(len(_times(duration_s))))


def pink_noise(duration_s: float) -> Samples:
    count = len(_times(duration_s))
    spectrum = np.fft.rfft(_rng().standard_normal(count))
    return _loud(np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), count), 0.3)


def applause(duration_s: float) -> Samples:
    rng, count = _rng(), len(_times(duration_s))
    sound = np.zeros(count + 1000)
    for _ in range(int(duration_s * 120)):
        at, length = rng.integers(0, count), rng.integers(300, 900)
        clap = rng.standard_normal(length) * np.exp(-np.arange(length) / 120)
        sound[at : at + length] += rng.uniform(0.1, 1.0) * clap
    return _loud(sound[:count], 0.5)


def music(duration_s: float, beats_a_minute: int = 110) -> Samples:
    """Four chords, a wandering melody with vibrato, a bass drum and a hi-hat."""
    rng, times = _rng(), _times(duration_s)
    sound = np.zeros(len(times))
    beat = int(60 / beats_a_minute * SAMPLE_RATE_HZ)
    chords = [(220, 277, 330), (196, 247, 294), (175, 220, 262), (196, 247, 330)]
    for index, at in enumerate(range(0, len(sound), beat)):
        length = min(beat, len(sound) - at)
        span = times[:length]
        for hz in chords[index // 4 % 4]:
            for harmonic in range(1, 6):
                wave = np.sin(2 * np.pi * hz * harmonic * span) * np.exp(-3 * span)
                sound[at : at + length] += 0.1 / harmonic * wave
        hz = 440 * 2 ** (rng.integers(0, 12) / 12)
        phase = np.cumsum(hz * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * span))) / SAMPLE_RATE_HZ
        for harmonic in range(1, 9):
            wave = np.sin(2 * np.pi * harmonic * phase) * np.exp(-1.2 * span)
            sound[at : at + length] += 0.15 / harmonic * wave
        drum = span[:1500]
        sweep = np.cumsum(np.linspace(120, 45, len(drum))) / SAMPLE_RATE_HZ
        sound[at : at + len(drum)] += 0.6 * np.sin(2 * np.pi * sweep) * np.exp(-32 * drum)
        hat = min(700, max(0, length - beat // 2))
        start = at + beat // 2
        sound[start : start + hat] += 0.2 * rng.standard_normal(hat) * np.exp(-np.arange(hat) / 150)
    return _loud(sound, 0.5)


NOT_SPEECH: dict[str, Callable[[float], Samples]] = {
    "silence": silence,
    "tone": tone,
    "beeps": beeps,
    "hum": hum,
    "white noise": white_noise,
    "pink noise": pink_noise,
    "applause": applause,
    "music": music,
    "fast music": lambda duration_s: music(duration_s, 150),
}


def over(speech: Samples, bed: Samples, ratio_db: float) -> Samples:
    """`speech` with `bed` under it, louder by `ratio_db`."""
    bed = bed[: len(speech)]
    power = np.mean(np.square(speech)) / np.mean(np.square(bed))
    return _as_samples(speech + bed * np.sqrt(power / 10 ** (ratio_db / 10)))


def _times(duration_s: float) -> Samples:
    return np.arange(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _loud(sound: np.ndarray, peak: float) -> Samples:
    return _as_samples(peak * sound / np.abs(sound).max())


def _as_samples(sound: np.ndarray) -> Samples:
    return np.asarray(sound, np.float32)
