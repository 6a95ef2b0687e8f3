from collections.abc import Callable
from typing import Any

import pytest

from moderator.claims.engine import ClaimEngine, ClaimSession, Sighting
from moderator.claims.passports import Passport, passport_from
from moderator.claims.rules import RulePack
from moderator.errors import ModeratorError
from moderator.records import (
    Box,
    Disposition,
    Room,
    ScreenText,
    ScriptLine,
    TimedChar,
    Utterance,
)

from .conftest import rule

Load = Callable[..., RulePack]


def speech(
    text: str, start: float = 0.0, *, confidence: float = 0.9, distrust: str = ""
) -> Utterance:
    chars = tuple(
        TimedChar(c, start + i * 0.2, start + (i + 1) * 0.2, confidence) for i, c in enumerate(text)
    )
    return Utterance(text, start, start + len(text) * 0.2, chars, confidence, "test", distrust)


def findings(pack: RulePack, text: str, *passports: Passport) -> list[Sighting]:
    return ClaimSession(ClaimEngine(pack), Room(), passports).observe(ScriptLine(text))


def test_engine_quotes_the_original_words(load: Load) -> None:
    (found,) = findings(load(rule()), "寶寶們這是國·家級的品質")
    assert found.finding.quote == "國·家級"
    assert found.context[slice(*found.span)] == "國·家級"


@pytest.mark.parametrize(
    "text",
    [
        "我们可不敢说是最好的",
        "大家别信什么最好的面膜",
        "广告法规定不能说最好",
        "最好的这种话是违规的",
        "那些说自己最好的都是骗人的",
    ],
)
def test_engine_acquits_negation_and_warning(load: Load, text: str) -> None:
    assert findings(load(rule()), text) == []


@pytest.mark.parametrize(
    "text",
    [
        "不是我吹这就是最好的",
        "没有比这个更好的了这就是最好的",
        "不仅便宜还是最好的",
    ],
)
def test_engine_is_not_fooled_by_what_only_looks_like_negation(load: Load, text: str) -> None:
    assert findings(load(rule()), text)


def test_engine_negation_can_be_switched_off(load: Load) -> None:
    pack = load(rule(match=[{"terms": ["副作用"]}], unless={"negation": False}))
    assert findings(pack, "没有副作用")


def test_engine_allow_phrase_covering_the_match_wins(load: Load) -> None:
    pack = load(rule(unless={"allow": ["国家级森林公园"]}))
    assert findings(pack, "去国家级森林公园玩") == []
    assert len(findings(pack, "国家级森林公园旁边的国家级面膜")) == 1


def test_engine_covering_and_sentence_exemptions(load: Load) -> None:
    pack = load(rule(unless={"covering": ["国家级(?:非遗|景区)"], "sentence": ["GB/?T|gb/?t"]}))
    assert findings(pack, "这是国家级非遗工艺") == []
    assert findings(pack, "按GB/T分级是国家级") == []
    assert findings(pack, "国家级的品质。按gb/t分级")


def test_engine_near_respects_distance_order_and_sentence(load: Load) -> None:
    match = [
        {"near": [{"terms": ["根治"]}, {"terms": ["糖尿病"]}], "within_chars": 4, "ordered": True}
    ]
    pack = load(rule(match=match))
    assert findings(pack, "能根治你的糖尿病")[0].finding.quote == "根治你的糖尿病"
    assert findings(pack, "糖尿病能根治") == []
    assert findings(pack, "根治。糖尿病") == []
    assert findings(pack, "根治这个困扰了很多人的糖尿病") == []


def test_engine_needs_turns_into_needs_proof_and_a_document_makes_it_lawful(load: Load) -> None:
    pack = load(rule(needs=["sales_report"]))
    assert findings(pack, "最好")[0].finding.disposition is Disposition.NEEDS_PROOF
    proven = passport_from({"name": "茶", "proofs": [{"kind": "sales_report"}]}, "test")
    assert findings(pack, "最好", proven) == []


def test_engine_unknown_product_follows_the_rule(load: Load) -> None:
    for mode, expected in (
        ("suspect", [Disposition.SUSPECT]),
        ("skip", []),
        ("match", [Disposition.VIOLATION]),
    ):
        pack = load(rule(applies={"products": ["cosmetic"], "unknown_product": mode}))
        assert [s.finding.disposition for s in findings(pack, "最好")] == expected


def test_engine_known_category_decides(load: Load) -> None:
    pack = load(rule(applies={"products": ["cosmetic"]}))
    food = Passport(name="红枣", category="food")
    cream = Passport(name="面霜", category="cosmetic")
    assert findings(pack, "最好", food) == []
    assert findings(pack, "最好", cream)[0].finding.disposition is Disposition.VIOLATION


def test_engine_inferred_category_accuses_but_never_acquits(load: Load) -> None:
    cues = {"food": ["红枣"], "drug": ["胶囊药"]}
    accusing = load(rule(applies={"products": ["food"]}), products=cues)
    assert findings(accusing, "这红枣最好")[0].finding.disposition is Disposition.VIOLATION
    acquitting = load(rule(applies={"not_products": ["drug"]}), products=cues)
    assert findings(acquitting, "这胶囊药最好")


def test_engine_speaks_of_the_product_last_named(load: Load) -> None:
    pack = load(rule(applies={"products": ["cosmetic"]}))
    passports = [Passport(name="红枣", category="food"), Passport(name="面霜", category="cosmetic")]
    session = ClaimSession(ClaimEngine(pack), Room(), passports)
    assert session.observe(ScriptLine("红枣是最好的")) == []
    assert session.observe(ScriptLine("再看面霜也是最好的"))
    assert session.observe(ScriptLine("真的最好"))


