"""One speech engine for all rooms: sound in, utterances out, on one thread that owns it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from threading import Thread
from time import monotonic, perf_counter, thread_time
from typing import Any, Protocol, runtime_checkable

import numpy as np
import structlog
from numpy.typing import NDArray

from moderator.asr.batches import at_once
from moderator.asr.engine import AsrEngine, Samples, SpeechSegment, Transcript, context_of
from moderator.asr.guards import distrust_of, guard
from moderator.asr.second_listen import Heard, Likenesses, Scores, SecondListen
from moderator.asr.segmenter import LIVE, THRIFTY, SegmenterOptions, SpeechSegmenter
from moderator.asr.vad import VoiceActivity
from moderator.live.config import SpeechConfig
from moderator.live.queues import FairQueue, InterimPacer, Waiting
from moderator.live.worker import Worker
from moderator.media.blocks import AudioBlock
from moderator.records import Utterance

log = structlog.get_logger()

TICK_S = 0.1
"""Sound is judged this often at least: a pause is noticed so much later at most."""
SHORTEST_DRAFT_S = 0.7
"""Of less speech than this Whisper makes up more than it hears."""
WAIT_BACKLOG_S = 20.0
"""Where nothing may be dropped, a source waits while so much of its sound does."""


class SharedVoice(Protocol):
    """Voice activity of many rooms in one call; `SharedSileroVad` is one."""

    def room(self) -> VoiceActivity: ...

    def probabilities(
        self, rooms: Sequence[tuple[Any, Samples]], /
    ) -> list[NDArray[np.float32]]: ...


@runtime_checkable
class Drafts(Protocol):
    """An engine that has a cheaper way to text that is only shown."""

    def draft(self, segments: Sequence[SpeechSegment]) -> list[Transcript]: ...


@runtime_checkable
class SetsBeam(Protocol):
    """An engine whose beam can be changed while it runs."""

    def set_beam(self, beam_size: int) -> None: ...


class SpeechListener(Protocol):
    """A room, as the worker knows it. Called on the worker's thread: hand over and return."""

    def on_utterance(self, utterance: Utterance, segment: SpeechSegment) -> None: ...

    def on_interim(self, transcript: Transcript) -> None: ...

    def on_sound_lost(self, start: float, end: float, reason: str) -> None: ...

    def on_speech_end(self) -> None: ...


@dataclass(slots=True)
class SpeechStats:
    """What speech has cost and done so far; seconds of wall clock where not said otherwise."""

    segments: int = 0
    sound_s: float = 0.0
    speech_s: float = 0.0
    decode_s: float = 0.0
    """Added up over batches, also of those that were decoded beside each other."""
    interim_s: float = 0.0
    interims: int = 0
    guesses: int = 0
    guesses_used: int = 0
    """Final texts that were ready when the pause after them was long enough."""
    vad_s: float = 0.0
    batches: int = 0
    lost_s: float = 0.0
    """Seconds of sound dropped because everything was too slow."""
    failures: int = 0
    cpu_s: float = 0.0
    """CPU of the worker's own thread; the decoder's threads are its library's."""


@dataclass(slots=True, eq=False)
class _Room:
    id: str
    listener: SpeechListener
    urgency: int
    may_wait: bool
    segmenter: SpeechSegmenter
    voice: VoiceActivity
    inbox: deque[AudioBlock] = field(default_factory=deque)
    inbox_s: float = 0.0
    oldest_at: float | None = None
    cut_after: float | None = None
    ending: bool = False
    ended: bool = False
    in_work: int = 0
    """Segments queued or being decoded."""
    drafted_to: float = float("-inf")
    guess: _Guess | None = None


@dataclass(frozen=True, slots=True)
class _Guess:
    """What was heard in a segment before it was sure to end there."""

    start: float
    count: int
    heard: Heard

    def is_of(self, segment: SpeechSegment) -> bool:
        return (self.start, self.count) == (segment.start, len(segment.samples))


