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


def hits(index: SoundIndex, text: str, certainty: float | None = None) -> list[tuple[str, str]]:
    sure = None if certainty is None else [certainty] * len(text)
    return [(h.term, text[h.begin : h.end]) for h in index.find_loosely(text, sure)]


def test_phonetics_loosely_allows_one_wrong_syllable_of_four() -> None:
    index = SoundIndex(["心脑血管病"])
    assert index.find("心脑泄管病") == []
    assert hits(index, "远离心脑泄管病", 0.3) == [("心脑血管病", "心脑泄管病")]
    assert hits(index, "远离心脑泄管餐", 0.3) == []


def test_phonetics_loosely_believes_a_recogniser_that_was_sure() -> None:
    index = SoundIndex(["缓解视觉疲劳"])
    assert hits(index, "缓解视角疲劳", 0.2) == [("缓解视觉疲劳", "缓解视角疲劳")]
    assert hits(index, "缓解视频疲劳", 0.99) == []


def test_phonetics_loosely_hears_a_stutter_and_a_swallowed_syllable() -> None:
    index = SoundIndex(["国家级", "增强免疫力"])
    assert hits(index, "这是国家家及品质", 0.3) == [("国家级", "国家家及")]
    assert hits(index, "能增强疫力", 0.3) == [("增强免疫力", "增强疫力")]


def test_phonetics_loosely_knows_the_recognisers_own_mistakes() -> None:
    plain, taught = SoundIndex(["糖尿病"]), SoundIndex(["糖尿病"], misheard={"liao": {"yao": 0.1}})
    assert hits(plain, "糖腰病", 0.3) == []
    assert hits(taught, "糖腰病", 0.3) == [("糖尿病", "糖腰病")]


@pytest.mark.parametrize("heard", ["国家机关", "这是国家机关发的"])
def test_phonetics_what_lies_in_an_everyday_word_is_that_word(heard: str) -> None:
    index = SoundIndex(["国家级"], everyday=["国家机关"])
    assert index.find(heard) == []
    assert index.find_loosely(heard) == []
    assert [hit.term for hit in index.find("国家机的品质")] == ["国家级"]


def test_phonetics_everyday_word_may_be_a_term_where_the_recogniser_was_unsure() -> None:
    index = SoundIndex(["第一"], everyday=["敌意"])
    assert hits(index, "销量敌意", 0.95) == []
    assert hits(index, "销量敌意", 0.2) == [("第一", "敌意")]


def test_phonetics_further_terms_are_for_unsure_speech_only() -> None:
    index = SoundIndex(["国家级"], spoken=["炎症"])
    assert index.find("沿政就消了") == []
    assert hits(index, "沿政就消了", 0.9) == []
    assert hits(index, "沿政就消了", 0.3) == [("炎症", "沿政")]
