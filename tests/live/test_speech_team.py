"""Several workers as one: rooms are spread, and each stays where it is."""

from __future__ import annotations

from moderator.live.config import SpeechConfig
from moderator.live.speech import SpeechWorker
from moderator.live.speech_team import SpeechTeam
from tests.live.fakes import Clock, FakeAsr, LoudVoice, blocks, say, talk
from tests.live.test_speech import TEXTS, Listener


def team() -> tuple[SpeechTeam, list[FakeAsr]]:
    engines = [FakeAsr(TEXTS), FakeAsr(TEXTS)]
    config = SpeechConfig(interim_every_s=0)
    workers = [SpeechWorker(asr, LoudVoice(), config, clock=Clock()) for asr in engines]
    return SpeechTeam(workers), engines


def test_speech_team_spreads_rooms_and_keeps_each_where_it_is() -> None:
    it, engines = team()
    listeners = {name: Listener() for name in "abcd"}
    for name, listener in listeners.items():
        it.open(name, listener)
    for number, name in enumerate(listeners):
        for block in blocks(talk(say(number), say(number))):
            it.hear(name, block)
    for _ in range(4):
        for worker in it.workers:
            worker.step()
    assert all(set(listeners[name].texts) == {TEXTS[n]} for n, name in enumerate("abcd"))
    assert [max(map(len, engine.batches)) for engine in engines] == [2, 2]
    assert it.stats.segments == sum(worker.stats.segments for worker in it.workers)


def test_speech_team_gives_a_room_s_place_to_the_next() -> None:
    it, _ = team()
    for name in "abc":
        it.open(name, Listener())
    it.close("b")
    it.open("d", Listener())
    assert it._of["a"] is it._of["c"]
    assert it._of["d"] is not it._of["a"]
    it.hear("b", next(iter(blocks(say(0)))))  # nobody is there any more
    assert it.lag_s("b") == 0.0
