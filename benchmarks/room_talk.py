"""What a room's other talk adds: sentences judged one by one, and in the room they are said in.

    python -m benchmarks.room_talk

Rooms are made of held-out sentences, drawn at random: in one kind of room one in thirty is
unlawful, in another every third. Half of the lawful ones are plain talk (`clean_speech`), half near
misses of claims. Each sentence goes through the engine as an utterance of its own, once in a fresh
session and once in the room's, where `moderator/claims/base_rate.py` estimates how much of the talk
is unlawful. Real rooms are not drawn at random; what is measured is the estimate at work, not a
prediction for a platform.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.accuracy import talk
from benchmarks.report import write_result
from models.claim_classifier.dataset import CLEAN_SPEECH, ROOMS, part_of, written_rows
from moderator import load_rules
from moderator.claims.classifier import semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.records import Room, Utterance

SHARES = (0.0, 0.01, 0.03, 0.1, 0.3)
"""Of a room's sentences, so many are unlawful."""
ROOM_COUNT, SENTENCES = 12, 300
SETTLED = 50
"""So many sentences in, the estimate is worth something: counted apart."""


def main() -> None:
    console = Console()
    pack = load_rules()
    engine = ClaimEngine(pack, semantic_matchers(pack, keen=()))
    held = [row for row in written_rows() if row["part"] == "held"]
    unlawful = [row["text"] for row in held if row["labels"]]
    near = [row["text"] for row in held if not row["labels"]]
    plain = [
        line
        for path in sorted(CLEAN_SPEECH.glob("*.txt"))
        if part_of(path.stem, ROOMS) == "held"
        for line in talk(path)
    ]

    @cache
    def alone(text: str) -> bool:
        return bool(ClaimSession(engine, Room()).observe(_said(text, 0)))

    table = Table(
        "unlawful", "", "recall", "false a 1,000", "precision", "settled: recall", "false"
    )
    rows: list[dict[str, Any]] = []
    for share in SHARES:
        chance = random.Random(7)
        counts = {"one by one": _Count(), "in its room": _Count()}
        for _ in track(range(ROOM_COUNT), description=f"rooms of {share:.0%}"):
            session = ClaimSession(engine, Room())
            for number in range(SENTENCES):
                wrong = chance.random() < share
                text = chance.choice(unlawful if wrong else chance.choice((near, plain)))
                flags = {
                    "one by one": alone(text),
                    "in its room": bool(session.observe(_said(text, number))),
                }
                for name, flagged in flags.items():
                    counts[name].add(wrong, flagged, settled=number >= SETTLED)
        for name, count in counts.items():
            row = {"unlawful": share, "judged": name, **count.row()}
            rows.append(row)
            table.add_row(f"{share:.0%}", name, *map(_show, list(row.values())[2:]))
    console.print(table)
    sources = {"unlawful": len(unlawful), "near_misses": len(near), "plain": len(plain)}
    shape = {"rooms": ROOM_COUNT, "sentences": SENTENCES, "settled_after": SETTLED}
    payload = {"pack": pack.version, "drawn_from": sources, **shape, "rows": rows}
    console.print(write_result("room_talk", payload))


class _Count:
    def __init__(self) -> None:
        self._all: list[tuple[bool, bool, bool]] = []

    def add(self, wrong: bool, flagged: bool, settled: bool) -> None:
        self._all.append((wrong, flagged, settled))

    def row(self) -> dict[str, float | None]:
        settled = [one for one in self._all if one[2]]
        return {
            "recall": _share([flagged for wrong, flagged, _ in self._all if wrong]),
            "false_per_1000": _per_1000([f for wrong, f, _ in self._all if not wrong]),
            "precision": _share([wrong for wrong, flagged, _ in self._all if flagged]),
            "settled_recall": _share([flagged for wrong, flagged, _ in settled if wrong]),
            "settled_false_per_1000": _per_1000([f for wrong, f, _ in settled if not wrong]),
        }


def _said(text: str, number: int) -> Utterance:
    """Far enough from its neighbours not to be read together with them."""
    start = 20.0 * number
    return Utterance(text, start, start + 5.0, chars=(), confidence=1.0, engine="written")


def _share(hits: list[bool]) -> float | None:
    return round(sum(hits) / len(hits), 4) if hits else None


def _per_1000(hits: list[bool]) -> float | None:
    share = _share(hits)
    return None if share is None else round(1000 * share, 1)


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


if __name__ == "__main__":
    main()
