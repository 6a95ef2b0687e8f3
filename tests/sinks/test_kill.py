"""`kill -9` at any moment: nothing is lost, and nothing comes again under another id."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from moderator.sinks.envelope import Envelope
from moderator.sinks.verify import verify
from tests.command import REPOSITORY, environment
from tests.sinks.builders import SECRET, Receiver, a_third_fails

KILLS = 30
ROOMS = 4
STEPS = 750


def start(out: Path, url: str, pause_s: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.sinks.producer"),
            *(str(out), url, str(ROOMS), str(STEPS), str(pause_s)),
        ],
        cwd=REPOSITORY,
        env=environment(WEBHOOK_SECRET=SECRET),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(out: Path, url: str) -> None:
    process = start(out, url, 0.0)
    _, complaints = process.communicate(timeout=240)
    assert process.returncode == 0, complaints


def by_key(taken: list[Envelope]) -> dict[tuple[str, str], set[str]]:
    ids = defaultdict(set)
    for envelope in taken:
        ids[envelope.session, envelope.key].add(envelope.id)
    return ids


@pytest.mark.slow
def test_kill_thirty_times_loses_nothing_and_tells_nothing_under_two_ids(tmp_path: Path) -> None:
    reference, out = tmp_path / "reference", tmp_path / "out"
    reference.mkdir()
    out.mkdir()
    with Receiver().running() as calm:
        finish(reference, calm.url)
        wanted = by_key(calm.taken())
    assert len(wanted) == ROOMS * STEPS / 3

    chance = random.Random(4)
    under_load = 0
    with Receiver(a_third_fails(4)).running() as receiver:
        for kill in range(KILLS):
            process = start(out, receiver.url, 0.01)
            if kill % 3:
                # Two of three while it works, the others at any moment of its start.
                assert process.stdout is not None
                # What is left of the last life may fail to be delivered before this.
                assert "ready\n" in iter(process.stdout.readline, "")
            time.sleep(chance.uniform(0.0, 0.4))
            under_load += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
        finish(out, receiver.url)
        taken = receiver.taken()
        failed = sum(not 200 <= call.status < 300 for call in receiver.calls)

    assert under_load == KILLS, "it came to its end before it was killed"
    assert failed > len(wanted) / 4
    found = by_key(taken)
    assert found.keys() == wanted.keys()
    assert all(len(ids) == 1 for ids in found.values())
    first_time: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for envelope in taken:
        if envelope.id not in seen:
            seen.add(envelope.id)
            first_time[envelope.room].append(envelope.seq)
    assert all(seqs == sorted(seqs) for seqs in first_time.values())

    lines = (out / "violations.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len({record["id"] for record in records}) == len(records) == len(wanted)
    with closing(sqlite3.connect(out / "records.db")) as database:
        (rows,) = database.execute("SELECT count(*) FROM moderator_violations").fetchone()
    assert rows == len(wanted)
    assert not list((out / "dead-letter").glob("*.jsonl"))
    for target in (str(out), str(out / "events.jsonl"), f"sqlite:///{out / 'records.db'}"):
        result = verify(target)
        assert result.intact, [one.text() for one in result.breaks[:3]]
        assert result.envelopes == verify(str(reference)).envelopes
    twice = len(taken) - len(seen)
    print(f"{len(wanted)} records, {twice} came twice, {failed} calls failed", end=", ")
    print(f"{receiver.cut_short} were cut short by a kill")
