"""Sentences as a microphone would hear them: many manners of voice, and noise over them.

Everything here is 16 kHz mono float32, what the speech engines take.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moderator.asr.engine import SAMPLE_RATE_HZ, Samples
from samples import voice

SPEEDS = (1.0, 1.15, 1.25, 1.1)
_EDGE_S = 0.3


def manner(number: int) -> tuple[str, float]:
    """The voice and the speed of the sentence of that number."""
    voices = len(voice.VOICES)
    return voice.VOICES[number % voices], SPEEDS[number // voices % len(SPEEDS)]


def at_16_khz(sound: voice.Audio) -> Samples:
    """With a little silence at both ends; resampled by leaving out the spectrum above 8 kHz."""
    count = round(len(sound) * SAMPLE_RATE_HZ / voice.SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(sound)[: count // 2 + 1]
    low = np.fft.irfft(spectrum, count) * (count / len(sound))
    edge = np.zeros(round(_EDGE_S * SAMPLE_RATE_HZ))
    return np.concatenate([edge, low, edge]).astype(np.float32)


def over_noise(speech: Samples, snr_db: float | None, seed: int) -> Samples:
    """The speech over pink noise, `snr_db` below its mean power; as it is for None."""
    if snr_db is None:
        return speech
    white = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(speech)))
    pink = np.fft.irfft(white / np.sqrt(np.arange(1, len(white) + 1)), len(speech))
    power = float(np.mean(np.square(speech))) / 10 ** (snr_db / 10)
    pink *= np.sqrt(power / float(np.mean(np.square(pink))))
    return np.clip(speech + pink, -1, 1).astype(np.float32)


def default_cache() -> Path:
    """Where spoken lines are kept between runs."""
    return Path.home() / ".cache" / "moderator" / "samples"
