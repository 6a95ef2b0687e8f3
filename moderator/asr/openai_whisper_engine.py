"""OpenAI's own Whisper package behind the engine protocol; an extra, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moderator import devices
from moderator.asr.convert import openai_weights
from moderator.asr.embedded import EMBEDDED, ROOMS
from moderator.asr.engine import SpeechSegment, Transcript
from moderator.asr.tokens import Piece, timed_chars
from moderator.errors import ENGINE_MISSING, MODEL_LOAD, ModeratorError

_FRAMES_A_SECOND = 100


class OpenAIWhisperEngine:
    """`whisper.decode` on 30 s windows, as OpenAI runs it.

    `model` is `base` (the embedded weights, converted on first use), a checkpoint file, or a
    name that the package downloads. Raises LM-402 without openai-whisper, LM-403 or LM-404
    without the embedded weights, LM-405 when a model cannot be loaded.
    """

    def __init__(
        self, model: str = ROOMS, device: str = "auto", beam_size: int = 5, batch_size: int = 8
    ) -> None:
        try:
            import torch
            import whisper
            from whisper.timing import find_alignment
        except ImportError as error:
            raise ModeratorError(
                ENGINE_MISSING,
                name="openai-whisper",
                package="openai-whisper",
                install="live-stream-moderator[torch]",
            ) from error
        self.name = f"openai-whisper/{model}"
        self._torch: Any = torch
        self._whisper: Any = whisper
        self._find_alignment: Any = find_alignment
        self._batch_size = batch_size
        device = devices.settle(device, devices.torch_offer(), "torch")
        try:
            path = str(openai_weights(model)) if model in EMBEDDED else model
            self._model = whisper.load_model(path, device=device)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise ModeratorError(MODEL_LOAD, name=model, reason=error) from error
        if model in EMBEDDED:
            # A checkpoint file does not say which heads align.
            self._model.set_alignment_heads(whisper._ALIGNMENT_HEADS["base"])
        self._tokenizer = whisper.tokenizer.get_tokenizer(
            self._model.is_multilingual,
            num_languages=self._model.num_languages,
            language="zh",
            task="transcribe",
        )
        self._options = whisper.DecodingOptions(
            language="zh",
            task="transcribe",
            without_timestamps=True,
            beam_size=beam_size if beam_size > 1 else None,
            fp16=device != "cpu",
        )

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """One Transcript a segment, in the order given. Segments are at most 30 s long."""
        transcripts: list[Transcript] = []
        for begin in range(0, len(segments), self._batch_size):
            transcripts.extend(self._batch(segments[begin : begin + self._batch_size]))
        return transcripts

    def _batch(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        whisper, torch = self._whisper, self._torch
        mel = torch.stack(
            [
                whisper.log_mel_spectrogram(
                    whisper.pad_or_trim(np.ascontiguousarray(segment.samples)),
                    n_mels=self._model.dims.n_mels,
                )
                for segment in segments
            ]
        ).to(self._model.device, torch.float16 if self._options.fp16 else torch.float32)
        with torch.inference_mode():
            heard = self._model.embed_audio(mel)
            _, languages = self._model.detect_language(heard)
            results = self._decode(heard)
        return [
            self._transcript(*row) for row in zip(segments, mel, results, languages, strict=True)
        ]

    def _decode(self, heard: Any) -> list[Any]:
        if self._options.beam_size is None:
            results: list[Any] = self._model.decode(heard, self._options)
            return results
        # Its beam search repeats the tokens of a batch but not the sound, so it takes one.
        return [self._model.decode(row[None], self._options)[0] for row in heard]

    def _transcript(
        self, segment: SpeechSegment, mel: Any, result: Any, languages: dict[str, float]
    ) -> Transcript:
        tokens = [token for token in result.tokens if token < self._tokenizer.eot]
        frames = max(2, round(segment.duration_s * _FRAMES_A_SECOND))
        timings = self._find_alignment(self._model, self._tokenizer, tokens, mel, frames)
        decode = self._tokenizer.encoding.decode_single_token_bytes
        pieces = [
            Piece(
                b"".join(decode(token) for token in timing.tokens),
                segment.start + min(float(timing.start), segment.duration_s),
                segment.start + min(float(timing.end), segment.duration_s),
                float(timing.probability),
            )
            for timing in timings
        ]
        chars = timed_chars(pieces)
        return Transcript(
            text="".join(char.text for char in chars),
            chars=chars,
            mean_logprob=float(result.avg_logprob),
            no_speech_prob=float(result.no_speech_prob),
            chinese_prob=languages.get("zh", 0.0) + languages.get("yue", 0.0),
        )
