"""Qwen3-ASR through transformers behind the engine protocol; an extra, for GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moderator import devices
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment, Transcript
from moderator.asr.hub import TORCH_EXTRA, loading, local_folder
from moderator.asr.tokens import Piece, timed_chars
from moderator.errors import ENGINE_MISSING, ModeratorError

HUB_IDS = {
    "qwen3-asr": "Qwen/Qwen3-ASR-1.7B-hf",
    "qwen3-asr-1.7b": "Qwen/Qwen3-ASR-1.7B-hf",
    "qwen3-asr-0.6b": "Qwen/Qwen3-ASR-0.6B-hf",
}


class Qwen3AsrEngine:
    """`Qwen3ASRForConditionalGeneration` in batches, greedy or with beams.

    `model` is a local folder, a hub id, or `qwen3-asr-0.6b` or `-1.7b`. The model gives no times:
    characters share the segment's evenly, so a quote's place is right to the segment. Raises LM-402
    without transformers, or one that knows the model; LM-405 when it cannot be loaded; LM-408 for
    what is no device.
    """

    def __init__(
        self,
        model: str = "qwen3-asr",
        device: str = "auto",
        beam_size: int = 1,
        batch_size: int = 8,
        dtype: str = "auto",
    ) -> None:
        try:
            import torch
            from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ModeratorError(
                ENGINE_MISSING, name="qwen3-asr", package="transformers>=5.20", install=TORCH_EXTRA
            ) from error
        disable_progress_bar()
        self._torch: Any = torch
        self.device = devices.settle(device, devices.torch_offer(), "torch")
        if dtype == "auto":
            dtype = "float32" if self.device == "cpu" else "bfloat16"
        self.name = f"qwen3-asr/{Path(model).name}"
        self._batch_size, self._beam_size = batch_size, beam_size
        folder = local_folder(model)
        source = str(folder) if folder else HUB_IDS.get(model.lower(), model)
        with loading(model):
            self._processor: Any = AutoProcessor.from_pretrained(source)
            self._model: Any = Qwen3ASRForConditionalGeneration.from_pretrained(
                source, dtype=getattr(torch, dtype), attn_implementation="sdpa"
            ).to(self.device)
        self._model.eval()

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """One Transcript a segment, in the order given."""
        order = sorted(range(len(segments)), key=lambda index: len(segments[index].samples))
        found: dict[int, Transcript] = {}
        for begin in range(0, len(order), self._batch_size):
            chosen = order[begin : begin + self._batch_size]
            heard = self._batch([segments[index] for index in chosen])
            found.update(zip(chosen, heard, strict=True))
        return [found[index] for index in range(len(segments))]

    def set_beam(self, beam_size: int) -> None:
        """Decode with so many beams from the next batch on."""
        self._beam_size = beam_size

    def _batch(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        inputs = self._processor.apply_transcription_request(
            [segment.samples for segment in segments],
            language="Chinese",
            audio_kwargs={"sampling_rate": SAMPLE_RATE_HZ},
            return_tensors="pt",
        ).to(self.device, self._model.dtype)
        longest_s = max(segment.duration_s for segment in segments)
        with self._torch.inference_mode():
            out = self._model.generate(
                **inputs,
                max_new_tokens=24 + round(16 * longest_s),
                num_beams=self._beam_size,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        asked = inputs["input_ids"].shape[1]
        rows = out.sequences[:, asked:]
        texts = self._processor.decode(rows, return_format="transcription_only")
        scores = self._model.compute_transition_scores(
            out.sequences, out.logits, getattr(out, "beam_indices", None), normalize_logits=True
        )
        return [
            _transcript(segment, text, _mean(score))
            for segment, text, score in zip(segments, texts, scores, strict=True)
        ]


def _mean(scores: Any) -> float:
    """Of the tokens that count: what pads a shorter row has the score 0 or none at all."""
    real = scores[(scores < 0) & scores.isfinite()]
    return float(real.float().mean()) if len(real) else 0.0


def _transcript(segment: SpeechSegment, text: str, mean_logprob: float) -> Transcript:
    piece = Piece(
        text.strip().encode("utf-8"), segment.start, segment.end, float(np.exp(mean_logprob))
    )
    # One piece shares its time among its characters; each is as sure as a token is on average.
    chars = timed_chars([piece]) if piece.data else ()
    return Transcript("".join(char.text for char in chars), chars, mean_logprob)
