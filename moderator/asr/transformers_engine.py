"""Whisper through transformers behind the engine protocol; an extra, for GPUs and the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator.asr.alignment import token_steps
from moderator.asr.convert import transformers_folder
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment, Transcript
from moderator.asr.tokens import Piece, WhisperTokens, timed_chars
from moderator.errors import ENGINE_MISSING, MODEL_LOAD, ModeratorError

_SECONDS_A_STEP = 0.02


class TransformersEngine:
    """`WhisperForConditionalGeneration` on 30 s windows, in batches, CUDA where present.

    `model` is `base` (the embedded weights, converted on first use), a local folder, or a
    Whisper on the hub such as `openai/whisper-large-v3-turbo`. Raises LM-402 without
    transformers, LM-403 or LM-404 without the embedded weights, LM-405 when a model cannot be
    loaded.
    """

    def __init__(
        self, model: str = "base", device: str = "auto", beam_size: int = 5, batch_size: int = 8
    ) -> None:
        try:
            import torch
            from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ModeratorError(
                ENGINE_MISSING,
                name="transformers",
                package="transformers",
                install="live-stream-moderator[torch]",
            ) from error
        disable_progress_bar()
        self.name = f"transformers/{Path(model).name}"
        self._torch: Any = torch
        self._beam_size = beam_size
        self._batch_size = batch_size
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._dtype = torch.float16 if device != "cpu" else torch.float32
        try:
            source = transformers_folder() if model == "base" else model
            # Token times are read off the attention, which the fused kernels do not give.
            self._model = WhisperForConditionalGeneration.from_pretrained(
                source, dtype=self._dtype, attn_implementation="eager"
            ).to(device)
            self._features = WhisperFeatureExtractor.from_pretrained(source)
            self._tokens = WhisperTokens(_tokenizer_file(source))
            special = self._tokens.special
            self._start = [special("<|startoftranscript|>"), special("<|zh|>")]
            self._start += [special("<|transcribe|>"), special("<|notimestamps|>")]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise ModeratorError(MODEL_LOAD, name=model, reason=error) from error
        self._model.eval()
        self._end = special("<|endoftext|>")
        # The last token before the time marks: `<|nocaptions|>`, later named `<|nospeech|>`.
        self._no_speech = special("<|notimestamps|>") - 1
        languages = self._model.generation_config.lang_to_id
        self._languages = list(languages.values())
        self._chinese = [languages[name] for name in ("<|zh|>", "<|yue|>") if name in languages]

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """One Transcript a segment, in the order given. Segments are at most 30 s long."""
        transcripts: list[Transcript] = []
        for begin in range(0, len(segments), self._batch_size):
            transcripts.extend(self._batch(segments[begin : begin + self._batch_size]))
        return transcripts

    def _batch(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        torch = self._torch
        features = self._features(
            [segment.samples for segment in segments],
            sampling_rate=SAMPLE_RATE_HZ,
            return_tensors="pt",
            return_attention_mask=True,
        )
        sound = features.input_features.to(self._model.device, self._dtype)
        with torch.inference_mode():
            encoded = self._model.get_encoder()(sound)
            # generate() repeats the rows of `encoded` for its beams, in place.
            hidden = encoded.last_hidden_state
            sequences = self._model.generate(
                sound,
                encoder_outputs=encoded,
                attention_mask=features.attention_mask.to(self._model.device),
                language="zh",
                task="transcribe",
                num_beams=self._beam_size,
                do_sample=False,
                return_timestamps=False,
            )
        return [self._transcript(*row) for row in zip(segments, sequences, hidden, strict=True)]

    def _transcript(self, segment: SpeechSegment, sequence: Any, hidden: Any) -> Transcript:
        tokens = [int(token) for token in sequence if token < self._end]
        first, probabilities, steps = self._forced(segment, hidden, tokens)
        times = segment.start + np.minimum(steps * _SECONDS_A_STEP, segment.duration_s)
        chars = timed_chars(
            [
                Piece(self._tokens.data(token), float(begin), float(end), probability)
                for token, begin, end, probability in zip(
                    tokens, times[:-1], times[1:], probabilities[:-1], strict=True
                )
            ]
        )
        languages = first[self._languages].softmax(-1)
        chinese = [self._languages.index(token) for token in self._chinese]
        logprobs = np.log(np.maximum(probabilities, 1e-10))
        return Transcript(
            text="".join(char.text for char in chars),
            chars=chars,
            mean_logprob=float(logprobs.mean()),
            no_speech_prob=float(first.softmax(-1)[self._no_speech]),
            chinese_prob=float(languages[chinese].sum()),
        )

    def _forced(
        self, segment: SpeechSegment, hidden: Any, tokens: list[int]
    ) -> tuple[Any, list[float], NDArray[np.float64]]:
        """The decoder once over `tokens`: logits after the first of the start tokens, shape
        (vocabulary,); the probability of each token and of the end after them; and the encoder
        step at which each of these begins."""
        torch = self._torch
        ids = torch.tensor([[*self._start, *tokens]], device=self._model.device)
        with torch.inference_mode():
            out = self._model(
                encoder_outputs=(hidden[None],), decoder_input_ids=ids, output_attentions=True
            )
        logits = out.logits[0].float()
        wanted = torch.tensor([*tokens, self._end], device=logits.device)
        predicting = len(self._start) - 1
        after = logits[predicting:].softmax(-1)
        probabilities = after.gather(1, wanted[:, None])[:, 0].tolist()
        heads = self._model.generation_config.alignment_heads
        attention = torch.stack([out.cross_attentions[layer][0, head] for layer, head in heads])
        steps = max(1, round(segment.duration_s / _SECONDS_A_STEP))
        followed = attention[:, predicting:, :steps].float().cpu().numpy()
        return logits[0], probabilities, token_steps(followed)


def _tokenizer_file(source: str | Path) -> Path:
    if Path(source).is_dir():
        return Path(source) / "tokenizer.json"
    from transformers.utils import cached_file

    return Path(cached_file(str(source), "tokenizer.json"))
