"""Teach the decoder of Whisper base how live rooms talk; the encoder stays as it is.

    python -m models.speech_adapter.train                   # two and a half hours on two cores
    python -m models.speech_adapter.train --lines 200 --takes 1 --out DIR   # a quick look

Sentences of the classifier's training families are spoken by the sample voices and made to sound
like rooms (`sounds.py`), heard by the embedded encoder, and what was said is taught to low-rank
additions to the decoder's matrices (LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685).
Writes `adapter.safetensors`, which `moderator.asr.embedded` adds to the published weights, and
`training.json`. Needs the extras `embedded`, `samples`, `torch` and `train`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.nn.utils import parametrize
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from benchmarks.voiced import default_cache
from models.speech_adapter import sounds
from moderator import devices
from moderator.asr.convert import transformers_folder
from moderator.asr.embedded import PUBLISHED, factor_names
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment
from moderator.asr.faster_whisper_engine import MANDARIN, FasterWhisperEngine
from moderator.asr.tokens import WhisperTokens
from moderator.claims.rules import load_rules

LINES, TAKES, EPOCHS = 2190, 3, 1
RANK = 32
STRENGTH = 0.25
"""How much of what was learned is added (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903)."""
BATCH, LEARNING_RATE, WARM_UP = 16, 6e-4, 0.06
PROMPTED = 0.7
"""Share of the takes that are taught after the product's prompt; the others after nothing."""
ADAPTER = "adapter.safetensors"
HERE = Path(__file__).parent
ARRAYS = {
    "self_attn.q_proj": ("self_attention/linear_0", 0),
    "self_attn.k_proj": ("self_attention/linear_0", 1),
    "self_attn.v_proj": ("self_attention/linear_0", 2),
    "self_attn.out_proj": ("self_attention/linear_1", 0),
    "encoder_attn.q_proj": ("attention/linear_0", 0),
    "encoder_attn.k_proj": ("attention/linear_1", 0),
    "encoder_attn.v_proj": ("attention/linear_1", 1),
    "encoder_attn.out_proj": ("attention/linear_2", 0),
    "fc1": ("ffn/linear_0", 0),
    "fc2": ("ffn/linear_1", 0),
}
"""Which array of CTranslate2 holds a matrix of transformers, and at which place in it."""
IGNORED = -100
SEED = 20261127


@dataclass(frozen=True, slots=True)
class Heard:
    """What the encoder made of a take, shape (frames, width) in float16, and what was said."""

    text: str
    states: NDArray[np.float16]


class LowRank(nn.Module):
    """Adds `up @ down` to a matrix of shape (rows, columns)."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, columns) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.up @ self.down


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES, help="sentences that are spoken")
    parser.add_argument("--takes", type=int, default=TAKES, help="times that each is heard")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=HERE)
    chosen = parser.parse_args()
    console = Console()
    torch.manual_seed(SEED)
    lines = sounds.lines(load_rules(), chosen.lines)
    spoken = list(track(sounds.speak(lines, chosen.cache), "voices", total=len(lines)))
    started = time.monotonic()
    heard = list(hear(spoken, chosen.takes))
    hours = sum(len(s) for _, s in spoken) / SAMPLE_RATE_HZ / 3600
    console.print(f"{len(spoken)} sentences, {hours:.2f} h; {len(heard)} takes")
    # CTranslate2 leaves a library that both use at one thread.
    torch.set_num_threads(chosen.threads or devices.cores())
    model = adapted_model()
    losses = teach(model, heard, chosen.epochs, console)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write(model, chosen.out / ADAPTER)
    told = {
        "sentences": len(spoken),
        "hours_spoken": round(hours, 2),
        "takes": len(heard),
        "held_out_voice": sounds.HELD_OUT,
        "rank": RANK,
        "strength": STRENGTH,
        "epochs": chosen.epochs,
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "seed": SEED,
        "loss_of_each_epoch": losses,
        "minutes_without_voicing": round((time.monotonic() - started) / 60, 1),
    }
    text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
    (chosen.out / "training.json").write_text(text, encoding="utf-8")


def hear(spoken: Sequence[tuple[sounds.Line, Any]], times: int) -> Iterator[Heard]:
    """Every take through the embedded encoder, padded to whole seconds and then as the product
    pads."""
    engine = FasterWhisperEngine(model=PUBLISHED)
    shortest_s = int(engine.options.min_context_s - engine.options.tail_s)
    buckets: dict[int, list[sounds.Take]] = defaultdict(list)
    for seed in range(times):
        for take in sounds.takes(spoken, SEED + seed):
            seconds = math.ceil(len(take.samples) / SAMPLE_RATE_HZ)
            buckets[max(seconds, shortest_s)].append(take)
    work = [(s, t[i : i + 4]) for s, t in sorted(buckets.items()) for i in range(0, len(t), 4)]
    for seconds, some in track(work, "hearing"):
        size = seconds * SAMPLE_RATE_HZ
        segments = [
            SpeechSegment(0.0, np.pad(take.samples, (0, size - len(take.samples)))) for take in some
        ]
        for take, states in zip(some, engine.encode(segments).states, strict=True):
            yield Heard(take.text, states.astype(np.float16))


def adapted_model() -> WhisperForConditionalGeneration:
    """Whisper base with LowRank on every matrix of the decoder's layers; nothing else learns."""
    model = WhisperForConditionalGeneration.from_pretrained(
        transformers_folder(), dtype=torch.float32
    )
    model.requires_grad_(False)
    for layer in model.model.decoder.layers:
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                low = LowRank(module.out_features, module.in_features, RANK)
                parametrize.register_parametrization(module, "weight", low)
                module.parametrizations.weight.original.requires_grad_(False)
    return model


