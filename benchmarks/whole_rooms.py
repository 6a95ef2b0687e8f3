"""One host after the other, eight minutes each: what a reviewer gets to see of coherent talk.

    python -m benchmarks.whole_rooms
    python -m benchmarks.whole_rooms --show    # also each false record and each claim not found

`whole_rooms.jsonl` holds rooms as a recogniser would cut them, utterance by utterance and in order,
written by hands that knew neither rules nor classifier: half of them lawful throughout, half with
some claims in between. Every utterance goes through a session as in a live room. A claim is found
when a finding meets one of its utterances; a record, which is what a reviewer gets, is false when
it meets none. Nothing is spoken: a recogniser's mistakes are few here, see `spoken`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy import engines
from benchmarks.flow import paced
from benchmarks.report import write_result
from moderator import load_rules
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.episodes import Provenance, to_violations
from moderator.records import Room, Utterance

ROOMS = Path(__file__).with_name("whole_rooms.jsonl")
PARTS = ("patterns", "patterns, weighed", "patterns + classifier")
"""Of the ablation in `accuracy`; keen thresholds are for scripts."""


@dataclass(frozen=True, slots=True)
class Said:
    """An utterance of a room, and whether it is, or is part of, an unlawful claim."""

    utterance: Utterance
    unlawful: bool

    def meets(self, start_s: float, end_s: float) -> bool:
        return self.utterance.start < end_s and start_s < self.utterance.end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print what is false or not found")
    chosen = parser.parse_args()
    console = Console()
    pack = load_rules()
    rooms = spoken_rooms()
    payload: dict[str, Any] = {"pack": pack.version, "rooms": len(rooms), "judged": {}}
    for part, engine in engines(pack).items():
        if part not in PARTS:
            continue
        results = {
            name: judge(engine, name, said, console if chosen.show else None)
            for name, said in rooms.items()
        }
        own: dict[str, Any] = {"by_room": results}
        for kind, lawful in (("lawful", True), ("mixed", False)):
            own[kind] = together(r for r in results.values() if (r["unlawful"] == 0) is lawful)
        payload["judged"][part] = own
        _print(console, part, {**results, **{kind: own[kind] for kind in ("lawful", "mixed")}})
    console.print(write_result("whole_rooms", payload))


def spoken_rooms() -> dict[str, list[Said]]:
    """The rooms by name, at the pace of `flow`."""
    rooms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in ROOMS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rooms[row["room"]].append(row)
    return {
        name: [
            Said(utterance, bool(row["labels"]))
            for utterance, row in zip(paced(row["text"] for row in rows), rows, strict=True)
        ]
        for name, rows in rooms.items()
    }


def judge(
    engine: ClaimEngine, name: str, said: Sequence[Said], console: Console | None
) -> dict[str, Any]:
    """What one room yields. `missing_notice` and the like need a passport and are not asked."""
    room = Room(id=name)
    session = ClaimSession(engine, room)
    sightings = [found for one in said for found in session.observe(one.utterance)]
    duration_s = said[-1].utterance.end
    records = to_violations(sightings, [], Provenance(room, name, "written", {}), duration_s)
    unlawful = [one for one in said if one.unlawful]
    missed = [
        one for one in unlawful if not any(one.meets(at.start_s, at.end_s) for at in sightings)
    ]
    false = [
        record
        for record in records
        if not any(one.meets(record.start, record.end) for one in unlawful)
    ]
    if console is not None:
        for one in missed:
            console.print("MISS", name, one.utterance.text, markup=False)
        for record in false:
            console.print(
                "FALSE", name, record.rule.id, record.disposition, record.quote, markup=False
            )
    return {
        "minutes": round(duration_s / 60, 2),
        "utterances": len(said),
        "unlawful": len(unlawful),
        "found": len(unlawful) - len(missed),
        "records": len(records),
        "false": len(false),
        "false_firm": sum(record.disposition == "violation" for record in false),
    }


def together(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums over rooms."""
    every = list(rows)
    names = every[0] if every else ()
    return {name: round(sum(row[name] for row in every), 2) for name in names}


def _print(console: Console, title: str, rows: dict[str, dict[str, Any]]) -> None:
    table = Table(
        *("room", "unlawful", "recall", "records", "precision", "false in 10 min", "firm"),
        title=title,
    )
    for name, row in rows.items():
        table.add_row(
            name,
            str(row["unlawful"]),
            _share(row["found"], row["unlawful"]),
            str(row["records"]),
            _share(row["records"] - row["false"], row["records"]),
            f"{10 * row['false'] / row['minutes']:.1f}",
            str(row["false_firm"]),
        )
    console.print(table)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "–"


if __name__ == "__main__":
    main()
