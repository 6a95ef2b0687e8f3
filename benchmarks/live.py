"""How many live rooms does this machine carry, and how soon are their records written?

    python -m benchmarks.live [--minutes 10] [--rooms 1 2 4 8 12 16 20] [--limit-s 5]

For each number of rooms `moderator watch` runs in a process of its own on the sample rooms, played
in a loop at live speed, each from another place; speech and a frame every two seconds, all sinks
and evidence as they are by default. Reported: p50, p95 and p99 of the end of the words to the
record written (and to any final text written), how lag and memory grow, CPU by stage, what was
given up and what was dropped. It stops when p95 of speech records exceeds the limit; the largest
number of rooms before that is the headline.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from benchmarks.watching import (
    SAMPLES,
    Watched,
    labelled,
    latencies,
    make_sources,
    percentiles,
    slope_an_hour,
    slowest,
    watch,
)

STEPS = (1, 2, 4, 8, 12, 16, 20, 24, 32)
WARM_UP_S = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each step")
    parser.add_argument("--rooms", type=int, nargs="*", default=STEPS)
    parser.add_argument("--limit-s", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=0, help="of the speech decoder")
    parser.add_argument("--no-clips", action="store_true", help="without cutting evidence")
    parser.add_argument("--no-video", action="store_true", help="speech alone")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="live-bench-") as folder:
        for count in chosen.rooms:
            rows.append(step(Path(folder), count, 60 * chosen.minutes, chosen))
            show(rows)
            p95 = rows[-1]["words_to_record_s"]["speech"]["p95"]
            if p95 is not None and p95 > chosen.limit_s:
                break
    carried = [row["rooms"] for row in rows if within(row, chosen.limit_s)]
    print(
        write_result(
            "live",
            {
                "budget": {"one_room": {"p50_s": 1.5, "p95_s": 3.0}, "rooms_at_p95_5s": 12},
                "minutes_a_step": chosen.minutes,
                "limit_s": chosen.limit_s,
                "options": {"threads": chosen.threads, "clips": not chosen.no_clips},
                "rooms_carried": max(carried, default=0),
                "steps": rows,
            },
        )
    )


def within(row: dict[str, Any], limit_s: float) -> bool:
    p95 = row["words_to_record_s"]["speech"]["p95"]
    return p95 is not None and p95 <= limit_s and row["sound_lost_s"] == 0


def step(folder: Path, count: int, seconds: float, chosen: Any) -> dict[str, Any]:
    rooms = make_sources(folder / f"sources-{seconds:.0f}", count, seconds + 60)
    if chosen.no_video:
        rooms = [room | {"video": False} for room in rooms]
    config: dict[str, Any] = {
        "rooms": rooms,
        "passports": str(SAMPLES / "passports.yaml"),
        "speech": {"threads": chosen.threads},
        "evidence": {"clips": not chosen.no_clips},
    }
    out = folder / f"{count}-rooms"
    watched = watch(config, out, seconds)
    return {"rooms": count, **report(watched, out, count)}


def report(watched: Watched, out: Path, rooms: int) -> dict[str, Any]:
    """The figures of one run."""
    found = latencies(out, after_s=min(WARM_UP_S, watched.ran_s / 4))
    minutes = max(watched.ran_s, 1.0) / 60
    metrics = watched.metrics
    cpu = {f"{name}_cpu_s": s for name, s in watched.cpu_s.items()}
    cpu |= {
        f"{name}_cpu_s": s
        for name, s in labelled(metrics, "moderator_stage_cpu_seconds_total").items()
    }
    busy = labelled(metrics, "moderator_stage_busy_seconds_total")
    drops = {
        name: value
        for name, value in metrics.items()
        if name.startswith("moderator_dropped_total") and value
    }
    lost = [v for name, v in drops.items() if "overload_seconds" in name]
    return {
        "ran_s": round(watched.ran_s),
        "words_to_record_s": {
            channel: percentiles(found.get(channel, [])) for channel in ("speech", "screen", "code")
        },
        "words_to_text_s": percentiles(found["utterance"]),
        "slowest_records": slowest(out),
        "lag_s": percentiles(watched.lags),
        "lag_slope_s_an_hour": slope_an_hour(watched.seconds, watched.lags),
        "rss_mib": round(max(watched.rss_mib, default=0.0)),
        "rss_slope_mib_an_hour": slope_an_hour(watched.seconds, watched.rss_mib),
        "cores_used": round(sum(watched.cpu_s.values()) / max(watched.ran_s, 1), 2),
        "cpu_s_a_room_minute": {
            name: round(s / minutes / rooms, 2) for name, s in sorted(cpu.items())
        },
        "busy_s_a_minute": {name: round(s / minutes, 2) for name, s in sorted(busy.items())},
        "real_time_factor": round(metrics.get("moderator_real_time_factor", 0.0), 4),
        "given_up_at_the_end": [
            step for step, on in labelled(metrics, "moderator_degraded").items() if on
        ],
        "drops": drops,
        "sound_lost_s": sum(lost),
        "exit_code": watched.exit_code,
        "start_s": round(watched.started_s, 1),
    }


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("rooms", "record p50", "p95", "p99", "text p95", "screen p95", "lag p95", "cores")
    for name in ("MiB", "MiB/h", "given up", "lost s"):
        table.add_column(name)
    for row in rows:
        speech, screen = row["words_to_record_s"]["speech"], row["words_to_record_s"]["screen"]
        cells = (
            *(row["rooms"], speech["p50"], speech["p95"], speech["p99"]),
            *(row["words_to_text_s"]["p95"], screen["p95"], row["lag_s"]["p95"]),
            *(row["cores_used"], row["rss_mib"], row["rss_slope_mib_an_hour"]),
            *(",".join(row["given_up_at_the_end"]) or "–", row["sound_lost_s"]),
        )
        table.add_row(*(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
