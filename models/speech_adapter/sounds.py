"""What the adapter learns from: sentences of the corpus, spoken and made to sound like rooms.

Only sentences of training families are spoken, and never by the voice HELD_OUT, so that what is
measured on held-out families and on that voice is not what was learned. Each sentence is heard in
several *takes*: another pitch and loudness, with an echo, behind a cheap microphone, over music or
noise, alone or one after the other as hosts talk.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.voiced import at_16_khz
from models.claim_classifier.dataset import RECOGNISED, load_corpus
from moderator.asr.engine import SAMPLE_RATE_HZ, Samples
from moderator.claims.rules import RulePack
from samples import music, voice

HELD_OUT = "jm_kumo"
SPEEDS = (1.0, 1.1, 1.15, 1.25, 1.3)
WRITTEN_MISHEARD = (
    "rooms_garbled",
    "rooms_muffled",
    "rooms_mumbled",
    "rooms_slurred",
    "rooms_torrents",
)
"""Files written as a recogniser writes, which nobody says."""

SHARES = (0.5, 0.3, 0.2)
"""How many takes hold one, two and three sentences."""
MOST_S, MOST_SILENT_S = 14.0, 8.0
NO_SPEECH_SHARE = 0.08
"""Takes of music and noise alone, from which nothing is to be written."""


@dataclass(frozen=True, slots=True)
class Line:
    """A sentence to be spoken."""

    text: str
    voice: str
    speed: float


@dataclass(frozen=True, slots=True)
class Take:
    """16 kHz mono float32, and what is said in it; empty for music and noise."""

    text: str
    samples: Samples


def lines(pack: RulePack, count: int) -> list[Line]:
    """Sentences of training families with their voices: those that the classifier's data has
    spoken already (`recognise.py`), then others, half of them unlawful, chosen by their digest."""
    found = {
        row["said"]: Line(row["said"], row["voice"], row["speed"])
        for row in map(json.loads, RECOGNISED.read_text(encoding="utf-8").splitlines())
        if row["voice"] != HELD_OUT
    }
    voices = [name for name in voice.VOICES if name != HELD_OUT]
    voices += ["+".join(pair) for pair in itertools.combinations(voices, 2)]
    for number, text in enumerate(_texts(pack)):
        if len(found) >= count:
            break
        dice = hashlib.sha256(b"m%d" % number).digest()
        name, speed = voices[dice[0] % len(voices)], SPEEDS[dice[1] % len(SPEEDS)]
        found.setdefault(text, Line(text, name, speed))
    return list(found.values())[:count]


def _texts(pack: RulePack) -> Iterator[str]:
    examples = [
        example
        for example in load_corpus(pack).part("train")
        if example.source not in WRITTEN_MISHEARD and 8 <= len(example.text) <= 45
    ]
    examples.sort(key=lambda e: hashlib.sha256(("asr" + e.text).encode()).digest())
    sides = ([e for e in examples if e.labels], [e for e in examples if not e.labels])
    seen = set()
    for example in itertools.chain.from_iterable(itertools.zip_longest(*sides)):
        if example is None or example.text in seen:
            continue
        seen.add(example.text)
        try:
            voice.phonemes(example.text)
        except ValueError:  # a character that the voices cannot say
            continue
        yield example.text


def takes(spoken: Sequence[tuple[Line, Samples]], seed: int) -> list[Take]:
    """Each line once, in an order and a manner of its own for each seed, and some silence."""
    dice = np.random.default_rng(seed)
    order = list(dice.permutation(len(spoken)))
    found = []
    while order:
        wanted = int(dice.choice(len(SHARES), p=SHARES)) + 1
        parts: list[tuple[Line, Samples]] = []
        while order and len(parts) < wanted:
            line, samples = spoken[order[-1]]
            if parts and sum(map(len, (s for _, s in parts))) + len(samples) > _MOST:
                break
            parts.append((line, samples))
            order.pop()
        text = _joined([line.text for line, _ in parts])
        pitch = float(dice.uniform(0.92, 1.09))
        sound = np.concatenate([_pitched(samples, pitch) for _, samples in parts])[:_MOST]
        found.append(Take(text, in_a_room(sound, dice)))
    for _ in range(round(NO_SPEECH_SHARE * len(found))):
        found.append(Take("", in_a_room(no_speech(dice), dice)))
    return found


_MOST = int(MOST_S * SAMPLE_RATE_HZ)


def _joined(texts: Sequence[str]) -> str:
    """As a transcript has them: a comma where a sentence has no mark of its own."""
    bare = [re.sub(r"[ ，]+", "，", text.strip()).rstrip("，、；：,") for text in texts]
    return "".join(t if t[-1] in "。！？!?…" or t is bare[-1] else t + "，" for t in bare)


def no_speech(dice: np.random.Generator) -> Samples:
    """Music, noise, hum or near silence, 2 to 8 s."""
    count = int(dice.uniform(2.0, MOST_SILENT_S) * SAMPLE_RATE_HZ)
    kind = dice.integers(4)
    if kind == 0:
        return music.bed(count / SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, int(dice.integers(1 << 30)))
    if kind == 1:
        return _noise(count, dice) * np.float32(0.3)
    if kind == 2:
        time = np.arange(count) / SAMPLE_RATE_HZ
        hum = sum(np.sin(2 * np.pi * f * time) / f for f in dice.uniform(50, 900, 4))
        return np.asarray(0.3 * hum / np.abs(hum).max(), np.float32)
    return np.asarray(dice.standard_normal(count) * 1e-4, np.float32)


def in_a_room(sound: Samples, dice: np.random.Generator) -> Samples:
    """The sound as a microphone in a live room might have it."""
    if dice.random() < 0.3:
        sound = _echoing(sound, dice)
    if dice.random() < 0.25:
        sound = _low_passed(sound, float(dice.uniform(3000, 7000)))
    if dice.random() < 0.6:
        if dice.random() < 0.5:
            second = music.bed(
                len(sound) / SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, int(dice.integers(1 << 30))
            )
        else:
            second = _noise(len(sound), dice)
        second = np.resize(second, len(sound))
        power = float(np.mean(np.square(sound))) + 1e-12
        power /= 10 ** (float(dice.uniform(8, 30)) / 10)
        sound = sound + second * np.sqrt(power / (float(np.mean(np.square(second))) + 1e-12))
    gain = 10 ** (float(dice.uniform(-15, 0)) / 20)
    return np.clip(sound * gain, -1, 1).astype(np.float32)


def _noise(count: int, dice: np.random.Generator) -> Samples:
    """Between white and brown, peak 1."""
    spectrum = np.fft.rfft(dice.standard_normal(count))
    spectrum /= np.arange(1, len(spectrum) + 1) ** float(dice.uniform(0, 1))
    noise = np.fft.irfft(spectrum, count)
    return np.asarray(noise / np.abs(noise).max(), np.float32)


def _pitched(sound: Samples, factor: float) -> Samples:
    """Played so much faster, which raises the voice and its formants as well."""
    at = np.arange(0, len(sound) - 1, factor)
    return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


def _echoing(sound: Samples, dice: np.random.Generator) -> Samples:
    """In a room of 0.15 to 0.5 s of reverberation (60 dB), at some distance."""
    count = int(dice.uniform(0.15, 0.5) * SAMPLE_RATE_HZ)
    tail = dice.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail *= float(dice.uniform(0.1, 0.4)) / np.sqrt(np.sum(np.square(tail)))
    tail[0] += 1
    size = len(sound) + count
    wet = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)]
    return np.asarray(wet / max(1.0, float(np.abs(wet).max())), np.float32)


def _low_passed(sound: Samples, limit_hz: float) -> Samples:
    spectrum = np.fft.rfft(sound)
    hz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ)
    spectrum *= 1 / (1 + (hz / limit_hz) ** 8)
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def speak(chosen: Sequence[Line], cache: Path) -> Iterator[tuple[Line, Samples]]:
    """The lines at 16 kHz, kept in `cache`; without those that the voices cannot say."""
    speaker = voice.Voice(cache)
    for line in chosen:
        try:
            yield line, at_16_khz(speaker.speak(line.text, line.voice, line.speed))
        except ValueError:
            continue
