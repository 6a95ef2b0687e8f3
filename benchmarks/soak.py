"""Does it run for days? Memory, lag and drops of live rooms over hours.

    python -m benchmarks.soak [--hours 1] [--rooms 4]

`moderator watch` on sample rooms in a loop at live speed. Wanted: memory grows by less than
1 MiB an hour and room, lag does not grow, no record is dropped, the hash chain and the clips are
intact, no process and no descriptor is left behind.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.live import report
from benchmarks.report import write_result
from benchmarks.watching import SAMPLES, events, make_sources, slope_an_hour, watch
from moderator.sinks.verify import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rooms", type=int, default=4)
    chosen = parser.parse_args()
    seconds = 3600 * chosen.hours
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        out = Path(folder) / "out"
        rooms = make_sources(Path(folder) / "sources", chosen.rooms, seconds + 60)
        config = {"rooms": rooms, "passports": str(SAMPLES / "passports.yaml")}
        watched = watch(config, out, seconds)
        found = report(watched, out, chosen.rooms)
        found |= written(out)
        found["rss_mib_by_minute"] = by_minute(watched.seconds, watched.rss_mib)
        found["rss_floor_mib_by_ten_minutes"] = floors(found["rss_mib_by_minute"])
        found["memory"] = {
            part: {
                "slope_an_hour": slope_an_hour(watched.seconds, values),
                "floor_by_ten_minutes": floors(by_minute(watched.seconds, values)),
            }
            for part, values in watched.memory.items()
        }
        proof = verify(str(out))
        found["chain"] = {
            "intact": proof.intact,
            "envelopes": proof.envelopes,
            "files": proof.files,
            "breaks": [str(one) for one in proof.breaks],
        }
    slope = found["rss_slope_mib_an_hour"]
    found["rss_slope_mib_an_hour_and_room"] = None if slope is None else slope / chosen.rooms
    Console().print_json(data=found)
    print(
        write_result(
            "soak",
            {
                "budget": {"rss_slope_mib_an_hour_and_room": 1.0, "dropped_records": 0},
                "hours": chosen.hours,
                "rooms": chosen.rooms,
                **found,
            },
        )
    )


def by_minute(seconds: list[float], values: list[float]) -> list[int]:
    """The first value of each minute."""
    first: dict[int, float] = {}
    for at, value in zip(seconds, values, strict=False):
        first.setdefault(int(at // 60), value)
    return [round(value) for _, value in sorted(first.items())]


def floors(by_minute_: list[int], minutes: int = 10) -> list[int]:
    """The lowest of every so many minutes: what is kept, beside what comes and goes."""
    whole = len(by_minute_) - len(by_minute_) % minutes
    return [min(by_minute_[at : at + minutes]) for at in range(0, whole, minutes)]


def written(out: Path) -> dict[str, Any]:
    """Records in the journal, in the sink, and with evidence."""
    records = [event["body"]["id"] for event in events(out, "violation")]
    lines = (out / "violations.jsonl").read_text(encoding="utf-8").splitlines()
    evidence = events(out, "evidence")
    return {
        "records": len(records),
        "records_in_sink": len(lines),
        "dropped_records": len(records) - len(lines),
        "evidence": len(evidence),
        "evidence_failed": sum("error" in event["body"] for event in evidence),
        "sessions_ended": len(events(out, "session.ended")),
        "gaps": len(events(out, "session.gap")),
    }


if __name__ == "__main__":
    main()
