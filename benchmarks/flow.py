"""What the flow of speech does to the verdicts: a sentence alone, after other talk, and cut in two.

    python -m benchmarks.flow                # 600 unlawful and 600 lawful sentences
    python -m benchmarks.flow --count 100    # a quick look

A recogniser cuts speech where the host breathes, not where sentences end. Held-out sentences of the
classifier's corpus go through the engine as utterances of a session: one alone; right after one and
after two lawful utterances; and in two pieces, cut somewhere in the middle. A sentence counts as
flagged when a finding lies in it, or in either piece of it.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.report import write_result
from models.claim_classifier.dataset import written_rows
from moderator import load_rules
from moderator.claims.classifier import semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.records import Room, Utterance

COUNT = 600
CHARS = (8, 45)
"""Sentences of other lengths are left out: too short to cut, or read in parts anyway."""
CHARS_PER_S = 5.0
BREATH_S = 0.4
PLACE_OF_CUT = (0.35, 0.65)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="of unlawful, and of lawful ones")
    chosen = parser.parse_args()
    pack = load_rules()
    engine = ClaimEngine(pack, semantic_matchers(pack, keen=()))
    drawn = random.Random(11)
    rows = [
        row
        for row in written_rows()
        if row["part"] == "held" and CHARS[0] <= len(row["text"]) <= CHARS[1]
    ]
    drawn.shuffle(rows)
    lawful = [row["text"] for row in rows if not row["labels"]]
    before = lawful[chosen.count :]
    said = {
        "unlawful": [row["text"] for row in rows if row["labels"]][: chosen.count],
        "lawful": lawful[: chosen.count],
    }
    table = Table("said", "recall", "lawful flagged", "precision")
    results: list[dict[str, Any]] = []
    for name, lead in (("alone", 0), ("after one", 1), ("after two", 2), ("cut in two", 0)):
        flagged = {"unlawful": 0, "lawful": 0}
        for kind, texts in said.items():
            for text in track(texts, description=f"{name}, {kind}"):
                talk = drawn.sample(before, lead)
                own = cut(text, drawn) if name == "cut in two" else [text]
                flagged[kind] += any(findings(engine, [*talk, *own])[lead:])
        recall = flagged["unlawful"] / len(said["unlawful"])
        wrong = flagged["lawful"] / len(said["lawful"])
        row = {
            "said": name,
            "recall": round(recall, 4),
            "lawful_flagged": round(wrong, 4),
            "precision": round(flagged["unlawful"] / max(1, sum(flagged.values())), 4),
        }
        results.append(row)
        table.add_row(*map(str, row.values()))
    console = Console()
    console.print(table)
    shape = {"unlawful": len(said["unlawful"]), "lawful": len(said["lawful"]), "chars": CHARS}
    console.print(write_result("flow", {"pack": pack.version, **shape, "rows": results}))


def cut(text: str, drawn: random.Random) -> list[str]:
    at = round(len(text) * drawn.uniform(*PLACE_OF_CUT))
    return [text[:at], text[at:]]


def findings(engine: ClaimEngine, texts: Sequence[str]) -> list[int]:
    """How many findings each utterance has, said one after the other in a session of their own."""
    session = ClaimSession(engine, Room())
    return [len(session.observe(utterance)) for utterance in paced(texts)]


def paced(texts: Iterable[str]) -> Iterator[Utterance]:
    """Texts as one host says them, a breath between each two."""
    start = 0.0
    for text in texts:
        end = start + len(text) / CHARS_PER_S
        yield Utterance(text, start, end, chars=(), confidence=1.0, engine="written")
        start = end + BREATH_S


if __name__ == "__main__":
    main()
