"""Many rooms in one call hear what each would hear alone."""

from __future__ import annotations

import numpy as np
import pytest

from moderator.asr.shared_vad import STEPS_A_CALL, SharedSileroVad
from moderator.asr.vad import SileroVad
from tests.asr.conftest import Speech

pytestmark = pytest.mark.usefixtures("embedded_weights")


@pytest.fixture(scope="module")
def vad() -> SharedSileroVad:
    return SharedSileroVad()


def test_shared_vad_gives_each_room_what_a_detector_of_its_own_gives(
    vad: SharedSileroVad, speech: Speech
) -> None:
    windows = speech.samples[: 512 * 300].reshape(-1, 512)
    talks = [windows, windows[40:], windows[100:180]]
    voices = [vad.room() for _ in talks]
    heard: list[list[float]] = [[] for _ in talks]
    at = [0] * len(talks)
    steps = np.random.default_rng(1)
    while any(place < len(talk) for place, talk in zip(at, talks, strict=True)):
        # Rooms bring different amounts: none, a few windows, more than one call takes.
        counts = [int(steps.integers(0, STEPS_A_CALL + 9)) for _ in talks]
        parts = [talk[a : a + n] for talk, a, n in zip(talks, at, counts, strict=True)]
        for index, found in enumerate(vad.probabilities(list(zip(voices, parts, strict=True)))):
            heard[index].extend(found.tolist())
            at[index] += len(parts[index])
    for talk, found in zip(talks, heard, strict=True):
        np.testing.assert_allclose(found, SileroVad().probabilities(talk), atol=1e-5)


def test_shared_vad_room_forgets_when_reset(vad: SharedSileroVad, speech: Speech) -> None:
    windows = speech.samples[: 512 * 60].reshape(-1, 512)
    voice = vad.room()
    first = voice.probabilities(windows)
    voice.reset()
    np.testing.assert_allclose(voice.probabilities(windows), first, atol=1e-6)


def test_shared_vad_without_sound_answers_nothing(vad: SharedSileroVad) -> None:
    assert vad.probabilities([]) == []
    assert len(vad.room().probabilities(np.zeros((0, 512), np.float32))) == 0
