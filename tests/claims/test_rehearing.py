"""What was probably said, by its sound and by the words that follow each other."""

from dataclasses import replace
from math import exp, log

import pytest

from moderator.claims.classifier import Reading, SemanticMatcher
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.normalise import normalise
from moderator.claims.rehearing import Rehearing, Talk, shared
from moderator.claims.rules import RulePack, SemanticMatch, load_rules
from moderator.records import TimedChar, Utterance

WORDS = (
    "血糖 30\n雪 9\n堂 9\n学堂 30\n降 20\n上 40\n银行 9 yin'hang\n航 3\n银 3\n的 90\n脚 5\n叫 50\n"
)
PAIRS = "降 血糖=12\n上 学堂=12\n泡 脚\n^ 降=3 上=9 泡=2\n血糖 $=9\n学堂 $=9\n"
UNSURE = 0.4


def heard(text: str, sure: float = UNSURE, words: str = WORDS, pairs: str = PAIRS) -> str:
    return Rehearing(Talk(words, pairs)).guess(text, [sure] * len(text))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("降雪堂", "降血糖"),
        ("上雪堂", "上学堂"),  # the same sound; the word before decides
        ("银航", "银行"),  # read otherwise than its characters alone
        ("A降雪堂B", "A降血糖B"),
        ("", ""),
        ("，？", "，？"),
        ("卍卍", "卍卍"),
    ],
)
def test_rehearing_reads_the_words_that_go_together(written: str, said: str) -> None:
    assert heard(written) == said


def test_rehearing_leaves_what_the_recogniser_was_sure_of() -> None:
    assert heard("降雪堂", sure=1.0, pairs="") == "降雪堂"


def test_rehearing_mends_a_wrong_syllable_only_where_it_was_taken_for_that() -> None:
    talk = Talk("泡脚 400\n泡 9\n桥 5\n沙 5\n")
    known = Rehearing(talk, {"jiao": {"qiao": 0.3}})

    assert known.guess("泡桥", [UNSURE] * 2) == "泡脚"
    assert known.guess("泡桥", [0.999] * 2) == "泡桥"
    assert known.guess("泡沙", [UNSURE] * 2) == "泡沙"


def test_rehearing_without_words_changes_nothing() -> None:
    assert Rehearing(Talk()).guess("降雪堂", [0.1] * 3) == "降雪堂"


def test_rehearing_keeps_every_place() -> None:
    text = "呃降雪堂12米Vvip，家人们上雪堂去"
    assert len(heard(text)) == len(text)
    assert len(load_rules().rehearing.guess(text, [0.3] * len(text))) == len(text)


def test_rehearing_is_the_same_for_packs_that_are_loaded_again() -> None:
    assert load_rules().rehearing is load_rules().rehearing
    assert shared(WORDS, PAIRS, {}) is not shared(WORDS, "", {})


def test_talk_reads_counts_readings_and_followers() -> None:
    talk = Talk(WORDS, PAIRS)

    assert talk.counts["血糖"] == 30
    assert talk.readings == {"银行": ["yin", "hang"]}
    assert talk.pairs["泡"].counts == {"脚": 1}
    assert talk.pairs["^"].often == 14


def test_followers_share_out_no_more_than_all() -> None:
    """What followed and what never did add up to one, as costs in nats."""
    talk = Talk(WORDS, PAIRS)
    whole = sum(talk.counts.values())
    after = talk.pairs["上"]
    chances = [exp(-after.cost(word, log(whole / count))) for word, count in talk.counts.items()]

    assert sum(chances) == pytest.approx(1.0, abs=0.03)


class _ReadsBloodSugar:
    """A classifier that suspects what speaks of blood sugar, and notes what it was given."""

    labels = ("medical_efficacy",)
    version = "test"

    def __init__(self) -> None:
        self.read_texts: list[str] = []

    def read(self, sentence: str) -> Reading:
        self.read_texts.append(sentence)
        return Reading("medical_efficacy", 0.97 if "血糖" in sentence else 0.03)

    skim = read


def test_engine_reads_the_meaning_of_what_was_probably_said_and_shows_what_was_written() -> None:
    pack = load_rules()
    rules = [r for r in pack.rules if r.id == _semantic_rule(pack)]
    pack = replace(
        pack,
        rules=tuple(rules),
        rehearing=Rehearing(Talk(WORDS, PAIRS + "吃 降=9\n")),
    )
    reader = _ReadsBloodSugar()
    engine = ClaimEngine(pack, [SemanticMatcher(pack, reader)])
    written = "天天吃它能降，雪堂"
    chars = tuple(
        TimedChar(char, 0.2 * at, 0.2 * at + 0.2, UNSURE) for at, char in enumerate(written)
    )

    found = ClaimSession(engine).observe(
        Utterance(written, 0.0, 2.0, chars=chars, confidence=UNSURE, engine="test")
    )

    (finding,) = [sighting.finding for sighting in found]
    assert "降，血糖" in finding.quote
    assert finding.heard == written
    assert all("雪堂" not in text for text in reader.read_texts)


def _semantic_rule(pack: RulePack) -> str:
    return next(
        rule.id
        for rule in pack.rules
        for entry in rule.match
        if isinstance(entry, SemanticMatch) and entry.label == "medical_efficacy"
    )


def test_reheard_keeps_pause_marks_and_original_places() -> None:
    pack = replace(load_rules(), rehearing=Rehearing(Talk(WORDS, PAIRS)))
    text = normalise("降雪，堂 啊")

    guess = ClaimEngine(pack).reheard(text, [UNSURE] * len("降雪，堂 啊"))

    assert guess.text == text.text.replace("雪", "血").replace("堂", "糖")
    assert guess.original == text.original
    assert guess.span(3, 4) == text.span(3, 4)
