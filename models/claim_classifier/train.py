"""Train the claim classifier and write what the program loads.

    python -m models.claim_classifier.train              # train, calibrate, export, report
    python -m models.claim_classifier.train --compare    # also a simpler model
    python -m models.claim_classifier.train --runs-only  # the network stays; minutes, not an hour
    python -m models.claim_classifier.train --continue rooms_new rooms_newer  # it goes on learning

Needs the `train` extra. The lower layers of the encoder stay as they are, so their output is
computed once; only the upper ones, the ear for syllables and the head learn. The runs of characters
(`grams.py`) learn for themselves; what both say is added up. Seeds are fixed. To go on from the
shipped network, it takes the files of `data/` that are new to it and as many other sentences.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from math import floor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn

from models.claim_classifier.backbone import (
    MAX_TOKENS,
    Encoder,
    chinese_pieces,
    shipped_weights,
)
from models.claim_classifier.dataset import Corpus, Example, load_corpus, misheard, run_on
from models.claim_classifier.grams import fit_grams, gram_logits
from models.claim_classifier.shipped import shipped_state
from moderator.claims.classifier import SOUNDS, Classifier, sounds_in
from moderator.claims.grams import Grams
from moderator.claims.rules import load_rules

HERE = Path(__file__).parent
REPORT = HERE / "training.json"
SEED = 20
FROZEN_LAYERS = 6
EPOCHS = 3
BATCH = 32
LAYER_RATE, HEAD_RATE = 1e-4, 1e-3
FURTHER = 0.3
"""What is left of both rates where a network that has learned goes on, for one pass."""
AVERAGING = 0.998
"""What is kept are the weights' running means over about the last 1 / (1 − AVERAGING) steps: they
do not depend on which sentences came last."""
LABELS = (
    "absolute_term",
    "cosmetic_medical",
    "disparagement",
    "education_guarantee",
    "fake_data_or_citation",
    "fake_honor_or_endorsement",
    "false_origin_or_ingredient",
    "false_scarcity",
    "health_food_disease",
    "investment_guarantee",
    "medical_efficacy",
    "minors",
    "off_platform_diversion",
    "price_fraud",
    "superstition_vulgar",
    "tobacco_alcohol_drugs",
    "unproven_efficacy",
    "other",
)
"""Categories with sentences enough to learn from; the rest is taught as `other`. Each label has
its rule in `rules/cn/semantic/`."""
WANTED_PRECISION = 0.9
EVENNESS, TYPICAL = 0.7, 256
"""How far the inputs' range is moved into the weights before both become eight bits (0.5 is the
paper's), and over how many sentences the range is looked at."""
ALONE_WEIGHT = 0.3
"""How much letters alone and sounds alone count in the loss beside both together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compare", action="store_true", help="also train a simpler model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--states", type=Path, help="file that keeps the frozen layers' output")
    parser.add_argument(
        "--weights", type=Path, help="file that keeps what was learned; if it is there, none is"
    )
    parser.add_argument(
        "--runs-only", action="store_true", help="learn the runs of characters beside the network"
    )
    parser.add_argument(
        "--continue",
        dest="further",
        nargs="+",
        default=[],
        metavar="FILE",
        help="go on from the shipped network: files of data/ that are new to it, without .jsonl",
    )
    chosen = parser.parse_args()
    _seed(chosen.threads)
    began = perf_counter()

    pack = load_rules()
    corpus = load_corpus(pack)
    labels = list(LABELS)
    print(f"{len(corpus.examples)} sentences, labels: {', '.join(labels)}", flush=True)
    weights = shipped_weights()
    rows, vocabulary = chinese_pieces(weights)
    tokenizer = make_tokenizer(vocabulary)
    encoder = Encoder(weights, rows)
    examples = {part: corpus.part(part) for part in PARTS}
    examples["train"] += misheard(examples["train"], pack, SEED)
    examples["train"] += run_on(examples["train"], SEED)
    print(f"{len(examples['train'])} to learn from, misheard and run-on ones included", flush=True)
    batches = {part: Sentences(examples[part], tokenizer, labels) for part in PARTS}
    learned = batches["train"]
    grams = fit_grams(learned.texts, learned.unlawful, learned.weights.numpy(), SEED)
    if chosen.further:
        lessons = further_lessons(corpus, examples["train"], chosen.further)
        batches["train"] = Sentences(lessons, tokenizer, labels)
    if chosen.runs_only:
        report = json.loads(REPORT.read_text()) | {"corpus": describe(corpus)}
        network = Classifier(HERE)
        logits = {
            part: np.stack([network.logits(text) for text in batches[part].texts])
            for part in ("dev", "held")
        }
        calibration = calibrate(report, logits, grams, batches, labels)
    else:
        compute_states(encoder, list(batches.values()), chosen.states)
        print(f"frozen layers done after {perf_counter() - began:.0f} s", flush=True)
        known = json.loads(REPORT.read_text()) if chosen.further else {"labels": labels}
        report = known | {"corpus": describe(corpus)}
        if chosen.compare:
            report["compare"] = {"head on frozen embeddings": head_baseline(encoder, batches)}
            print(json.dumps(report["compare"], indent=1), flush=True)
        model = ClaimModel(encoder, len(labels))
        if chosen.weights is not None and chosen.weights.is_file():
            model.load_state_dict(torch.load(chosen.weights))
        else:
            if chosen.further:
                model.load_state_dict(shipped_state(HERE / "model.onnx"))
                fit(model, batches, passes=1, rate=FURTHER)
            else:
                fit(model, batches)
            if chosen.weights is not None:
                torch.save(model.state_dict(), chosen.weights)
        logits = {part: model.logits(batches[part]) for part in ("dev", "held")}
        calibration = calibrate(report, logits, grams, batches, labels)
        typical = Sentences(corpus.part("train")[:TYPICAL], tokenizer, labels)
        export(evened(model, typical), tokenizer)
        minutes = round((perf_counter() - began) / 60, 1)
        if chosen.further:
            taught = {"files": chosen.further, "lessons": len(lessons), "minutes": minutes}
            report["further"] = [*report.get("further", []), taught]
        else:
            report["minutes"] = minutes
    grams.save(HERE / "grams.npz")
    describe_files(labels, calibration)
    report["export"] = exported_scores(batches["held"], report["threshold_dev"])
    REPORT.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n")
    print(json.dumps(report, ensure_ascii=False, indent=1))


def calibrate(
    report: dict[str, Any],
    logits: dict[str, NDArray[Any]],
    grams: Grams,
    data: dict[str, Sentences],
    labels: list[str],
) -> dict[str, float]:
    """Add up what the network and the runs of characters say on `dev`; the figures on both parts
    go into `report`."""
    counted = {part: gram_logits(grams, data[part].texts) for part in logits}
    slope, share, offset = platt(logits["dev"][:, 0], counted["dev"], data["dev"].unlawful)
    chances = {
        part: sigmoid(slope * one[:, 0] + share * counted[part] + offset)
        for part, one in logits.items()
    }
    plain = surely_lawful(counted["dev"], chances["dev"])
    calibration = {"slope": slope, "grams": share, "offset": offset, "plain": plain}
    report["calibration"] = calibration
    report["skimmed_held"] = skimmed(counted["held"] < plain, chances["held"], data["held"])
    report["apart"] = apart(logits, counted, data)
    report["runs"] = len(grams.runs)
    report["reliability_held"] = reliability(chances["held"], data["held"].unlawful)
    report["threshold_dev"] = threshold(chances["dev"], data["dev"].unlawful)
    for part in logits:
        report[part] = scores(chances[part], logits[part], data[part], labels)
    return calibration


PARTS = ("train", "dev", "held")


def further_lessons(corpus: Corpus, examples: list[Example], files: list[str]) -> list[Example]:
    """Of `examples`, all that come from `files` of the corpus, and as many others, drawn."""
    unknown = sorted(set(files) - {example.source for example in corpus.examples})
    if unknown:
        raise SystemExit(f"no sentences of {', '.join(unknown)} in the corpus")
    families = {example.family for example in corpus.examples if example.source in files}
    fresh = [example for example in examples if example.family in families]
    others = [example for example in examples if example.family not in families]
    drawn = random.Random(SEED)  # noqa: S311 - a draw, not secrets
    return fresh + drawn.sample(others, min(len(fresh), len(others)))


# --- data ---------------------------------------------------------------------------


class Sentences:
    """One part of the corpus as tensors, short sentences first: ids, mask, what should come out.

    `states` are the hidden states after the frozen layers, [sentences, tokens, hidden], in half
    precision, once they are computed.
    """

    def __init__(self, examples: list[Example], tokenizer: Tokenizer, labels: list[str]) -> None:
        self.examples = sorted(examples, key=lambda e: (len(e.text), e.text))
        examples = self.examples
        self.texts = [example.text for example in examples]
        self.states = torch.empty(0)
        encoded = [tokenizer.encode(text).ids[:MAX_TOKENS] for text in self.texts]
        longest = max(map(len, encoded))
        self.lengths = np.array([len(ids) for ids in encoded])
        self.ids = torch.ones(len(encoded), longest, dtype=torch.long)
        self.mask = torch.zeros(len(encoded), longest)
        heard = [sounds_in(text) for text in self.texts]
        self.sounds = torch.zeros(len(heard), max(map(len, heard)), dtype=torch.long)
        for row, sounds in enumerate(heard):
            self.sounds[row, : len(sounds)] = torch.tensor(sounds)
        for row, ids in enumerate(encoded):
            self.ids[row, : len(ids)] = torch.tensor(ids)
            self.mask[row, : len(ids)] = 1.0
        self.unlawful = np.array([bool(example.labels) for example in examples])
        self.weights = torch.tensor([example.weight for example in examples])
        self.targets = torch.zeros(len(examples), len(labels))
        for row, example in enumerate(examples):
            for label in example.labels:
                known = label if label in labels else "other"
                self.targets[row, labels.index(known)] = 1.0 / len(example.labels)


def make_tokenizer(vocabulary: list[tuple[str, float]]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def describe(corpus: Corpus) -> dict[str, Any]:
    found: dict[str, Any] = {
        "repeated_dropped": corpus.repeated,
        "near_duplicates_of_held_dropped": corpus.near_duplicates,
    }
    for part in PARTS:
        examples = corpus.part(part)
        found[part] = {
            "sentences": len(examples),
            "unlawful": sum(bool(e.labels) for e in examples),
            "families": len({e.family for e in examples}),
            "by_source": dict(Counter(e.source for e in examples)),
            "by_label": dict(Counter(label for e in examples for label in e.labels).most_common()),
        }
    return found


# --- the model ----------------------------------------------------------------------


class ClaimModel(nn.Module):
    """Letters and sounds to logits: "unlawful" first, then one for each label.

    The encoder's hidden states, their mean and their largest values, read what was written, the ear
    what it sounds like, so that a claim survives its spelling. Each is also asked alone while
    training (`alone`): a head on both would lean on the letters, which are clean in most training
    sentences.
    """

    def __init__(self, encoder: Encoder, labels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.ear = Ear()
        self.dropout = nn.Dropout(0.2)
        width = 2 * encoder.words.embedding_dim
        self.head = nn.Linear(width + Ear.WIDTH, 1 + labels)
        self.letters_alone = nn.Linear(width, 1 + labels)
        self.sounds_alone = nn.Linear(Ear.WIDTH, 1 + labels)

    def forward(self, ids: Tensor, mask: Tensor, sounds: Tensor) -> Tensor:
        return self.from_hidden(self.encoder.below(ids, mask, FROZEN_LAYERS), mask, sounds)

    def from_hidden(self, hidden: Tensor, mask: Tensor, sounds: Tensor) -> Tensor:
        out: Tensor = self.head(torch.cat(self.features(hidden, mask, sounds), 1))
        return out

    def features(self, hidden: Tensor, mask: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder.above(hidden, mask, FROZEN_LAYERS).float()
        letters = torch.cat((mean_pool(hidden, mask), max_pool(hidden, mask)), 1)
        return self.dropout(letters), self.dropout(self.ear(sounds))

    def alone(self, hidden: Tensor, mask: Tensor, sounds: Tensor) -> tuple[Tensor, ...]:
        """The logits of both together, of the letters alone, and of the sounds alone."""
        letters, heard = self.features(hidden, mask, sounds)
        return (
            self.head(torch.cat((letters, heard), 1)),
            self.letters_alone(letters),
            self.sounds_alone(heard),
        )

    @torch.no_grad()
    def logits(self, data: Sentences) -> NDArray[np.float32]:
        self.eval()
        return torch.cat([self.from_hidden(*part) for part in slices(data)]).float().numpy()


class Ear(nn.Module):
    """Syllables, [batch, syllables] with 0 for none, to [batch, WIDTH]: convolutions and a maximum
    over time (Kim 2014, "Convolutional Neural Networks for Sentence Classification")."""

    SPANS = (1, 2, 3, 4)
    EACH = 96
    WIDTH = EACH * len(SPANS)

    def __init__(self) -> None:
        super().__init__()
        self.syllables = nn.Embedding(len(SOUNDS) + 1, 96, padding_idx=0)
        self.spans = nn.ModuleList(nn.Conv1d(96, self.EACH, span) for span in self.SPANS)
        self.dropout = nn.Dropout(0.2)

    def forward(self, sounds: Tensor) -> Tensor:
        # The edges are always there, so that padding a batch changes nothing.
        edged = nn.functional.pad(sounds, (3, 3))
        embedded = self.dropout(self.syllables(edged)).transpose(1, 2)
        return torch.cat([nn.functional.relu(span(embedded)).amax(2) for span in self.spans], 1)


def half_precision() -> torch.autocast:
    """Matrices in bfloat16 on processors that have it, where it is three times as fast."""
    able = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=able)


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1)


def max_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden + 1e4 * (mask.unsqueeze(-1) - 1.0)).amax(1)


def slices(data: Sentences, size: int = 64) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """States, mask and sounds of a few sentences at a time."""
    for begin in range(0, len(data.texts), size):
        rows = slice(begin, begin + size)
        longest = int(data.lengths[rows].max())
        yield data.states[rows, :longest].float(), data.mask[rows, :longest], data.sounds[rows]


def fit(
    model: ClaimModel, data: dict[str, Sentences], passes: int = EPOCHS, rate: float = 1.0
) -> None:
    """Train the upper layers and the head, `rate` times as fast as usual; prints the dev scores
    after each pass."""
    train = data["train"]
    for part in (model.encoder.words, model.encoder.norm, *model.encoder.layers[:FROZEN_LAYERS]):
        part.requires_grad_(False)
    fresh = (model.ear, model.head, model.letters_alone, model.sounds_alone)
    upper = [p for layer in model.encoder.layers[FROZEN_LAYERS:] for p in layer.parameters()]
    new = [p for part in fresh for p in part.parameters()]
    means = [p.detach().clone() for p in (*upper, *new)]
    optimiser = torch.optim.AdamW(
        [{"params": upper, "lr": rate * LAYER_RATE}, {"params": new, "lr": rate * HEAD_RATE}],
        weight_decay=0.01,
    )
    steps = passes * -(-len(train.texts) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
    )
    for epoch in range(passes):
        model.train()
        total = 0.0
        order = batches_of_like_length(train.lengths, epoch)
        for chosen in track(order, description=f"pass {epoch + 1} of {passes}"):
            longest = int(train.lengths[chosen].max())
            rows = torch.from_numpy(chosen)
            states, mask = train.states[rows, :longest].float(), train.mask[rows, :longest]
            with half_precision():
                outs = model.alone(states, mask, train.sounds[rows])
            losses = [claim_loss(o.float(), train.targets[rows], train.weights[rows]) for o in outs]
            loss = losses[0] + ALONE_WEIGHT * (losses[1] + losses[2])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(upper, 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for mean, now in zip(means, (*upper, *new), strict=True):
                    mean.lerp_(now, 1.0 - AVERAGING)
            total += loss.item()
        if epoch == passes - 1:
            last = average_precision(model.logits(data["dev"])[:, 0], data["dev"].unlawful)
            print(f"last weights: dev average precision {last:.4f}; now their means", flush=True)
            for mean, now in zip(means, (*upper, *new), strict=True):
                now.data.copy_(mean)
        out = model.logits(data["dev"])
        auc = average_precision(out[:, 0], data["dev"].unlawful)
        print(f"epoch {epoch}: loss {total:.1f}, dev average precision {auc:.4f}", flush=True)


@torch.no_grad()
def compute_states(encoder: Encoder, parts: list[Sentences], file: Path | None) -> None:
    """Fill in `states`; those of an earlier run are taken from `file` and kept there."""
    encoder.eval()
    key = f"{FROZEN_LAYERS} layers"
    kept: dict[str, Tensor] = {}  # sentence → its states
    if file is not None and file.is_file():
        kept = torch.load(file).get(key, {})
    for data in parts:
        width = encoder.words.embedding_dim
        data.states = torch.zeros(*data.ids.shape, width, dtype=torch.float16)
        missing = np.array([row for row, text in enumerate(data.texts) if text not in kept], int)
        for begin in track(range(0, len(missing), 64), description="frozen layers"):
            rows = torch.from_numpy(missing[begin : begin + 64])
            longest = int(data.lengths[rows].max())
            ids, mask = data.ids[rows, :longest], data.mask[rows, :longest]
            with half_precision():
                hidden = encoder.below(ids, mask, FROZEN_LAYERS)
            for row, states in zip(rows.tolist(), hidden.half(), strict=True):
                kept[data.texts[row]] = states[: data.lengths[row]].clone()
        for row, text in enumerate(data.texts):
            data.states[row, : data.lengths[row]] = kept[text]
    if file is not None:
        torch.save({key: kept}, file)


def claim_loss(out: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Whether it is unlawful, and for unlawful sentences in which way."""
    unlawful = (targets.sum(1) > 0).float()
    whether = nn.functional.binary_cross_entropy_with_logits(
        out[:, 0], unlawful * 0.98 + 0.01, reduction="none"
    )
    which = -(targets * out[:, 1:].log_softmax(1)).sum(1)
    return ((whether + 0.5 * which) * weights).mean()


