"""A minute of a sample room: its sound, and what is said in it when."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from moderator import models
from moderator.asr.engine import Samples

ROOM = Path(__file__).parents[2] / "samples" / "rooms" / "food_and_tea.mp4"
LISTENED_S = 48


@dataclass(frozen=True)
class Line:
    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Speech:
    samples: Samples
    lines: tuple[Line, ...]


@pytest.fixture(scope="session")
def speech() -> Speech:
    """The start of a room, synthetic voice over a music bed, and its lines."""
    if not ROOM.is_file():
        pytest.skip(f"{ROOM} is not there; samples/make_samples.py builds it")
    from moderator.media.command import find_ffmpeg

    command = [find_ffmpeg(), "-v", "error", "-t", str(LISTENED_S), "-i", str(ROOM)]
    command += ["-ac", "1", "-ar", "16000", "-f", "s16le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    truth = json.loads(ROOM.with_suffix(".truth.json").read_text(encoding="utf-8"))
    lines = tuple(
        Line(line["start"], line["end"], line["text"])
        for line in truth["lines"]
        if line["end"] < LISTENED_S - 0.5
    )
    return Speech(np.frombuffer(raw, np.int16).astype(np.float32) / 32768, lines)


@pytest.fixture(scope="session")
def embedded_weights() -> None:
    for name in ("whisper-base", "silero-vad-v6"):
        if not models.is_installed(name):
            pytest.skip(f"the weights {name} are not installed")
