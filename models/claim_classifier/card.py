"""Write the figures of the last training run into the model card.

    python -m models.claim_classifier.card

What stands between `<!-- NAME -->` and `<!-- /NAME -->` in README.md is replaced by what
`training.json` says; the rest of the card is written by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CARD, REPORT = HERE / "README.md", HERE / "training.json"


def data(report: dict[str, Any]) -> str:
    corpus = report["corpus"]
    lines = [
        f"Identical sentences are kept once ({corpus['repeated_dropped']} dropped); training or "
        "dev sentences whose",
        "character 4-grams overlap those of a held-out sentence by more than 0.6 (Jaccard) are "
        "dropped "
        f"({corpus['near_duplicates_of_held_dropped']}).",
        "",
        "| part | sentences | unlawful | families | by source |",
        "|---|---|---|---|---|",
    ]
    for name in ("train", "dev", "held"):
        part = corpus[name]
        sources = ", ".join(f"{one} {count:,}" for one, count in sorted(part["by_source"].items()))
        lines.append(
            f"| {name} | {part['sentences']:,} | {part['unlawful']:,} | {part['families']:,} "
            f"| {sources} |"
        )
    return "\n".join(lines)


def quality(report: dict[str, Any]) -> str:
    held, shipped, apart = report["held"], report["export"], report["apart"]["held"]
    skimmed = report["skimmed_held"]
    lines = [
        "Held-out families, before the rules' thresholds and exemptions: average precision "
        f"{held['average_precision']:.3f};",
        f"with plain talk, of the network alone {apart['network']:.3f}, of the runs of characters "
        f"alone {apart['grams']:.3f}.",
        "",
        "| threshold | precision | recall | flags on held-out clean speech |",
        "|---|---|---|---|",
    ]
    for threshold, at in held["at"].items():
        lines.append(
            f"| {threshold} | {at['precision']} | {at['recall']} "
            f"| {at['clean_flags']} of {at['clean_sentences']:,} |"
        )
    lines += [
        "",
        f"The shipped 8-bit files, at the threshold {shipped['threshold']} that gives precision "
        "0.9 on `dev`:",
        f"precision {shipped['precision']}, recall {shipped['recall']}, "
        f"average precision {shipped['average_precision']}.",
        "",
        f"Where the runs alone say less than {report['calibration']['plain']} (log-odds), the "
        "network is not asked:",
        f"{skimmed['lawful']:.0%} of the lawful held-out sentences, and "
        f"{skimmed['overlooked']:.2%} of the unlawful ones that reach 0.7.",
    ]
    return "\n".join(lines)


def calibration(report: dict[str, Any]) -> str:
    lines = ["| said | sentences | mean said | was unlawful |", "|---|---|---|---|"]
    for one in report["reliability_held"]:
        low = one["from"]
        lines.append(
            f"| {low:.1f}–{low + 0.1:.1f} | {one['sentences']:,} | {one['said']} | {one['was']} |"
        )
    return "\n".join(lines)


PARTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "data": data,
    "quality": quality,
    "calibration": calibration,
}


def filled(card: str, report: dict[str, Any]) -> str:
    """The card with its figures. Raises ValueError where a pair of marks is missing."""
    for name, write in PARTS.items():
        marks = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        body = f"{write(report)}\n"
        card, times = marks.subn(lambda m, body=body: f"{m[1]}{body}{m[2]}", card)
        if times != 1:
            raise ValueError(
                f"README.md: <!-- {name} --> … <!-- /{name} --> is there {times} times"
            )
    return card


def main() -> None:
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    CARD.write_text(filled(CARD.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    main()
