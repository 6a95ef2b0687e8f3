"""A room that is watched has a journal of its own: its seals go into the bundle, holds go back."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from moderator.errors import ModeratorError
from moderator.holds import Hold, add_hold, list_holds
from moderator.review import bundle, ingest
from moderator.sinks.journal import Journal
from moderator.sinks.verify import verify
from tests.outputs.builders import violation
from tests.review.world import World


class Watched:
    """A session in its journal, as `moderator watch` writes it, taken into the console."""

    def __init__(self, world: World, folder: Path, *, phone: str = "") -> None:
        self.folder = folder
        self.journal = Journal.open(folder / "journal.sqlite3", sync="normal")
        record = violation(room="live1", session="L1", context=f"国家级{phone}").to_json()
        self.case = str(record["id"])
        self.journal.append("L1", "live1", "session.started", {"merchant": "甲商行"})
        self.journal.append("L1", "live1", "violation", record)
        self.journal.append("L1", "live1", "violation.updated", {**record, "occurrences": 2})
        self.journal.append("L1", "live1", "session.ended", {"reason": "ended"})
        said = [envelope.to_json() for _, envelope in self.journal.after(0, 100)]
        for _ in range(2):  # delivery is at least once
            ingest.put_envelopes(world.house.database, said, folder=folder)

    def holds(self) -> list[Hold]:
        return list_holds(self.journal)


@pytest.fixture
def watched(world: World, tmp_path: Path) -> Iterator[Watched]:
    there = Watched(world, tmp_path)
    yield there
    there.journal.close()


def bundle_of(world: World, case: str, who: str = "reviewer") -> bytes:
    made = world.caller(who).post(f"/violations/{case}/exports", {"kind": "zip"})
    assert made.status_code == 201, made.text
    return bytes(world.caller(who).get(f"/exports/{made.json()['id']}").content)


def test_watched_journal_the_bundle_carries_what_the_journal_sealed(
    world: World, watched: Watched, tmp_path: Path
) -> None:
    data = bundle_of(world, watched.case)
    path = tmp_path / "case.zip"
    path.write_bytes(data)
    bundle.verify(path)
    lines = zipfile.ZipFile(io.BytesIO(data)).read("envelopes.jsonl")
    assert [json.loads(line)["seq"] for line in lines.splitlines()] == [1, 2]
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(lines)
    assert verify(str(watched.folder), against=copy).intact
    forged = tmp_path / "forged.jsonl"
    first = json.loads(lines.splitlines()[0])
    forged.write_text(json.dumps({**first, "hash": "0" * 64}) + "\n")
    assert not verify(str(watched.folder), against=forged).intact


def test_watched_journal_a_bundle_with_a_changed_envelope_is_found_out(
    world: World, watched: Watched, tmp_path: Path
) -> None:
    source = zipfile.ZipFile(io.BytesIO(bundle_of(world, watched.case)))
    files = {name: source.read(name) for name in source.namelist() if name != bundle.MANIFEST}
    files[bundle.ENVELOPES] = files[bundle.ENVELOPES].replace("国家级".encode(), "国家及".encode())
    path = tmp_path / "forged.zip"
    parts = [bundle._Part(name, data) for name, data in files.items()]
    bundle._pack(path, parts, json.loads(source.read(bundle.MANIFEST)))  # all its own hashes hold
    with pytest.raises(ModeratorError, match="LM-938"):
        bundle.verify(path)


def test_watched_journal_who_sees_numbers_masked_gets_no_sealed_words(
    world: World, tmp_path: Path
) -> None:
    there = Watched(world, tmp_path, phone="，电话13812345678")
    body = {"name": "export", "scopes": ["evidence:export", "violations:read"]}
    token = world.caller("reviewer").post("/auth/tokens", body).json()["token"]
    http = world.anonymous()
    http.headers["Authorization"] = f"Bearer {token}"
    made = http.post(f"/api/v1/violations/{there.case}/exports", json={"kind": "zip"})
    data = http.get(f"/api/v1/exports/{made.json()['id']}").content
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert bundle.ENVELOPES not in archive.namelist()
    missing = json.loads(archive.read(bundle.MANIFEST))["missing"]
    assert any(bundle.ENVELOPES in name for name in missing)
    assert not any(b"13812345678" in archive.read(name) for name in archive.namelist())
    there.journal.close()


def test_watched_journal_a_hold_of_the_console_holds_there_too(
    world: World, watched: Watched
) -> None:
    add_hold(watched.journal, "violation", watched.case, "court", "clerk")
    second = world.caller("second_reviewer")
    for _ in range(2):
        body = {"held": True, "reason": "诉讼"}
        assert second.put(f"/violations/{watched.case}/hold", body).status_code == 200
    ours = [hold for hold in watched.holds() if hold.placed_by != "clerk"]
    assert [(hold.target, hold.reason) for hold in ours] == [(watched.case, "诉讼")]
    assert second.put(f"/violations/{watched.case}/hold", {"held": False}).status_code == 200
    assert [hold.placed_by for hold in watched.holds()] == ["clerk"]


def test_watched_journal_a_hold_on_what_the_journal_no_longer_has_stays_in_the_console(
    world: World, tmp_path: Path
) -> None:
    there = Watched(world, tmp_path)
    there.journal.close()
    (tmp_path / "journal.sqlite3").unlink()
    Journal.open(tmp_path / "journal.sqlite3", sync="normal").close()
    answer = world.caller("second_reviewer").put(f"/violations/{there.case}/hold", {"held": True})
    assert (answer.status_code, answer.json()["held"]) == (200, True)


def test_watched_journal_a_hold_that_cannot_be_placed_there_is_not_half_placed(
    world: World, tmp_path: Path
) -> None:
    there = Watched(world, tmp_path)
    there.journal.close()
    (tmp_path / "journal.sqlite3").write_bytes(b"no journal at all" * 100)
    second = world.caller("second_reviewer")
    answer = second.put(f"/violations/{there.case}/hold", {"held": True})
    assert (answer.is_error, answer.json()["code"]) == (True, "LM-801")
    assert not second.get(f"/violations/{there.case}").json()["violation"]["held"]
