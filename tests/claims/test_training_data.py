from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from models.claim_classifier.dataset import LONGEST_PIECE, RUN_ON_CHARS, Example, run_on
from models.claim_classifier.noise import Mishearing
from models.claim_classifier.talk import Certainty, Counts, Rereading
from moderator.claims.normalise import is_han
from moderator.claims.phonetics import fold, syllable, syllable_distance
from moderator.claims.rehearing import END, OTHER
from moderator.claims.rules import load_rules

HARMLESS = Example("这个杯子装五百毫升 盖子拧紧了不漏水", (), "cup", "train", "rooms_plain")
CLAIM = Example("吃半个月血糖就下来了", ("medical_efficacy",), "sugar", "train", "rooms_plain")


def test_training_data_run_ons_hold_a_claim_in_every_other() -> None:
    plain = [replace(HARMLESS, text=text) for text in ("三十五码到四十码都有", "今天外面下雨了")]
    runs = run_on([*plain, HARMLESS, CLAIM], seed=4)
    assert runs == run_on([*plain, HARMLESS, CLAIM], seed=4)
    for run in runs:
        assert (CLAIM.text in run.text) == bool(run.labels)
        assert run.labels in ((), CLAIM.labels)
        assert run.part == "train"
        assert len(run.text) <= RUN_ON_CHARS[1]
    with_claim = sum(bool(run.labels) for run in runs)
    assert with_claim * 2 == len(runs) > 0


def test_training_data_run_ons_are_made_of_short_sentences() -> None:
    long = replace(CLAIM, text="吃" * (LONGEST_PIECE + 1))
    assert run_on([HARMLESS, long], seed=4) == []


def test_training_data_misheard_sentences_sound_like_what_was_said() -> None:
    said = "我家老头空腹血糖十一点几，喝了半个月 3 包就降下来了 OK"
    noise = Mishearing(seed=4)
    heard = [noise.mishear(said, rate=1.0) for _ in range(20)]
    assert len(set(heard)) > 10
    for text in heard:
        assert [c for c in text if not is_han(c)] == [c for c in said if not is_han(c)]
    same_length = [text for text in heard if len(text) == len(said)]
    near = [
        syllable_distance(fold(syllable(one)), fold(syllable(other)))
        for text in same_length
        for one, other in zip(said, text, strict=True)
        if is_han(one)
    ]
    assert 0.6 < sum(away == 0.0 for away in near) / len(near) < 0.95
    assert max(near) <= 0.7


def test_training_data_misheard_as_it_was_measured() -> None:
    measured = {"xue": {"xie": 1.0}}
    noise = Mishearing(4, measured)
    others = [noise.mishear("雪", rate=1.0) for _ in range(400)]
    sounds = [fold(syllable(one)) for one in others if one and fold(syllable(one)) != "xue"]
    assert sounds.count("xie") > len(sounds) * 0.8 > 20
    assert noise.mishear("雪", rate=0.0) == "雪"


def test_counts_are_what_talk_reads() -> None:
    counts = Counts()
    counts.see(["银行", "关门", "VIP", "银行"])

    talk = counts.talk()

    assert talk.counts == {"银行": 2, "关门": 1}
    assert talk.readings == {"银行": ["yin", "hang"]}
    assert talk.pairs[OTHER].counts == {"银行": 1}
    assert talk.pairs["银行"].counts == {"关门": 1, END: 1}


def test_counts_know_words_of_general_use_and_terms_beside() -> None:
    counts = Counts()
    counts.see(["我们"] * 7)

    beside = counts.beside({"降三高", "一二三四五六七"})

    assert beside.words["我们"] == 7
    assert beside.words["降三高"] == 1
    assert "一二三四五六七" not in beside.words
    assert beside.words["今天"] > 0
    assert not counts.words["今天"]


def test_rereading_does_not_let_a_family_help_itself() -> None:
    """What only its own family says is not mended; what others say too is."""
    said, written = "黑枸杞泡腾片", "黑狗起泡腾片"
    certainty = [0.3] * len(written)
    others = [("今天天气真好", f"other {number}") for number in range(8)]
    fold_mates = [(said, "own")] * 5
    again = Rereading([*others, *fold_mates], load_rules())

    assert again.guess(written, certainty, "own") != said
    elsewhere = next(
        family for _, family in others if again.guess(written, certainty, family) == said
    )
    assert elsewhere != "own"


def test_certainty_is_drawn_from_right_and_wrong_characters(tmp_path: Path) -> None:
    rows = tmp_path / "recognised.jsonl"
    row = {"said": "降血糖", "heard": "降雪糖", "confidences": [0.9, 0.2, 0.8]}
    rows.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")

    drawn = Certainty(rows, seed=1).of("甲乙丙", "甲丁丙")

    assert drawn[0] in (1.0, 0.9, 0.8)
    assert drawn[1] in (0.5, 0.2)
    assert drawn[2] in (1.0, 0.9, 0.8)
