"""How fast is a whole check? Each sample room from file to report, on this machine.

    python -m benchmarks.end_to_end [MEDIA ...]

For each room: times real time, peak resident memory (ffmpeg's included), CPU seconds a minute of
media, and the same with speech alone and with the screen alone, which shows what each costs. Every
run is a fresh process, so that model loading and memory are counted as a user meets them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result

ROOMS = Path(__file__).parents[1] / "samples" / "rooms"
PARTS = {"all": {}, "speech": {"video": False}, "screen": {"audio": False}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("media", nargs="*", type=Path)
    parser.add_argument("--child", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(run_one(chosen.media[0], chosen.child)))
        return
    rows: dict[str, dict[str, Any]] = {}
    for media in chosen.media or sorted(ROOMS.glob("*.mp4")):
        rows[media.name] = {part: in_fresh_process(media, part) for part in PARTS}
    show(rows)
    speeds = [row["all"]["times_real_time"] for row in rows.values()]
    peaks = [row["all"]["peak_rss_mib"] for row in rows.values()]
    print(
        write_result(
            "end_to_end",
            {
                "budget": {"times_real_time": 5.0, "peak_rss_mib": 1536},
                "slowest_times_real_time": min(speeds),
                "largest_peak_rss_mib": max(peaks),
                "rooms": rows,
            },
        )
    )


def in_fresh_process(media: Path, part: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.end_to_end", str(media), "--child", part],
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_one(media: Path, part: str) -> dict[str, Any]:
    began = perf_counter()
    from moderator import check
    from moderator.config import load_settings

    report = check(media, settings=load_settings(**PARTS[part]))
    wall_s = perf_counter() - began
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {
        "media_s": round(report.duration_s, 1),
        "wall_s": round(wall_s, 2),
        "times_real_time": round(report.duration_s / wall_s, 2),
        "cpu_s_per_media_minute": round(60 * cpu_s / report.duration_s, 2),
        "decode_cpu_s_per_media_minute": round(
            60 * (children.ru_utime + children.ru_stime) / report.duration_s, 2
        ),
        "peak_rss_mib": round((own.ru_maxrss + children.ru_maxrss) / 1024),
        "stages": report.timings,
        "counts": report.counts,
        "violations": len(report.violations),
        "cores": len(os.sched_getaffinity(0)),
    }


def show(rows: dict[str, dict[str, Any]]) -> None:
    table = Table("room", "part", "media s", "× real time", "CPU s / min", "decode CPU", "peak MiB")
    for name, parts in rows.items():
        for part, row in parts.items():
            table.add_row(
                name if part == "all" else "",
                part,
                f"{row['media_s']:.0f}",
                f"{row['times_real_time']:.1f}",
                f"{row['cpu_s_per_media_minute']:.1f}",
                f"{row['decode_cpu_s_per_media_minute']:.1f}",
                str(row["peak_rss_mib"]),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
