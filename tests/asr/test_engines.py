"""Engines are found by name, and their libraries are not touched before they are needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from moderator.asr import ENGINES
from moderator.asr.faster_whisper_engine import FasterWhisperOptions
from moderator.errors import ModeratorError


def test_engines_are_registered() -> None:
    assert {"faster-whisper", "openai-whisper", "transformers"} <= set(ENGINES.names())


def test_engines_unknown_name_lists_the_known() -> None:
    with pytest.raises(ModeratorError, match=r"LM-401.*faster-whisper"):
        ENGINES.create("paraformer")


def test_engines_import_no_heavy_library() -> None:
    code = (
        "import sys, moderator.asr, moderator.asr.segmenter, moderator.asr.guards;"
        "import moderator.asr.faster_whisper_engine;"
        "heavy = {'ctranslate2', 'faster_whisper', 'torch', 'transformers', 'whisper',"
        " 'onnxruntime', 'tokenizers', 'opencc'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("engine", "library", "extra"),
    [
        ("faster-whisper", "ctranslate2", "embedded"),
        ("openai-whisper", "whisper", "torch"),
        ("transformers", "transformers", "torch"),
        ("qwen3-asr", "transformers", "torch"),
        ("sense-voice", "sherpa_onnx", "sherpa"),
    ],
)
def test_engines_name_the_extra_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, engine: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModeratorError, match=rf"LM-402(.|\n)*\[{extra}\]"):
        ENGINES.create(engine)


@pytest.mark.parametrize("options", [{"beam_size": 0}, {"batch_size": 0}, {"tail_s": 31.0}])
def test_engines_refuse_options_that_cannot_work(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        FasterWhisperOptions(**options)
