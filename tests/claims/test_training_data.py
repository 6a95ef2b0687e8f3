from __future__ import annotations

from dataclasses import replace

from models.claim_classifier.dataset import LONGEST_PIECE, RUN_ON_CHARS, Example, run_on
from models.claim_classifier.noise import Mishearing
from moderator.claims.normalise import is_han
from moderator.claims.phonetics import fold, syllable, syllable_distance

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
