from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema

from moderator.sinks.config import build_sink
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import Journal
from tests.command import REPOSITORY, environment
from tests.sinks.builders import tell_session

SCHEMA = Path(__file__).parents[2] / "moderator" / "schemas" / "violation.schema.json"


def said(tmp_path: Path) -> list[Envelope]:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        tell_session(journal, tmp_path)
        screen = {"channel": "screen", "text": "第一", "start": 1, "end": 2}
        journal.append("s1", "room", "observation", screen)
        return [envelope for _, envelope in journal.after(0, 100)]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_jsonl_each_file_has_what_its_name_says(tmp_path: Path) -> None:
    envelopes = said(tmp_path)
    sink = build_sink({"type": "jsonl"}, out=tmp_path)
    sink.send(envelopes)
    sink.close()
    assert lines(tmp_path / "events.jsonl") == [e.to_json() for e in envelopes]
    (record,) = lines(tmp_path / "violations.jsonl")
    jsonschema.validate(record, json.loads(SCHEMA.read_text("utf-8")))
    (utterance,) = lines(tmp_path / "transcript.jsonl")
    assert (utterance["session"], utterance["room"]) == ("s1", "room")
    assert utterance["text"] == "这是国家级品质"
    assert [line["text"] for line in lines(tmp_path / "screen.jsonl")] == ["第一"]


def test_jsonl_a_line_that_a_killed_process_left_is_cut_and_none_comes_twice(
    tmp_path: Path,
) -> None:
    envelopes = said(tmp_path)
    sink = build_sink({"type": "jsonl"}, out=tmp_path)
    sink.send(envelopes[:4])
    sink.close()
    for name in ("events", "violations"):
        with (tmp_path / f"{name}.jsonl").open("ab") as file:
            file.write('{"id": "01HALF", "quote": "国'.encode()[:-1])
    again = build_sink({"type": "jsonl"}, out=tmp_path)
    again.send(envelopes)
    again.send(envelopes)
    again.close()
    assert lines(tmp_path / "events.jsonl") == [e.to_json() for e in envelopes]
    assert len(lines(tmp_path / "violations.jsonl")) == 1


def test_jsonl_large_files_and_last_months_are_set_aside(tmp_path: Path) -> None:
    envelopes = said(tmp_path)
    sink = build_sink({"type": "jsonl", "types": ["observation"]}, out=tmp_path)
    sink.send(envelopes[1:2])
    long_ago = 1_600_000_000
    os.utime(tmp_path / "events.jsonl", (long_ago, long_ago))
    sink.send(envelopes[2:3])
    sink.close()
    (aside,) = tmp_path.glob("events-*.jsonl")
    assert lines(aside) == [envelopes[1].to_json()]
    assert lines(tmp_path / "events.jsonl") == [envelopes[2].to_json()]

    small = build_sink({"type": "jsonl", "dir": "small", "rotate_mib": 1}, out=tmp_path)
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        big = [journal.append("s2", "r", "observation", {"text": "x" * 600_000}) for _ in range(3)]
    for envelope in big:
        small.send([envelope])
    small.close()
    assert len(list((tmp_path / "small").glob("events-*.jsonl"))) == 1
    after = build_sink({"type": "jsonl", "dir": "small", "rotate_mib": 1}, out=tmp_path)
    after.send(big)
    after.close()
    assert len(lines(tmp_path / "small" / "events.jsonl")) == 1


FULL = """
import resource, signal, sys
from pathlib import Path
from moderator.sinks.config import build_sink
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Unavailable

out = Path(sys.argv[1])
journal = Journal.open(out / "journal.sqlite3")
said = [envelope for _, envelope in journal.after(0, 100)]
journal.close()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = build_sink({"type": "jsonl"}, out=out)
sink.send(said[:1])
size = (out / "events.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
try:
    sink.send(said)
except Unavailable as error:
    print(error)
print((out / "events.jsonl").stat().st_size - size)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.send(said)
sink.close()
"""


def test_jsonl_a_full_disk_leaves_no_half_line_and_passes(tmp_path: Path) -> None:
    envelopes = said(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    failed, grown = done.stdout.splitlines()
    assert failed
    assert grown == "0"
    assert lines(tmp_path / "events.jsonl") == [e.to_json() for e in envelopes]
    assert len(lines(tmp_path / "violations.jsonl")) == 1
