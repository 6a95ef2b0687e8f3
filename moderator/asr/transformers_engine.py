"""Whisper through transformers in batches: the engine for GPUs and for models of the hub.

A batch costs what its longest segment does for every row, and with another context Whisper may
write another text. So a segment's context depends on its own length alone, in a few sizes
(`CONTEXTS_S`), and segments of one size are decoded together: a batch writes what each segment
alone would, and the shapes repeat, which CUDA graphs need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from moderator import devices
from moderator.asr.alignment import first_steps_of_batch, path_cost
from moderator.asr.batches import batches
from moderator.asr.embedded import ROOMS
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment, Transcript
from moderator.asr.guards import ran_away
from moderator.asr.hub import TORCH_EXTRA, loading, whisper_source
from moderator.asr.static_greedy import ROWS, StaticGreedyDecoder, rows_for
from moderator.asr.tokens import Piece, WhisperTokens, timed_chars
from moderator.errors import ENGINE_MISSING, MODEL_FORMAT, ModeratorError

log = structlog.get_logger()

CONTEXTS_S = (8.0, 10.0, 12.0, 15.0, 20.0, 30.0)
"""How much sound the encoder hears: the first of these that holds a segment and its tail. Below 8 s
Whisper tends to say a short phrase twice; its encoder has positions for 30 s."""
MAX_SEGMENT_S = 30.0

_FRAMES_A_SECOND = 100
_SECONDS_A_STEP = 0.02
_LOGIT_ROWS = 1024
"""Rows of the vocabulary's size that are in memory at a time: 200 MB in float32."""


@dataclass(frozen=True, slots=True)
class TransformersOptions:
    """How to decode.

    `model` is `base-rooms` or `base` (the embedded weights, converted on first use), a local
    folder, a size such as `large-v3-turbo`, or any Whisper on the hub. `device` as
    `moderator.devices` has it; `dtype` is `auto` (float16 on CUDA, else float32), `float16`,
    `bfloat16` or `float32`. `tail_s` of silence follow a segment at least. `graphs` captures
    decoder steps on CUDA. One beam goes through StaticGreedyDecoder, several through transformers'
    own `generate`, which is several times
    slower.
    """

    model: str = ROOMS
    device: str = "auto"
    dtype: str = "auto"
    beam_size: int = 5
    batch_size: int = 8
    tail_s: float = 3.0
    graphs: bool = True

    def __post_init__(self) -> None:
        if self.beam_size < 1 or not 1 <= self.batch_size <= ROWS[-1]:
            raise ValueError(f"beam_size must be at least 1 and batch_size within 1 and {ROWS[-1]}")
        if not 0 < self.tail_s <= CONTEXTS_S[-1]:
            raise ValueError("tail_s must lie between 0 and 30")
        if self.dtype not in ("auto", "float16", "bfloat16", "float32"):
            raise ValueError("dtype must be auto, float16, bfloat16 or float32")