@dataclass(slots=True, eq=False)
class _Flight:
    """A batch that is being decoded, and the rooms that it was taken from."""

    batch: list[Waiting[SpeechSegment]]
    rooms: list[_Room | None]
    since: float
    heard: list[Heard | None] | None = None
    """None until it has landed."""


class SpeechWorker(Worker):
    """Cuts, decodes and doubts the speech of every room.

    `hear` takes a room's sound from any thread. Voice activity of all rooms is judged together,
    each room's segments go to one queue that is fair between rooms, and batches of it through the
    engine and the second listen; the text comes to the room's listener in order. An engine that
    decodes several batches at once has them beside each other, and listening goes on meanwhile: a
    room has one batch in work at a time. In time that is left over, a segment in whose pause we are
    is decoded before it is sure to end there, so that the pause and the decoding do not add up; and
    open speech is written down for the display.

    Queue policy: a room's sound that has waited for more than `max_lag_s`, cut or not, is dropped,
    oldest first, counted, and its listener is told. A room opened with `may_wait` (a file that is
    not played at live speed) is slowed down instead and loses nothing.
    """

    def __init__(
        self,
        engine: AsrEngine,
        vad: SharedVoice,
        config: SpeechConfig | None = None,
        *,
        likenesses: Likenesses | None = None,
        max_lag_s: float = 60.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__("speech", clock=clock)
        self.config = config or SpeechConfig()
        self.engine = engine
        self.stats = SpeechStats()
        self.options: SegmenterOptions = LIVE
        self.interim = True
        self._beam_wanted = self._beam = self.config.beam
        self._at_once = at_once(engine)
        self._vad = vad
        self._max_lag_s = max_lag_s
        self._second: SecondListen | None = None
        if likenesses is not None and isinstance(engine, Scores):
            # Batches are spread here, not inside one.
            self._second = SecondListen(engine, likenesses, self.config.batch, at_once=1)
        self._rooms: dict[str, _Room] = {}
        context_s = context_of(engine)
        self._queue: FairQueue[SpeechSegment] = FairQueue(
            max_wait_s=max_lag_s,
            row_cost=context_s or whisper_row_cost,
            spread=1.0 if context_s else 1.5,
        )
        self._pacer = InterimPacer(
            every_s=self.config.interim_every_s, share=self.config.interim_share
        )
        self._flights: list[_Flight] = []

    # --- from other threads -------------------------------------------------------------

    def open(
        self, room: str, listener: SpeechListener, *, urgency: int = 5, may_wait: bool = False
    ) -> None:
        voice = self._vad.room()
        segmenter = SpeechSegmenter(self.options, voice)
        with self._change:
            self._rooms[room] = _Room(room, listener, urgency, may_wait, segmenter, voice)

    def close(self, room: str) -> None:
        """Forget a room and everything of it that waits."""
        with self._change:
            self._rooms.pop(room, None)
            self._queue.forget(room)
            self._pacer.forget(room)
            self._change.notify_all()

    def hear(self, room: str, block: AudioBlock) -> None:
        """Take the next sound of a room."""
        lost: tuple[float, float] | None = None
        with self._change:
            mine = self._rooms.get(room)
            if mine is None:
                return
            if mine.may_wait:
                self._change.wait_for(
                    lambda: self._stopping or self._backlog_s(mine) < WAIT_BACKLOG_S
                )
            if mine.oldest_at is None:
                mine.oldest_at = self._clock()
            mine.inbox.append(block)
            mine.inbox_s += block.end - block.start
            bound_s = inf if mine.may_wait else self._max_lag_s
            while mine.inbox_s > bound_s and len(mine.inbox) > 1:
                old = mine.inbox.popleft()
                mine.inbox_s -= old.end - old.start
                lost = (lost[0] if lost else old.start, old.end)
            self._change.notify_all()
        if lost is not None:
            self._lose(mine, *lost)

    def cut_after(self, room: str, time_s: float) -> None:
        """Have the room's open segment end soon after media-clock second `time_s`."""
        with self._change:
            if room in self._rooms:
                self._rooms[room].cut_after = time_s
                self._change.notify_all()

    def finish(self, room: str) -> None:
        """No more sound comes; the listener hears of it after the last utterance."""
        with self._change:
            if room in self._rooms:
                self._rooms[room].ending = True
                self._change.notify_all()

    def give_up(self, *, interim: bool, beam: bool, phrases: bool) -> None:
        """What to do without for now: interim text, the wide beam, the cut at short phrases."""
        self.interim = not interim
        self.options = THRIFTY if phrases else LIVE
        self._beam_wanted = self.config.narrow_beam if beam else self.config.beam

    def lag_s(self, room: str) -> float:
        """How long the oldest sound of the room has waited that is ready to be worked on."""
        with self._change:
            mine = self._rooms.get(room)
            if mine is None:
                return 0.0
            now = self._clock()
            since = [
                one.put_at for flight in self._flights for one in flight.batch if one.room == room
            ]
            since += [at for at in (self._queue.waiting_since(room),) if at is not None]
            if mine.oldest_at is not None:
                since.append(mine.oldest_at)
            return max((now - at for at in since), default=0.0)

    @property
    def waiting(self) -> int:
        """Segments that wait."""
        with self._change:
            return len(self._queue)

    @property
    def waiting_s(self) -> float:
        """Seconds of sound that wait, cut or not."""
        with self._change:
            return self._queue.seconds + sum(room.inbox_s for room in self._rooms.values())

    # --- the worker's thread ------------------------------------------------------------

    def step(self) -> bool:
        """One turn: judge what came, then decode a batch, or else an interim text."""
        with self._change:
            if not (self._stopping or self._may_decode()):
                self._change.wait_for(lambda: self._stopping or self._landed(), TICK_S)
            if self._stopping:
                return False
            # A decoder that hangs is a worker that hangs.
            self._beat = min([self._clock(), *(flight.since for flight in self._flights)])
        began = thread_time()
        self._listen()
        self._drop_stale()
        self._take_landed()
        launched = 0
        while launched < self._at_once and (batch := self._next_batch()):
            self._launch(batch)
            launched += 1
        idle = len(self._flights) < self._at_once if self._at_once > 1 else launched == 0
        if self.interim and idle and not self._guess():
            self._draft()
        self._report_ends()
        self.stats.cpu_s += thread_time() - began
        return True

    def _may_decode(self) -> bool:
        free = len(self._flights) < self._at_once
        return free and self._queue.holds_other_than(self._in_flight())

    def _in_flight(self) -> set[str]:
        """Rooms that wait for a text: their next one must not overtake it."""
        return {one.room for flight in self._flights for one in flight.batch}

    def _landed(self) -> bool:
        return any(flight.heard is not None for flight in self._flights)

    def _next_batch(self) -> list[Waiting[SpeechSegment]]:
        with self._change:
            if len(self._flights) >= self._at_once:
                return []
            return self._queue.take(self.config.batch, without=self._in_flight())

    def _launch(self, batch: list[Waiting[SpeechSegment]]) -> None:
        """Have a batch decoded: beside others where the engine can, else here and now."""
        if self._beam != self._beam_wanted and isinstance(self.engine, SetsBeam):
            self.engine.set_beam(self._beam_wanted)
            self._beam = self._beam_wanted
        with self._change:
            rooms = [self._rooms.get(one.room) for one in batch]
            flight = _Flight(batch, rooms, self._clock())
            self._flights.append(flight)
        if self._at_once > 1:
            Thread(target=self._fly, args=(flight,), name="decode", daemon=True).start()
        else:
            self._fly(flight)
            self._take_landed()

    def _fly(self, flight: _Flight) -> None:
        began = perf_counter()
        heard = self._heard([one.item for one in flight.batch])
        with self._change:
            self.stats.decode_s += perf_counter() - began
            flight.heard = heard
            self._change.notify_all()

    def _take_landed(self) -> None:
        with self._change:
            landed = [flight for flight in self._flights if flight.heard is not None]
            self._flights = [flight for flight in self._flights if flight.heard is None]
        for flight in landed:
            self.stats.batches += 1
            self._deliver(flight)

    def _deliver(self, flight: _Flight) -> None:
        for room, one, heard in zip(flight.rooms, flight.batch, flight.heard or (), strict=True):
            if room is None or self._rooms.get(room.id) is not room:
                continue
            self._tell(room, one.item, heard)
            with self._change:
                room.in_work -= 1
                self._change.notify_all()

    def _listen(self) -> None:
        began = perf_counter()
        rooms: list[_Room] = []
        with self._change:
            for room in self._rooms.values():
                if room.inbox or room.cut_after is not None or (room.ending and not room.ended):
                    rooms.append(room)
            taken = [(room, list(room.inbox), room.ending) for room in rooms]
            for room in rooms:
                room.inbox.clear()
                room.inbox_s, room.oldest_at = 0.0, None
            self._change.notify_all()
        found: list[tuple[_Room, SpeechSegment]] = []
        for room, blocks, _ in taken:
            if room.segmenter.options is not self.options and room.segmenter.open_speech() is None:
                room.segmenter.options = self.options
            for block in blocks:
                self.stats.sound_s += block.end - block.start
                if room.segmenter.breaks_at(block.start):
                    found += [(room, segment) for segment in self._flush(room)]
                room.segmenter.take(block.start, block.samples)
        waiting = [(room, room.segmenter.unjudged()) for room, _, _ in taken]
        answers = self._vad.probabilities([(room.voice, windows) for room, windows in waiting])
        for (room, _), answer in zip(waiting, answers, strict=True):
            if room.cut_after is not None:
                found += [(room, segment) for segment in self._cut(room, room.cut_after)]
                room.cut_after = None
            found += [(room, segment) for segment in room.segmenter.judge(answer)]
        for room, _, ending in taken:
            if ending and not room.ended:
                found += [(room, segment) for segment in self._flush(room)]
                room.ended = True
        self._put(found)
        self.stats.vad_s += perf_counter() - began

    def _cut(self, room: _Room, time_s: float) -> list[SpeechSegment]:
        """In a pause whose text is there already the segment ends at once, else soon."""
        ending = room.segmenter.ending_speech()
        if ending is not None and room.guess is not None and room.guess.is_of(ending):
            segment = room.segmenter.end_in_pause()
            return [segment] if segment is not None else []
        room.segmenter.cut_after(time_s)
        return []

    def _flush(self, room: _Room) -> list[SpeechSegment]:
        segmenter = room.segmenter
        segments = list(segmenter.judge(room.voice.probabilities(segmenter.unjudged())))
        return [*segments, *segmenter.flush()]

    def _put(self, found: list[tuple[_Room, SpeechSegment]]) -> None:
        ready: list[tuple[_Room, SpeechSegment, Heard]] = []
        with self._change:
            now = self._clock()
            for room, segment in found:
                if self._rooms.get(room.id) is not room:
                    continue
                self.stats.speech_s += segment.duration_s
                guess, room.guess = room.guess, None
                if guess is not None and guess.is_of(segment) and room.in_work == 0:
                    ready.append((room, segment, guess.heard))
                    continue
                room.in_work += 1
                # Urgency 9 is a second ahead of urgency 0, which waiting soon makes up for.
                deadline = now + self.config.deadline_s - room.urgency / 9
                self._queue.put(
                    room.id, segment, length_s=segment.duration_s, now=now, deadline=deadline
                )
        for room, segment, heard in ready:
            self.stats.guesses_used += 1
            self._tell(room, segment, heard)

    def _drop_stale(self) -> None:
        with self._change:
            patient = {room.id for room in self._rooms.values() if room.may_wait}
            stale = self._queue.stale(self._clock(), spare=patient)
            rooms = [(self._rooms[one.room], one.item) for one in stale if one.room in self._rooms]
            for room, _ in rooms:
                room.in_work -= 1
        for room, segment in rooms:
            self._lose(room, segment.start, segment.end)

    def _lose(self, room: _Room, start: float, end: float) -> None:
        self.stats.lost_s += end - start
        room.listener.on_sound_lost(start, end, "overload")

    def _tell(self, room: _Room, segment: SpeechSegment, heard: Heard | None) -> None:
        self.stats.segments += 1
        if heard is None:
            self._lose(room, segment.start, segment.end)
        elif heard.transcript.text:
            utterance = guard(heard.transcript, segment, self.engine.name)
            room.listener.on_utterance(replace(utterance, relistened=heard.relistened), segment)

    def _heard(self, segments: list[SpeechSegment]) -> list[Heard | None]:
        """What was heard in each; one that the engine fails on does not spoil the others."""
        try:
            if self._second is not None:
                return list(self._second.transcribe(segments))
            return [Heard(transcript) for transcript in self.engine.transcribe(segments)]
        except Exception:
            log.exception("speech.engine_failed", segments=len(segments))
            with self._change:
                self.stats.failures += 1
            if len(segments) == 1:
                return [None]
            return [one for segment in segments for one in self._heard([segment])]

    def _guess(self) -> bool:
        """Decode a segment whose pause has begun; False when there is none."""
        with self._change:
            rooms = [room for room in self._rooms.values() if not room.ended]
        for room in rooms:
            segment = room.segmenter.ending_speech()
            if segment is None or (room.guess is not None and room.guess.is_of(segment)):
                continue
            began = perf_counter()
            (heard,) = self._heard([segment])
            with self._change:
                self.stats.decode_s += perf_counter() - began
            self.stats.guesses += 1
            if heard is not None:
                room.guess = _Guess(segment.start, len(segment.samples), heard)
                self._show(room, heard.transcript, segment)
                return True
        return False

    def _draft(self) -> None:
        now = self._clock()
        with self._change:
            rooms = {room.id: room for room in self._rooms.values() if not room.ended}
        speaking = {}
        for room_id, room in rooms.items():
            speech = room.segmenter.open_speech()
            if speech is None or speech.duration_s < SHORTEST_DRAFT_S:
                continue
            if room.segmenter.ending_speech() is not None:
                continue  # its final text is there already
            # Nothing new since the last text: nothing new to show.
            if speech.end - room.drafted_to >= 0.3:
                speaking[room_id] = speech
        chosen = self._pacer.next(list(speaking), now)
        if chosen is None:
            return
        segment = speaking[chosen]
        began = perf_counter()
        try:
            if isinstance(self.engine, Drafts):
                (draft,) = self.engine.draft([segment])
            else:
                (draft,) = self.engine.transcribe([segment])
        except Exception:
            log.exception("speech.draft_failed")
            self.stats.failures += 1
            self._pacer.served(chosen, now, perf_counter() - began)
            return
        took_s = perf_counter() - began
        self._pacer.served(chosen, now, took_s)
        rooms[chosen].drafted_to = segment.end
        self.stats.interim_s += took_s
        self.stats.interims += 1
        self._show(rooms[chosen], draft, segment)

    def _show(self, room: _Room, draft: Transcript, segment: SpeechSegment) -> None:
        if draft.text and not distrust_of(draft, segment.duration_s):
            room.listener.on_interim(draft)

    def _report_ends(self) -> None:
        with self._change:
            over = [room for room in self._rooms.values() if room.ended and room.in_work == 0]
            for room in over:
                del self._rooms[room.id]
        for room in over:
            room.listener.on_speech_end()

    def _backlog_s(self, room: _Room) -> float:
        return room.inbox_s + 5.0 * room.in_work


def whisper_row_cost(length_s: float) -> float:
    """What a segment costs Whisper in a batch, in seconds that the encoder hears.

    As `FasterWhisperOptions` has it: 3 s of silence follow, and 8 s are heard at least.
    """
    return max(length_s + 3.0, 8.0)