def test_engine_distrusted_speech_accuses_no_one(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(rule())))
    assert session.observe(speech("国家级品质", distrust="repetition")) == []
    assert session.observe(speech("国家级品质"))


def test_engine_times_are_those_of_the_words(load: Load) -> None:
    (found,) = ClaimSession(ClaimEngine(load(rule()))).observe(speech("家人们国家级", start=10.0))
    assert (round(found.start_s, 2), round(found.end_s, 2)) == (10.6, 11.2)


def test_engine_reads_a_claim_that_runs_over_two_utterances(load: Load) -> None:
    match = [{"near": [{"terms": ["根治"]}, {"terms": ["糖尿病"]}], "within_chars": 6}]
    session = ClaimSession(ClaimEngine(load(rule(match=match))))
    assert session.observe(speech("它能根治", start=0.0)) == []
    (found,) = session.observe(speech("糖尿病", start=1.5))
    assert "根治" in found.finding.quote
    later = ClaimSession(ClaimEngine(load(rule(match=match))))
    later.observe(speech("它能根治", start=0.0))
    assert later.observe(speech("糖尿病", start=60.0)) == []


def test_engine_does_not_report_the_first_utterance_twice(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(rule())))
    assert len(session.observe(speech("国家级品质", start=0.0))) == 1
    assert session.observe(speech("大家喜欢就拍", start=1.5)) == []


def test_engine_phonetic_match_in_speech_keeps_what_was_heard(load: Load) -> None:
    match = [{"terms": ["帮助入睡快"], "phonetic": True}]
    (found,) = ClaimSession(ClaimEngine(load(rule(match=match)))).observe(speech("它能帮助如睡快"))
    assert found.finding.quote == "帮助入睡快"
    assert found.finding.heard == "帮助如睡快"
    assert found.finding.match.kind == "phonetic"


def test_engine_short_phonetic_match_is_only_suspect(load: Load) -> None:
    match = [{"terms": ["国家级"], "phonetic": True}]
    (found,) = ClaimSession(ClaimEngine(load(rule(match=match)))).observe(speech("国家及的品质"))
    assert found.finding.disposition is Disposition.SUSPECT


def test_engine_screen_lines_are_read_together(load: Load) -> None:
    match = [{"regex": "{num}天{gap:3}美白"}]
    pack = load(rule(match=match))
    banner = ScreenText("7天\n美白", 1.0, 600.0, Box(0, 0, 9, 9), 1.0, 0.9, "test")
    (found,) = ClaimSession(ClaimEngine(pack)).observe(banner)
    assert found.start_s == 1.0


def test_engine_self_correction_is_kept_and_downgraded(load: Load) -> None:
    (found,) = findings(load(rule()), "这是最好的，啊口误，是很好的")
    assert found.finding.disposition is Disposition.SUSPECT


def test_engine_overlapping_findings_of_one_category_leave_the_firmest(load: Load) -> None:
    weaker = rule(id="cn.absolute.other", disposition="suspect", match=[{"terms": ["国家级品质"]}])
    (found,) = findings(load(rule(), weaker), "国家级品质")
    assert found.finding.rule.id == "cn.absolute.state_level"


def absence_rule(**when: Any) -> dict[str, Any]:
    return rule(
        category="missing_notice",
        match=[{"absence": ["不能代替药物"], "channels": ["speech", "script"], "when": when}],
        tests={
            "violation": [{"text": "好喝" * 100, "product": {"category": "health_food"}}],
            "compliant": [
                {"text": "好喝" * 100 + "本品不能代替药物", "product": {"category": "health_food"}}
            ],
        },
    )


def test_engine_absence_is_found_once_at_the_end(load: Load) -> None:
    pack = load(absence_rule(products=["health_food"]))
    passports = [Passport(name="片", category="health_food")]
    session = ClaimSession(ClaimEngine(pack), Room(), passports)
    session.observe(ScriptLine("今天给大家介绍这款产品" * 20))
    assert [a.rule.category for a in session.finish()] == ["missing_notice"]
    given = ClaimSession(ClaimEngine(pack), Room(), passports)
    given.observe(ScriptLine("今天给大家介绍这款产品" * 20 + "本品不能代替药物"))
    assert given.finish() == []


def test_engine_absence_is_not_owed_without_the_product(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(absence_rule(products=["health_food"]))))
    session.observe(ScriptLine("今天给大家介绍这款产品" * 20))
    assert session.finish() == []


def test_engine_absence_is_owed_only_for_what_is_on_sale(load: Load) -> None:
    pack = load(absence_rule(products=["health_food"]))
    shelf = [
        Passport(id="a", name="西洋参含片", category="health_food"),
        Passport(id="b", name="红枣", category="food"),
    ]
    unmentioned = ClaimSession(ClaimEngine(pack), Room(), shelf)
    unmentioned.observe(ScriptLine("今天只卖红枣" * 40))
    assert unmentioned.finish() == []
    mentioned = ClaimSession(ClaimEngine(pack), Room(), shelf)
    mentioned.observe(ScriptLine("今天还有西洋参含片" * 40))
    assert mentioned.finish()
    listed = ClaimSession(ClaimEngine(pack), Room(products=("a",)), shelf)
    listed.observe(ScriptLine("今天只卖红枣" * 40))
    assert listed.finish()


def test_passport_wrong_type_names_the_field() -> None:
    with pytest.raises(ModeratorError, match=r"LM-301 p\.yaml\[0\]: price\.live"):
        passport_from({"name": "茶", "price": {"live": "便宜"}}, "p.yaml[0]")
    with pytest.raises(ModeratorError, match="LM-301"):
        passport_from(["不是映射"], "p.yaml[0]")
    with pytest.raises(ModeratorError, match="category"):
        passport_from({"category": "snack"}, "p.yaml[0]")
