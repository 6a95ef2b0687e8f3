"""Rooms from sound and pictures to the journal, with engines and feeds that cost nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from moderator.live.advice import AdviceWorker
from moderator.live.config import WatchConfig
from moderator.live.evidence import EvidenceWorker
from moderator.live.rulebook import Rulebook
from moderator.live.runner import Shared
from moderator.live.screen import ScreenWorker
from moderator.live.speech import SpeechWorker
from moderator.live.supervisor import Supervisor
from moderator.media.blocks import VideoFrame
from moderator.media.room_state import Gap, Reason
from moderator.records import Advice, Violation
from tests.asr.sounds import silence
from tests.command import LAWFUL, VIOLATION, small_rules, write_pack
from tests.live.fakes import (
    FakeAsr,
    FakeFeeds,
    FakeJournal,
    FakeOcr,
    FakeRing,
    blocks,
    picture,
    say,
    talk,
    wait_for,
)

NEW_VIOLATION = "这个面霜销量领先"
TEXTS = (LAWFUL, VIOLATION, NEW_VIOLATION)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return write_pack(tmp_path / "rules", small_rules()[:1])


class House:
    """A supervisor over fakes, running on a thread of its own."""

    def __init__(
        self, tmp_path: Path, rules: Path, plays: dict[str, list[list[Any]]], **options: Any
    ) -> None:
        body = {"rooms": [{"id": room, "source": f"/x/{room}.mp4"} for room in plays]}
        self.body: dict[str, Any] = body | {
            "rules": str(rules),
            "limits": {"restart_s": 0.01, "drain_s": 10},
            "speech": {"interim_every_s": 0},
        }
        self.body |= options.pop("config", {})
        self.asr = FakeAsr(TEXTS)
        self.journal = FakeJournal()
        advice = options.pop("advice", None)
        self.feeds = FakeFeeds(plays, **options)
        self.feeds.ring = FakeRing()
        from tests.live.fakes import LoudVoice

        config = WatchConfig.model_validate(self.body)
        rulebook = Rulebook.load(rules, classifier=False)
        self.shared = Shared(
            config=config,
            rulebook=rulebook,
            journal=self.journal,
            feeds=self.feeds,
            speech=SpeechWorker(
                self.asr, LoudVoice(), config.speech, likenesses=rulebook.likenesses
            ),
            screen=ScreenWorker(FakeOcr({200: VIOLATION})),
            evidence=EvidenceWorker(tmp_path / "out", config.evidence),
            engines={"asr": "fake-asr"},
            lang="en",
            advice=advice,
        )
        self.printed: list[Violation] = []
        self.supervisor = Supervisor(
            self.shared,
            reload_config=lambda: WatchConfig.model_validate(self.body),
            on_record=self.printed.append,
            teleprompter=tmp_path / "prompter",
        )
        self.stop, self.reload = threading.Event(), threading.Event()
        self.thread = threading.Thread(
            target=self.supervisor.run, args=(self.stop, self.reload), daemon=True
        )

    def run(self) -> House:
        self.thread.start()
        return self

    def over(self, limit_s: float = 30.0) -> FakeJournal:
        self.thread.join(limit_s)
        assert not self.thread.is_alive(), "still running"
        return self.journal

    def quotes(self, room: str | None = None) -> list[str]:
        return [body["quote"] for body in self.journal.of("violation", room)]


@pytest.fixture
def house(
    tmp_path: Path, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., House]]:
    monkeypatch.setattr("moderator.live.supervisor.TICK_S", 0.02)
    houses: list[House] = []

    def build(plays: dict[str, list[list[Any]]], **options: Any) -> House:
        houses.append(House(tmp_path, rules, plays, **options))
        return houses[-1].run()

    yield build
    for one in houses:
        one.stop.set()
        one.thread.join(20)
        if one.shared.advice is not None:
            one.shared.advice.stop()


def test_rooms_what_is_said_becomes_a_record_in_the_journal(house: Callable[..., House]) -> None:
    it = house({"r1": [[*blocks(talk(say(0), silence(1), say(1)))]]})
    journal = it.over()
    assert [one.type for one in journal.told][:2] == ["session.started", "session.state"]
    assert journal.told[-1].type == "session.ended"
    assert [body["text"] for body in journal.of("observation")] == [LAWFUL, VIOLATION]
    (record,) = journal.of("violation")
    assert (record["room"], record["quote"], record["channel"]) == ("r1", "国家级", "speech")
    assert 3.0 <= record["start"] < record["end"] <= 5.3
    assert record["engine"]["asr"] == "fake-asr"
    assert record["engine"]["rules"] == it.shared.rulebook.version
    assert journal.of("session.ended")[0]["reason"] == "ended"
    assert [one.id for one in it.printed] == [record["id"]]


def test_rooms_begin_with_every_expression_compiled(rules: Path) -> None:
    engine = Rulebook.load(rules, classifier=False).engine
    assert list(engine.expressions)
    assert all("compiled" in vars(pattern) for pattern in engine.expressions)


class Lenient:
    """Finds everything lawful, or has no answer."""

    def __init__(self, verdict: str = "lawful") -> None:
        self.verdict = verdict
        self.asked: list[tuple[str, dict[str, str]]] = []

    def advise(
        self, record: Violation, articles: Mapping[str, str], passports: object, lang: str
    ) -> Advice | None:
        self.asked.append((record.quote, dict(articles)))
        if self.verdict == "none":
            raise TimeoutError("no answer")
        return Advice("by-hand", self.verdict, 0.9, "a stated fact", record.quote, 5.0)


def test_rooms_advice_comes_after_the_record_and_only_lowers(house: Callable[..., House]) -> None:
    adviser = Lenient()
    it = house(
        {"r1": [[*blocks(talk(say(1), silence(1), say(0)))]]},
        advice=AdviceWorker(adviser, lambda record: {"x": record.rule.id}, "en"),
    )
    journal = it.over()
    (record,) = journal.of("violation")
    (updated,) = journal.of("violation.updated")
    assert [quote for quote, _ in adviser.asked] == ["国家级"]
    assert adviser.asked[0][1] == {"x": record["rule"]["id"]}
    assert (record["disposition"], updated["disposition"]) == ("violation", "suspect")
    assert record["id"] == updated["id"]
    assert updated["advice"]["applied"]
    assert "a stated fact" in updated["explanation"]
    assert journal.told[-1].type == "session.ended"
    assert b'moderator_advice_total{outcome="answered"} 1.0' in it.supervisor.metrics.text()


def test_rooms_without_an_answer_the_record_stands(house: Callable[..., House]) -> None:
    it = house(
        {"r1": [[*blocks(talk(say(1), silence(1), say(0)))]]},
        advice=AdviceWorker(Lenient("none"), lambda record: {}, "en"),
    )
    journal = it.over()
    assert [body["disposition"] for body in journal.of("violation")] == ["violation"]
    assert not journal.of("violation.updated")
    assert journal.of("session.ended")[0]["reason"] == "ended"


def test_rooms_one_crash_touches_no_other_room(house: Callable[..., House]) -> None:
    broken = [[*blocks(talk(say(1))), RuntimeError("a bug in this room")], [*blocks(talk(say(1)))]]
    it = house({"broken": broken, "well": [[*blocks(talk(say(1), silence(25), say(1)))]]})
    journal = it.over()
    assert len(it.quotes("well")) == 2
    reasons = [body["reason"] for body in journal.of("session.ended", "broken")]
    assert reasons == ["crashed: RuntimeError", "ended"]
    assert it.supervisor.runners["broken"].crashes == 1
    text = it.supervisor.metrics.text().decode()
    assert 'moderator_room_crashes_total{room="broken"} 1.0' in text
    sessions = {one.session for one in journal.told if one.room == "broken"}
    assert len(sessions) == 2


def test_rooms_whose_journal_fails_restart_and_leave_the_others_alone(
    house: Callable[..., House],
) -> None:
    it = house({"full": [[*blocks(talk(say(1)))]], "well": [[*blocks(talk(say(1)))]]})
    it.journal.fail = {"full"}
    wait_for(lambda: it.supervisor.runners.get("full") is not None)
    wait_for(lambda: it.supervisor.runners["full"].crashes >= 1)
    it.journal.fail = set()
    it.over()
    assert it.quotes("well") == ["国家级"]
    assert it.quotes("full") == ["国家级"]


def test_rooms_stopped_finish_what_was_said(house: Callable[..., House]) -> None:
    it = house({"r1": [[*blocks(say(1))]]}, endless=True)  # no pause: the segment is open
    wait_for(lambda: it.shared.speech is not None and it.shared.speech.stats.sound_s >= 1.9)
    assert it.quotes() == []
    it.stop.set()
    journal = it.over()
    assert it.quotes() == ["国家级"]
    assert journal.of("session.ended")[0]["reason"] == "stopped"
    assert it.supervisor.drained


def test_rooms_an_episode_is_one_record_that_grows(house: Callable[..., House]) -> None:
    sound = talk(*(part for _ in range(4) for part in (say(1), silence(1))))
    journal = house({"r1": [[*blocks(sound)]]}).over()
    (record,) = journal.of("violation")
    (update,) = journal.of("violation.updated")
    assert (update["id"], update["occurrences"]) == (record["id"], 4)
    assert (record["occurrences"], update["start"]) == (1, record["start"])
    assert update["end"] > record["end"] + 6
    assert [body["violation"] for body in journal.of("evidence")] == [record["id"]]


def test_rooms_an_episode_that_the_next_one_follows_is_told_to_its_end(
    house: Callable[..., House],
) -> None:
    sound = talk(say(1), silence(1), say(1), silence(25), say(1))
    journal = house({"r1": [[*blocks(sound)]]}).over()
    first, second = journal.of("violation")
    (update,) = journal.of("violation.updated")
    assert (update["id"], update["occurrences"]) == (first["id"], 2)
    assert second["id"] != first["id"]


def test_rooms_screen_text_is_told_with_its_frame_and_its_end(
    house: Callable[..., House], tmp_path: Path
) -> None:
    frames = [VideoFrame(float(second), picture(200 if second < 6 else 0)) for second in range(24)]
    it = house({"r1": [frames]})
    journal = it.over()
    (record,) = journal.of("violation")
    assert (record["channel"], record["quote"], record["start"]) == ("screen", "国家级", 0.0)
    (update,) = journal.of("violation.updated")
    assert 4.0 <= update["end"] <= 7.0
    (evidence,) = journal.of("evidence")
    (frame,) = evidence["frames"]
    assert (tmp_path / "out" / frame).read_bytes().startswith(b"\xff\xd8")
    assert set(evidence["sha256"]) == {frame, evidence["clip"]}


def test_rooms_gaps_are_on_the_timeline(house: Callable[..., House]) -> None:
    items = [*blocks(talk(say(0))), Gap(3.2, 33.2, Reason.NO_PACKETS), *blocks(talk(say(1)), 33.2)]
    journal = house({"r1": [items]}).over()
    assert journal.of("session.gap") == [{"start": 3.2, "end": 33.2, "reason": "no_packets"}]
    (record,) = journal.of("violation")
    assert record["start"] > 33


def test_rooms_go_over_to_new_rules_without_a_break(
    house: Callable[..., House], rules: Path
) -> None:
    done, changed = threading.Event(), threading.Event()

    def pause() -> None:
        done.set()
        changed.wait(20)

    items = [*blocks(talk(say(2), silence(22), say(1))), pause, *blocks(talk(say(2)), 30.0)]
    it = house({"r1": [items]})
    wait_for(lambda: done.is_set() and it.quotes() == ["国家级"])
    before = it.shared.rulebook.version
    write_more(rules)
    it.reload.set()
    wait_for(lambda: it.shared.rulebook.version != before)
    changed.set()
    journal = it.over()
    first, second = journal.of("violation")
    assert (first["quote"], second["quote"]) == ("国家级", "销量领先")
    assert first["engine"]["rules"] == before
    assert second["engine"]["rules"] == it.shared.rulebook.version
    assert journal.of("rules.reloaded") == [{"before": before, "after": it.shared.rulebook.version}]
    assert len({one.session for one in journal.told}) == 1


def test_rooms_bad_rules_on_reload_change_nothing(house: Callable[..., House], rules: Path) -> None:
    it = house({"r1": [[*blocks(talk(say(0)))]]}, endless=True)
    before = it.shared.rulebook.version
    (rules / "cn" / "broken.yaml").write_text("id: [", encoding="utf-8")
    it.reload.set()
    wait_for(lambda: not it.reload.is_set())
    it.stop.set()
    journal = it.over()
    assert it.shared.rulebook.version == before
    assert journal.of("rules.reloaded") == []


def test_rooms_come_go_and_change_on_reload(house: Callable[..., House]) -> None:
    show = [[*blocks(talk(say(0)))]]
    it = house({"stays": show, "goes": show, "changes": show, "risk": show}, endless=True)
    wait_for(lambda: len(it.journal.of("observation")) == 4)
    it.feeds.plays["new"] = show
    it.body["rooms"] = [
        {"id": "stays", "source": "/x/stays.mp4"},
        {"id": "changes", "source": "/x/changes.mp4", "title": "另一场"},
        {"id": "risk", "source": "/x/risk.mp4", "risk": 1.0},
        {"id": "new", "source": "/x/new.mp4"},
    ]
    it.reload.set()
    wait_for(lambda: len(it.journal.of("session.started")) == 6)
    assert len(it.journal.of("session.started", "stays")) == 1
    assert len(it.journal.of("session.started", "risk")) == 1
    assert [body["title"] for body in it.journal.of("session.started", "changes")] == ["", "另一场"]
    assert [body["reason"] for body in it.journal.of("session.ended", "goes")] == ["stopped"]
    it.stop.set()
    it.over()


def test_rooms_wait_for_the_next_broadcast(house: Callable[..., House]) -> None:
    rooms = [{"id": "r1", "source": "rtmp://example.com/live", "wait_for_next": True}]
    it = house({"r1": [[*blocks(talk(say(1)))], [*blocks(talk(say(1)))]]}, config={"rooms": rooms})
    wait_for(lambda: len(it.journal.of("session.ended")) >= 2)
    it.stop.set()
    it.over()
    assert len({one.session for one in it.journal.told}) >= 2


def test_rooms_warn_the_host_and_the_control_room(
    house: Callable[..., House], tmp_path: Path
) -> None:
    alerts = [
        {"event": "room.warn", "severity": "low", "disposition": "suspect", "cooldown_s": 0},
        {"event": "room.escalate", "severity": "critical"},
    ]
    it = house({"r1": [[*blocks(talk(say(1)))]]}, config={"alerts": alerts})
    journal = it.over()
    (alert,) = journal.of("alert")
    assert (alert["event"], alert["quote"]) == ("room.warn", "国家级")
    line = (tmp_path / "prompter" / "r1.txt").read_text(encoding="utf-8")
    assert "国家级" in line
    assert line.count("\n") == 1


def test_rooms_a_slow_machine_degrades_and_says_so(house: Callable[..., House]) -> None:
    degradation = {
        "order": ["frames", "beam"],
        "lag_s": 0.2,
        "recover_lag_s": 0.1,
        "after_s": 0.05,
        "recover_after_s": 0.3,
    }
    it = house(
        {"r1": [[*blocks(talk(say(0), silence(1), say(0), silence(1), say(1)))]]},
        endless=True,
        config={"degradation": degradation, "speech": {"interim_every_s": 0, "batch": 1}},
    )
    it.asr.takes = lambda rows: threading.Event().wait(0.4) and None
    wait_for(lambda: len(it.journal.of("degraded")) >= 4)
    told = [(body["step"], body["active"]) for body in it.journal.of("degraded")]
    assert told[:4] == [("frames", True), ("beam", True), ("beam", False), ("frames", False)]
    it.stop.set()
    it.over()
    assert it.quotes() == ["国家级"]


def test_rooms_metrics_and_health_tell_how_things_stand(house: Callable[..., House]) -> None:
    it = house({"r1": [[*blocks(talk(say(1)))]]}, endless=True)
    wait_for(lambda: it.quotes() == ["国家级"])
    text = it.supervisor.metrics.text().decode()
    for line in (
        'moderator_rooms{state="live"} 1.0',
        'moderator_room_lag_seconds{room="r1"} 0.0',
        'moderator_room_reconnects_total{room="r1"} 2.0',
        'moderator_records_total{category="absolute_term",channel="speech",disposition="violation"} 1.0',
        'moderator_degraded{step="beam"} 0.0',
        'moderator_dropped_total{reason="overload_seconds",stage="speech"} 0.0',
        f'moderator_rules{{version="{it.shared.rulebook.version}"}} 1.0',
    ):
        assert line in text, line
    assert float(text.split("\nmoderator_python_objects ")[1].split("\n")[0]) > 1e4
    assert it.supervisor.faults() == []
    assert it.supervisor.not_ready() == []
    (room,) = it.supervisor.rooms()
    assert (room["room"], room["state"], room["records"]) == ("r1", "live", 1)
    assert it.shared.evidence is not None
    it.shared.evidence.stop()
    assert it.supervisor.faults() == ["the evidence worker has died"]
    it.stop.set()
    it.over()
    assert it.supervisor.not_ready() == ["starting or stopping"]


def write_more(rules: Path) -> None:
    """Add the rule about sales to the pack."""
    from tests.command import write_yaml

    write_yaml(rules / "cn" / "more.yaml", small_rules()[1])
