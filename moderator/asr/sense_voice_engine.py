"""SenseVoice through sherpa-onnx behind the engine protocol; an extra, strong on Mandarin."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from moderator import devices
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment, Transcript
from moderator.asr.hub import loading, local_folder
from moderator.asr.tokens import Piece, timed_chars
from moderator.errors import ENGINE_MISSING, MODEL_FORMAT, ModeratorError

INSTALL = "live-stream-moderator[sherpa]"
HUB_ID = "csukuangfj/sherpa-onnx-sense-voice-zh-en-ja-ko-yue-2024-07-17"
"""Where k2-fsa keeps the exported model that the bare name `sense-voice` means."""
_WEIGHTS = ("model.int8.onnx", "model.onnx")


class SenseVoiceEngine:
    """`OfflineRecognizer` of a SenseVoice folder (`model.int8.onnx` or `model.onnx`, `tokens.txt`).

    `model` is such a folder, a hub id, or `sense-voice`; on a GPU `model.onnx` is preferred. It is
    a CTC model: it has no beams (`beam_size` changes nothing), times are those of its spikes, and
    its confidences are the probabilities of the spikes. Raises LM-402 without sherpa-onnx, LM-405
    when a model cannot be loaded, LM-408 for what is no device, LM-410 for a folder that lacks a
    file.
    """

    def __init__(
        self,
        model: str = "sense-voice",
        device: str = "auto",
        beam_size: int = 1,
        batch_size: int = 8,
        threads: int = 1,
    ) -> None:
        try:
            import sherpa_onnx
        except ImportError as error:
            raise ModeratorError(
                ENGINE_MISSING, name="sense-voice", package="sherpa-onnx", install=INSTALL
            ) from error
        self.device = devices.settle(device, devices.sherpa_offer(), "sherpa-onnx")
        self.name = f"sense-voice/{Path(model).name}"
        self._batch_size = batch_size
        folder = _folder(model)
        weights = _required(folder, _WEIGHTS if self.device == "cpu" else _WEIGHTS[::-1])
        tokens = _required(folder, ("tokens.txt",))
        with loading(model):
            self._recognizer: Any = sherpa_onnx.OfflineRecognizer.from_sense_voice(
                model=str(weights),
                tokens=str(tokens),
                num_threads=threads,
                provider="cpu" if self.device == "cpu" else "cuda",
                language="zh",
                use_itn=False,
            )

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """One Transcript a segment, in the order given."""
        order = sorted(range(len(segments)), key=lambda index: len(segments[index].samples))
        found: dict[int, Transcript] = {}
        for begin in range(0, len(order), self._batch_size):
            chosen = order[begin : begin + self._batch_size]
            streams = []
            for index in chosen:
                stream = self._recognizer.create_stream()
                stream.accept_waveform(SAMPLE_RATE_HZ, segments[index].samples)
                streams.append(stream)
            self._recognizer.decode_streams(streams)
            for index, stream in zip(chosen, streams, strict=True):
                found[index] = _transcript(segments[index], stream.result)
        return [found[index] for index in range(len(segments))]


def _transcript(segment: SpeechSegment, result: Any) -> Transcript:
    starts = [min(float(at), segment.duration_s) for at in result.timestamps]
    ends = [*starts[1:], segment.duration_s]
    logprobs = [float(value) for value in result.ys_log_probs] or [0.0] * len(starts)
    chars = timed_chars(
        [
            Piece(
                token.replace("▁", " ").encode("utf-8"),
                segment.start + begin,
                segment.start + end,
                float(np.exp(logprob)),
            )
            for token, begin, end, logprob in zip(
                result.tokens, starts, ends, logprobs, strict=False
            )
        ]
    )
    return Transcript(
        text="".join(char.text for char in chars),
        chars=chars,
        mean_logprob=float(np.mean(logprobs)) if logprobs else 0.0,
    )


def _folder(model: str) -> Path:
    folder = local_folder(model)
    if folder is not None:
        return folder
    if not find_spec("huggingface_hub"):
        raise ModeratorError(
            ENGINE_MISSING, name="sense-voice", package="huggingface-hub", install=INSTALL
        )
    from huggingface_hub import snapshot_download

    with loading(model):
        wanted = HUB_ID if model == "sense-voice" else model
        return Path(snapshot_download(wanted, allow_patterns=["*.onnx", "tokens.txt"]))


def _required(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModeratorError(MODEL_FORMAT, path=folder, missing=" / ".join(names))
