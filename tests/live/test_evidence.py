from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moderator.live.config import EvidenceConfig
from moderator.live.evidence import EvidenceWorker, Room
from moderator.live.screen import Picture
from moderator.records import Violation
from tests.live.fakes import FakeRing, picture, wait_for
from tests.outputs.builders import screen_text, violation


class Stand:
    def __init__(self, out: Path, ring: FakeRing | None, most: int = 200) -> None:
        self.now = 0.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.room = Room("rooms/r1/s1", ring, lambda: self.now, self._write)
        self.worker = EvidenceWorker(out, EvidenceConfig(), most=most)

    def _write(self, record: Violation, body: dict[str, Any]) -> None:
        self.told.append((record.id, body))

    def body(self, number: int = 0) -> dict[str, Any]:
        wait_for(lambda: len(self.told) > number)
        return self.told[number][1]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> FakeRing:
    monkeypatch.setattr("moderator.live.evidence.RETRY_S", 0.01)
    return FakeRing()


@pytest.fixture
def stand(tmp_path: Path, ring: FakeRing) -> Iterator[Stand]:
    one = Stand(tmp_path, ring)
    one.worker.start()
    yield one
    one.worker.stop()


def test_evidence_waits_for_the_post_roll(stand: Stand, ring: FakeRing, tmp_path: Path) -> None:
    record = violation(start=10.0, end=12.0)
    stand.worker.want(stand.room, record)
    stand.now = 12.5
    assert not stand.worker.drain(stand.room, 0.2)
    assert ring.cut == []
    ring.ready = lambda end: stand.now >= end + 2
    stand.now = 16.0  # due, and the ring lags behind
    assert not stand.worker.drain(stand.room, 0.2)
    stand.now = 18.0
    body = stand.body()
    assert ring.cut == [(7.0, 15.0)]
    clip = tmp_path / body["clip"]
    assert body["clip"] == f"rooms/r1/s1/clips/{record.id}.mp4"
    assert body["sha256"] == {body["clip"]: hashlib.sha256(clip.read_bytes()).hexdigest()}
    assert "error" not in body


def test_evidence_records_of_the_same_words_share_a_clip(stand: Stand, ring: FakeRing) -> None:
    stand.now = 100.0
    first = violation(start=10.0, end=12.0)
    same = violation("最好", start=10.5, end=11.0)
    other = violation(start=40.0, end=41.0)
    for record in (first, same, other):
        stand.worker.want(stand.room, record)
    bodies = [stand.body(n) for n in range(3)]
    by_id = {body["violation"]: body["clip"] for body in bodies}
    assert by_id[first.id] == by_id[same.id] != by_id[other.id]
    assert len(ring.cut) == 2


def test_evidence_of_the_screen_has_the_frame_with_its_box(stand: Stand, tmp_path: Path) -> None:
    import cv2

    _, jpeg = cv2.imencode(".jpg", picture(200))
    stand.now = 100.0
    record = violation(channel="screen", start=1.0, end=2.0)
    stand.worker.want(stand.room, record, (Picture(screen_text("国家级"), jpeg.tobytes()),))
    body = stand.body()
    (frame,) = body["frames"]
    boxed = cv2.imread(str(tmp_path / frame))
    assert boxed.shape == picture(200).shape
    assert (boxed[:, :, 2].astype(int) - boxed[:, :, 0] > 100).any()  # the red box
    assert set(body["sha256"]) == {frame, body["clip"]}


def test_evidence_that_cannot_be_had_is_told_with_the_reason(tmp_path: Path) -> None:
    from moderator.errors import CLIP_FAILED, ModeratorError

    class Gone(FakeRing):
        def clip(self, *args: Any, **options: Any) -> Path:
            raise ModeratorError(CLIP_FAILED, start="1.0", reason="overwritten")

    stand = Stand(tmp_path, Gone())
    stand.worker.start()
    stand.now = 100.0
    stand.worker.want(stand.room, violation())
    body = stand.body()
    assert body["clip"] is None
    assert "overwritten" in body["error"]
    assert stand.worker.stats.failed == 1
    stand.worker.stop()


def test_evidence_at_the_end_takes_what_there_is(stand: Stand, ring: FakeRing) -> None:
    stand.now = 11.0
    stand.worker.want(stand.room, violation(start=10.0, end=10.5))
    stand.room.over_at = 11.0
    assert stand.worker.drain(stand.room, 10)
    assert ring.cut == [(7.0, 10.95)]


def test_evidence_gives_way_to_rooms_that_lag(stand: Stand, ring: FakeRing) -> None:
    stand.now = 100.0
    stand.worker.busy = lambda: True
    stand.worker.want(stand.room, violation())
    assert not stand.worker.drain(stand.room, 0.5)
    stand.worker.busy = lambda: False
    assert stand.worker.drain(stand.room, 10)


def test_evidence_full_queue_refuses_and_says_so(tmp_path: Path) -> None:
    stand = Stand(tmp_path, FakeRing(), most=2)
    for _ in range(3):
        stand.worker.want(stand.room, violation())
    assert [body["error"] for _, body in stand.told] == ["evidence queue full"]
    assert stand.worker.stats.dropped == 1


def test_evidence_of_a_long_banner_shows_its_first_minute(stand: Stand, ring: FakeRing) -> None:
    stand.now = 10_000.0
    record = replace(violation(channel="screen", start=10.0), end=4000.0)
    stand.worker.want(stand.room, record)
    assert stand.worker.drain(stand.room, 10)
    assert ring.cut == [(7.0, 73.0)]
