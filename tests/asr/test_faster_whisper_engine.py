"""The default engine on a room's sound, and on sounds where nothing is said."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from moderator.asr.engine import SpeechSegment
from moderator.asr.faster_whisper_engine import FasterWhisperEngine
from moderator.asr.guards import guard
from moderator.asr.segmenter import segment_all
from moderator.errors import ModeratorError
from tests.asr.conftest import Speech
from tests.asr.sounds import NOT_SPEECH, music, over, pink_noise, white_noise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("embedded_weights")]


@pytest.fixture(scope="module")
def engine() -> FasterWhisperEngine:
    return FasterWhisperEngine(threads=2)


@pytest.fixture(scope="module")
def segments(speech: Speech) -> list[SpeechSegment]:
    return list(segment_all([(0.0, speech.samples)]))


def test_faster_whisper_writes_what_is_said(
    engine: FasterWhisperEngine, speech: Speech, segments: list[SpeechSegment]
) -> None:
    heard = _letters("".join(t.text for t in engine.transcribe(segments)))
    wanted = _letters("".join(line.text for line in speech.lines))
    assert Levenshtein.distance(heard[: len(wanted)], wanted) / len(wanted) < 0.4


def test_faster_whisper_times_lie_in_order_inside_the_segment(
    engine: FasterWhisperEngine, segments: list[SpeechSegment]
) -> None:
    for segment, transcript in zip(segments, engine.transcribe(segments), strict=True):
        assert "".join(char.text for char in transcript.chars) == transcript.text
        times = [time for char in transcript.chars for time in (char.start, char.end)]
        assert times == sorted(times)
        assert segment.start <= times[0]
        assert times[-1] <= segment.end + 1e-6
        assert all(0.0 <= char.confidence <= 1.0 for char in transcript.chars)


def test_faster_whisper_keeps_the_order_of_its_input(
    engine: FasterWhisperEngine, segments: list[SpeechSegment]
) -> None:
    chosen = segments[:3]
    forward = [transcript.text for transcript in engine.transcribe(chosen)]
    backward = [transcript.text for transcript in engine.transcribe(chosen[::-1])]
    assert forward == backward[::-1]
    assert engine.transcribe([]) == []


def test_faster_whisper_score_prefers_what_was_heard(
    engine: FasterWhisperEngine, segments: list[SpeechSegment]
) -> None:
    batch = engine.encode(segments[:2])
    first, second = (transcript.text for transcript in batch.transcribe(beam_size=1))
    right, wrong, empty = batch.score(0, [first, second, ""])
    assert right > wrong
    assert empty == 0.0
    assert batch.score(1, [second])[0] > batch.score(1, [first])[0]


@pytest.mark.parametrize("ratio_db", [15, 10])
@pytest.mark.parametrize("bed", [music, pink_noise], ids=["music", "noise"])
def test_faster_whisper_speech_over_a_bed_is_trusted(
    engine: FasterWhisperEngine, segments: list[SpeechSegment], bed: object, ratio_db: int
) -> None:
    assert callable(bed)
    mixed = [
        SpeechSegment(s.start, over(s.samples, bed(s.duration_s + 1), ratio_db))
        for s in segments[:4]
    ]
    for segment, transcript in zip(mixed, engine.transcribe(mixed), strict=True):
        assert guard(transcript, segment, engine.name).distrust == "", transcript.text


def test_faster_whisper_is_not_believed_where_nothing_is_said(engine: FasterWhisperEngine) -> None:
    # Past the segmenter on purpose: its detector finds no speech in any of these.
    sounds = [
        SpeechSegment(0.0, make(seconds)) for make in NOT_SPEECH.values() for seconds in (2.0, 6.0)
    ]
    for segment, transcript in zip(sounds, engine.transcribe(sounds), strict=True):
        assert guard(transcript, segment, engine.name).distrust != "", transcript.text


def test_faster_whisper_hears_the_shortest_segment(engine: FasterWhisperEngine) -> None:
    (transcript,) = engine.transcribe([SpeechSegment(5.0, white_noise(0.01))])
    assert all(char.start >= 5.0 for char in transcript.chars)


def test_faster_whisper_refuses_more_than_its_context(engine: FasterWhisperEngine) -> None:
    with pytest.raises(ValueError, match="exceeds"):
        engine.transcribe([SpeechSegment(0.0, np.zeros(31 * 16_000, np.float32))])


def test_faster_whisper_names_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-405"):
        FasterWhisperEngine(model=str(tmp_path))


def _letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


GROWTH = """
import ctypes, numpy as np
from moderator.asr.engine import SpeechSegment
from moderator.asr.faster_whisper_engine import FasterWhisperEngine

class MallInfo(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MallInfo
engine = FasterWhisperEngine(threads=1, min_context_s=0.0, tail_s=0.5)

def used_after(lengths):
    for hundredths in lengths:
        engine.encode([SpeechSegment(0.0, np.zeros(160 * hundredths, np.float32))])
    return libc.mallinfo2().uordblks

# From short to long first: what grows with the length itself is no matter of how many lengths there
# were, nor are the buffers that MKL (on Intel) takes once for each kind of length.
before = used_after(range(50, 210, 8))
print((used_after(range(90, 210, 2)) - before) / 2**20)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or newer")
def test_faster_whisper_keeps_no_memory_for_every_length_of_speech() -> None:
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2.0  # without a bound it is 14 MiB
