"""`moderator watch` as its users run it: a process, a folder, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from moderator.media.command import find_ffmpeg
from moderator.sinks.verify import verify
from tests.command import REPOSITORY, environment, moderator, write_yaml
from tests.live.fakes import wait_for

RECORD = Draft202012Validator(
    json.loads((files("moderator") / "schemas" / "violation.schema.json").read_text("utf-8"))
)
SAMPLE = REPOSITORY / "samples" / "rooms" / "skincare_and_health.mp4"
BEGIN_S, LENGTH_S = 40, 34
"""A stretch in which something unlawful is said (七天美白) and shown."""


@pytest.fixture(scope="module")
def piece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "piece.mp4"
    command = [find_ffmpeg(), "-v", "error", "-ss", str(BEGIN_S), "-i", str(SAMPLE)]
    subprocess.run([*command, "-t", str(LENGTH_S), "-c", "copy", str(path)], check=True)
    return path


def test_watch_needs_rooms_and_knows_its_fields(tmp_path: Path) -> None:
    assert moderator("watch").code == 2
    rooms = write_yaml(tmp_path / "rooms.yaml", {"rooms": [{"id": "r", "sauce": "x"}]})
    refused = moderator("watch", "--rooms", rooms, "--out", tmp_path / "out")
    assert refused.code == 2
    assert "LM-302" in refused.err
    assert "did you mean 'source'?" in refused.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_watch_refuses_a_private_address_and_says_so_in_the_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = moderator("watch", "http://127.0.0.1:9/live.flv?token=hunter2hunter2", "--out", out)
    assert done.code == 0, done.err
    told = (out / "events.jsonl").read_text(encoding="utf-8")
    assert '"after": "failed"' in told
    assert "LM-111" in told
    assert "hunter2" not in told + done.err + done.out


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_watch_a_recording_leaves_records_evidence_and_proof(tmp_path: Path, piece: Path) -> None:
    out = tmp_path / "out"
    passports = REPOSITORY / "samples" / "passports.yaml"
    done = moderator("watch", piece, "--out", out, "--passports", passports, limit_s=300)
    assert done.code == 0, done.err
    records = [json.loads(line) for line in done.out.splitlines()]
    assert records
    for record in records:
        RECORD.validate(record)
    assert {record["channel"] for record in records} >= {"speech"}
    stored = [json.loads(x) for x in (out / "violations.jsonl").read_text("utf-8").splitlines()]
    assert [one["id"] for one in stored] == [one["id"] for one in records]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()]
    assert events[0]["type"] == "session.started"
    assert events[-1]["type"] == "session.ended"
    clips = [event["body"]["clip"] for event in events if event["type"] == "evidence"]
    assert clips
    assert all((out / clip).is_file() for clip in clips)
    proof = verify(str(out))
    assert proof.intact, proof.breaks
    assert not any((out / "rings").glob("*/*"))


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_watch_stopped_by_sigterm_finishes_and_sighup_reloads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # The whole recording: it must not come to its end by itself while the rules load again.
    rooms = {"rooms": [{"id": "r1", "source": str(SAMPLE)}], "limits": {"drain_s": 60}}
    file = write_yaml(tmp_path / "rooms.yaml", rooms)
    command = [sys.executable, "-m", "moderator", "watch", "--rooms", str(file), "--realtime"]
    command += ["--out", str(out), "--log-format", "json"]
    log = tmp_path / "log"
    with log.open("wb") as errors:
        running = subprocess.Popen(
            command, env=environment(), stderr=errors, stdout=subprocess.DEVNULL
        )
    try:
        wait_for(lambda: b"watch.started" in log.read_bytes() or running.poll() is not None, 120)
        started = next(x for x in logged(log) if x["event"] == "watch.started")
        transcript = out / "transcript.jsonl"
        wait_for(lambda: transcript.is_file() and bool(transcript.read_bytes()), 60)
        with urllib.request.urlopen(
            f"http://127.0.0.1:{started['metrics_port']}/readyz", timeout=10
        ) as answer:
            assert json.load(answer)["ok"]
        running.send_signal(signal.SIGHUP)
        wait_for(lambda: b"reload.done" in log.read_bytes(), 60)
        running.send_signal(signal.SIGTERM)
        assert running.wait(90) == 0, log.read_text("utf-8")
    finally:
        running.kill()
        running.wait()
    events = [json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()]
    assert [e["body"]["before"] for e in events if e["type"] == "rules.reloaded"]
    assert (events[-1]["type"], events[-1]["body"]["reason"]) == ("session.ended", "stopped")
    assert verify(str(out)).intact


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_watch_killed_goes_on_with_its_session(tmp_path: Path, piece: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "moderator", "watch", str(piece), "--realtime"]
    command += ["--out", str(out), "--log-format", "json"]
    killed = subprocess.Popen(
        command, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        transcript = out / "transcript.jsonl"
        wait_for(lambda: transcript.is_file() and transcript.read_bytes().count(b"\n") >= 2, 120)
        time.sleep(6)  # a checkpoint is made every five seconds
    finally:
        killed.kill()
        killed.wait()
    done = moderator(*command[3:], limit_s=300)
    assert done.code == 0, done.err
    events = [json.loads(line) for line in (out / "events.jsonl").read_text("utf-8").splitlines()]
    assert len({event["session"] for event in events}) == 1
    assert [event["seq"] for event in events] == list(range(len(events)))
    ids = [event["body"]["id"] for event in events if event["type"] == "violation"]
    assert len(ids) == len(set(ids))
    assert verify(str(out)).intact


def logged(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]
