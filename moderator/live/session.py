"""One broadcast of one room: observations in, in order; records, updates and alerts out."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from time import monotonic, thread_time
from typing import Any

import structlog

from moderator.asr.engine import SpeechSegment, Transcript
from moderator.claims.engine import ClaimEngine, ClaimSession, Sighting
from moderator.claims.passports import Passport
from moderator.episodes import Episode, Episodes, Provenance, absence_record
from moderator.live.alerts import Alert, AlertRules
from moderator.live.evidence import EvidenceWorker
from moderator.live.evidence import Room as EvidenceRoom
from moderator.live.observations import observation_body
from moderator.live.ports import JournalPort
from moderator.live.screen import Picture, Seen
from moderator.media.room_state import Gap, Notice, StateChange
from moderator.records import Advice, Observation, Room, Utterance, Violation

log = structlog.get_logger()

UPDATE_EVERY_S = 10.0
"""An episode that goes on is told of so often, unless it becomes firmer."""
CHECKPOINT_EVERY_S = 5.0
SCREEN_LATE_S = 5.0
"""A text may have gone since the last frame that was read."""
LONGEST_LAG_S = 90.0
"""Speech that lags more has been dropped."""
QUEUE_ITEMS = 2000
"""Half an hour of a busy room: a room whose journal is stuck for longer is restarted."""


@dataclass(frozen=True, slots=True)
class SessionClock:
    """The room's media clock: which second is live now, and when a second was.

    `paced` says that media arrives at live speed; only then is latency a matter of wall clock.
    """

    media_now: Callable[[], float]
    wall_at: Callable[[float], float]
    paced: bool = True


@dataclass(slots=True)
class RoomView:
    """What a display shows of a room."""

    state: str = "connecting"
    interim: str = ""
    last_text: str = ""
    last_text_at: float = 0.0
    last_violation: str = ""
    last_severity: str = ""
    records: int = 0
    utterances: int = 0
    distrusted: int = 0
    gaps: int = 0
    media_s: float = 0.0
    latency_ms: float | None = None
    problems: set[str] = field(default_factory=set)


class SessionHooks:
    """What a session tells besides the journal; all of it may stay as it is."""

    def on_record(self, record: Violation, latency_s: float | None) -> None: ...

    def on_alert(self, room: str, alert: Alert) -> None: ...

    def on_crash(self, error: BaseException) -> None: ...

    def want_advice(
        self,
        record: Violation,
        passports: Sequence[Passport],
        then: Callable[[Advice | None], None],
    ) -> bool:
        """Ask for a second opinion, given to `then` later; False where nobody is asked."""
        return False

    def want_cut(self, room: str, after_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionSetup:
    """What a session is of. `source` is redacted; `engines` are the models at work."""

    id: str
    room: Room
    source: str
    engines: dict[str, str]
    passports: Sequence[Passport] = ()
    lang: str = "zh"
    min_confidence: float = 0.0
    expects: frozenset[str] = frozenset({"speech", "screen"})
    """The channels whose end the session waits for."""


class RoomSession:
    """Owns a room's claims, episodes and alerts on one thread; the workers hand things over.

    Everything goes through one queue, so that observations are judged in the order in which they
    were made, and everything is in the journal before anyone else hears of it. An error here ends
    this session and no other: `hooks.on_crash` is told.
    """

    def __init__(
        self,
        setup: SessionSetup,
        engine: ClaimEngine,
        journal: JournalPort,
        clock: SessionClock,
        *,
        alerts: AlertRules | None = None,
        evidence: EvidenceWorker | None = None,
        evidence_room: EvidenceRoom | None = None,
        hooks: SessionHooks | None = None,
        cut_on_suspicion: bool = True,
    ) -> None:
        self.setup = setup
        self.view = RoomView()
        self.counts: Counter[str] = Counter()
        self.cpu_s = 0.0
        self.done = threading.Event()
        self.started = False
        self._journal = journal
        self._clock = clock
        self._alerts = alerts or AlertRules([])
        self._evidence = evidence
        self._evidence_room = evidence_room
        self._hooks = hooks or SessionHooks()
        self._cut_on_suspicion = cut_on_suspicion
        self._claims = ClaimSession(engine, setup.room, setup.passports)
        self._episodes = Episodes(self._provenance(engine))
        self._told: dict[str, _Told] = {}
        self._pictures: list[_OnScreen] = []
        self._open = set(setup.expects)
        self._queue: Queue[tuple[Callable[..., None], tuple[Any, ...]]] = Queue(QUEUE_ITEMS)
        self._asked = 0
        self._conclusion: str | None = None
        self._media_end = 0.0
        self._checkpoint_at = 0.0
        self._heard_to = 0.0
        self._thread = threading.Thread(target=self._run, name=f"room-{setup.room.id}", daemon=True)

    def start(self) -> None:
        """Begin to write, once the media clock runs; what came before waits in the queue."""
        if not self.started:
            self.started = True
            self._thread.start()

    # --- from the workers and the feed: hand over and return ----------------------------

    def on_utterance(self, utterance: Utterance, segment: SpeechSegment) -> None:
        self._post(self._observe_speech, utterance, segment)

    def on_interim(self, transcript: Transcript) -> None:
        if self._queue.qsize() < QUEUE_ITEMS // 2:
            self._post(self._show, transcript)

    def on_sound_lost(self, start: float, end: float, reason: str) -> None:
        self._post(self._note_gap, start, end, reason)

    def on_speech_end(self) -> None:
        self._post(self._channel_over, "speech")

    def on_seen(self, picture: Picture) -> None:
        self._post(self._observe_screen, picture)

    def on_gone(self, first: Seen, last: Seen) -> None:
        self._post(self._screen_gone, first, last)

    def on_screen_end(self) -> None:
        self._post(self._channel_over, "screen")

    def on_gap(self, gap: Gap) -> None:
        self._post(self._note_gap, gap.start, gap.end, str(gap.reason))

    def on_state(self, change: StateChange) -> None:
        self.view.state = str(change.after)
        self._post(self._note_state, change)

    def on_notice(self, notice: Notice) -> None:
        self._post(self._note_notice, notice)

    def use(self, engine: ClaimEngine) -> None:
        """Go over to other rules between two observations."""
        self._post(self._reload, engine)

    def conclude(self, reason: str, media_s: float) -> None:
        """No channel gets anything more after its end, which was at `media_s`.

        Notices that were owed and not given are judged when the broadcast itself ended
        (`reason` `ended`): of one that we stopped watching nobody can say.
        """
        self._post(self._set_conclusion, reason, media_s)

    def tell_degraded(self, body: dict[str, Any]) -> None:
        self._post(self._note_degraded, body)

    def abandon(self) -> None:
        """End the thread without a conclusion, after a crash elsewhere in the room."""
        self._post(self._stop_now)

    def _post(self, do: Callable[..., None], *with_what: Any) -> None:
        if self.done.is_set():
            return
        try:
            self._queue.put_nowait((do, with_what))
        except Full:
            error = RuntimeError(f"{QUEUE_ITEMS} observations wait: the journal is stuck")
            self._crash(error)

    # --- the session's thread -----------------------------------------------------------

    def _run(self) -> None:
        try:
            self._start()
            while not self.done.is_set():
                try:
                    do, with_what = self._queue.get(timeout=1.0)
                except Empty:
                    do, with_what = self._idle, ()
                began = thread_time()
                do(*with_what)
                self._keep_up()
                self.cpu_s += thread_time() - began
        except Exception as error:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        if self.done.is_set():
            return
        # Told before `done`: whoever waits for that asks next whether there was a crash.
        self._hooks.on_crash(error)
        self.done.set()
        log.error("session.crashed", room=self.setup.room.id, exc_info=error)

    def _start(self) -> None:
        setup = self.setup
        zero: str | None = None
        if self.view.state not in ("connecting", "failed"):
            zero_s = self._clock.wall_at(0.0)
            zero = datetime.fromtimestamp(zero_s, UTC).isoformat(timespec="milliseconds")
        body = {
            "room": setup.room.id,
            "platform": setup.room.platform,
            "title": setup.room.title,
            "host": setup.room.host,
            "merchant": setup.room.merchant,
            "products": list(setup.room.products),
            "ai_host": setup.room.ai_host,
            "source": setup.source,
            "engines": self._episodes.provenance.engine,
            "rules": self._episodes.provenance.engine.get("rules", ""),
            "media_zero": zero,
        }
        self._write("session.started", body, "session.started", 0.0)

    def _idle(self) -> None:
        return

    def _stop_now(self) -> None:
        self.done.set()

    def _observe_speech(self, utterance: Utterance, segment: SpeechSegment) -> None:
        self.counts["utterances"] += 1
        self.view.utterances += 1
        self.view.interim = ""
        self.view.last_text = utterance.text
        self.view.last_text_at = utterance.end
        self._heard_to = max(self._heard_to, segment.end)
        if utterance.distrust:
            self.counts["utterances_distrusted"] += 1
            self.view.distrusted += 1
        for sighting in self._observe(utterance):
            self._take(sighting, sighting.end_s)

    def _observe_screen(self, picture: Picture) -> None:
        sightings = self._observe(picture.seen)
        self._pictures.append(_OnScreen(picture.seen, sightings))
        for sighting in sightings:
            self._take(sighting, sighting.start_s, (picture,))

    def _observe(self, observation: Observation) -> list[Sighting]:
        channel = observation.channel
        self.counts[channel] += 1
        body = observation_body(observation)
        key = f"{channel}/{observation.start:.2f}/{observation.text[:40]}"
        self._write("observation", body, key, observation.end)
        return self._claims.observe(observation)

    def _screen_gone(self, first: Seen, last: Seen) -> None:
        shown = next((one for one in self._pictures if one.seen == first), None)
        if shown is None:
            return
        self._pictures.remove(shown)
        for sighting in shown.sightings:
            episode = self._episodes.stretch(sighting, last.end)
            if episode is not None:
                self._tell(episode, episode.end, ())

    def _show(self, transcript: Transcript) -> None:
        self.view.interim = transcript.text
        if not self._cut_on_suspicion:
            return
        ends = [
            transcript.chars[finding.end - 1].end
            for finding in self._claims.preview(transcript.text)
            if finding.end <= len(transcript.chars)
        ]
        if ends:
            self._hooks.want_cut(self.setup.room.id, min(ends))

    def _take(
        self, sighting: Sighting, words_end: float, pictures: tuple[Picture, ...] = ()
    ) -> None:
        self._tell(self._episodes.add(sighting), words_end, pictures)

    def _tell(self, episode: Episode, words_end: float, pictures: tuple[Picture, ...]) -> None:
        """Write the record of a new episode now, of one that grew when it is worth it."""
        told = self._told.get(episode.id)
        if told is None:
            record = episode.record()
            if record.confidence >= self.setup.min_confidence:
                told = self._write_new(record, words_end, pictures)
                episode.id = told.record.id
                self._told[episode.id] = told
            return
        record = self._with_advice(told, episode.record())
        firmer = (record.disposition, record.severity) != (
            told.record.disposition,
            told.record.severity,
        )
        if firmer or monotonic() - told.at >= UPDATE_EVERY_S:
            self._write_update(told, record)

    def _write_new(
        self, record: Violation, words_end: float, pictures: tuple[Picture, ...]
    ) -> _Told:
        latency_s: float | None = None
        if self._clock.paced and record.channel != "stream":
            latency_s = max(0.0, self._clock.media_now() - words_end)
            record = replace(record, latency_ms=round(latency_s * 1000, 1))
        key = f"{record.rule.id}/{record.channel}/{record.start:.2f}/{record.quote}"
        written = self._write("violation", record.to_json(), key, record.start)
        if written["id"] != record.id:
            # An earlier run of this session has told it already, under this id.
            record = replace(record, id=written["id"])
            self._want_evidence(record, pictures)
            return _Told(record, monotonic())
        if self._clock.paced and latency_s is not None:
            latency_s = max(0.0, self._clock.media_now() - words_end)
        self.counts["violations"] += 1
        self.view.records += 1
        self.view.last_violation = f"{record.rule.title}：{record.quote}".replace("\n", " ")
        self.view.last_severity = str(record.severity)
        self.view.latency_ms = record.latency_ms
        self._hooks.on_record(record, latency_s)
        for alert in self._alerts.on_record(record, record.end):
            self.counts["alerts"] += 1
            key = f"{alert.config.event}/{record.id}/{alert.config.count}"
            self._write("alert", alert.body(), key, record.end)
            self._hooks.on_alert(self.setup.room.id, alert)
        self._want_evidence(record, pictures)
        told = _Told(record, monotonic())
        self._asked += self._hooks.want_advice(
            record,
            self.setup.passports,
            lambda advice: self._post(self._take_advice, told, advice),
        )
        return told

    def _take_advice(self, told: _Told, advice: Advice | None) -> None:
        self._asked -= 1
        if advice is not None:
            told.advice = advice
            self.counts["advice"] += 1
            self._write_update(told, self._with_advice(told, told.record))
        self._finish_when_over()

    def _with_advice(self, told: _Told, record: Violation) -> Violation:
        if told.advice is None:
            return record
        from moderator.claims.adjudicator import advised

        return advised(record, told.advice, self.setup.lang)

    def _want_evidence(self, record: Violation, pictures: tuple[Picture, ...]) -> None:
        if self._evidence is None or self._evidence_room is None or record.channel == "stream":
            return
        self._evidence.want(self._evidence_room, record, pictures)

    def _write_update(self, told: _Told, record: Violation) -> None:
        record = replace(record, latency_ms=told.record.latency_ms)
        if record == told.record:
            return
        self._write("violation.updated", record.to_json(), None, record.end)
        self.counts["updates"] += 1
        told.record, told.at = record, monotonic()

    def _note_gap(self, start: float, end: float, reason: str) -> None:
        self.view.gaps += 1
        self.counts["gaps"] += 1
        body = {"start": round(start, 3), "end": round(end, 3), "reason": reason}
        self._write("session.gap", body, f"gap/{start:.3f}/{end:.3f}/{reason}", start)

    def _note_degraded(self, body: dict[str, Any]) -> None:
        self._write("degraded", body, None, None)

    def _note_state(self, change: StateChange) -> None:
        body = {
            "before": str(change.before),
            "after": str(change.after),
            "reason": str(change.reason),
            "detail": change.detail,
        }
        self._write("session.state", body, None, change.media_s)

    def _note_notice(self, notice: Notice) -> None:
        (self.view.problems.add if notice.active else self.view.problems.discard)(
            str(notice.problem)
        )
        body = {
            "problem": str(notice.problem),
            "active": notice.active,
            "detail": notice.detail,
        }
        self._write("session.state", body, None, notice.media_s)

    def _reload(self, engine: ClaimEngine) -> None:
        before = self._episodes.provenance.engine.get("rules", "")
        self._flush_updates(self._episodes.close())
        self._claims = self._claims.under(engine)
        self._episodes.provenance = self._provenance(engine)
        after = self._episodes.provenance.engine.get("rules", "")
        self._write("rules.reloaded", {"before": before, "after": after}, None, None)

    def _channel_over(self, channel: str) -> None:
        self._open.discard(channel)
        self._finish_when_over()

    def _set_conclusion(self, reason: str, media_s: float) -> None:
        self._conclusion, self._media_end = reason, media_s
        self._finish_when_over()

    def _finish_when_over(self) -> None:
        if self._conclusion is None or self._open:
            return
        if self._asked:
            return  # each question ends in an answer or in a timeout
        self._flush_updates(self._episodes.close())
        media_s = self._media_end
        if self._conclusion == "ended":
            for absent in self._claims.finish():
                record = absence_record(absent, self._episodes.provenance, media_s)
                if record.confidence >= self.setup.min_confidence:
                    self._write_new(record, media_s, ())
        self.done.set()

    def write_end(self, reason: str) -> None:
        """The last event; call it when evidence has been waited for."""
        body = {"reason": reason, **dict(sorted(self.counts.items()))}
        ended_s = self._media_end or self._clock.media_now()
        self._write("session.ended", body, "session.ended", ended_s)

    def _keep_up(self) -> None:
        now_s = self._clock.media_now()
        self.view.media_s = now_s
        if monotonic() - self._checkpoint_at < CHECKPOINT_EVERY_S:
            return
        self._checkpoint_at = monotonic()
        for shown in self._pictures:
            for sighting in shown.sightings:
                # It is on the screen still; its own end comes when it has gone.
                self._episodes.stretch(sighting, now_s - SCREEN_LATE_S)
        # What is heard lags behind; nothing before it can continue an episode any more.
        self._flush_updates(self._episodes.expire(max(self._heard_to, now_s - LONGEST_LAG_S)))
        self._journal.checkpoint(self.setup.id, self._heard_to)

    def _flush_updates(self, over: list[Episode]) -> None:
        for episode in over:
            told = self._told.pop(episode.id, None)
            if told is not None:
                self._write_update(told, self._with_advice(told, episode.record()))

    def _write(
        self, type: str, body: dict[str, Any], key: str | None, at: float | None
    ) -> dict[str, Any]:
        """Durable when it returns; the body that is in the journal under `key`."""
        setup = self.setup
        envelope = self._journal.append(setup.id, setup.room.id, type, body, key=key, media_s=at)
        written: dict[str, Any] = envelope.body or body
        return written

    def write_evidence(self, record: Violation, body: dict[str, Any]) -> None:
        """An `evidence` event; on the evidence worker's thread."""
        self._write("evidence", body, f"evidence/{record.id}", record.start)

    def _provenance(self, engine: ClaimEngine) -> Provenance:
        setup = self.setup
        engines = {**engine.versions, **setup.engines}
        return Provenance(setup.room, setup.id, setup.source, engines, setup.lang)


@dataclass(slots=True)
class _Told:
    record: Violation
    at: float
    advice: Advice | None = None


@dataclass(slots=True)
class _OnScreen:
    seen: Seen
    sightings: list[Sighting]
