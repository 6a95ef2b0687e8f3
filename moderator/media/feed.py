"""One live room's input for days: connects, watches, reconnects, on one media clock.

ffmpeg never waits for whoever checks a room: sound and frames go through bounded lanes, and what
a slow reader cannot take is dropped there and counted, so that a room falls behind openly or not
at all. All healing is done in one way, by a new connection: after a dead process, a stall, time
stamps that jump or a clock that drifts, the next connection is placed anew on the session's media
clock, and what was missed is a Gap.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from math import inf
from subprocess import TimeoutExpired
from time import monotonic

from moderator.errors import SOURCE_INVALID, ModeratorError
from moderator.media.address import AddressPolicy, is_url, redact_text
from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.clock import Jump
from moderator.media.connection import Connection, Wanted, open_way
from moderator.media.feed_options import (
    FeedOptions,
    FeedStats,
    InputLimits,
    Resume,
    SourceSpec,
    check_headers,
    check_source,
)
from moderator.media.feed_reading import FeedReading
from moderator.media.interleave import NothingYet
from moderator.media.resolver import FreshUrl, Resolver
from moderator.media.retry import Retries
from moderator.media.ring import RingBuffer, RingWriter
from moderator.media.room_state import ALLOWED, Gap, Notice, Reason, RoomState, StateChange
from moderator.media.running import Item
from moderator.media.session_clock import SessionClock
from moderator.media.timeline import Timeline
from moderator.media.watchdog import End, Watchdog, WatchOptions

__all__ = [
    "FeedOptions",
    "FeedStats",
    "FreshUrl",
    "Gap",
    "InputLimits",
    "Notice",
    "Reason",
    "Resolver",
    "Resume",
    "RoomState",
    "SourceSpec",
    "StateChange",
    "StreamFeed",
]


Out = AudioBlock | VideoFrame | Gap


class StreamFeed:
    """One room's input. Iterate it once, on a thread of the room's own; `stop` from any other.

    Times are seconds of the session's media clock: zero at the first PTS, never backwards in a
    track, continued over reconnects by as much as the wall clock went on. The iteration ends when
    the room has `ended` or `failed`. Callbacks come on the iterating thread; a reader that leaves
    early closes the iterator (`contextlib.closing`), which takes ffmpeg along.

    Raises LM-119 for headers that are none, and LM-101 to LM-104 from the iteration when the
    source is a file that cannot be read; everything that goes wrong with a stream is a state.
    """

    def __init__(
        self,
        room_id: str,
        source: SourceSpec,
        options: FeedOptions | None = None,
        *,
        ring: RingBuffer | None = None,
        on_state: Callable[[StateChange], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        resume: Resume | None = None,
    ) -> None:
        self.room_id = room_id
        self.source = source
        self.options = options or FeedOptions()
        check_source(room_id, source)
        self._ring = ring
        self._on_state = on_state
        self._on_notice = on_notice
        self._state = RoomState.CONNECTING
        self._stopping = threading.Event()
        self._clock = SessionClock()
        self._timeline = Timeline(resume.media_s if resume else 0.0)
        self._outage = Reason.RESTARTED
        if resume is not None:
            self._clock.resume(resume.media_s, resume.zero_wall_s)
        self._connection: Connection | None = None
        self._address = FreshUrl(source.url, source.headers) if source.url else None
        self._absent: frozenset[str] = frozenset()
        self._was_live = False
        self._refusals = 0
        self._hurried: deque[float] = deque(maxlen=_HURRIES)
        self._outage_began: float | None = None
        self._record_again_at = 0.0
        self._every_s = 0.0
        self._counts: Counter[str] = Counter()
        self._drops: Counter[str] = Counter(sound_blocks=0, frames=0, frames_thinned=0)
        self._ends: Counter[Reason] = Counter()
        self._problems: dict[Reason, str] = {}
        self._log: deque[str] = deque(maxlen=30)
        self._last_packet_wall_s: float | None = None
        self._iterated = False

    @property
    def state(self) -> RoomState:
        return self._state

    @property
    def stats(self) -> FeedStats:
        connection, drops = self._connection, Counter(self._drops)
        log = [*self._log]
        if connection is not None:
            drops.update(_lost_in(connection))
            log += [redact_text(line) for line in list(connection.running.last_lines)]
        drops["sound_sent_again_s"] = round(self._timeline.sent_before_s)
        return FeedStats(
            connects=self._counts["connects"],
            reconnects=max(0, self._counts["connects"] - 1),
            stalls=self._counts["stalls"],
            bytes_in=self._counts["bytes"] + (_bytes_of(connection) if connection else 0),
            last_packet_wall_s=self._last_packet_wall_s,
            frames=self._timeline.frames,
            audio_s=self._timeline.audio_s,
            drops=dict(drops),
            ends=dict(self._ends),
            gaps=self._timeline.gaps,
            gap_s=self._timeline.gap_s,
            clock_drift_s=self._clock.drift_s,
            problems=frozenset(self._problems),
            log=tuple(log[-30:]),
        )

    def media_now(self) -> float:
        """The media-clock second that is arriving now; latency is measured against it."""
        return self._clock.media_now()

    def wall_at(self, media_s: float) -> float:
        """Wall clock (seconds since 1970) when that media second was live."""
        return self._clock.wall_at(media_s)

    def set_frame_every(self, seconds: float) -> None:
        """Hand out frames no more often than this from now on (0: all that are decoded)."""
        self._every_s = seconds

    def stop(self) -> None:
        """End the iteration soon; returns at once."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.items.close()

    def __iter__(self) -> Iterator[Out]:
        if self._iterated:
            raise RuntimeError("a StreamFeed is iterated once; make another to connect again")
        self._iterated = True
        end = End(Reason.STOPPED, "stopped", over=True)
        try:
            try:
                end = yield from self._connections()
            except ModeratorError as error:
                end = End(Reason.NOT_MEDIA, error.text().partition("\n")[0], over=True)
                raise
            missing_until = self._clock.media_now() if self._outage_began is not None else 0.0
            if end.reason is not Reason.END_OF_STREAM:
                yield from self._timeline.gap_until(missing_until, self._outage)
        finally:
            self._drop_connection()
            if self._ring is not None:
                self._ring.finish()
            self._notify({})
            good = end.reason in (Reason.STOPPED, Reason.END_OF_STREAM)
            self._change(RoomState.ENDED if good else RoomState.FAILED, end.reason, end.detail)

    def _connections(self) -> Generator[Out, None, End]:
        """Connects until the session is over; returns why it is."""
        options = self.options
        retries = Retries(options.fast_retries, options.fast_retry_s, options.backoff_max_s)
        last = End(Reason.CONNECTED, "first connection")
        while not self._stopping.is_set():
            delivered = self._timeline.frames + self._timeline.audio_s
            try:
                connection = self._connect(last, retries.failed)
            except ModeratorError as error:
                last = self._not_connected(error)
            else:
                began = monotonic()
                last = yield from self._read(connection)
                self._drop_connection()
                if monotonic() - began > _PROVEN_S and self._delivered_since(delivered):
                    retries.succeeded()
            if self._stopping.is_set():
                break
            self._ends[last.reason] += 1
            if self._outage_began is None:
                self._outage_began, self._outage = monotonic(), last.reason
            last = self._judge(last)
            if last.over:
                return last
            self._change(RoomState.RECONNECTING, last.reason, last.detail)
            if not (last.at_once and self._may_hurry()):
                self._pause(retries.next_wait_s())
        return End(Reason.STOPPED, "stopped", over=True)

    def _connect(self, last: End, failed: int) -> Connection:
        """The next connection, not yet known to work. Raises what keeps it from being tried."""
        source, options = self.source, self.options
        address = self._address
        stale = failed > 1 or last.reason in _STALE
        if source.resolver is not None and (address is None or stale):
            address = self._address = source.resolver.fresh_url(self.room_id, last.reason)
            check_headers(self.room_id, address.headers)
        if address is None:
            raise ModeratorError(SOURCE_INVALID, room=self.room_id, reason="no url")
        way = open_way(
            address.url,
            realtime=source.realtime,
            headers=address.headers,
            policy=AddressPolicy(source.allow_private, source.networks),
            limits=options.limits.egress,
            stall_s=options.reconnect_after_s,
        )
        writer: RingWriter | None = None
        try:
            writer = self._begin_copy()
            self._connection = Connection(
                way, self._wanted(), writer, wait=self._is_file and not source.realtime
            )
        except BaseException:
            way.close()
            if writer is not None:
                writer.discard()
            raise
        self._counts["connects"] += 1
        if self._stopping.is_set():
            self._connection.items.close()
        return self._connection

    def _read(self, connection: Connection) -> Generator[Out, None, End]:
        """Hands out what a connection brings; returns why it ended."""
        watch = Watchdog(connection, _watch_options(self.options))
        reading = FeedReading(connection)
        checked_at = fresh_at = monotonic()
        while not self._stopping.is_set():
            try:
                item = connection.items.take(inf, _TICK_S)
            except NothingYet:
                item = None
                end = watch.starved(fresh_at)
                if end is not None:
                    refused = connection.refused()
                    return End(Reason.REFUSED, refused) if refused else end
            else:
                if item is None:
                    if self._stopping.is_set():
                        break
                    if reading.pending:
                        yield from self._place(reading, watch)
                    return self._finished(reading)
                fresh_at = monotonic()
                watch.flowing()
            if reading.placed:
                self._follow_stall(watch)
                bogus = self._arrived(reading)
                if bogus is not None and (item is None or _start(item) >= bogus.at_s - _TICK_S):
                    detail = f"time stamps jumped by {bogus.step_s:+.1f} s"
                    return End(Reason.PTS_JUMP, detail, at_once=True)
                if item is not None:
                    yield from self._hand_out(item, reading, watch)
                    if reading.format_changed:
                        return End(Reason.FORMAT_CHANGED, "the picture changed size", at_once=True)
            else:
                if item is not None:
                    reading.wait_for_place(item)
                needs_s = _SETTLE_S if self._clock.has_begun else 0.0
                if reading.settling_s >= needs_s:
                    end = self._unfit(reading)
                    if end is not None:
                        return end
                    yield from self._place(reading, watch)
            if monotonic() - checked_at > _CHECK_S:
                checked_at = monotonic()
                end = self._check(reading, watch)
                if end is not None:
                    return end
        return End(Reason.STOPPED, "stopped")

    def _place(self, reading: FeedReading, watch: Watchdog) -> Iterator[Out]:
        """Puts the connection on the session's clock, then hands out what waited for that."""
        connection, pending = reading.connection, reading.pending
        newest_s, at = connection.items.newest() or (pending[-1].end, monotonic())
        placement = self._clock.place(
            connection.start_pts_s,
            newest_s,
            at,
            _HLS_TOLERANCE_S if connection.is_hls else _TOLERANCE_S,
        )
        reading.placed = True
        if connection.writer is not None:
            try:
                connection.writer.place(placement.base_s)
            except ModeratorError as error:
                self._no_copy(error.text())
        first_s = min(_start(item) for item in pending)
        yield from self._timeline.join(placement.base_s, first_s, self._outage)
        self._arrived(reading)
        first = self._state is RoomState.CONNECTING
        self._was_live |= not connection.is_finite
        self._outage_began = None
        self._refusals = 0
        self._change(RoomState.LIVE, Reason.CONNECTED if first else Reason.RESUMED, "media arrives")
        reading.pending = []
        for item in pending:
            yield from self._hand_out(item, reading, watch)

    def _hand_out(self, item: Item, reading: FeedReading, watch: Watchdog) -> Iterator[Out]:
        watch.saw(item)
        if isinstance(item, VideoFrame):
            reading.see_size()
            if self._every_s and item.time < reading.last_frame_s + self._every_s - _EARLY_S:
                self._drops["frames_thinned"] += 1
                return
            reading.last_frame_s = item.time
        for placed in self._timeline.put(item, reading.why_sound_is_missing(watch)):
            if not isinstance(placed, Gap):
                self._clock.handed_out(placed.end)
            yield placed

    def _arrived(self, reading: FeedReading) -> Jump | None:
        """Tells the clock what has arrived; a jump of the time stamps that is none of time."""
        # In this order: a jump is noted before the lane moves past it.
        newest = reading.connection.items.newest()
        base_s, now_s = self._timeline.base_s, self._clock.media_now()
        if not (self._is_file or reading.connection.is_finite):
            for jump in reading.connection.jumps():
                ahead_s = base_s + jump.at_s + jump.step_s - now_s
                if jump.step_s > 0 and (jump in reading.passed or ahead_s < _AHEAD_S):
                    reading.passed.add(jump)
                else:
                    return jump
        if newest is not None:
            self._clock.arrived(base_s + newest[0], newest[1])
            self._last_packet_wall_s = time.time() - (monotonic() - newest[1])
            if self._ring is not None:
                self._ring.reached(base_s + newest[0])
        return None

    def _unfit(self, reading: FeedReading) -> End | None:
        """Whether what was opened is not what the session goes on with."""
        info = reading.connection.running.info
        if info is None:
            return None
        if self._was_live and reading.connection.is_finite:
            return End(Reason.END_OF_STREAM, "what is there now is a recording", over=True)
        there = {"audio": info.has_audio, "video": info.has_video}
        back = sorted(track for track in self._absent if there[track])
        if back:
            self._absent = frozenset()
            return End(Reason.FORMAT_CHANGED, f"there is {', '.join(back)} now", at_once=True)
        return None

    def _check(self, reading: FeedReading, watch: Watchdog) -> End | None:
        """What is looked at every second."""
        connection = reading.connection
        paced = not (self._is_file or connection.is_finite)
        end = watch.check(self._clock.drift_s if paced and reading.placed else 0.0)
        failing: dict[Reason, str] = {}
        if connection.writer is None and Reason.RECORDING_FAILED in self._problems:
            failing = {Reason.RECORDING_FAILED: self._problems[Reason.RECORDING_FAILED]}
        slow = {Reason.READER_SLOW: "sound is dropped"} if reading.slow_lately() else {}
        self._notify({**failing, **watch.problems, **slow})
        self._tend_ring(reading)
        return end

    def _tend_ring(self, reading: FeedReading) -> None:
        if self._ring is not None and monotonic() - reading.trimmed_at > _TRIM_S:
            reading.trimmed_at = monotonic()
            self._ring.trim()

    def _finished(self, reading: FeedReading) -> End:
        """ffmpeg has closed its pipes."""
        connection = reading.connection
        try:
            connection.running.wait(_EXIT_WITHIN_S)
        except TimeoutExpired:
            return End(Reason.PROCESS_DIED, "ffmpeg closed its pipes and did not exit")
        if connection.missing and not reading.placed:
            self._absent |= connection.missing
            if not self._tracks():
                return End(Reason.NOT_MEDIA, "it has neither of the tracks that are wanted")
            missing = ", ".join(sorted(connection.missing))
            return End(Reason.FORMAT_CHANGED, f"there is no {missing}", at_once=True)
        reason, detail = connection.why_it_ended(reading.placed)
        if reason is Reason.RECORDING_FAILED:
            self._no_copy(detail)
        over = reason is Reason.END_OF_STREAM and connection.is_finite
        return End(reason, detail, over=over, at_once=reason is Reason.RECORDING_FAILED)

    def _not_connected(self, error: ModeratorError) -> End:
        if error.code in _FILE_ERRORS:
            raise error
        detail = error.text().partition("\n")[0]
        if error.code in _REFUSALS:
            # What a resolver gives next may be allowed; a fixed address stays what it is.
            return End(Reason.REFUSED, detail, over=self.source.resolver is None)
        return End(Reason.UNREACHABLE, detail)

    def _judge(self, last: End) -> End:
        """Whether the session is over with this end."""
        if last.over or (self._is_file and not last.at_once):
            return End(last.reason, last.detail, over=True)
        self._refusals += last.reason is Reason.REFUSED
        if self._refusals >= _REFUSALS_ALLOWED:
            return End(last.reason, last.detail, over=True)
        out_s = monotonic() - (self._outage_began or monotonic())
        if self._outage is Reason.END_OF_STREAM and out_s > self.options.ended_after_s:
            return End(Reason.END_OF_STREAM, f"ended {out_s:.0f} s ago", over=True)
        give_up_s = self.options.give_up_after_s
        if give_up_s is not None and out_s > give_up_s:
            return End(last.reason, f"{last.detail}; nothing for {out_s:.0f} s", over=True)
        return last

    def _may_hurry(self) -> bool:
        """Whether the next connection may follow at once; a source that always has a reason for a
        new one must not have us hammer at a server."""
        now = monotonic()
        self._hurried.append(now)
        return len(self._hurried) < _HURRIES or now - self._hurried[0] > _HURRIES_WITHIN_S

    def _pause(self, seconds: float) -> None:
        until = monotonic() + seconds
        while (left_s := until - monotonic()) > 0 and not self._stopping.wait(min(left_s, 0.5)):
            if self._ring is not None:
                self._ring.reached(self._clock.media_now())

    def _begin_copy(self) -> RingWriter | None:
        if self._ring is None or monotonic() < self._record_again_at:
            return None
        try:
            return self._ring.begin()
        except ModeratorError as error:
            self._no_copy(error.text())
            return None

    def _no_copy(self, detail: str) -> None:
        self._record_again_at = monotonic() + _RECORD_AGAIN_S
        self._notify({**self._problems, Reason.RECORDING_FAILED: detail.partition("\n")[0]})

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        self._counts["bytes"] += _bytes_of(connection)
        self._drops.update(_lost_in(connection))
        self._log.extend(redact_text(line) for line in connection.running.last_lines)
        if connection.writer is not None and not connection.writer.is_placed:
            connection.writer.discard()

    def _follow_stall(self, watch: Watchdog) -> None:
        if watch.stalled and self._state is RoomState.LIVE:
            self._counts["stalls"] += 1
            self._change(RoomState.STALLED, Reason.NO_PACKETS, "no packets")
        elif not watch.stalled and self._state is RoomState.STALLED:
            self._change(RoomState.LIVE, Reason.RESUMED, "media arrives again")

    def _change(self, after: RoomState, reason: Reason, detail: str) -> None:
        before = self._state
        if before is after or before.is_final:
            return
        if after not in ALLOWED[before]:
            raise RuntimeError(f"{self.room_id}: {before} is not followed by {after}")
        self._state = after
        if self._on_state is not None:
            self._on_state(
                StateChange(
                    self.room_id, before, after, reason, detail, self._timeline.end_s, time.time()
                )
            )

    def _notify(self, problems: Mapping[Reason, str]) -> None:
        before, self._problems = self._problems, dict(problems)
        if self._on_notice is None:
            return
        for problem in before.keys() ^ problems.keys():
            active = problem in problems
            detail = problems[problem] if active else ""
            media_s = self._timeline.end_s
            self._on_notice(Notice(self.room_id, problem, active, detail, media_s, time.time()))

    @property
    def _is_file(self) -> bool:
        return bool(self.source.url) and not is_url(self.source.url)

    def _tracks(self) -> frozenset[str]:
        wanted = {"audio": self.options.audio, "video": self.options.video}
        return frozenset(track for track, yes in wanted.items() if yes) - self._absent

    def _wanted(self) -> Wanted:
        options = self.options
        return Wanted(
            tracks=self._tracks(),
            frame_every_s=options.frame_every_s,
            scene_change=options.scene_change,
            max_frame_side=options.max_frame_side,
            max_frame_pixels=options.max_frame_pixels,
            block_s=options.block_s,
            threads=options.threads,
            decode=options.decode,
            hwaccel=options.hwaccel,
            audio_backlog_s=options.audio_backlog_s,
            frame_backlog=options.frame_backlog,
            memory_bytes=options.memory_bytes,
            segment_bytes=options.limits.segment_bytes,
        )

    def _delivered_since(self, before: float) -> bool:
        return self._timeline.frames + self._timeline.audio_s > before


