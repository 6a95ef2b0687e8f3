import pytest

from moderator.claims.phonetics import SoundIndex, fold, sound_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("zhi", "zi"),
        ("chang", "can"),
        ("shen", "seng"),
        ("nan", "lan"),
        ("xin", "xing"),
        ("fen", "hun"),
        ("fa", "hua"),
        ("hui", "fei"),
    ],
)
def test_phonetics_folds_the_usual_confusions(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ba", "pa"), ("zhong", "zheng"), ("qu", "ju"), ("ning", "ling2")]
)
def test_phonetics_keeps_other_syllables_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def test_phonetics_finds_a_misheard_term() -> None:
    hits = SoundIndex(["国家级", "高血压"]).find("这是国家及的品质")
    assert [(h.begin, h.end, h.term, h.score) for h in hits] == [(2, 5, "国家级", 1.0)]


def test_phonetics_scores_confused_syllables_lower() -> None:
    exact = SoundIndex(["增强免疫力"]).find("增强免役力")[0]
    confused = SoundIndex(["增强免疫力"]).find("真强免役力")[0]
    assert exact.score == 1.0
    assert 0.8 < confused.score < exact.score


def test_phonetics_leaves_the_term_itself_to_the_literal_matcher() -> None:
    assert SoundIndex(["国家级"]).find("国家级品质") == []


def test_phonetics_leaves_everyday_words_alone() -> None:
    index = SoundIndex(["第一"], everyday=["敌意"])
    assert index.find("充满敌意") == []
    assert index.find("销量地义")[0].term == "第一"


def test_phonetics_reads_polyphones_as_the_phrase_does() -> None:
    hits = SoundIndex(["银行保本"]).find("银航保本")
    assert hits[0].term == "银行保本"


def test_phonetics_of_empty_index_and_text() -> None:
    assert SoundIndex([]).find("国家级") == []
    assert SoundIndex(["国家级"]).find("") == []
    assert len(sound_of("国家abc")) == 5
