"""One room for days: broadcast after broadcast, started again when it crashes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from moderator.claims.passports import Passport, load_passports
from moderator.episodes import new_session
from moderator.live.advice import AdviceWorker
from moderator.live.alerts import Alert, AlertRules
from moderator.live.config import RoomConfig, WatchConfig
from moderator.live.evidence import EvidenceWorker
from moderator.live.evidence import Room as EvidenceRoom
from moderator.live.feeds import FeedFactory, OpenFeed
from moderator.live.ports import FeedPort, JournalPort
from moderator.live.rulebook import Rulebook
from moderator.live.screen import ScreenWorker
from moderator.live.session import (
    RoomSession,
    RoomView,
    SessionClock,
    SessionHooks,
    SessionSetup,
)
from moderator.live.speech_team import Speech
from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.feed import Resume
from moderator.media.room_state import Gap, Notice, RoomState, StateChange
from moderator.records import Advice, Violation

log = structlog.get_logger()


@dataclass(slots=True)
class Shared:
    """What all rooms share. `speech` or `screen` is None where that engine is switched off."""

    config: WatchConfig
    rulebook: Rulebook
    journal: JournalPort
    feeds: FeedFactory
    speech: Speech | None
    screen: ScreenWorker | None
    evidence: EvidenceWorker | None
    engines: dict[str, str] = field(default_factory=dict)
    lang: str = "zh"
    advice: AdviceWorker | None = None
    on_record: Callable[[Violation, float | None], None] = lambda record, latency_s: None
    on_alert: Callable[[str, Alert], None] = lambda room, alert: None
    on_crash: Callable[[str], None] = lambda room: None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A session that an earlier run of the program left open, and where it stood.

    `owed` are its records whose evidence was not cut yet.
    """

    session: str
    resume: Resume
    owed: tuple[Violation, ...] = ()