_HURRIES = 4
_HURRIES_WITHIN_S = 60.0
_TICK_S = 0.25
_CHECK_S = 1.0
_TRIM_S = 10.0
_SETTLE_S = 0.5
"""A server's cached past comes in a burst at the start; after this it has come."""
_TOLERANCE_S = 1.5
_HLS_TOLERANCE_S = 12.0
"""Segments come whole, and the newest may be that old."""
_AHEAD_S = 5.0
_EARLY_S = 0.05
_PROVEN_S = 10.0
_EXIT_WITHIN_S = 5.0
_RECORD_AGAIN_S = 60.0
_REFUSALS_ALLOWED = 3
_STALE = (Reason.URL_EXPIRED, Reason.REFUSED, Reason.NOT_MEDIA)
_FILE_ERRORS = ("LM-101", "LM-102", "LM-103", "LM-104", "LM-108")
_REFUSALS = ("LM-111", "LM-119")


def _start(item: Item) -> float:
    return item.start if isinstance(item, AudioBlock) else item.time


def _bytes_of(connection: Connection) -> int:
    """What came in, as far as it can be told: through the gate, else into the copy."""
    if connection.way.gate is not None:
        return connection.way.gate.bytes_in
    return connection.writer.bytes_written() if connection.writer is not None else 0


def _lost_in(connection: Connection) -> Counter[str]:
    return Counter(sound_blocks=connection.dropped("audio"), frames=connection.dropped("video"))


def _watch_options(options: FeedOptions) -> WatchOptions:
    return WatchOptions(
        connect_timeout_s=options.connect_timeout_s,
        stall_after_s=options.stall_after_s,
        reconnect_after_s=options.reconnect_after_s,
        silent_after_s=options.silent_after_s,
        frozen_after_s=options.frozen_after_s,
        max_drift_s=options.max_drift_s,
    )
