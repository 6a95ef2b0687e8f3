"""The second listen with an engine made by hand, what the judge makes of it, and the real engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from moderator.asr.engine import SpeechSegment, Transcript
from moderator.asr.second_listen import Scores, SecondListen, relisten
from moderator.asr.segmenter import segment_all
from moderator.claims.engine import ClaimEngine, ClaimSession, Sighting
from moderator.claims.passports import Passport
from moderator.claims.phonetics import SoundIndex
from moderator.records import Disposition, Relistened, TimedChar, Utterance
from tests.asr.conftest import Speech
from tests.claims.conftest import load, rule, write_pack
from tests.claims.test_engine import Load

__all__ = ["load", "write_pack"]

SOUNDS = SoundIndex(["国家级", "高血压"])


def segment(said: str, seconds: float = 4.0) -> SpeechSegment:
    """A segment whose words the scripted engine below knows by its start time."""
    return SpeechSegment(float(_WORDS.index(said)), np.zeros(int(seconds * 16_000), np.float32))


_WORDS = ["这是国家及的品质", "家人们晚上好", "适合高雪鸭的人", "国家及和高雪鸭", "国" * 12]


def transcript(text: str, confidence: float = 0.5) -> Transcript:
    chars = tuple(TimedChar(c, i * 0.2, i * 0.2 + 0.2, confidence) for i, c in enumerate(text))
    return Transcript(text, chars)


@dataclass
class ScriptedBatch:
    engine: ScriptedEngine
    segments: Sequence[SpeechSegment]

    def transcribe(self) -> list[Transcript]:
        return [transcript(_WORDS[int(one.start)]) for one in self.segments]

    def score(self, index: int, texts: Sequence[str]) -> list[float]:
        said = _WORDS[int(self.segments[index].start)]
        self.engine.scored.append((said, list(texts)))
        return [-2.0 - 3.0 * sum(a != b for a, b in zip(said, text, strict=True)) for text in texts]


@dataclass
class ScriptedEngine:
    """Hears `_WORDS`; every character that differs from them costs 3 nats."""

    name: str = "scripted"
    encoded: list[int] = field(default_factory=list)
    scored: list[tuple[str, list[str]]] = field(default_factory=list)

    def encode(self, segments: Sequence[SpeechSegment]) -> ScriptedBatch:
        self.encoded.append(len(segments))
        return ScriptedBatch(self, segments)

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        return [transcript("第二遍听到国家及") for _ in segments]


class DeafToScores:
    name = "plain"

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]:
        return []


def test_second_listen_scores_only_what_sounds_like_a_term() -> None:
    engine = ScriptedEngine()
    said = ["家人们晚上好", "这是国家及的品质"]
    plain, alike = SecondListen(engine, SOUNDS.find).transcribe([segment(one) for one in said])
    assert plain.transcript.text == "家人们晚上好"
    assert plain.relistened == ()
    (found,) = alike.relistened
    assert (found.begin, found.end, found.term) == (2, 5, "国家级")
    assert engine.scored == [("这是国家及的品质", ["这是国家及的品质", "这是国家级的品质"])]


def test_second_listen_ratio_is_candidate_minus_written_beside_its_doubt() -> None:
    (heard,) = SecondListen(ScriptedEngine(), SOUNDS.find).transcribe([segment("适合高雪鸭的人")])
    (found,) = heard.relistened
    assert found.term == "高血压"
    assert found.llr == pytest.approx(-6.0)
    assert found.doubt == pytest.approx(3 * np.log(2))


def test_second_listen_puts_each_term_in_place_by_itself() -> None:
    engine = ScriptedEngine()
    text = "国家及和高雪鸭"
    encoded = engine.encode([segment("家人们晚上好"), segment(text)])
    found = relisten(encoded, 1, transcript(text), SOUNDS.find)
    assert [one.term for one in found] == ["国家级", "高血压"]
    assert engine.scored[0][1] == [text, "国家级和高雪鸭", "国家及和高血压"]


def test_second_listen_keeps_the_order_and_encodes_each_segment_once() -> None:
    engine = ScriptedEngine()
    said = ["这是国家及的品质", "家人们晚上好", "适合高雪鸭的人"]
    lengths = [9.0, 2.0, 5.0]
    segments = [segment(text, seconds) for text, seconds in zip(said, lengths, strict=True)]
    heard = SecondListen(engine, SOUNDS.find, batch_size=2).transcribe(segments)
    assert [one.transcript.text for one in heard] == said
    assert [len(one.relistened) for one in heard] == [1, 0, 1]
    assert engine.encoded == [2, 1]


def test_second_listen_leaves_a_decoder_that_ran_away_to_the_engine() -> None:
    engine = ScriptedEngine()
    (heard,) = SecondListen(engine, SOUNDS.find).transcribe([segment("国" * 12)])
    assert heard.transcript.text == "第二遍听到国家及"
    # What it heard then came from another encoding, which is gone.
    assert heard.relistened == ()
    assert engine.scored == []


def test_second_listen_of_nothing_is_nothing() -> None:
    assert SecondListen(ScriptedEngine(), SOUNDS.find).transcribe([]) == []


def test_second_listen_wants_an_engine_that_can_score() -> None:
    assert isinstance(ScriptedEngine(), Scores)
    assert not isinstance(DeafToScores(), Scores)


# --- what the judge makes of it -----------------------------------------------------


def sightings(
    pack_load: Load, text: str, again: Relistened | None, terms: tuple[str, ...] = ("国家级",)
) -> list[Sighting]:
    pack = pack_load(rule(match=[{"terms": list(terms), "phonetic": True}]))
    return ClaimSession(ClaimEngine(pack)).observe(utterance(text, again))


def utterance(text: str, again: Relistened | None = None, start: float = 0.0) -> Utterance:
    chars = tuple(
        TimedChar(c, start + i * 0.2, start + i * 0.2 + 0.2, 0.9) for i, c in enumerate(text)
    )
    relistened = () if again is None else (again,)
    return Utterance(text, start, chars[-1].end, chars, 0.9, "test", relistened=relistened)


def test_second_listen_that_does_not_bear_it_out_drops_a_suspect(load: Load) -> None:
    text = "这是国家及的品质"
    assert sightings(load, text, None)
    assert sightings(load, text, Relistened(2, 5, "国家级", -14.0, 0.2)) == []


def test_second_listen_in_doubt_leaves_a_suspect_with_its_ratio(load: Load) -> None:
    (found,) = sightings(load, "这是国家及的品质", Relistened(2, 5, "国家级", -4.5, 0.5))
    assert found.finding.disposition == Disposition.SUSPECT
    assert found.finding.match.acoustic_llr == -4.5


def test_second_listen_alone_makes_no_likeness_firm(load: Load) -> None:
    (found,) = sightings(load, "这是国家及的品质", Relistened(2, 5, "国家级", 3.0, 4.0))
    assert found.finding.disposition == Disposition.SUSPECT


def test_second_listen_does_not_drop_what_the_recogniser_doubted(load: Load) -> None:
    # The decoder cannot spell many an illness: 葵羊 for 溃疡, 24 nats apart and yet said.
    text, terms = "为葵羊的人", ("胃溃疡",)
    (found,) = sightings(load, text, Relistened(0, 3, "胃溃疡", -24.0, 6.0), terms)
    assert found.finding.disposition == Disposition.SUSPECT


def test_second_listen_takes_a_firm_likeness_only_one_step_down(load: Load) -> None:
    text, terms = "它能帮助如睡快", ("帮助入睡快",)
    (firm,) = sightings(load, text, None, terms)
    assert firm.finding.disposition == Disposition.VIOLATION
    (doubted,) = sightings(load, text, Relistened(2, 7, "帮助入睡快", -30.0, 0.1), terms)
    assert doubted.finding.disposition == Disposition.SUSPECT


def test_second_listen_of_another_term_or_place_says_nothing(load: Load) -> None:
    text = "这是国家及的品质"
    for other in (Relistened(2, 5, "国家机", -30.0, 0.1), Relistened(1, 4, "国家级", -30.0, 0.1)):
        (found,) = sightings(load, text, other)
        assert found.finding.match.acoustic_llr is None


def test_second_listen_decides_nothing_about_two_syllables(load: Load) -> None:
    aids = {"lexicon_spot": {"name": "spot", "phonetic_terms": ["祛斑"], "terms": ["祛斑"]}}
    body = rule(match=[{"lexicon": "spot"}], applies={"products": ["cosmetic"]})
    session = ClaimSession(
        ClaimEngine(load(body, **aids)), passports=[Passport(category="cosmetic")]
    )
    without = session.observe(utterance("这个面霜可以区班"))
    again = Relistened(6, 8, "祛斑", -19.0, 0.3)
    heard_again = session.observe(utterance("这个面霜可以区班", again, start=60.0))
    assert [s.finding.disposition for s in without] == [Disposition.SUSPECT]
    assert [s.finding.disposition for s in heard_again] == [Disposition.SUSPECT]
    assert heard_again[0].finding.match.acoustic_llr == -19.0


def test_second_listen_holds_for_a_claim_that_runs_over_two_utterances(load: Load) -> None:
    pack = load(
        rule(match=[{"near": [{"lexicon": "ill"}, {"terms": ["根治"]}], "within_chars": 6}]),
        lexicon_ill={"name": "ill", "phonetic": True, "terms": ["高血压"]},
    )
    unheard = Relistened(5, 8, "高血压", -20.0, 0.1)
    for again, expected in ((None, Disposition.VIOLATION), (unheard, Disposition.SUSPECT)):
        session = ClaimSession(ClaimEngine(pack))
        session.observe(utterance("说了好多有高雪鸭", again))
        (found,) = session.observe(utterance("它能根治", start=2.0))
        assert found.finding.disposition == expected


def test_second_listen_likenesses_are_places_in_the_text_as_recognised(load: Load) -> None:
    engine = ClaimEngine(load(rule(match=[{"terms": ["国家级"], "phonetic": True}])))
    for text in ("这是国家啊及的品质", "这是国家,及的品质"):
        ((begin, end),) = {(hit.begin, hit.end) for hit in engine.likenesses(text)}
        assert text[begin] == "国"
        assert text[end - 1] == "及"


# --- the real engine ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_second_listen_with_whisper_reads_as_without_and_prefers_what_was_said(
    speech: Speech,
) -> None:
    from moderator.asr.faster_whisper_engine import FasterWhisperEngine

    engine = FasterWhisperEngine(threads=1)
    assert isinstance(engine, Scores)
    segments = list(segment_all([(0.0, speech.samples)]))[:4]
    texts = [heard.text for heard in engine.transcribe(segments)]
    # A word as it was recognised is held against a wrong one in its place.
    word, wrong = texts[0][:4], "国家机关"
    likenesses = SoundIndex([]).find
    plain = SecondListen(engine, likenesses).transcribe(segments)
    assert [heard.transcript.text for heard in plain] == texts

    @dataclass(frozen=True)
    class Place:
        begin: int
        end: int
        term: str

    encoded = engine.encode(segments[:1])
    heard = encoded.transcribe()[0]
    same, other = relisten(encoded, 0, heard, lambda _: [Place(0, 4, word), Place(0, 4, wrong)])
    assert same.llr == pytest.approx(0.0, abs=0.2)
    assert other.llr < -3.0
    assert other.doubt == same.doubt > 0.0
