"""An engine in a process of its own: the same answers, and a death that is survived."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from moderator.asr.batches import batches
from moderator.asr.engine import SpeechSegment, Transcript, context_of
from moderator.asr.engine_process import EngineProcess, ScoringEngineProcess, engine_process
from moderator.asr.second_listen import Scores
from moderator.errors import ENGINE_MISSING, ModeratorError


@dataclass
class Counting:
    """Writes how long a segment is; dies of 13 s, fails at 14 s."""

    beam_size: int = 5
    name: str = "counting"
    fixed_contexts: bool = True

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        for segment in segments:
            if segment.duration_s == 13:
                os._exit(7)
            if segment.duration_s == 14:
                raise LookupError("fourteen")
        return [Transcript(f"{one.duration_s:g} s, {self.beam_size}", ()) for one in segments]

    def set_beam(self, beam_size: int) -> None:
        self.beam_size = beam_size

    def context_s(self, length_s: float) -> float:
        return 8.0 if length_s <= 5 else 30.0

    def encode(self, segments: Sequence[SpeechSegment]) -> Heard:
        return Heard(self, segments)


@dataclass
class Heard:
    engine: Counting
    segments: Sequence[SpeechSegment]

    def transcribe(self) -> list[Transcript]:
        return self.engine.transcribe(self.segments)

    def score(self, index: int, texts: Sequence[str]) -> list[float]:
        return [-self.segments[index].duration_s * len(text) for text in texts]


def missing() -> Counting:
    raise ModeratorError(ENGINE_MISSING, name="x", package="y", install="z")


def seconds(*lengths: float) -> list[SpeechSegment]:
    return [SpeechSegment(0.0, np.zeros(round(16_000 * s), np.float32)) for s in lengths]


@pytest.fixture(scope="module")
def process() -> Iterator[EngineProcess]:
    engine = engine_process("counting", {"beam_size": 2}, device="cuda:0", factory=Counting)
    yield engine
    engine.close()


def test_engine_process_answers_as_the_engine_does(process: EngineProcess) -> None:
    assert process.name == "counting"
    assert [one.text for one in process.transcribe(seconds(1, 2))] == ["1 s, 2", "2 s, 2"]
    process.set_beam(1)
    assert process.draft(seconds(3))[0].text == "3 s, 1"


def test_engine_process_scores_what_the_child_has_heard(process: EngineProcess) -> None:
    assert isinstance(process, ScoringEngineProcess)
    assert isinstance(process, Scores)
    heard = process.encode(seconds(2, 4))
    assert len(heard.transcribe()) == 2
    assert heard.score(1, ["一", "二三"]) == [-4.0, -8.0]


def test_engine_process_keeps_contexts_apart(process: EngineProcess) -> None:
    context_s = context_of(process)
    assert context_s is not None
    assert [context_s(2.0), context_s(5.01), context_s(99.0)] == [8.0, 30.0, 30.0]
    assert list(batches(process, seconds(9, 1, 2, 8), 4)) == [[1, 2], [3, 0]]


def test_engine_process_survives_a_batch_that_fails_and_a_child_that_dies(
    process: EngineProcess,
) -> None:
    with pytest.raises(RuntimeError, match="fourteen"):
        process.transcribe(seconds(14))
    process.set_beam(3)
    heard = process.encode(seconds(1))  # type: ignore[attr-defined]
    with pytest.raises(ModeratorError, match=r"LM-409.*cuda:0"):
        process.transcribe(seconds(13))
    # The next batch finds a fresh child, with the beam that was set.
    assert process.transcribe(seconds(1))[0].text == "1 s, 3"
    with pytest.raises(RuntimeError, match="has ended"):
        heard.score(0, ["一"])


def test_engine_process_tells_what_the_engine_would_not_start_for() -> None:
    with pytest.raises(ModeratorError, match=r"LM-402"):
        EngineProcess("missing", {}, factory=missing)