def teach(
    model: WhisperForConditionalGeneration, heard: Sequence[Heard], epochs: int, console: Console
) -> list[float]:
    """Cross entropy of what was said, batches of one length of context; mean loss an epoch."""
    tokens = WhisperTokens(transformers_folder() / "tokenizer.json")
    batches = _batches(heard)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=LEARNING_RATE, weight_decay=0.01)
    steps = epochs * len(batches)
    warm = max(1, round(WARM_UP * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, i / steps)))),
    )
    dice = np.random.default_rng(SEED)
    # Only the decoder runs, and its dropout is 0.
    model.eval()
    losses = []
    for epoch in range(epochs):
        total = 0.0
        order = dice.permutation(len(batches))
        for at in track(order, f"epoch {epoch + 1}", console=console):
            some = [heard[i] for i in batches[at]]
            ids, wanted = _taught([one.text for one in some], tokens, dice)
            states = torch.from_numpy(np.stack([one.states for one in some]).astype(np.float32))
            out = model(
                encoder_outputs=BaseModelOutput(last_hidden_state=states), decoder_input_ids=ids
            )
            loss = nn.functional.cross_entropy(
                out.logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED
            )
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total += loss.item()
        losses.append(round(total / len(batches), 4))
        console.print(f"epoch {epoch + 1}: loss {losses[-1]}")
    return losses


def _batches(heard: Sequence[Heard]) -> list[list[int]]:
    by_length: dict[int, list[int]] = defaultdict(list)
    for index in np.random.default_rng(SEED).permutation(len(heard)):
        by_length[len(heard[index].states)].append(int(index))
    return [own[i : i + BATCH] for own in by_length.values() for i in range(0, len(own), BATCH)]


def _taught(
    texts: Sequence[str], tokens: WhisperTokens, dice: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the decoder is given and what it should say next, shape (batch, steps).

    At the start of the transcript it should name the language, or that nobody speaks.
    """
    end = tokens.special("<|endoftext|>")
    start, language = tokens.special("<|startoftranscript|>"), tokens.special("<|zh|>")
    task = [tokens.special("<|transcribe|>"), tokens.special("<|notimestamps|>")]
    prompt = [tokens.special("<|startofprev|>"), *tokens.encode(" " + MANDARIN)]
    rows = []
    for text in texts:
        before = prompt if dice.random() < PROMPTED else []
        said = tokens.encode(text) if text else []
        given = [*before, start, language, *task, *said]
        first = language if text else tokens.special("<|nocaptions|>")
        wanted = [*[IGNORED] * len(before), first, IGNORED, IGNORED, *said, end]
        rows.append((given, wanted))
    longest = max(len(given) for given, _ in rows)
    ids = torch.full((len(rows), longest), end)
    targets = torch.full((len(rows), longest), IGNORED)
    for row, (given, wanted) in enumerate(rows):
        ids[row, : len(given)] = torch.tensor(given)
        targets[row, : len(wanted)] = torch.tensor(wanted)
    return ids, targets


def write(model: WhisperForConditionalGeneration, path: Path) -> None:
    """The factors in float16, named by rows of CTranslate2's arrays as `embedded` wants them."""
    from safetensors.torch import save_file

    state = {}
    for name, module in model.named_modules():
        if isinstance(module, LowRank):
            layer, _, matrix = name.partition("layers.")[2].partition(".")
            array, number = ARRAYS[matrix.removesuffix(".parametrizations.weight.0")]
            rows = slice(number * len(module.up), (number + 1) * len(module.up))
            up, down = factor_names(f"decoder/layer_{layer}/{array}/weight", rows)
            state[up] = (STRENGTH * module.up.detach()).half().contiguous()
            state[down] = module.down.detach().half().contiguous()
    save_file(state, path)
    # safetensors writes for the owner alone; whoever may read this file may read the weights.
    path.chmod(Path(__file__).stat().st_mode)


if __name__ == "__main__":
    main()
