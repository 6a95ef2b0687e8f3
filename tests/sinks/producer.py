"""A live session in miniature, to be killed: `python -m tests.sinks.producer OUT URL ROOMS STEPS`.

Each room says the same things in each run. It goes on from the journal's checkpoint, and says
again what it said after it: the journal knows those by their keys.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from moderator.sinks.config import build_deliveries
from moderator.sinks.journal import FILE_NAME, Journal
from tests.sinks.builders import violation

STEP_S = 0.5
"""Media seconds of one step."""


def room(journal: Journal, name: str, steps: int, pause_s: float) -> None:
    session = f"session-{name}"
    journal.append(session, name, "session.started", {}, key="session.started")
    done_s = journal.resume_point(session)
    first = 0 if done_s is None else round(done_s / STEP_S) + 1
    for step in range(first, steps):
        at = step * STEP_S
        said = {"channel": "speech", "text": f"{name} {step}", "start": at, "end": at + STEP_S}
        journal.append(session, name, "observation", said, key=f"speech/{at}", media_s=at)
        if step % 3 == 0:
            record = violation(name, session, at, quote=f"第{step}句")
            body = record.to_json()
            journal.append(session, name, "violation", body, key=f"violation/{at}", media_s=at)
        if step % 7 == 0:
            journal.checkpoint(session, at)
        time.sleep(pause_s)
    journal.append(session, name, "session.ended", {}, key="session.ended")


def main(out: Path, url: str, rooms: int, steps: int, pause_s: float) -> int:
    sinks = [
        {"type": "jsonl"},
        {"type": "database", "url": f"sqlite:///{out / 'records.db'}"},
        {
            "type": "webhook",
            "url": url,
            "secret_env": "WEBHOOK_SECRET",
            "allow_private": True,
            "types": ["violation"],
            "attempts": 1000,
            "backoff_s": 0.005,
            "backoff_max_s": 0.02,
        },
    ]
    with Journal.open(out / FILE_NAME, owner=True) as journal:
        deliveries = build_deliveries(journal, sinks, out=out)
        deliveries.start()
        print("ready", flush=True)
        threads = [
            threading.Thread(target=room, args=(journal, f"room{n}", steps, pause_s))
            for n in range(rooms)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        arrived = deliveries.drain(60)
        deliveries.close()
    return 0 if arrived else 1


if __name__ == "__main__":
    folder, hook, rooms, steps, pause_s = sys.argv[1:]
    sys.exit(main(Path(folder), hook, int(rooms), int(steps), float(pause_s)))
