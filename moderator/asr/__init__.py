"""Speech: cut it out of the stream, write it down, and doubt what was written.

Importing this package registers our engines by name; the libraries behind one are imported
when it is created.
"""

from __future__ import annotations

from typing import Any

from moderator.asr.engine import ENGINES, AsrEngine, SpeechSegment, Transcript

__all__ = ["ENGINES", "AsrEngine", "SpeechSegment", "Transcript"]


def _faster_whisper(**options: Any) -> AsrEngine:
    from moderator.asr.faster_whisper_engine import FasterWhisperEngine

    return FasterWhisperEngine(**options)


def _openai_whisper(**options: Any) -> AsrEngine:
    from moderator.asr.openai_whisper_engine import OpenAIWhisperEngine

    return OpenAIWhisperEngine(**options)


def _transformers(**options: Any) -> AsrEngine:
    from moderator.asr.transformers_engine import TransformersEngine

    return TransformersEngine(**options)


def _qwen3_asr(**options: Any) -> AsrEngine:
    from moderator.asr.qwen3_asr_engine import Qwen3AsrEngine

    return Qwen3AsrEngine(**options)


def _sense_voice(**options: Any) -> AsrEngine:
    from moderator.asr.sense_voice_engine import SenseVoiceEngine

    return SenseVoiceEngine(**options)


ENGINES.register("faster-whisper", _faster_whisper)
ENGINES.register("openai-whisper", _openai_whisper)
ENGINES.register("qwen3-asr", _qwen3_asr)
ENGINES.register("sense-voice", _sense_voice)
ENGINES.register("transformers", _transformers)
