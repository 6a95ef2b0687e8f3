"""The default engine: Whisper through CTranslate2, in batches and without wasted context."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator import devices
from moderator.asr.alignment import first_steps
from moderator.asr.batches import batches, each_batch
from moderator.asr.embedded import EMBEDDED, ROOMS, embedded_folder
from moderator.asr.engine import SAMPLE_RATE_HZ, Samples, SpeechSegment, Transcript
from moderator.asr.guards import ran_away
from moderator.asr.prune import PRUNED, pruned_folder
from moderator.asr.tokens import Piece, WhisperTokens, timed_chars
from moderator.errors import ENGINE_MISSING, MODEL_LOAD, ModeratorError

MAX_SEGMENT_S = 29.0
"""Whisper's encoder has positions for 30 s."""

MANDARIN = "以下是普通话的句子。"
"""Told that Mandarin sentences follow, Whisper base wrote 30.9 % instead of 32.1 % of the letters
of 194 voiced dev sentences wrong, over music and noise 32.7 instead of 33.7 %, and 14.9 instead of
15.1 % of three minutes of recorded speech. Of music, noise and silence the guards still let nothing
by (2026-11-27)."""

CACHED_KERNELS = 16
"""oneDNN, which convolves for CTranslate2 on a CPU, keeps up to 1024 kernels, one for each number
of segments and length of context: 0.35 MiB each (measured), 360 MiB after some hours of live
rooms. Making one anew costs less than can be measured beside the convolution."""

SMALL_WEIGHTS = 200 * 2**20
"""Bytes of weights up to which a step of the decoder is too short to be shared between threads.
With base (138 MiB), utterances of 5 s and beam 5 on two cores, a second of speech took one thread
69 ms and two threads 114 (146 of CPU); in batches of four 57 and 59 (90 of CPU), and two workers
of one thread each 31 ms (2026-11-27)."""
MOST_WORKERS = 8

_FRAMES_A_SECOND = 100
_SECONDS_A_TOKEN_STEP = 0.02
_CONTEXT_S = 30.0


@dataclass(frozen=True, slots=True)
class FasterWhisperOptions:
    """How to decode.

    `model` is `base-rooms` or `base` (embedded, see `embedded`), either with `-chinese` (the same
    with a vocabulary for Chinese, see `prune`: a step of the decoder costs two fifths less), a
    folder in CTranslate2's format, or a size that faster-whisper fetches from the hub. `tail_s` of
    silence follows the longest utterance of a batch: with less than about 2 s the decoder falls
    apart, and 30 s would cost several times as much. In less than `min_context_s` altogether it
    tends to say a short phrase twice.
    `prompt` stands before what is heard and steers style only; naming terms in it makes the model
    invent them.
    On a CPU `workers` batches are decoded at once, each on `threads` threads; 0 chooses: for a
    model as small as base a worker of one thread for each core, for a larger one a single worker of
    as many threads as CTranslate2 likes. Batches of four cost the least a second of speech there.
    """

    model: str = ROOMS
    device: str = "auto"
    compute_type: str = "auto"
    beam_size: int = 5
    batch_size: int = 4
    tail_s: float = 3.0
    min_context_s: float = 8.0
    prompt: str = MANDARIN
    threads: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.batch_size < 1:
            raise ValueError("beam_size and batch_size must be at least 1")
        if not 0 < self.tail_s <= _CONTEXT_S or not 0 <= self.min_context_s <= _CONTEXT_S:
            raise ValueError("tail_s and min_context_s must lie between 0 and 30")