class RoomRunner:
    """Runs one room on a thread of its own; nothing that goes wrong here leaves it."""

    def __init__(
        self, room: RoomConfig, shared: Shared, *, unfinished: Unfinished | None = None
    ) -> None:
        self.room = room
        self.finished = threading.Event()
        self.session: RoomSession | None = None
        self.feed: FeedPort | None = None
        self.crashes = 0
        self.reconnects = 0
        self._shared = shared
        self._unfinished = unfinished
        self._stopping = threading.Event()
        self._drain_until: float | None = None
        self._view = RoomView()
        self._thread = threading.Thread(target=self._run, name=f"feed-{room.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, drain_s: float) -> None:
        """Take no more media and finish what there is, in `drain_s`; returns at once."""
        self._drain_until = monotonic() + drain_s
        self._stopping.set()
        if self.feed is not None:
            self.feed.stop()

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def view(self) -> RoomView:
        return self.session.view if self.session is not None else self._view

    @property
    def state(self) -> str:
        return self._view.state if self.session is None else self.session.view.state

    def lag_s(self) -> float:
        """How far speech is behind live."""
        speech = self._shared.speech
        return speech.lag_s(self.room.id) if speech is not None else 0.0

    def change(self, room: RoomConfig, config: WatchConfig) -> bool:
        """Go over to a new configuration without a break; False when that needs a restart."""
        self._shared.config = config
        soft = {"alerts", "risk", "priority", "frame_every_s", "wait_for_next"}
        if room.model_dump(exclude=soft) != self.room.model_dump(exclude=soft):
            return False
        self.room = room
        if self.feed is not None:
            self.feed.set_frame_every(config.frame_interval_s(room))
        return True

    def _run(self) -> None:
        limits = self._shared.config.limits
        pause_s = limits.restart_s
        try:
            while not self._stopping.is_set():
                began = monotonic()
                try:
                    self._broadcast()
                except Exception as error:
                    self.crashes += 1
                    self._view = RoomView(state="crashed")
                    self.session = None
                    log.exception("room.crashed", room=self.room.id, error=str(error))
                    self._shared.on_crash(self.room.id)
                    # A room that ran well for a while starts again at once.
                    if monotonic() - began > 10 * pause_s:
                        pause_s = limits.restart_s
                    self._stopping.wait(pause_s)
                    pause_s = min(2 * pause_s, limits.restart_max_s)
                    continue
                if not self._waits_for_next():
                    return
                self._stopping.wait(limits.restart_s)
        finally:
            self.finished.set()

    def _waits_for_next(self) -> bool:
        if self._view.state == RoomState.FAILED:
            return False
        wanted = self.room.wait_for_next
        return not self.room.is_file if wanted is None else wanted

    def _broadcast(self) -> None:
        """One session, from the first media to the last event. Raises what broke it."""
        unfinished, self._unfinished = self._unfinished, None
        session_id = unfinished.session if unfinished else new_session()
        crash: list[BaseException] = []
        self._view = RoomView()

        def on_state(change: StateChange) -> None:
            session.on_state(change)

        def on_notice(notice: Notice) -> None:
            session.on_notice(notice)

        opened = self._shared.feeds.open(
            self.room,
            session_id,
            on_state=on_state,
            on_notice=on_notice,
            resume=unfinished.resume if unfinished else None,
        )
        feed = self.feed = opened.feed
        evidence_room = EvidenceRoom(
            f"rooms/{self.room.id}/{session_id}",
            opened.ring,
            feed.media_now,
            lambda record, body: session.write_evidence(record, body),
        )
        session = self._session(session_id, opened, evidence_room, crash)
        self.session = session
        self._open(session, opened)
        if unfinished is not None and self._shared.evidence is not None:
            for record in unfinished.owed:
                self._shared.evidence.want(evidence_room, record)
        if self._stopping.is_set():
            feed.stop()
        try:
            self._pass_on(feed, session, crash)
            reason, media_end = self._why_over(feed), feed.media_now()
            if feed.state is RoomState.FAILED and not session.counts and not session.started:
                # Nothing ever came: the state says why, and there is nothing to conclude.
                session.start()
            self._conclude(session, evidence_room, media_end, reason, crash)
        except BaseException as error:
            feed.stop()
            session.abandon()
            self._say_crashed(session, error)
            raise
        finally:
            self._close()
            self._view = session.view
            self.session, self.feed = None, None
            self.reconnects += int(getattr(feed.stats, "reconnects", 0))
        self._shared.feeds.discard(self.room, session_id)

    def _session(
        self,
        session_id: str,
        opened: OpenFeed,
        evidence_room: EvidenceRoom,
        crash: list[BaseException],
    ) -> RoomSession:
        shared, room = self._shared, self.room
        expects = {"speech"} if shared.speech is not None and room.audio else set()
        if shared.screen is not None and room.video:
            expects.add("screen")
        setup = SessionSetup(
            session_id,
            room.room(),
            opened.source,
            shared.engines,
            _passports(room, shared.config),
            shared.lang,
            shared.config.min_confidence,
            frozenset(expects),
        )
        alerts = shared.config.alerts if room.alerts is None else room.alerts
        return RoomSession(
            setup,
            shared.rulebook.engine,
            shared.journal,
            SessionClock(opened.feed.media_now, opened.feed.wall_at, opened.paced),
            alerts=AlertRules(alerts),
            evidence=shared.evidence,
            evidence_room=evidence_room,
            hooks=_Hooks(self, crash),
            cut_on_suspicion=shared.config.speech.cut_on_suspicion,
        )

    def _open(self, session: RoomSession, opened: OpenFeed) -> None:
        shared, room = self._shared, self.room
        may_wait = not opened.paced
        if "speech" in session.setup.expects and shared.speech is not None:
            shared.speech.open(room.id, session, urgency=room.urgency, may_wait=may_wait)
        if "screen" in session.setup.expects and shared.screen is not None:
            shared.screen.open(
                room.id,
                session,
                interval_s=shared.config.frame_interval_s(room),
                urgency=room.urgency,
                low_risk=room.risk <= shared.config.degradation.low_risk,
                may_wait=may_wait,
            )

    def _close(self) -> None:
        for worker in (self._shared.speech, self._shared.screen):
            if worker is not None:
                worker.close(self.room.id)

    def _pass_on(self, feed: FeedPort, session: RoomSession, crash: list[BaseException]) -> None:
        speech, screen = self._shared.speech, self._shared.screen
        for item in feed:
            session.start()
            if isinstance(item, AudioBlock):
                if speech is not None:
                    speech.hear(self.room.id, item)
            elif isinstance(item, VideoFrame):
                if screen is not None:
                    screen.look(self.room.id, item)
            elif isinstance(item, Gap):
                session.on_gap(item)
            if crash:
                raise crash[0]
            if self._stopping.is_set():
                feed.stop()

    def _why_over(self, feed: FeedPort) -> str:
        if self._stopping.is_set():
            return "stopped"
        return "failed" if feed.state is RoomState.FAILED else "ended"

    def _conclude(
        self,
        session: RoomSession,
        evidence_room: EvidenceRoom,
        media_end: float,
        reason: str,
        crash: list[BaseException],
    ) -> None:
        """Let what was taken in come through, then write the end."""
        if not session.started:
            # Stopped before anything came: there was no session.
            session.abandon()
            return
        session.conclude(reason, media_end)
        for worker in (self._shared.speech, self._shared.screen):
            if worker is not None:
                worker.finish(self.room.id)
        if not session.done.wait(self._left_s()):
            log.warning("room.not_drained", room=self.room.id)
            session.abandon()
        if crash:
            raise crash[0]
        evidence_room.over_at = media_end
        if self._shared.evidence is not None:
            self._shared.evidence.drain(evidence_room, self._left_s())
        session.write_end(reason)

    def _left_s(self) -> float:
        if self._drain_until is None:
            return 600.0
        return max(0.0, self._drain_until - monotonic())

    def _say_crashed(self, session: RoomSession, error: BaseException) -> None:
        try:
            if session.started:
                session.write_end(f"crashed: {type(error).__name__}")
        except Exception:
            log.exception("room.end_not_written", room=self.room.id)


class _Hooks(SessionHooks):
    def __init__(self, runner: RoomRunner, crash: list[BaseException]) -> None:
        self._runner = runner
        self._shared = runner._shared
        self._crash = crash

    def on_record(self, record: Violation, latency_s: float | None) -> None:
        self._shared.on_record(record, latency_s)

    def on_alert(self, room: str, alert: Alert) -> None:
        self._shared.on_alert(room, alert)

    def on_crash(self, error: BaseException) -> None:
        self._crash.append(error)
        if self._runner.feed is not None:
            self._runner.feed.stop()

    def want_advice(
        self,
        record: Violation,
        passports: Sequence[Passport],
        then: Callable[[Advice | None], None],
    ) -> bool:
        worker = self._shared.advice
        return worker is not None and worker.want(record, passports, then)

    def want_cut(self, room: str, after_s: float) -> None:
        if self._shared.speech is not None:
            self._shared.speech.cut_after(room, after_s)


def _passports(room: RoomConfig, config: WatchConfig) -> list[Passport]:
    """Those on sale in the room where it says which; a catalogue may hold far more."""
    path: Path | None = room.passports or config.passports
    known: list[Any] = load_passports(path) if path is not None else []
    return [passport for passport in known if passport.id in room.products] or known
