"""Three libraries, one set of weights, the same words.

Greedy and float32 on 30 s of context: with a beam or int8 the libraries differ in rounding and
in how a beam ends, and with it now and then in a character.
"""

from __future__ import annotations

import pytest

from moderator.asr import ENGINES
from moderator.asr.engine import SpeechSegment, Transcript
from moderator.asr.segmenter import segment_all
from tests.asr.conftest import Speech

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.usefixtures("embedded_weights")]


@pytest.fixture(scope="module")
def segments(speech: Speech) -> list[SpeechSegment]:
    found = list(segment_all([(0.0, speech.samples)]))
    return sorted(found, key=lambda segment: segment.duration_s)[:2]


@pytest.fixture(scope="module")
def reference(segments: list[SpeechSegment]) -> list[Transcript]:
    engine = ENGINES.create(
        "faster-whisper",
        beam_size=1,
        compute_type="float32",
        tail_s=30.0,
        prompt="",  # the others begin without one
        device="cpu",
    )
    return engine.transcribe(segments)


@pytest.mark.parametrize(
    ("name", "library"), [("openai-whisper", "whisper"), ("transformers", "transformers")]
)
@pytest.mark.filterwarnings("ignore")
def test_same_weights_give_the_same_text(
    segments: list[SpeechSegment], reference: list[Transcript], name: str, library: str
) -> None:
    pytest.importorskip(library)
    options = {"tail_s": 30.0} if name == "transformers" else {}
    engine = ENGINES.create(name, beam_size=1, device="cpu", **options)
    found = engine.transcribe(segments)
    assert [t.text for t in found] == [t.text for t in reference]
    for ours, theirs in zip(reference, found, strict=True):
        assert theirs.mean_logprob == pytest.approx(ours.mean_logprob, abs=0.03)
        assert theirs.no_speech_prob == pytest.approx(ours.no_speech_prob, abs=0.03)
        assert theirs.chinese_prob == pytest.approx(ours.chinese_prob, abs=0.03)
        for mine, other in zip(ours.chars, theirs.chars, strict=True):
            assert other.start == pytest.approx(mine.start, abs=0.1)


@pytest.mark.filterwarnings("ignore")
def test_same_weights_in_a_batch_and_one_by_one_differ_in_no_text(
    segments: list[SpeechSegment],
) -> None:
    pytest.importorskip("transformers")
    engine = ENGINES.create("transformers", beam_size=1, device="cpu")
    together = engine.transcribe(segments)
    alone = [engine.transcribe([segment])[0] for segment in segments]
    differing = [(a.text, b.text) for a, b in zip(together, alone, strict=True) if a.text != b.text]
    assert differing == []
    assert all(one.text for one in together)