class FasterWhisperEngine:
    """Whisper on CPU (int8) or CUDA (float16), see FasterWhisperOptions for the keywords.

    Raises LM-402 without faster-whisper, LM-403 or LM-404 without the embedded weights, LM-405
    when a model cannot be loaded.
    """

    def __init__(self, **options: Any) -> None:
        self.options = FasterWhisperOptions(**options)
        try:
            import ctranslate2
            from faster_whisper.feature_extractor import FeatureExtractor
        except ImportError as error:
            raise ModeratorError(
                ENGINE_MISSING,
                name="faster-whisper",
                package="faster-whisper",
                install="live-stream-moderator[embedded]",
            ) from error
        # Read by the library when it first convolves.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(CACHED_KERNELS))
        self.name = f"faster-whisper/{Path(self.options.model).name}"
        chosen = devices.settle(self.options.device, devices.ctranslate2_offer(), "ctranslate2")
        device, _, index = chosen.partition(":")
        compute_type = self.options.compute_type
        if compute_type == "auto":
            compute_type = "float16" if device == "cuda" else "int8"
        try:
            folder = _folder_of(self.options.model)
            self._tokens = WhisperTokens(folder / "tokenizer.json")
            self.at_once, threads = self._share_of_cores(device, folder / "model.bin")
            self._model = ctranslate2.models.Whisper(
                str(folder),
                device=device,
                device_index=int(index or 0),
                compute_type=compute_type,
                intra_threads=threads,
                inter_threads=self.at_once,
            )
            self._prompt = self._start_of_transcript()
        except (OSError, ValueError, RuntimeError) as error:
            raise ModeratorError(MODEL_LOAD, name=self.options.model, reason=error) from error
        self._features = FeatureExtractor(feature_size=self._model.n_mels)
        self._storage: Any = ctranslate2.StorageView
        self._cpu: Any = ctranslate2.Device.cpu
        self._align_start = self._prompt[-4:-1]

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """One Transcript a segment, in the order given. Segments are at most 29 s long."""

        def hear(chosen: list[int]) -> list[Transcript]:
            return self.encode([segments[index] for index in chosen]).transcribe()

        found: dict[int, Transcript] = {}
        groups = list(batches(self, segments, self.options.batch_size, self.at_once))
        for chosen, heard in each_batch(groups, hear, self.at_once):
            found.update(zip(chosen, heard, strict=True))
        return [self._settled(segments[i], found[i]) for i in range(len(segments))]

    def draft(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """As `transcribe`, greedily: text for a display, at about two thirds of the cost."""
        return self.encode(segments).transcribe(beam_size=1)

    def set_beam(self, beam_size: int) -> None:
        """Decode with so many beams from the next batch on: fewer cost less and err more."""
        self.options = replace(self.options, beam_size=beam_size)

    def encode(
        self, segments: Sequence[SpeechSegment], tail_s: float | None = None
    ) -> EncodedBatch:
        """Run the encoder once; the result can be decoded and scored as often as wanted.

        Raises ValueError for a segment longer than 29 s.
        """
        longest_s = max(segment.duration_s for segment in segments)
        if longest_s > MAX_SEGMENT_S:
            raise ValueError(f"a segment of {longest_s:.1f} s exceeds {MAX_SEGMENT_S} s")
        wanted_s = longest_s + (tail_s or self.options.tail_s)
        context_s = min(max(wanted_s, self.options.min_context_s), _CONTEXT_S)
        features = np.stack([self._log_mel(segment.samples, context_s) for segment in segments])
        encoded = self._model.encode(self._storage.from_array(features), to_cpu=False)
        return EncodedBatch(self, tuple(segments), encoded)

    def _settled(self, segment: SpeechSegment, heard: Transcript) -> Transcript:
        """What was heard, or a second try with full context where the decoder ran away.

        Tight context now and then makes Whisper say a short utterance twice, or loop.
        """
        if not ran_away(heard, segment):
            return heard
        again = self.encode([segment], tail_s=_CONTEXT_S).transcribe()[0]
        return heard if ran_away(again, segment) else again

    def _log_mel(self, samples: Samples, context_s: float) -> NDArray[np.float32]:
        """Shape (mels, frames), with an even number of frames: the encoder halves them."""
        frames = int(context_s * _FRAMES_A_SECOND) // 2 * 2
        padded = np.zeros(frames * SAMPLE_RATE_HZ // _FRAMES_A_SECOND, np.float32)
        padded[: len(samples)] = samples[: len(padded)]
        mel = self._features(padded, padding=0)
        return np.ascontiguousarray(mel, np.float32)

    def _share_of_cores(self, device: str, weights: Path) -> tuple[int, int]:
        """How many batches at once, and the threads of each (0: as CTranslate2 likes)."""
        workers, threads = self.options.workers, self.options.threads
        if device != "cpu" or weights.stat().st_size > SMALL_WEIGHTS:
            return workers or 1, threads
        if workers == 0:
            workers = max(1, min(devices.cores() // max(threads, 1), MOST_WORKERS))
        return workers, threads or 1

    def _start_of_transcript(self) -> list[int]:
        special = self._tokens.special
        start = [
            special("<|startoftranscript|>"),
            special("<|zh|>"),
            special("<|transcribe|>"),
            special("<|notimestamps|>"),
        ]
        if not self.options.prompt:
            return start
        return [special("<|startofprev|>"), *self._tokens.encode(" " + self.options.prompt), *start]


class EncodedBatch:
    """Segments that the encoder has heard: decode them, or ask how well other words fit.

    Holds the encoder's output (float32 on CPU, 2 KiB a 20 ms frame at base size) until dropped.
    """

    def __init__(
        self, engine: FasterWhisperEngine, segments: tuple[SpeechSegment, ...], encoded: Any
    ) -> None:
        self.segments = segments
        self._engine = engine
        self._encoded = encoded

    @property
    def states(self) -> NDArray[np.float32]:
        """The encoder's output, shape (segments, frames of 20 ms, width)."""
        whole = self._encoded
        return np.asarray(whole if whole.device == "cpu" else whole.to_device(self._engine._cpu))

    def transcribe(self, beam_size: int | None = None) -> list[Transcript]:
        """One Transcript a segment, with times and confidences from the same encoder output."""
        engine = self._engine
        longest_s = max(segment.duration_s for segment in self.segments)
        results = engine._model.generate(
            self._encoded,
            [engine._prompt] * len(self.segments),
            beam_size=beam_size or engine.options.beam_size,
            max_length=len(engine._prompt) + _most_tokens(longest_s),
            return_scores=True,
            return_no_speech_prob=True,
        )
        tokens = [_text_tokens(engine, result.sequences_ids[0]) for result in results]
        aligned = self._align(tokens)
        languages = engine._model.detect_language(self._encoded)
        transcripts = []
        for index, result in enumerate(results):
            chars = timed_chars(self._pieces(index, tokens[index], aligned[index]))
            length = len(result.sequences_ids[0])
            transcripts.append(
                Transcript(
                    text="".join(char.text for char in chars),
                    chars=chars,
                    # CTranslate2 divides by the length; Whisper's own mean counts the end token.
                    mean_logprob=result.scores[0] * length / (length + 1),
                    no_speech_prob=result.no_speech_prob,
                    chinese_prob=_chinese(languages[index]),
                )
            )
        return transcripts

    def score(self, index: int, texts: Sequence[str]) -> list[float]:
        """How well each text fits segment `index`: its log-probability in nats, forced.

        Nothing is decoded and the encoder is not run again, so texts that are alike but for a
        word can be compared fairly. An empty text scores 0.
        """
        tokens = [self._engine._tokens.encode(text) for text in texts]
        wanted = [i for i, ids in enumerate(tokens) if ids]
        scores = [0.0] * len(texts)
        if wanted:
            rows = self._rows([index] * len(wanted))
            frames = [self._frames(index)] * len(wanted)
            results = self._engine._model.align(
                rows, self._engine._align_start, [tokens[i] for i in wanted], frames
            )
            for i, result in zip(wanted, results, strict=True):
                scores[i] = float(np.sum(np.log(np.maximum(result.text_token_probs, 1e-10))))
        return scores

    def _align(self, tokens: list[list[int]]) -> list[Any]:
        """Alignments by segment; None where there is no text to align."""
        spoken = [index for index, ids in enumerate(tokens) if ids]
        aligned: list[Any] = [None] * len(tokens)
        if spoken:
            rows = self._encoded if len(spoken) == len(tokens) else self._rows(spoken)
            results = self._engine._model.align(
                rows,
                self._engine._align_start,
                [tokens[index] for index in spoken],
                [self._frames(index) for index in spoken],
            )
            for index, result in zip(spoken, results, strict=True):
                aligned[index] = result
        return aligned

    def _pieces(self, index: int, tokens: list[int], aligned: Any) -> list[Piece]:
        if aligned is None:
            return []
        segment = self.segments[index]
        starts = first_steps(aligned.alignments, len(tokens) + 1)
        times = np.minimum(starts * _SECONDS_A_TOKEN_STEP, segment.duration_s) + segment.start
        return [
            Piece(self._engine._tokens.data(token), float(begin), float(end), float(probability))
            for token, begin, end, probability in zip(
                tokens, times[:-1], times[1:], aligned.text_token_probs, strict=True
            )
        ]

    def _rows(self, indices: list[int]) -> Any:
        return self._engine._storage.from_array(np.ascontiguousarray(self.states[indices]))

    def _frames(self, index: int) -> int:
        return max(2, round(self.segments[index].duration_s * _FRAMES_A_SECOND))


def _folder_of(model: str) -> Path:
    if model in EMBEDDED:
        return embedded_folder(model)
    if model in PRUNED:
        return pruned_folder(model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from faster_whisper import download_model

    return Path(download_model(model))


def _most_tokens(duration_s: float) -> int:
    # Fast Mandarin is 8 characters a second and a rare character takes 3 tokens; a loop would
    # run to 448.
    return min(400, 24 + round(16 * duration_s))


def _text_tokens(engine: FasterWhisperEngine, ids: Sequence[int]) -> list[int]:
    end_of_text = engine._tokens.special("<|endoftext|>")
    return [token for token in ids if token < end_of_text]


def _chinese(languages: Sequence[tuple[str, float]]) -> float:
    return sum(p for token, p in languages if token in ("<|zh|>", "<|yue|>"))