class TransformersEngine:
    """`WhisperForConditionalGeneration` with SDPA, see TransformersOptions for the keywords.

    Raises LM-402 without transformers, LM-403 or LM-404 without the embedded weights, LM-405 when
    a model cannot be loaded, LM-408 for what is no device, LM-410 for a model that is no Whisper.
    """

    fixed_contexts = True

    def __init__(self, **options: Any) -> None:
        self.options = TransformersOptions(**options)
        try:
            import torch
            from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ModeratorError(
                ENGINE_MISSING, name="transformers", package="transformers", install=TORCH_EXTRA
            ) from error
        disable_progress_bar()
        model = self.options.model
        self._torch: Any = torch
        self.device = devices.settle(self.options.device, devices.torch_offer(), "torch")
        self.dtype = self._dtype_here()
        self.name = f"transformers/{Path(model).name}"
        with loading(model):
            source = whisper_source(model)
            self._model = WhisperForConditionalGeneration.from_pretrained(
                source, dtype=getattr(torch, self.dtype), attn_implementation="sdpa"
            ).to(self.device)
            features = WhisperFeatureExtractor.from_pretrained(source)
            self._tokens = WhisperTokens(_tokenizer_file(source))
        self._model.eval()
        self._mel = _LogMel(torch, features, self.device)
        self._read_vocabulary(model)
        settings = self._model.generation_config
        self._greedy = StaticGreedyDecoder(
            self._model,
            self._start,
            self._end,
            getattr(settings, "suppress_tokens", None) or (),
            getattr(settings, "begin_suppress_tokens", None) or (),
            capture=self.options.graphs and self.device != "cpu",
            on_failure=lambda error: log.warning("speech.no_graphs", reason=str(error)),
        )

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """One Transcript a segment, in the order given. Raises ValueError beyond 30 s."""
        found: dict[int, Transcript] = {}
        for chosen in batches(self, segments, self.options.batch_size):
            batch = self.encode([segments[index] for index in chosen])
            found.update(zip(chosen, batch.transcribe(), strict=True))
        return self._settled(segments, found)

    def draft(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        """As `transcribe`, greedily and without a second try: text for a display."""
        return self.encode(segments).transcribe(beam_size=1)

    def set_beam(self, beam_size: int) -> None:
        """Decode with so many beams from the next batch on: fewer cost less and err more."""
        self.options = replace(self.options, beam_size=beam_size)

    def context_s(self, length_s: float) -> float:
        """Which of CONTEXTS_S holds a segment of this length and its tail."""
        wanted_s = length_s + self.options.tail_s
        return next((one for one in CONTEXTS_S if wanted_s <= one), CONTEXTS_S[-1])

    def encode(
        self, segments: Sequence[SpeechSegment], context_s: float | None = None
    ) -> EncodedSpeech:
        """Run the encoder once; the result can be decoded and scored as often as wanted.

        All are heard in one context, by default the longest one's. Raises ValueError for a segment
        of more than 30 s.
        """
        longest_s = max(segment.duration_s for segment in segments)
        if longest_s > MAX_SEGMENT_S:
            raise ValueError(f"a segment of {longest_s:.1f} s exceeds {MAX_SEGMENT_S} s")
        context_s = context_s or self.context_s(longest_s)
        with self._torch.inference_mode():
            hidden = self._encoder(self._mel(segments, context_s).to(self._model.dtype))
        return EncodedSpeech(self, tuple(segments), hidden, context_s)

    def _settled(
        self, segments: Sequence[SpeechSegment], found: dict[int, Transcript]
    ) -> list[Transcript]:
        """What was heard, or a second try with full context where the decoder ran away."""
        doubtful = [i for i in found if ran_away(found[i], segments[i])]
        if doubtful:
            again = self.encode([segments[i] for i in doubtful], CONTEXTS_S[-1]).transcribe()
            for index, heard in zip(doubtful, again, strict=True):
                if not ran_away(heard, segments[index]):
                    found[index] = heard
        return [found[index] for index in range(len(segments))]

    def _encoder(self, mel: Any) -> Any:
        """Encoder output, shape (rows, frames / 2, width), of a log-mel of any even length.

        transformers' own forward takes 30 s only; the layers are the same.
        """
        encoder, gelu = self._model.model.encoder, self._torch.nn.functional.gelu
        x = gelu(encoder.conv2(gelu(encoder.conv1(mel)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            x = layer(x, None)
        return encoder.layer_norm(x)

    def _dtype_here(self) -> str:
        if self.device == "cpu":
            # float16 has no fast kernels there.
            return "float32" if self.options.dtype in ("auto", "float16") else self.options.dtype
        return "float16" if self.options.dtype == "auto" else self.options.dtype

    def _read_vocabulary(self, model: str) -> None:
        special, settings = self._tokens.special, self._model.generation_config
        try:
            self._start = [special("<|startoftranscript|>"), special("<|zh|>")]
            self._start += [special("<|transcribe|>"), special("<|notimestamps|>")]
            self._end = special("<|endoftext|>")
        except ValueError as error:
            raise ModeratorError(MODEL_FORMAT, path=model, missing=error) from error
        # The last token before the time marks: `<|nocaptions|>`, later named `<|nospeech|>`.
        self._no_speech = self._start[-1] - 1
        named = getattr(settings, "lang_to_id", None) or {"<|zh|>": self._start[1]}
        self._languages = list(named.values())
        self._chinese = [
            self._languages.index(named[name]) for name in ("<|zh|>", "<|yue|>") if name in named
        ]
        config = self._model.config
        heads = getattr(settings, "alignment_heads", None) or [
            # Without a list, the heads of the upper half follow the sound best.
            (layer, head)
            for layer in range(config.decoder_layers // 2, config.decoder_layers)
            for head in range(config.decoder_attention_heads)
        ]
        self._heads: list[tuple[int, int]] = [(layer, head) for layer, head in heads]

    def _decoded(
        self, hidden: Any, context_s: float, beam_size: int
    ) -> tuple[list[list[int]], Any]:
        """Token ids by row, and the logits after the start-of-transcript token."""
        most = _most_tokens(context_s)
        if beam_size == 1:
            done = self._greedy.decode(hidden, most)
            return done.tokens, done.first
        from transformers.modeling_outputs import BaseModelOutput

        frames = self._model.config.max_source_positions * 2
        # generate() asks its input for the length only; what is decoded is `encoder_outputs`.
        silent = hidden.new_zeros((len(hidden), self._model.config.num_mel_bins, frames))
        sequences = self._model.generate(
            silent,
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden.clone()),
            attention_mask=self._torch.ones_like(silent[:, 0], dtype=self._torch.long),
            language="zh",
            task="transcribe",
            num_beams=beam_size,
            do_sample=False,
            return_timestamps=False,
            max_new_tokens=min(most, self._model.config.max_target_positions - len(self._start)),
        )
        ids = self._torch.tensor([self._start[:1]] * len(hidden), device=self.device)
        first = self._model(encoder_outputs=(hidden,), decoder_input_ids=ids).logits[:, 0].float()
        return [self._text_tokens(row) for row in sequences.tolist()], first

    def _text_tokens(self, row: Sequence[int]) -> list[int]:
        return [token for token in row if token < self._end]

    def _forced(self, hidden: Any, tokens: Sequence[list[int]]) -> _Forced:
        """The decoder once over the tokens of every row, padded to the longest."""
        torch = self._torch
        length = len(self._start) + max(map(len, tokens))
        ids = torch.full((len(tokens), length), self._end, device=self.device)
        for row, wanted in enumerate(tokens):
            ids[row, : len(self._start) + len(wanted)] = torch.tensor(
                [*self._start, *wanted], device=self.device
            )
        layers = self._model.model.decoder.layers
        with torch.inference_mode(), _Projections(layers, self._heads) as heard:
            out = self._model.model.decoder(
                input_ids=ids, encoder_hidden_states=hidden, use_cache=False
            ).last_hidden_state[:, len(self._start) - 1 :]
            following = ids.new_full((len(tokens), 1), self._end)
            wanted_ids = torch.cat([ids[:, len(self._start) :], following], dim=1)
            chances = self._chances(out, wanted_ids)
            followed = heard.attention(layers, self._heads, len(self._start) - 1)
        return _Forced(
            [chances[row, : len(wanted) + 1] for row, wanted in enumerate(tokens)],
            followed.float().cpu().numpy(),
        )

    def _chances(self, out: Any, wanted: Any) -> NDArray[np.float64]:
        """The probability of each wanted token, shape (rows, n). The end that pads a short row is
        never asked for."""
        weight = self._model.model.decoder.embed_tokens.weight
        flat, ids = out.reshape(-1, out.shape[-1]), wanted.reshape(-1, 1)
        parts = []
        for begin in range(0, len(flat), _LOGIT_ROWS):
            logits = self._torch.nn.functional.linear(flat[begin : begin + _LOGIT_ROWS], weight)
            logits = logits.float()
            mine = logits.gather(1, ids[begin : begin + _LOGIT_ROWS])[:, 0]
            parts.append((mine - logits.logsumexp(-1)).exp())
        found: NDArray[np.float64] = self._torch.cat(parts).double().cpu().numpy()
        return found.reshape(wanted.shape)


class EncodedSpeech:
    """Segments that the encoder has heard: decode them, or ask how well other words fit.

    Holds the encoder's output on the device (one vector a 20 ms step) until dropped.
    """

    def __init__(
        self,
        engine: TransformersEngine,
        segments: tuple[SpeechSegment, ...],
        hidden: Any,
        context_s: float,
    ) -> None:
        self.segments = segments
        self._engine = engine
        self._hidden = hidden
        self._context_s = context_s

    def transcribe(self, beam_size: int | None = None) -> list[Transcript]:
        """One Transcript a segment, with times and confidences from the same encoder output."""
        engine = self._engine
        beam_size = beam_size or engine.options.beam_size
        most = _rows_at_once(engine, beam_size)
        transcripts: list[Transcript] = []
        for begin in range(0, len(self.segments), most):
            rows = slice(begin, begin + most)
            transcripts += self._rows(self.segments[rows], self._hidden[rows], beam_size)
        return transcripts

    def score(self, index: int, texts: Sequence[str]) -> list[float]:
        """How well each text fits segment `index`: its log-probability in nats, forced.

        An empty text scores 0.
        """
        engine = self._engine
        tokens = [engine._tokens.encode(text) for text in texts]
        wanted = [i for i, ids in enumerate(tokens) if ids]
        scores = [0.0] * len(texts)
        if wanted:
            hidden = self._hidden[index : index + 1].expand(len(wanted), -1, -1)
            forced = engine._forced(hidden, [tokens[i] for i in wanted])
            for i, chances in zip(wanted, forced.chances, strict=True):
                # The end after the words is no part of them.
                scores[i] = float(np.log(np.maximum(chances[:-1], 1e-10)).sum())
        return scores

    def _rows(
        self, segments: Sequence[SpeechSegment], hidden: Any, beam_size: int
    ) -> list[Transcript]:
        engine = self._engine
        with engine._torch.inference_mode():
            tokens, first = engine._decoded(hidden, self._context_s, beam_size)
            no_speech = first.softmax(-1)[:, engine._no_speech].tolist()
            languages = first[:, engine._languages].softmax(-1)[:, engine._chinese].sum(-1).tolist()
        forced = engine._forced(hidden, tokens)
        starts = first_steps_of_batch(
            [
                path_cost(forced.attention[row, :, : len(ids) + 1, : _steps(segment)])
                for row, (ids, segment) in enumerate(zip(tokens, segments, strict=True))
            ]
        )
        transcripts = []
        for row, segment in enumerate(segments):
            chances = forced.chances[row]
            times = np.minimum(starts[row] * _SECONDS_A_STEP, segment.duration_s) + segment.start
            chars = timed_chars(
                [
                    Piece(engine._tokens.data(token), float(begin), float(end), float(chance))
                    for token, begin, end, chance in zip(
                        tokens[row], times[:-1], times[1:], chances[:-1], strict=True
                    )
                ]
            )
            transcripts.append(
                Transcript(
                    text="".join(char.text for char in chars),
                    chars=chars,
                    mean_logprob=float(np.log(np.maximum(chances, 1e-10)).mean()),
                    no_speech_prob=no_speech[row],
                    chinese_prob=languages[row],
                )
            )
        return transcripts


@dataclass(frozen=True, slots=True)
class _Forced:
    """By row, the probability of each token and of the end after them; and the attention of the
    heads that follow the sound, shape (rows, heads, tokens + 1, steps)."""

    chances: list[NDArray[np.float64]]
    attention: NDArray[np.float32]


class _Projections:
    """Listens in on queries and keys of some cross-attentions while the decoder runs.

    Fused attention kernels do not tell their weights; those of a few heads are had from these.
    """

    def __init__(self, layers: Any, heads: Sequence[tuple[int, int]]) -> None:
        self._seen: dict[tuple[int, str], Any] = {}
        self._hooks = [
            getattr(layers[index].encoder_attn, name).register_forward_hook(
                lambda module, given, out, key=(index, name): self._seen.__setitem__(key, out)
            )
            for index in {layer for layer, _ in heads}
            for name in ("q_proj", "k_proj")
        ]

    def __enter__(self) -> _Projections:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def attention(self, layers: Any, heads: Sequence[tuple[int, int]], after: int) -> Any:
        """Shape (rows, heads, positions from `after` on, steps)."""
        import torch

        found = []
        for index, head in heads:
            cross = layers[index].encoder_attn
            own = slice(head * cross.head_dim, (head + 1) * cross.head_dim)
            query = self._seen[index, "q_proj"][:, after:, own] * cross.scaling
            key = self._seen[index, "k_proj"][:, :, own]
            found.append((query @ key.transpose(1, 2)).float().softmax(-1))
        return torch.stack(found, dim=1)


class _LogMel:
    """Whisper's features on the device: the log-mel of a batch at once, shape (rows, mels, frames).

    As the paper has it: 25 ms windows every 10 ms, 80 or 128 mel bands, the top 8 decades of each
    row, scaled to about −1…1.
    """

    def __init__(self, torch: Any, extractor: Any, device: str) -> None:
        self._torch = torch
        self._device = device
        self._fft, self._hop = extractor.n_fft, extractor.hop_length
        self._window = torch.hann_window(self._fft, device=device)
        filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float32))
        self._filters = filters.T.contiguous().to(device)

    def __call__(self, segments: Sequence[SpeechSegment], context_s: float) -> Any:
        torch = self._torch
        sound = np.zeros((len(segments), round(context_s * SAMPLE_RATE_HZ)), np.float32)
        for row, segment in enumerate(segments):
            samples = segment.samples[: sound.shape[1]]
            sound[row, : len(samples)] = samples
        waves = torch.from_numpy(sound)
        if self._device != "cpu":
            waves = waves.pin_memory().to(self._device, non_blocking=True)
        spectrum = torch.stft(waves, self._fft, self._hop, window=self._window, return_complex=True)
        power = spectrum[..., :-1].abs().square()
        mel = (self._filters @ power).clamp(min=1e-10).log10()
        loudest = mel.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(mel, loudest - 8.0) + 4.0) / 4.0


def _rows_at_once(engine: TransformersEngine, beam_size: int) -> int:
    """With several beams every row becomes so many."""
    most = engine.options.batch_size
    return rows_for(min(most, ROWS[-1])) if beam_size == 1 else max(1, most)


def _most_tokens(context_s: float) -> int:
    # Fast Mandarin is 8 characters a second and a rare character takes 3 tokens; a loop would
    # run to 448. By the context, so that what stands beside a segment changes nothing.
    return min(440, 24 + round(16 * context_s))


def _steps(segment: SpeechSegment) -> int:
    return max(1, round(segment.duration_s / _SECONDS_A_STEP))


def _tokenizer_file(source: str | Path) -> Path:
    if Path(source).is_dir():
        return Path(source) / "tokenizer.json"
    from transformers.utils import cached_file

    return Path(cached_file(str(source), "tokenizer.json"))
