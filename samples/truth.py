"""Hold the records of a sample room against its truth file.

    python -m samples.truth samples/rooms/food_and_tea.truth.json records.jsonl

Exits 0 when every planted violation was found in time and no lawful line was accused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIME_SLACK_S = 2.0
"""How far a record may be from the planted words."""

Planted = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """`missed` were planted and not found. `extra` are records that meet nothing planted;
    `accusations` are those of them with disposition `violation`."""

    found: list[Planted]
    missed: list[Planted]
    extra: list[Record]

    @property
    def accusations(self) -> list[Record]:
        return [record for record in self.extra if record["disposition"] == "violation"]


def compare(truth: dict[str, Any], records: Iterable[Record]) -> Comparison:
    """Records are in the JSON form of the product."""
    records = list(records)
    found, missed = [], []
    met: set[str] = set()
    for planted in truth["violations"]:
        hits = [record for record in records if meets(planted, record)]
        met.update(record["id"] for record in hits)
        (found if hits else missed).append(planted)
    extra = [
        record
        for record in records
        if record["id"] not in met and not any(_within(p, record) for p in truth["violations"])
    ]
    return Comparison(found, missed, extra)


def meets(planted: Planted, record: Record) -> bool:
    """Same channel, same time, and the category or the words agree."""
    if planted["channel"] != record["channel"]:
        return False
    if planted["channel"] != "stream" and not _overlap(planted, record, TIME_SLACK_S):
        return False
    right = {planted["category"], *planted.get("also", ())}
    if record["category"] in right:
        return True
    return len(set(planted["quote"]) & set(record["quote"])) >= 2


def _within(planted: Planted, record: Record) -> bool:
    """Another fault found in a planted line is no false accusation."""
    if planted["channel"] != record["channel"] or "within" not in planted:
        return False
    start, end = planted["within"]
    return bool(start - TIME_SLACK_S <= record["start"] and record["end"] <= end + TIME_SLACK_S)


def _overlap(planted: Planted, record: Record, slack_s: float) -> bool:
    return bool(
        record["start"] - slack_s <= planted["end"] and planted["start"] <= record["end"] + slack_s
    )


def main(truth_path: str, records_path: str) -> int:
    truth = json.loads(Path(truth_path).read_text(encoding="utf-8"))
    lines = Path(records_path).read_text(encoding="utf-8").splitlines()
    result = compare(truth, map(json.loads, lines))
    for planted in result.missed:
        print("missed:", planted["channel"], planted["start"], planted["quote"])
    for record in result.accusations:
        print("false accusation:", record["channel"], record["start"], record["quote"])
    total = len(result.found) + len(result.missed)
    print(
        f"{len(result.found)} of {total} planted found, {len(result.accusations)} false accusations"
    )
    return 1 if result.missed or result.accusations else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
