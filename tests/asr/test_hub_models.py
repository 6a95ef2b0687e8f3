"""Larger models come by name or from a folder: tiny ones of the same architectures stand in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from moderator.asr import ENGINES
from moderator.asr.engine import SpeechSegment
from moderator.asr.hub import whisper_source
from moderator.asr.transformers_engine import EncodedSpeech, TransformersEngine
from moderator.errors import ModeratorError
from tests.asr import tiny_models
from tests.asr.sounds import music, tone

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

SEGMENTS = [
    SpeechSegment(10.0, music(2.0)),
    SpeechSegment(20.0, music(6.5)[16_000:]),
    SpeechSegment(30.0, tone(1.0)),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other at every small product would cost more than they do."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine(whisper: Path) -> TransformersEngine:
    return TransformersEngine(model=str(whisper), beam_size=1, device="cpu")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    return tiny_models.tiny_whisper(tmp_path_factory.mktemp("turbo"))


def test_hub_whisper_names_are_openai_s_unless_they_say_whose() -> None:
    assert whisper_source("large-v3-turbo") == "openai/whisper-large-v3-turbo"
    assert (
        whisper_source("BELLE-2/Belle-whisper-large-v3-zh") == "BELLE-2/Belle-whisper-large-v3-zh"
    )


def test_hub_whisper_of_a_local_folder_decodes_and_times_what_it_hears(
    engine: TransformersEngine, whisper: Path
) -> None:
    found = engine.transcribe(SEGMENTS)
    assert engine.name == f"transformers/{whisper.name}"
    for segment, heard in zip(SEGMENTS, found, strict=True):
        assert heard.text == "".join(char.text for char in heard.chars)
        assert all(segment.start <= char.start <= segment.end for char in heard.chars)
        assert 0 <= heard.no_speech_prob <= 1
        assert 0 < heard.chinese_prob <= 1


def test_hub_whisper_greedy_is_the_library_s_own_greedy(
    engine: TransformersEngine, whisper: Path
) -> None:
    import torch
    from transformers import WhisperForConditionalGeneration

    batch = engine.encode(SEGMENTS, 30.0)
    assert isinstance(batch, EncodedSpeech)
    ours = engine._greedy.decode(batch._hidden, 20).tokens
    model = WhisperForConditionalGeneration.from_pretrained(whisper)
    mel = engine._mel(SEGMENTS, 30.0)
    theirs = model.generate(
        mel, attention_mask=torch.ones_like(mel[:, 0]), language="zh", task="transcribe",
        num_beams=1, max_new_tokens=20,
    ).tolist()  # fmt: skip
    end = model.config.eos_token_id
    for mine, row in zip(ours, theirs, strict=True):
        assert mine == row[: row.index(end)] if end in row else row
    assert any(ours)


def test_hub_whisper_batch_writes_what_each_segment_alone_would(engine: TransformersEngine) -> None:
    together = engine.transcribe(SEGMENTS * 2)
    alone = [engine.transcribe([segment])[0] for segment in SEGMENTS] * 2
    assert [one.text for one in together] == [one.text for one in alone]


def test_hub_whisper_scores_words_on_what_it_heard(engine: TransformersEngine) -> None:
    batch = engine.encode(SEGMENTS[:1])
    first, second, empty = batch.score(0, ["国家级", "国", ""])
    assert first < second < 0.0 == empty
    # Beside others a text scores what it scores by itself.
    assert batch.score(0, ["国"])[0] == pytest.approx(second, abs=1e-3)


def test_hub_whisper_with_beams_goes_through_the_library(whisper: Path) -> None:
    engine = ENGINES.create("transformers", model=str(whisper), beam_size=2, device="cpu")
    assert len(engine.transcribe(SEGMENTS)) == len(SEGMENTS)


def test_hub_a_folder_without_a_whisper_is_told(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ModeratorError, match=r"LM-405"):
        ENGINES.create("transformers", model=str(tmp_path), device="cpu")


def test_hub_qwen3_asr_of_a_local_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, "Qwen3ASRForConditionalGeneration"):
        pytest.skip("this transformers has no Qwen3-ASR")
    folder = tiny_models.tiny_qwen3_asr(tmp_path / "qwen")
    engine = ENGINES.create("qwen3-asr", model=str(folder), device="cpu")
    found = engine.transcribe(SEGMENTS)
    assert len(found) == len(SEGMENTS)
    for segment, heard in zip(SEGMENTS, found, strict=True):
        assert all(segment.start <= char.start <= segment.end + 1e-6 for char in heard.chars)
        assert heard.mean_logprob <= 0


def test_hub_sense_voice_of_a_local_folder(tmp_path: Path) -> None:
    pytest.importorskip("sherpa_onnx")
    pytest.importorskip("onnx")
    folder = tiny_models.tiny_sense_voice(tmp_path / "sense")
    engine = ENGINES.create("sense-voice", model=str(folder), device="cpu")
    found = engine.transcribe(SEGMENTS)
    again = [engine.transcribe([segment])[0] for segment in SEGMENTS]
    assert [one.text for one in found] == [one.text for one in again]
    assert any(one.text for one in found)
    for segment, heard in zip(SEGMENTS, found, strict=True):
        assert all(segment.start <= char.start <= segment.end for char in heard.chars)


def test_hub_sense_voice_names_the_file_that_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("sherpa_onnx")
    with pytest.raises(ModeratorError, match=r"LM-410.*model\.int8\.onnx"):
        ENGINES.create("sense-voice", model=str(tmp_path), device="cpu")


def test_hub_sound_longer_than_the_encoder_is_refused(engine: TransformersEngine) -> None:
    with pytest.raises(ValueError, match="exceeds"):
        engine.transcribe([SpeechSegment(0.0, np.zeros(31 * 16_000, np.float32))])
