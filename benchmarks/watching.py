"""A `moderator watch` in a process of its own, and what it costs while it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from moderator.media.command import find_ffmpeg
from moderator.media.probe import probe

SAMPLES = Path(__file__).parents[1] / "samples"
KEY_FRAMES_S = 10.0
"""The sample rooms have a key frame as often."""
TICK_S = 2.0
STARTED_WITHIN_S = 120.0


@dataclass
class Watched:
    """What one run left behind. Times are seconds of the run, latencies seconds."""

    seconds: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    memory: dict[str, list[float]] = field(default_factory=dict)
    """What the process says of its own memory, by part: MiB, or thousands of Python's objects."""
    metrics: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    exit_code: int | None = None
    ran_s: float = 0.0
    started_s: float = 0.0


def make_sources(folder: Path, count: int, seconds: float) -> list[dict[str, Any]]:
    """`count` rooms that play the sample rooms in a loop, each from another place in it.

    Streams are copied, not encoded again. Returns entries for `rooms:`.
    """
    known = yaml.safe_load((SAMPLES / "rooms.yaml").read_text(encoding="utf-8"))["rooms"]
    folder.mkdir(parents=True, exist_ok=True)
    rooms = []
    for number in range(count):
        about = dict(known[number % len(known)])
        media = SAMPLES / about["source"]
        begin_s = begin_of(number // len(known), probe(media).duration_s or 180.0)
        looped = folder / f"room{number:02}.mkv"
        if not looped.is_file():
            command = [find_ffmpeg(), "-v", "error", "-y", "-stream_loop", "-1"]
            # A copied stream begins with the key frame before the place that is asked for.
            command += ["-ss", f"{begin_s + 0.3:.1f}", "-i", str(media), "-t", f"{seconds:.1f}"]
            subprocess.run([*command, "-c", "copy", str(looped)], check=True)
        rooms.append(about | {"id": f"room{number:02}", "source": str(looped)})
    return rooms


def begin_of(turn: int, length_s: float) -> float:
    """Where in a sample room its `turn`th player begins, in seconds: always at a key frame."""
    return (4 * KEY_FRAMES_S * turn) % ((length_s - 60) // KEY_FRAMES_S * KEY_FRAMES_S)


def watch(
    config: dict[str, Any],
    out: Path,
    seconds: float,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
) -> Watched:
    """Run `moderator watch` for `seconds`, sampling it, and stop it with SIGTERM.

    `settings` are added to its environment.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "rooms.yaml"
    file.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    command = [sys.executable, "-m", "moderator", "watch", "--rooms", str(file), "--realtime"]
    command += ["--out", str(out), "--log-format", "json", "--no-view", *arguments]
    watched = Watched()
    with (out / "log.jsonl").open("wb") as log:
        asked = time.monotonic()
        running = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **(settings or {})},
        )
        try:
            port = _port(out / "log.jsonl", running)
            began = time.monotonic()
            watched.started_s = began - asked
            while time.monotonic() - began < seconds and running.poll() is None:
                time.sleep(TICK_S)
                watched.seconds.append(time.monotonic() - began)
                with suppress(OSError):
                    watched.metrics = scrape(port)
                    watched.lags.append(worst(watched.metrics, "moderator_room_lag_seconds"))
                    watched.rss_mib.append(_rss_mib(running.pid))
                    for part, size in labelled(watched.metrics, "moderator_memory_bytes").items():
                        watched.memory.setdefault(part, []).append(size / 2**20)
                    objects = watched.metrics["moderator_python_objects"] / 1000
                    watched.memory.setdefault("thousand_python_objects", []).append(objects)
                    watched.cpu_s = _cpu(running.pid)
            watched.ran_s = time.monotonic() - began
            running.send_signal(signal.SIGTERM)
            watched.exit_code = running.wait(120)
        finally:
            running.kill()
            running.wait()
    return watched


def scrape(port: int) -> dict[str, float]:
    """The samples of `/metrics`, by name with labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def worst(metrics: dict[str, float], family: str) -> float:
    return max((v for name, v in metrics.items() if name.startswith(family + "{")), default=0.0)


def labelled(metrics: dict[str, float], family: str) -> dict[str, float]:
    """The samples of one family by the value of their first label."""
    found = {}
    for name, value in metrics.items():
        match = re.match(rf'{family}\{{\w+="([^"]*)"', name)
        if match:
            found[match[1]] = found.get(match[1], 0.0) + value
    return found


def events(out: Path, *types: str) -> list[dict[str, Any]]:
    """The envelopes of these types, in order of writing."""
    marks = ",".join("?" * len(types))
    with closing(sqlite3.connect(f"file:{out}/journal.sqlite3?mode=ro", uri=True)) as journal:
        rows = journal.execute(
            f"SELECT line FROM events WHERE type IN ({marks}) ORDER BY n", types
        ).fetchall()
    return [json.loads(line) for (line,) in rows]


def latencies(out: Path, after_s: float = 0.0) -> dict[str, list[float]]:
    """Seconds from the end of the words to what was written, by channel.

    `speech`, `screen`, `code` are records, as they say themselves; `utterance` is all final
    text, by the wall time of its envelope. What was said before `after_s` is left out.
    """
    found: dict[str, list[float]] = {"utterance": []}
    for event in events(out, "violation"):
        body = event["body"]
        if body["latency_ms"] is not None and body["start"] >= after_s:
            found.setdefault(body["channel"], []).append(body["latency_ms"] / 1000)
    zeros = {
        event["session"]: datetime.fromisoformat(event["body"]["media_zero"]).timestamp()
        for event in events(out, "session.started")
        if event["body"]["media_zero"]
    }
    for event in events(out, "observation"):
        body = event["body"]
        zero = zeros.get(event["session"])
        if body["channel"] == "speech" and zero is not None and body["end"] >= after_s:
            written = datetime.fromisoformat(event["time"]).timestamp()
            found["utterance"].append(written - zero - body["end"])
    return found


def slowest(out: Path, count: int = 8) -> list[dict[str, Any]]:
    """The records that came latest after their words: what they are about, to see why."""
    records = [event["body"] for event in events(out, "violation")]
    timed = [body for body in records if body["latency_ms"] is not None]
    timed.sort(key=lambda body: -float(body["latency_ms"]))
    return [
        {
            "latency_s": round(body["latency_ms"] / 1000, 1),
            "rule": body["rule"]["id"],
            **{name: body[name] for name in ("room", "channel", "start", "end", "quote")},
        }
        for body in timed[:count]
    ]


def percentiles(values: list[float]) -> dict[str, float | int | None]:
    if not values:
        return {"count": 0, "p50": None, "p95": None, "p99": None, "max": None}
    p50, p95, p99 = (round(float(np.percentile(values, p)), 3) for p in (50, 95, 99))
    return {"count": len(values), "p50": p50, "p95": p95, "p99": p99, "max": round(max(values), 3)}


def slope_an_hour(seconds: list[float], values: list[float], skip: float = 0.25) -> float | None:
    """Least-squares slope in units an hour, without the first part, while caches fill."""
    count = min(len(seconds), len(values))
    x, y = np.array(seconds[:count]), np.array(values[:count])
    keep = x >= skip * x[-1] if count else x
    if count < 4 or keep.sum() < 3:
        return None
    return round(float(np.polyfit(x[keep], y[keep], 1)[0]) * 3600, 3)


def _port(log: Path, running: subprocess.Popen[bytes]) -> int:
    ends_at = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < ends_at and running.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                said = json.loads(line)
                if said.get("event") == "watch.started":
                    return int(said["metrics_port"])
        time.sleep(0.1)
    raise RuntimeError(f"moderator watch did not start; see {log}")


def _rss_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def _cpu(pid: int) -> dict[str, float]:
    """CPU seconds of the process and of the ffmpegs it runs now or has reaped."""
    tick = os.sysconf("SC_CLK_TCK")
    fields = _stat(pid)
    cpu = {
        "process": (int(fields[11]) + int(fields[12])) / tick,
        "ffmpeg": (int(fields[13]) + int(fields[14])) / tick,
    }
    for other in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            fields = _stat(int(other.name))
            if int(fields[1]) == pid:
                cpu["ffmpeg"] += (int(fields[11]) + int(fields[12])) / tick
    return cpu


def _stat(pid: int) -> list[str]:
    # The name, in brackets, may hold spaces.
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
