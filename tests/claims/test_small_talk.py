from __future__ import annotations

import pytest

from moderator.claims.classifier import installed_classifier, semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.rules import load_rules
from moderator.claims.small_talk import SmallTalk
from moderator.records import Room, ScriptLine

ORDINARY = [
    "姐妹们看过来",
    "来了来了老铁们",
    "一号链接已经上了",
    "家人们点点关注不迷路",
    "三二一上链接",
    "没拍到的扣个一",
    "抢到的回来告诉我一声",
    "快递走的中通",
    "买二送一",
    "想看哪款打在公屏上",
    "欢迎来到小棠的直播间",
    "华宁来到小堂的直播间",
    "欢迎大熊进来",
    "感谢风一样送的音浪",
    "谢谢阿宽点的关注",
]


def test_small_talk_is_words_numbers_and_pauses_alone() -> None:
    talk = SmallTalk(["上", "上了", "链接", "号"])
    assert talk.covers("1号链接，上了！")
    assert talk.covers("三十二号 上")
    assert not talk.covers("1号链接治病")
    assert not talk.covers("治病1号链接")
    assert not talk.covers("三十二")
    assert not talk.covers("")
    assert not SmallTalk().covers("上")


def test_small_talk_greetings_leave_room_for_a_name_and_for_no_claim() -> None:
    talk = SmallTalk(set_phrases=["…来到…直播间", "感谢…送的…"])
    assert talk.covers("欢迎来到小棠的直播间！")
    assert talk.covers("华宁来到小堂的直播间")
    assert talk.covers("感谢大海哥送的小心心")
    assert not talk.covers("欢迎糖尿病治好的姐妹们来到小棠的直播间")
    assert not talk.covers("欢迎来到直播间今天这款三天见效")
    assert not talk.covers("来到直播")
    assert not talk.covers("")


def test_small_talk_long_sentences_take_no_longer_than_they_are() -> None:
    talk = SmallTalk(["上", "上上", "上上上"])
    assert talk.covers("上" * 20_000)
    assert not talk.covers("上" * 20_000 + "药")


def test_small_talk_of_the_shipped_pack_holds_no_word_that_a_rule_looks_for() -> None:
    pack = load_rules()
    diseases = {
        term
        for name in ("disease", "symptom", "organ", "drug_name")
        for term in pack.lexicons[name].terms
    }
    assert not diseases & set(pack.small_talk)
    risky = "药病治疗效赚最微私专利医秘"
    assert [word for word in pack.small_talk if set(word) & set(risky)] == []


def test_small_talk_of_the_shipped_pack_has_the_notices_of_the_law_and_nothing_beside_them() -> (
    None
):
    pack = load_rules()
    talk = SmallTalk(pack.small_talk, pack.set_phrases)
    assert talk.covers("本广告仅供医学药学专业人士阅读。")
    assert talk.covers("我们这个本品不能代替药物")
    assert not talk.covers("本品不能代替药物，但是喝了血糖就稳了")
    assert not talk.covers("投资有风险，我们这个保本")


@pytest.fixture(scope="module")
def keen_engine() -> ClaimEngine:
    if installed_classifier() is None:
        pytest.skip("the classifier is not installed")
    pack = load_rules()
    return ClaimEngine(pack, semantic_matchers(pack, keen=None))


@pytest.mark.parametrize("line", ORDINARY)
def test_small_talk_is_suspected_of_nothing(keen_engine: ClaimEngine, line: str) -> None:
    assert ClaimSession(keen_engine, Room(), []).observe(ScriptLine(line)) == []
