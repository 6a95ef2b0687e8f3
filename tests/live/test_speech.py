"""The speech worker with an engine that costs nothing, turn by turn on a clock of the test's."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from moderator.asr.engine import SpeechSegment, Transcript
from moderator.live.config import SpeechConfig
from moderator.live.speech import SpeechWorker
from moderator.media.blocks import AudioBlock
from moderator.records import Utterance
from tests.asr.sounds import silence
from tests.live.fakes import Clock, FakeAsr, LoudVoice, blocks, say, talk, wait_for


@dataclass
class Listener:
    utterances: list[Utterance] = field(default_factory=list)
    interims: list[str] = field(default_factory=list)
    lost: list[tuple[float, float, str]] = field(default_factory=list)
    ended: int = 0

    def on_utterance(self, utterance: Utterance, segment: SpeechSegment) -> None:
        self.utterances.append(utterance)

    def on_interim(self, transcript: Transcript) -> None:
        self.interims.append(transcript.text)

    def on_sound_lost(self, start: float, end: float, reason: str) -> None:
        self.lost.append((start, end, reason))

    def on_speech_end(self) -> None:
        self.ended += 1

    @property
    def texts(self) -> list[str]:
        return [utterance.text for utterance in self.utterances]


@dataclass
class Bench:
    """A worker whose thread does not run: the test turns it."""

    asr: FakeAsr
    voice: LoudVoice
    clock: Clock
    worker: SpeechWorker

    def open(self, *rooms: str, **options: object) -> list[Listener]:
        listeners = [Listener() for _ in rooms]
        for room, listener in zip(rooms, listeners, strict=True):
            self.worker.open(room, listener, **options)  # type: ignore[arg-type]
        return listeners

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.now += 0.1
            assert self.worker.step()


TEXTS = ("零零零", "一一一", "二二二", "三三三", "四四四", "五五五")


def bench(monkeypatch: pytest.MonkeyPatch, *, max_lag_s: float = 60.0, **config: object) -> Bench:
    monkeypatch.setattr("moderator.live.speech.TICK_S", 0.0)
    asr, voice, clock = FakeAsr(TEXTS), LoudVoice(), Clock()
    options = SpeechConfig.model_validate({"interim_every_s": 0} | config)
    worker = SpeechWorker(asr, voice, options, max_lag_s=max_lag_s, clock=clock)
    return Bench(asr, voice, clock, worker)


def test_speech_of_many_rooms_goes_through_one_engine_and_comes_back_to_its_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch)
    listeners = it.open("a", "b", "c")
    for room, number in (("a", 0), ("b", 1), ("c", 2)):
        for block in blocks(talk(say(number)), start=10.0):
            it.worker.hear(room, block)
    it.turn(2)
    assert [listener.texts for listener in listeners] == [[TEXTS[0]], [TEXTS[1]], [TEXTS[2]]]
    assert all(9.7 <= listener.utterances[0].start < 10.3 for listener in listeners)
    assert [len(batch) for batch in it.asr.batches] == [3]
    assert it.voice.calls[0] == 3  # voice activity of all rooms in one call


def test_speech_comes_in_order_inside_a_room(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch, batch=2)
    (a, b) = it.open("a", "b")
    lengths = [(0, 3.0), (1, 0.6), (2, 4.0), (3, 1.0)]
    for block in blocks(talk(*(part for n, s in lengths for part in (say(n, s), silence(1.2))))):
        it.worker.hear("a", block)
    for block in blocks(talk(say(4))):
        it.worker.hear("b", block)
    it.turn(8)
    assert a.texts == list(TEXTS[:4])
    assert b.texts == [TEXTS[4]]
    assert [u.start for u in a.utterances] == sorted(u.start for u in a.utterances)


class TwoAtOnce(FakeAsr):
    """Decodes two batches beside each other, each for as long as the test wants."""

    at_once = 2

    def __init__(self) -> None:
        super().__init__(TEXTS)
        self.most = self._now = 0
        self._count = threading.Lock()
        self.go = {number: threading.Event() for number in range(len(TEXTS))}

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        with self._count:
            self._now += 1
            self.most = max(self.most, self._now)
        heard = super().transcribe(segments)
        for one in heard:
            assert self.go[TEXTS.index(one.text)].wait(20)
        with self._count:
            self._now -= 1
        return heard


def test_speech_batches_are_decoded_beside_each_other_and_none_overtakes_in_its_room() -> None:
    asr, clock = TwoAtOnce(), Clock()
    config = SpeechConfig(interim_every_s=0, batch=1)
    worker = SpeechWorker(asr, LoudVoice(), config, clock=clock)
    a, b = Listener(), Listener()
    worker.open("a", a)
    worker.open("b", b)
    for room, numbers in (("a", (0, 1)), ("b", (2, 3))):
        sound = talk(*(part for n in numbers for part in (say(n, 1.0), silence(1.2))))
        for block in blocks(sound):
            worker.hear(room, block)
    worker.start()
    wait_for(lambda: asr.most == 2)
    assert worker.lag_s("a") == 0.0  # the clock stands still
    clock.now += 5
    assert worker.lag_s("a") == 5.0
    asr.go[2].set()
    wait_for(lambda: b.texts == [TEXTS[2]])
    asr.go[3].set()
    wait_for(lambda: b.texts == [TEXTS[2], TEXTS[3]])
    # The second words of the other room wait for its first ones.
    assert a.texts == []
    asr.go[1].set()
    asr.go[0].set()
    wait_for(lambda: a.texts == [TEXTS[0], TEXTS[1]])
    worker.finish("a")
    wait_for(lambda: a.ended == 1)
    worker.stop()
    assert asr.most == 2


def test_speech_a_decoder_that_hangs_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moderator.live.speech.TICK_S", 0.0)
    asr, clock = TwoAtOnce(), Clock()
    worker = SpeechWorker(asr, LoudVoice(), SpeechConfig(interim_every_s=0), clock=clock)
    worker.open("a", Listener())
    for block in blocks(talk(say(0))):
        worker.hear("a", block)
    for _ in range(9):
        clock.now += 10
        worker.step()
    assert worker.hung
    asr.go[0].set()


def test_speech_a_room_that_talks_without_end_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, batch=2)
    (talker, quiet) = it.open("talker", "quiet")
    for block in blocks(say(0, 60.0)):
        it.worker.hear("talker", block)
    for block in blocks(talk(say(1))):
        it.worker.hear("quiet", block)
    it.turn(1)
    assert quiet.texts == [TEXTS[1]]
    assert len(talker.texts) == 1


def test_speech_too_late_is_dropped_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch, max_lag_s=5.0, batch=1)
    (a,) = it.open("a")

    def slowly(rows: int) -> None:
        it.clock.now += 4.0

    it.asr.takes = slowly
    for number in range(4):
        for block in blocks(talk(say(number, 1.0)), start=number * 2.2):
            it.worker.hear("a", block)
        if number == 0:
            it.turn()
    it.turn(4)
    assert a.lost
    assert all(reason == "overload" for _, _, reason in a.lost)
    assert it.worker.stats.lost_s == pytest.approx(sum(end - begin for begin, end, _ in a.lost))
    assert len(a.utterances) + len(a.lost) >= 4


def test_speech_that_cannot_even_be_judged_in_time_is_dropped_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, max_lag_s=2.0)
    (a,) = it.open("a")
    for block in blocks(say(0, 4.0)):
        it.worker.hear("a", block)  # nobody listens meanwhile
    assert a.lost[0][0] == 0.0
    assert a.lost[-1][1] == pytest.approx(2.0, abs=0.2)
    assert it.worker.waiting_s <= 2.0


def test_speech_of_a_file_waits_instead_of_being_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, max_lag_s=5.0)
    (a,) = it.open("a", may_wait=True)
    feeding = threading.Thread(
        target=lambda: [it.worker.hear("a", block) for block in blocks(say(0, 90.0))]
    )
    feeding.start()
    wait_for(lambda: it.worker.waiting_s >= 19.9)
    assert feeding.is_alive()
    while feeding.is_alive():
        it.turn()
    it.worker.finish("a")
    it.turn(30)
    assert a.lost == []
    assert a.ended == 1
    assert it.worker.stats.speech_s == pytest.approx(90.0, abs=0.1)


def test_speech_one_segment_the_engine_fails_on_does_not_spoil_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch)
    (a, b) = it.open("a", "b")
    it.asr.fail_on = lambda segment: bool(np.abs(segment.samples).max() > 0.03)
    for room, number in (("a", 0), ("b", 1)):
        for block in blocks(talk(say(number))):
            it.worker.hear(room, block)
    it.turn(2)
    assert a.texts == [TEXTS[0]]
    assert b.texts == []
    assert len(b.lost) == 1
    assert it.worker.stats.failures > 0


def test_speech_end_is_told_after_the_last_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch)
    (a,) = it.open("a")
    for block in blocks(say(0)):  # the stream stops in the middle of a word
        it.worker.hear("a", block)
    it.turn()
    assert a.texts == []
    it.worker.finish("a")
    it.turn()
    assert (a.texts, a.ended) == ([TEXTS[0]], 1)
    it.turn(3)
    assert a.ended == 1


def test_speech_a_gap_ends_what_was_open(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch)
    (a,) = it.open("a")
    for block in (*blocks(say(0)), *blocks(talk(say(1)), start=60.0)):
        it.worker.hear("a", block)
    it.turn(2)
    assert a.texts == [TEXTS[0], TEXTS[1]]
    assert a.utterances[0].end <= 2.01
    assert a.utterances[1].start >= 59.7


def test_speech_interim_text_is_shown_while_the_segment_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, interim_every_s=1.0, interim_share=1.0)
    (a,) = it.open("a")
    for block in blocks(say(2, 3.0)):
        it.worker.hear("a", block)
        it.turn(2)
    assert 2 <= len(a.interims) <= 3
    assert set(a.interims) == {TEXTS[2]}
    assert a.texts == []
    it.worker.give_up(interim=True, beam=False, phrases=False)
    seen = it.asr.drafts
    for block in blocks(say(2, 2.0), start=3.0):
        it.worker.hear("a", block)
        it.turn(2)
    assert it.asr.drafts == seen


def test_speech_asked_for_a_cut_gives_the_text_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch)
    (asked, left) = it.open("asked", "left")
    for block in blocks(say(0, 4.0)):
        for room in ("asked", "left"):
            it.worker.hear(room, block)
        it.turn()
        if block.start == pytest.approx(1.0):
            it.worker.cut_after("asked", 1.1)
    assert len(asked.utterances) == 1
    assert 1.1 <= asked.utterances[0].end <= 2.5
    assert left.utterances == []


def test_speech_gives_up_the_wide_beam_and_takes_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, beam=5, narrow_beam=2)
    it.open("a")

    def hear(at: float) -> None:
        for block in blocks(talk(say(0)), start=at):
            it.worker.hear("a", block)
        it.turn(2)

    hear(0.0)
    it.worker.give_up(interim=False, beam=True, phrases=False)
    hear(10.0)
    it.worker.give_up(interim=False, beam=False, phrases=False)
    hear(20.0)
    assert it.asr.beams == [2, 5]


def test_speech_lag_is_that_of_the_oldest_sound_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch)
    it.open("a", "b")
    for block in blocks(say(0, 1.0)):
        it.worker.hear("a", block)
    it.clock.now += 7.0
    assert it.worker.lag_s("a") == pytest.approx(7.0)
    assert it.worker.lag_s("b") == 0.0
    assert it.worker.lag_s("nobody") == 0.0


def test_speech_of_a_closed_room_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch)
    (a, b) = it.open("a", "b")
    for room in ("a", "b"):
        for block in blocks(talk(say(0))):
            it.worker.hear(room, block)
    it.worker.close("a")
    it.worker.hear("a", AudioBlock(9.0, silence(1)))
    it.turn(2)
    assert a.texts == []
    assert b.texts == [TEXTS[0]]


def test_speech_thread_works_and_ends() -> None:
    asr, clock = FakeAsr(TEXTS), Clock()
    worker = SpeechWorker(asr, LoudVoice(), SpeechConfig(interim_every_s=0), clock=clock)
    listener = Listener()
    worker.open("a", listener)
    worker.start()
    for block in blocks(talk(say(3))):
        worker.hear("a", block)
    wait_for(lambda: listener.texts == [TEXTS[3]])
    worker.stop()
    assert not worker.alive


def test_speech_is_decoded_in_the_pause_that_may_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch, interim_every_s=100)
    (a,) = it.open("a")
    decoded_before_the_end = 0
    for block in blocks(talk(say(1))):
        it.worker.hear("a", block)
        it.turn()
        if not a.texts:
            decoded_before_the_end = len(it.asr.batches)
    assert a.texts == [TEXTS[1]]
    assert decoded_before_the_end == len(it.asr.batches) == 1
    assert it.worker.stats.guesses_used == 1


def test_speech_that_goes_on_after_a_short_pause_is_decoded_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, interim_every_s=100)
    (a,) = it.open("a")
    for block in blocks(talk(say(1, 1.0), silence(0.4), say(1, 1.0))):
        it.worker.hear("a", block)
        it.turn()
    assert a.texts == [TEXTS[1]]
    assert a.utterances[0].end - a.utterances[0].start > 2.3
    assert it.worker.stats.guesses > it.worker.stats.guesses_used


def test_speech_is_not_guessed_at_while_interim_text_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = bench(monkeypatch, interim_every_s=100)
    (a,) = it.open("a")
    it.worker.give_up(interim=True, beam=False, phrases=False)
    for block in blocks(talk(say(1, 1.0), silence(0.4), say(1, 1.0))):
        it.worker.hear("a", block)
        it.turn()
    assert a.texts == [TEXTS[1]]
    assert (it.worker.stats.guesses, len(it.asr.batches)) == (0, 1)


def test_speech_suspected_in_a_pause_is_final_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    it = bench(monkeypatch, interim_every_s=100)
    (a,) = it.open("a")
    sound = np.concatenate([say(1, 1.6), silence(0.4)])  # too short a pause to end by itself
    for block in blocks(sound):
        it.worker.hear("a", block)
        it.turn()
        if a.interims:
            it.worker.cut_after("a", 1.5)
    it.turn()
    assert a.texts == [TEXTS[1]]