def batches_of_like_length(lengths: NDArray[np.int64], epoch: int) -> list[NDArray[np.int64]]:
    generator = np.random.default_rng(SEED + epoch)
    order = np.argsort(lengths + generator.uniform(0, 6, len(lengths)))
    found = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    generator.shuffle(found)
    return found


# --- a simpler model -----------------------------------------------------------------


def head_baseline(encoder: Encoder, data: dict[str, Sentences]) -> dict[str, float]:
    """Logistic regression on the untouched sentence embeddings."""
    encoder.eval()
    embedded = {}
    for part, one in data.items():
        with torch.no_grad(), half_precision():
            embedded[part] = torch.cat(
                [
                    mean_pool(encoder.above(states, mask, FROZEN_LAYERS).float(), mask)
                    for states, mask, _ in slices(one)
                ]
            )
    centre, spread = embedded["train"].mean(0), embedded["train"].std(0)
    scaled = {part: (one - centre) / spread for part, one in embedded.items()}
    return _linear_scores(scaled, data, centre.shape[0], rate=0.01, decay=3e-2)


def _linear_scores(
    inputs: dict[str, Tensor], data: dict[str, Sentences], size: int, rate: float, decay: float
) -> dict[str, float]:
    weights = torch.zeros(size, 1, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([weights, bias], lr=rate)
    wanted = torch.from_numpy(data["train"].unlawful).float()
    for _ in range(300):
        out = (inputs["train"] @ weights + bias)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(out, wanted)
        loss = loss + decay * weights.square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = {}
    for part in ("dev", "held"):
        with torch.no_grad():
            out = (inputs[part] @ weights + bias)[:, 0].numpy()
        found[part] = round(average_precision(out, data[part].unlawful), 4)
        found[f"{part}_recall_at_{WANTED_PRECISION}"] = round(
            recall_at(out, data[part].unlawful, WANTED_PRECISION), 4
        )
    return found


# --- measures -----------------------------------------------------------------------


def average_precision(score: NDArray[Any], truth: NDArray[Any]) -> float:
    ranked = truth[np.argsort(-score, kind="stable")]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float((precision * ranked).sum() / ranked.sum())


def recall_at(score: NDArray[Any], truth: NDArray[Any], precision: float) -> float:
    ranked = truth[np.argsort(-score, kind="stable")]
    hits = np.cumsum(ranked)
    enough = hits / np.arange(1, len(ranked) + 1) >= precision
    return float(hits[enough].max() / ranked.sum()) if enough.any() else 0.0


def platt(
    logits: NDArray[Any], counted: NDArray[Any], truth: NDArray[Any]
) -> tuple[float, float, float]:
    """Slope, share and offset that make sigmoid(slope * logit + share * counted + offset) a
    probability on `dev` (Platt 1999, with what the runs of characters say as a second input)."""
    scale = torch.tensor([1.0, 1.0, 0.0], requires_grad=True)
    inputs = torch.from_numpy(np.stack((logits, counted, np.ones_like(counted)), 1))
    wanted = torch.from_numpy(truth).float()
    optimiser = torch.optim.LBFGS([scale], max_iter=100)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(inputs @ scale, wanted)
        loss.backward()
        return loss

    optimiser.step(closure)
    slope, share, offset = (round(one, 4) for one in scale.tolist())
    return slope, share, offset


def apart(
    logits: dict[str, NDArray[Any]], counted: dict[str, NDArray[Any]], data: dict[str, Sentences]
) -> dict[str, dict[str, float]]:
    """Average precision of the network alone and of the runs of characters alone."""
    return {
        part: {
            "network": round(average_precision(logits[part][:, 0], data[part].unlawful), 4),
            "grams": round(average_precision(counted[part], data[part].unlawful), 4),
        }
        for part in logits
    }


def sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    out: NDArray[Any] = 1.0 / (1.0 + np.exp(-values))
    return out


def threshold(chance: NDArray[Any], truth: NDArray[Any]) -> float:
    """The smallest chance above which flags on `dev` are right often enough."""
    order = np.argsort(-chance, kind="stable")
    right = np.cumsum(truth[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(right >= WANTED_PRECISION)
    return round(float(chance[order[enough.max()]]), 3) if len(enough) else 1.0


LEAST_TOLD, MOST_OVERLOOKED = 0.3, 0.001
"""No rule's threshold is below the first; of the sentences of `dev` above it, this share may be
overlooked because the runs of characters alone are sure that they are lawful."""


def surely_lawful(counted: NDArray[Any], chance: NDArray[Any]) -> float:
    """The runs' log-odds below which the network need not be asked."""
    lowest = float(np.quantile(counted[chance >= LEAST_TOLD], MOST_OVERLOOKED))
    return floor(100 * lowest) / 100


def skimmed(unread: NDArray[Any], chance: NDArray[Any], data: Sentences) -> dict[str, float | None]:
    """What it comes to: the share of sentences `unread`, and of the unlawful ones that would be
    told of (chance 0.7) the share overlooked."""
    told = data.unlawful & (chance >= 0.7)
    return {
        "lawful": _ratio((unread & ~data.unlawful).sum(), (~data.unlawful).sum()),
        "overlooked": _ratio((unread & told).sum(), told.sum()),
    }


def reliability(chance: NDArray[Any], truth: NDArray[Any]) -> list[dict[str, float]]:
    """Ten bins: how sure the classifier was, and how often it was right."""
    found = []
    for low in np.arange(0, 1, 0.1):
        inside = (chance >= low) & (chance < low + 0.1 + (low > 0.85))
        if inside.any():
            found.append(
                {
                    "from": round(float(low), 1),
                    "sentences": int(inside.sum()),
                    "said": round(float(chance[inside].mean()), 3),
                    "was": round(float(truth[inside].mean()), 3),
                }
            )
    return found


def scores(
    chance: NDArray[Any], logits: NDArray[Any], data: Sentences, labels: list[str]
) -> dict[str, Any]:
    """Ranking, and precision and recall at several thresholds; written corpus and clean talk."""
    written = np.array([example.source != "clean_speech" for example in data.examples])
    found: dict[str, Any] = {
        "average_precision": round(average_precision(chance[written], data.unlawful[written]), 4),
        "at": {},
    }
    for limit in (0.5, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97):
        flagged = (chance >= limit) & written
        right = flagged & data.unlawful
        found["at"][str(limit)] = {
            "precision": _ratio(right.sum(), flagged.sum()),
            "recall": _ratio(right.sum(), (data.unlawful & written).sum()),
            "clean_flags": int((chance[~written] >= limit).sum()),
            "clean_sentences": int((~written).sum()),
        }
    best = logits[:, 1:].argmax(1)
    by_label = {}
    for number, label in enumerate(labels):
        own = data.targets[:, number].numpy() > 0
        said = (best == number) & (chance >= 0.85)
        by_label[label] = {
            "sentences": int(own.sum()),
            "flagged": int(said.sum()),
            "flag_precision": _ratio((said & data.unlawful).sum(), said.sum()),
            "label_precision": _ratio((said & own).sum(), said.sum()),
            "recall_any_label": _ratio((own & (chance >= 0.85)).sum(), own.sum()),
        }
    found["by_label_at_0.85"] = by_label
    return found


def _ratio(part: Any, whole: Any) -> float | None:
    return round(float(part) / float(whole), 4) if whole else None


# --- what is shipped ----------------------------------------------------------------


class Evened(nn.Module):
    """A linear layer, [..., in] to [..., out], whose inputs are divided by `by`, [in], and its
    weights multiplied: the same numbers come out, and eight bits hold inputs and weights alike."""

    def __init__(self, linear: nn.Linear, by: Tensor) -> None:
        super().__init__()
        self.share = nn.Parameter(1.0 / by)
        self.linear = nn.Linear(linear.in_features, linear.out_features)
        self.linear.weight = nn.Parameter(linear.weight * by)
        self.linear.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.linear(values * self.share)
        return out


@torch.no_grad()
def evened(model: ClaimModel, typical: Sentences) -> ClaimModel:
    """A copy in which channels with large values no longer set the scale for the small ones:
    formula 4 of Xiao et al. 2023, "SmoothQuant", over the largest value that each channel takes
    in `typical` sentences."""
    model = copy.deepcopy(model).eval()
    layers = {n: part for n, part in model.encoder.named_modules() if isinstance(part, nn.Linear)}
    largest = {name: torch.zeros(part.in_features) for name, part in layers.items()}

    def watch(name: str) -> Any:
        def seen(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            values = inputs[0].abs().flatten(0, -2).amax(0)
            largest[name] = torch.maximum(largest[name], values)

        return seen

    hooks = [part.register_forward_hook(watch(name)) for name, part in layers.items()]
    for begin in range(0, len(typical.texts), 64):
        rows = slice(begin, begin + 64)
        longest = int(typical.lengths[rows].max())
        model(typical.ids[rows, :longest], typical.mask[rows, :longest], typical.sounds[rows])
    for hook in hooks:
        hook.remove()
    for name, part in layers.items():
        values = largest[name].clamp(min=1e-5) ** EVENNESS
        by = values / part.weight.abs().amax(0).clamp(min=1e-5) ** (1.0 - EVENNESS)
        parent, _, own = name.rpartition(".")
        setattr(model.encoder.get_submodule(parent), own, Evened(part, by.clamp(min=1e-4)))
    return model


def export(model: ClaimModel, tokenizer: Tokenizer) -> None:
    """Write `model.onnx` (weights in 8 bits) and `tokenizer.json`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model.eval()
    whole = HERE / "model.fp32.onnx"
    ones = torch.ones(1, 9, dtype=torch.long)
    example = (ones, torch.ones(1, 9), ones)
    axes = {name: {0: "batch", 1: "tokens"} for name in ("ids", "mask")}
    axes["sounds"] = {0: "batch", 1: "syllables"}
    torch.onnx.export(
        model,
        example,
        str(whole),
        input_names=["ids", "mask", "sounds"],
        output_names=["logits"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    quantize_dynamic(
        whole,
        HERE / "model.onnx",
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,  # processors without VNNI add pairs of products in 16 bits
        op_types_to_quantize=["MatMul", "Gather"],
    )
    whole.unlink()
    tokenizer.save(str(HERE / "tokenizer.json"), pretty=False)


def describe_files(labels: list[str], calibration: dict[str, float]) -> None:
    """Write `labels.json`."""
    learned = b"".join((HERE / name).read_bytes() for name in ("model.onnx", "grams.npz"))
    about = {
        "version": hashlib.sha256(learned).hexdigest()[:12],
        "labels": labels,
        **calibration,
        "max_tokens": MAX_TOKENS,
    }
    (HERE / "labels.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n")


def exported_scores(held: Sentences, limit: float) -> dict[str, Any]:
    """What eight bits cost: the shipped files, read as the program reads them, on the written
    sentences that `scores` counts."""
    classifier = Classifier(HERE)
    written = np.array([example.source != "clean_speech" for example in held.examples])
    unlawful = held.unlawful[written]
    texts = [text for text, counts in zip(held.texts, written, strict=True) if counts]
    chance = np.array([classifier.read(text).score for text in texts])
    flagged = chance >= limit
    return {
        "bytes": sum((HERE / name).stat().st_size for name in SHIPPED),
        "average_precision": round(average_precision(chance, unlawful), 4),
        "threshold": limit,
        "precision": _ratio((flagged & unlawful).sum(), flagged.sum()),
        "recall": _ratio((flagged & unlawful).sum(), unlawful.sum()),
    }


SHIPPED = ("model.onnx", "grams.npz", "tokenizer.json", "labels.json")


def _seed(threads: int) -> None:
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
