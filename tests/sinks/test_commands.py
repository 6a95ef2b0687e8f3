"""`moderator verify`, `sinks` and `hold` as people call them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from moderator.sinks.dead_letters import FOLDER, DeadLetters
from moderator.sinks.journal import FILE_NAME, Journal
from tests.command import environment, moderator
from tests.sinks.builders import SECRET, Receiver, tell_session


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    with Journal.open(folder / FILE_NAME) as journal:
        tell_session(journal, folder)
        journal.move_cursor("webhook", 3, delivered=2, dead=1)
    return folder


def test_command_verify_says_intact_or_names_the_first_break(out: Path) -> None:
    good = moderator("verify", out)
    assert (good.code, good.err) == (0, "")
    assert "intact (5 envelopes in 1 sessions, 1 files)" in good.out
    (clip,) = out.rglob("*.mp4")
    clip.write_bytes(b"another")
    bad = moderator("verify", out)
    assert bad.code == 1
    assert clip.name in bad.out.splitlines()[0]
    assert "BROKEN" in bad.out
    told = json.loads(moderator("verify", out, "--json").out)
    assert (told["intact"], told["breaks"][0]["seq"]) == (False, 3)
    assert told["heads"]["s1"]["envelopes"] == 5
    chinese = moderator("verify", out, env=environment(MODERATOR_LANG="zh"))
    assert "文件被改动" in chinese.out


def test_command_verify_a_wrong_call_is_two(tmp_path: Path) -> None:
    nothing = moderator("verify", tmp_path)
    assert (nothing.code, nothing.out) == (2, "")
    assert "LM-809" in nothing.err
    assert moderator("verify", tmp_path / "no").code == 2


def test_command_hold_is_placed_listed_and_lifted(out: Path) -> None:
    placed = moderator(
        *("hold", "add", out, "--session", "s1", "--reason", "court order 7", "--by", "legal")
    )
    assert placed.code == 0, placed.err
    listed = moderator("hold", "list", out)
    assert placed.out.strip() in listed.out
    assert "court order 7" in listed.out
    lifted = moderator("hold", "remove", out, placed.out.strip(), "--reason", "settled")
    assert lifted.code == 0, lifted.err
    assert "court order 7" not in moderator("hold", "list", out).out
    assert moderator("verify", out).code == 0


def test_command_hold_of_nothing_is_refused(out: Path, tmp_path: Path) -> None:
    for arguments in (["--session", "s9"], ["--session", "s1", "--room", "room"]):
        refused = moderator("hold", "add", out, "--reason", "x", *arguments)
        assert refused.code == 2
        assert "LM-811" in refused.err
    missing = moderator("hold", "list", tmp_path / "no")
    assert missing.code == 2
    assert "LM-101" in missing.err


def test_command_hold_a_locked_journal_is_named(out: Path) -> None:
    with closing(sqlite3.connect(out / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused = moderator("hold", "add", out, "--session", "s1", "--reason", "x")
    assert (refused.code, refused.out) == (2, "")
    assert "LM-803" in refused.err


def test_command_sinks_list_and_replay_of_dead_letters(out: Path, tmp_path: Path) -> None:
    with Journal.open(out / FILE_NAME) as journal:
        said = [envelope for _, envelope in journal.after(0, 2)]
    letters = DeadLetters(out / FOLDER, "webhook")
    for envelope in said:
        letters.add(envelope, "HTTP 422", 1)
    listed = moderator("sinks", "list", out)
    assert listed.code == 0, listed.err
    assert "webhook" in listed.out
    assert "HTTP 422" in listed.out

    env = environment(HOOK_SECRET=SECRET)
    with Receiver(lambda n: 422 if n == 1 else 204).running() as receiver:
        sink = {
            "type": "webhook",
            "url": receiver.url,
            "allow_private": True,
            "secret_env": "HOOK_SECRET",
        }
        rooms = tmp_path / "rooms.yaml"
        body = {"rooms": [{"id": "room", "source": "rtmp://example.com/x"}], "sinks": [sink]}
        rooms.write_text(yaml.safe_dump(body))
        first = moderator("sinks", "replay", out, "webhook", "--rooms", rooms, env=env)
        assert first.code == 1
        assert "1 delivered, 1 still dead" in first.err
        second = moderator("sinks", "replay", out, "webhook", "--rooms", rooms, env=env)
        assert second.code == 0, second.err
        assert [e.id for e in receiver.taken()] == [envelope.id for envelope in said]
        unknown = moderator("sinks", "replay", out, "kafka", "--rooms", rooms, env=env)
    assert unknown.code == 2
    assert "there are: webhook" in unknown.err
    assert letters.read() == []
