"""Runs the rooms: starts and stops them, watches the lag, degrades, reloads, drains."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import structlog

from moderator.errors import ModeratorError
from moderator.live.alerts import Alert, teleprompter_line
from moderator.live.config import STEPS, RoomConfig, WatchConfig
from moderator.live.degrade import Ladder, StepChange
from moderator.live.display import Overview, RoomRow
from moderator.live.metrics import Metrics, RoomSample, Sample, SampleSource
from moderator.live.runner import RoomRunner, Shared, Unfinished
from moderator.memory import Trimmer, memory_bytes
from moderator.records import Violation
from moderator.sinks.delivery import Delivery

log = structlog.get_logger()

TICK_S = 0.5
SILENT_WORKER_S = 60.0
"""A worker that has shown no life for so long hangs: no batch takes a minute."""
NOT_READY_LAG_S = 30.0


class Supervisor(SampleSource):
    """All rooms of one process.

    `run` works until `stop` is set, or until every room is over; `reload` asks for rules and
    rooms to be read again. What happens in one room never touches another: each has its threads,
    its session and its restart; they share the models, each of which one worker owns.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        reload_config: Callable[[], WatchConfig] | None = None,
        deliveries: Sequence[Delivery] = (),
        unfinished: dict[str, Unfinished] | None = None,
        on_record: Callable[[Violation], None] | None = None,
        teleprompter: Path | None = None,
        on_tick: Callable[[Supervisor], None] | None = None,
    ) -> None:
        self.shared = shared
        self.metrics = Metrics(self)
        self.ladder = Ladder(shared.config.degradation)
        self.runners: dict[str, RoomRunner] = {}
        self.drained = True
        self.ready = False
        self.port: int | None = None
        self._reload_config = reload_config
        self._deliveries = deliveries
        self._unfinished = unfinished or {}
        self._print = on_record
        self._teleprompter = teleprompter
        self._on_tick = on_tick
        self._beat = monotonic()
        shared.on_record = self._on_record
        shared.on_alert = self._on_alert
        if shared.evidence is not None:
            shared.evidence.busy = lambda: bool(self.ladder.active)
        if shared.advice is not None:
            shared.advice.outcome = lambda outcome: self.metrics.advice.labels(outcome).inc()
        shared.on_crash = lambda room: self.metrics.crashes.labels(room).inc()

    @property
    def config(self) -> WatchConfig:
        return self.shared.config

    def run(self, stop: threading.Event, reload: threading.Event) -> None:
        """Watch until `stop`, then drain; returns when everything has ended."""
        workers = (self.shared.speech, self.shared.screen, self.shared.evidence)
        for worker in workers:
            if worker is not None:
                worker.start()
        for room in self.config.rooms:
            self._start(room)
        self.ready = True
        log.info(
            "watch.started",
            rooms=len(self.runners),
            rules=self.shared.rulebook.version,
            metrics_port=self.port,
        )
        trim = Trimmer()
        try:
            while not stop.wait(TICK_S):
                self._beat = monotonic()
                if reload.is_set():
                    reload.clear()
                    self.reload()
                self._watch_lag()
                trim()
                if self._on_tick is not None:
                    self._on_tick(self)
                if all(runner.finished.is_set() for runner in self.runners.values()):
                    break
        finally:
            self.ready = False
            self._drain()
            for worker in workers:
                if worker is not None:
                    worker.stop()

    def reload(self) -> None:
        """Read rules and rooms again; what cannot be read is told and changes nothing."""
        try:
            config = self._reload_config() if self._reload_config else self.config
            before = self.shared.rulebook.version
            engine = self.shared.rulebook.reload(config.rules, config.jurisdiction)
        except ModeratorError as error:
            log.error("reload.refused", reason=error.text())
            return
        self.shared.config = config
        self.ladder.config = config.degradation
        for runner in self.runners.values():
            session = runner.session
            if session is not None:
                session.use(engine)
        self._reload_rooms(config)
        log.info("reload.done", before=before, rules=self.shared.rulebook.version)

    def _reload_rooms(self, config: WatchConfig) -> None:
        wanted = {room.id: room for room in config.rooms}
        for room_id in [room_id for room_id in self.runners if room_id not in wanted]:
            log.info("room.removed", room=room_id)
            self._replace(room_id, None)
        for room_id, room in wanted.items():
            runner = self.runners.get(room_id)
            if runner is None:
                self._start(room)
            elif not runner.change(room, config):
                log.info("room.changed", room=room_id)
                self._replace(room_id, room)

    def _replace(self, room_id: str, room: RoomConfig | None) -> None:
        """End a room, and begin it anew where it goes on, without making the others wait."""
        old = self.runners.pop(room_id)
        drain_s = self.config.limits.drain_s
        old.stop(drain_s)

        def then() -> None:
            old.join(drain_s + 10)
            if room is not None and self.ready:
                self._start(room)

        threading.Thread(target=then, name=f"replace-{room_id}", daemon=True).start()

    def _start(self, room: RoomConfig) -> None:
        runner = RoomRunner(room, self.shared, unfinished=self._unfinished.pop(room.id, None))
        self.runners[room.id] = runner
        runner.start()

    def _drain(self) -> None:
        drain_s = self.config.limits.drain_s
        ends_at = monotonic() + drain_s
        running = [runner for runner in self.runners.values() if not runner.finished.is_set()]
        if running:
            log.info("watch.draining", rooms=len(running), bound_s=drain_s)
        for runner in running:
            runner.stop(drain_s)
        for runner in running:
            # The last event is written after the bound, too: it costs milliseconds.
            left_s = max(0.0, ends_at - monotonic()) + 2.0
            self.drained = runner.join(left_s) and self.drained
        if not self.drained:
            log.error("watch.not_drained", rooms=[r.room.id for r in running if not r.join(0)])

    # --- degradation --------------------------------------------------------------------

    def _watch_lag(self) -> None:
        lag_s = max((runner.lag_s() for runner in self._live()), default=0.0)
        change = self.ladder.watch(lag_s, monotonic())
        if change is not None:
            self._apply(change)

    def _apply(self, change: StepChange) -> None:
        shared, config = self.shared, self.config
        speech, screen = shared.speech, shared.screen
        if speech is not None:
            speech.give_up(
                interim="interim" in self.ladder.active,
                beam="beam" in self.ladder.active,
                phrases="phrases" in self.ladder.active,
            )
        if screen is not None:
            frames = "frames" in self.ladder.active
            screen.set_factor(config.degradation.frame_factor if frames else 1.0)
            screen.skip_low_risk = "low_risk_screen" in self.ladder.active
        since = datetime.now(UTC) - timedelta(seconds=max(0.0, monotonic() - change.since))
        body = {
            "step": change.step,
            "active": change.active,
            "since": since.isoformat(timespec="milliseconds"),
            "lag_s": round(change.lag_s, 2),
            "given_up": list(self.ladder.active),
        }
        for runner in self._live():
            session = runner.session
            if session is not None and session.started:
                session.tell_degraded(body)
        log.warning("watch.degraded" if change.active else "watch.recovered", **body)

    # --- what rooms tell ----------------------------------------------------------------

    def _on_record(self, record: Violation, latency_s: float | None) -> None:
        self.metrics.on_record(record, latency_s)
        log.info(
            "violation",
            room=record.room,
            disposition=str(record.disposition),
            severity=str(record.severity),
            rule=record.rule.id,
            quote=record.quote,
            latency_ms=record.latency_ms,
        )
        if self._print is not None:
            self._print(record)

    def _on_alert(self, room: str, alert: Alert) -> None:
        self.metrics.alerts.labels(alert.config.event).inc()
        log.warning("alert", room=room, alert=alert.config.event, count=alert.count)
        if self._teleprompter is None:
            return
        path = self._teleprompter / f"{room}.txt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.new")
            temporary.write_text(teleprompter_line(alert.record) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            log.error("teleprompter.not_written", path=str(path), reason=error.strerror)

    # --- how things stand ---------------------------------------------------------------

    def _live(self) -> list[RoomRunner]:
        return [runner for runner in list(self.runners.values()) if not runner.finished.is_set()]

    def faults(self) -> list[str]:
        """Why the process had better be killed."""
        found = []
        if monotonic() - self._beat > SILENT_WORKER_S and self.ready:
            found.append("the supervisor hangs")
        shared = self.shared
        workers = {"speech": shared.speech, "screen": shared.screen, "evidence": shared.evidence}
        for name, worker in workers.items():
            if worker is None or not self.ready:
                continue
            if not worker.alive:
                found.append(f"the {name} worker has died")
            elif worker.hung:
                found.append(f"the {name} worker hangs")
        return found

    def not_ready(self) -> list[str]:
        """Why rooms are not being watched as they should be."""
        found = [] if self.ready else ["starting or stopping"]
        for runner in self._live():
            if runner.lag_s() > NOT_READY_LAG_S:
                found.append(f"{runner.room.id} lags {runner.lag_s():.0f} s")
        trouble = getattr(self.shared.journal, "trouble", None)
        if trouble:
            found.append(f"the journal cannot be written: {trouble}")
        return [*found, *self.faults()]

    def rows(self) -> list[RoomRow]:
        rows = []
        for runner in list(self.runners.values()):
            view = runner.view
            rows.append(
                RoomRow(
                    runner.room.id,
                    view.state,
                    view.media_s,
                    runner.lag_s(),
                    view.records,
                    view.last_text,
                    view.interim,
                    view.last_violation,
                    view.last_severity,
                    view.latency_ms,
                )
            )
        return rows

    def overview(self) -> Overview:
        speech = self.shared.speech
        behind = sum(int(stats.get("behind", 0)) for stats in self._sinks().values())
        return Overview(
            degraded=list(self.ladder.active),
            queue=speech.waiting if speech is not None else 0,
            lost_s=speech.stats.lost_s if speech is not None else 0.0,
            rules=self.shared.rulebook.version,
            port=self.port,
            sinks_behind=behind,
        )

    def rooms(self) -> list[dict[str, Any]]:
        """For `/rooms`."""
        return [
            {
                "room": row.room,
                "state": row.state,
                "media_s": round(row.media_s, 2),
                "lag_s": round(row.lag_s, 2),
                "records": row.records,
                "last_text": row.text,
                "interim": row.interim,
                "last_violation": row.violation,
            }
            for row in self.rows()
        ]

    def sample(self) -> Sample:
        speech, screen, evidence = self.shared.speech, self.shared.screen, self.shared.evidence
        sample = Sample(rules_version=self.shared.rulebook.version, sinks=self._sinks())
        for runner in list(self.runners.values()):
            sample.rooms.append(_room_sample(runner))
        sample.degraded = {step: step in self.ladder.active for step in STEPS}
        sample.memory_bytes, sample.python_objects = memory_bytes(), sys.getallocatedblocks()
        if speech is not None:
            stats = speech.stats
            sample.queues |= {"speech_segments": speech.waiting, "speech_seconds": speech.waiting_s}
            sample.dropped["speech", "overload_seconds"] = stats.lost_s
            sample.dropped["speech", "engine_failed"] = stats.failures
            sample.busy_s |= {
                "vad": stats.vad_s,
                "decode": stats.decode_s,
                "interim": stats.interim_s,
            }
            sample.cpu_s["speech_thread"] = stats.cpu_s
            sample.heard_s, sample.speech_s = stats.sound_s, stats.speech_s
        if screen is not None:
            sample.queues["frames"] = screen.waiting
            sample.dropped["screen", "newer_frame"] = screen.stats.replaced
            sample.dropped["screen", "reader_failed"] = screen.stats.failures
            sample.busy_s |= {"screen": screen.stats.busy_s, "ocr": screen.stats.ocr_s}
            sample.cpu_s["screen_thread"] = screen.stats.cpu_s
            sample.frames_read = screen.stats.read
        if evidence is not None:
            done = evidence.stats
            sample.queues["evidence"] = evidence.waiting
            sample.busy_s["evidence"] = done.busy_s
            sample.dropped["evidence", "queue_full"] = done.dropped
            sample.evidence = {
                "clips": done.clips,
                "frames": done.frames,
                "failed": done.failed,
            }
        sessions = [runner.session for runner in list(self.runners.values())]
        sample.cpu_s["claims"] = sum(one.cpu_s for one in sessions if one is not None)
        return sample

    def _sinks(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for delivery in self._deliveries:
            with suppress(ModeratorError):  # the journal is being closed
                stats = delivery.stats()
                found[stats.sink] = {
                    "delivered": stats.delivered,
                    "failed": stats.failures,
                    "dead": stats.dead,
                    "behind": stats.pending,
                }
        return found


def _room_sample(runner: RoomRunner) -> RoomSample:
    sample = RoomSample(runner.room.id, runner.state, runner.lag_s(), runner.reconnects)
    feed = runner.feed
    if feed is not None:
        # The feed may just be opening: what it cannot tell yet is left at nothing.
        with suppress(Exception):
            stats = feed.stats
            sample.reconnects += stats.reconnects
            sample.stalls, sample.gap_s = stats.stalls, stats.gap_s
            sample.drops = {str(reason): count for reason, count in stats.drops.items()}
    return sample
