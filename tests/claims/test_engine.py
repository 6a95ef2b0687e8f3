from collections.abc import Callable
from dataclasses import replace
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
        "谁跟他说这是最好的你让他别买",
        "有个大姐问这是不是就最好了",
        "红豆妈妈问国家级不",
        "问是不是最好，最好我不保证，我只说今天这个数",
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


def test_engine_a_question_read_out_takes_back_only_what_was_asked(load: Load) -> None:
    pack = load(rule(match=[{"regex": "祛斑(?:.{0,12}淡没了)?"}]))
    assert findings(pack, "有姐姐问祛斑不，这个我不敢讲") == []
    (found,) = findings(pack, "有姐姐问祛斑不，跟你讲三天就淡没了")
    assert found.finding.quote == "祛斑不，跟你讲三天就淡没了"


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


def test_engine_rewrite_speaks_of_the_goods_on_sale(load: Load) -> None:
    of_food = {"zh": "只说口味", "en": "Taste only", "goods": ["food"]}
    pack = load(rule(suggest=of_food))
    shipped = pack.rewrites["cosmetic"].zh
    assert findings(pack, "最好")[0].finding.suggestion.zh == "只说口味"
    for category, expected in (
        ("food", "只说口味"),
        ("cosmetic", shipped),
        ("travel", pack.rewrites["other"].zh),
    ):
        passport = passport_from({"name": "样品", "category": category}, "test")
        assert findings(pack, "最好", passport)[0].finding.suggestion.zh == expected
    anything = load(rule())
    cream = passport_from({"name": "面霜", "category": "cosmetic"}, "test")
    assert findings(anything, "最好", cream)[0].finding.suggestion.zh == "换成具体事实"


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


def test_engine_a_claim_begins_where_its_first_words_were_said(load: Load) -> None:
    pack = load(rule(match=[{"regex": "手术.{0,9}不用做.{0,3}橘子"}]))
    session = ClaimSession(ClaimEngine(pack), Room())
    first, last = speech("腰间盘突出手术都", 10.0), speech("不用做了送橘子", 12.6)
    assert session.observe(first) == []
    assert session.observe(speech("他说", 11.8)) == []
    (found,) = session.under(ClaimEngine(pack)).observe(last)
    assert found.finding.quote == "手术都，他说，不用做了送橘子"
    assert (found.start_s, found.end_s) == pytest.approx((11.0, last.end))


def test_engine_reads_a_claim_that_runs_over_two_utterances(load: Load) -> None:
    match = [{"near": [{"terms": ["根治"]}, {"terms": ["糖尿病"]}], "within_chars": 6}]
    session = ClaimSession(ClaimEngine(load(rule(match=match))))
    assert session.observe(speech("它能根治", start=0.0)) == []
    (found,) = session.observe(speech("糖尿病", start=1.5))
    assert "根治" in found.finding.quote
    later = ClaimSession(ClaimEngine(load(rule(match=match))))
    later.observe(speech("它能根治", start=0.0))
    assert later.observe(speech("糖尿病", start=60.0)) == []


def test_engine_under_another_pack_remembers_what_was_said(load: Load) -> None:
    match = [{"near": [{"terms": ["根治"]}, {"terms": ["糖尿病"]}], "within_chars": 6}]
    session = ClaimSession(ClaimEngine(load(rule())))
    session.observe(speech("国家级的它能根治", start=0.0))
    session = session.under(ClaimEngine(load(rule(match=match))))
    (found,) = session.observe(speech("糖尿病", start=1.7))
    assert "根治" in found.finding.quote
    (amended,) = session.observe(speech("啊口误口误，说错了", start=3.0))[:1]
    assert amended.amends is not None


def test_engine_under_another_pack_joins_what_was_shown_before(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(across_rule())))
    session.observe(banner("祛斑", 0.0, 9.0))
    session = session.under(ClaimEngine(load(across_rule())))
    assert session.observe(speech("它抹了就没了", start=3.0))


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


def across_rule(**across: Any) -> dict[str, Any]:
    body = {
        "window_s": 8,
        "parts": [
            {"terms": ["祛斑"], "channels": ["screen", "speech"]},
            {"regex": "(?:这个|它){gap:6}(?:用了|抹了){gap:6}没了", "channels": ["speech"]},
        ],
        **across,
    }
    return rule(category="cosmetic_medical", match=[{"across": body}])


def banner(text: str, start: float, end: float) -> ScreenText:
    return ScreenText(text, start, end, Box(0, 0, 9, 9), start, 0.9, "test")


def test_engine_joins_a_banner_and_speech_and_shows_both(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(across_rule())))
    assert session.observe(banner("祛斑精华\n限时", 0.0, 90.0)) == []
    (found,) = session.observe(speech("这个晚上抹了一周就没了", start=60.0))
    assert found.finding.quote == "祛斑…这个晚上抹了一周就没了"
    assert "【画面】祛斑精华" in found.context
    assert "【口播】" in found.context
    begin, end = found.span
    assert found.context[begin:end].startswith("祛斑")
    assert found.context[begin:end].endswith("就没了")
    assert (round(found.start_s), round(found.end_s)) == (60, 62)


def test_engine_joins_utterances_only_within_the_window(load: Load) -> None:
    pack = load(across_rule())
    near = ClaimSession(ClaimEngine(pack))
    near.observe(speech("今天讲祛斑", start=0.0))
    near.observe(speech("先把灯光调一下", start=4.0))
    assert near.observe(speech("它抹了就没了", start=8.0))
    far = ClaimSession(ClaimEngine(pack))
    far.observe(speech("今天讲祛斑", start=0.0))
    assert far.observe(speech("它抹了就没了", start=20.0)) == []
    gone = ClaimSession(ClaimEngine(pack))
    gone.observe(banner("祛斑精华", 0.0, 10.0))
    assert gone.observe(speech("它抹了就没了", start=60.0)) == []


def test_engine_joins_nothing_when_a_part_is_denied(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(across_rule())))
    session.observe(speech("这瓶可不能祛斑", start=0.0))
    assert session.observe(speech("它抹了就没了", start=4.0)) == []


def test_engine_ordered_parts_must_come_in_order(load: Load) -> None:
    pack = load(across_rule(ordered=True))
    session = ClaimSession(ClaimEngine(pack))
    session.observe(speech("它抹了就没了", start=0.0))
    assert session.observe(speech("今天讲祛斑", start=4.0)) == []


def test_engine_hears_a_part_by_its_sound_and_only_suspects(load: Load) -> None:
    parts = [{"lexicon": "lexicon_ills"}, {"terms": ["都在喝这个"]}]
    pack = load(
        rule(match=[{"across": {"window_s": 8, "parts": parts}}]),
        lexicon_ills={"name": "lexicon_ills", "phonetic": True, "terms": ["糖尿病"]},
    )
    session = ClaimSession(ClaimEngine(pack))
    session.observe(speech("糖尿饼的老哥", start=0.0))
    (found,) = session.observe(speech("现在都在喝这个", start=5.0))
    assert found.finding.disposition is Disposition.SUSPECT
    assert "糖尿病" in found.finding.quote


def test_engine_script_lines_are_joined_at_the_pace_of_speech(load: Load) -> None:
    body = across_rule()
    for part in body["match"][0]["across"]["parts"]:
        part.pop("channels")
    session = ClaimSession(ClaimEngine(load(body)))
    session.observe(ScriptLine("今天讲祛斑", line=1))
    (found,) = session.observe(ScriptLine("它抹了就没了", line=2))
    assert found.observation.line == 2  # type: ignore[union-attr]


def test_engine_keeps_and_downgrades_what_the_next_utterance_takes_back(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(rule())))
    (said,) = session.observe(speech("这是国家级的品质", start=0.0))
    (amended,) = session.observe(speech("啊口误口误，是很好的品质", start=4.0))
    assert amended.amends is said
    assert amended.finding.disposition is Disposition.SUSPECT
    assert amended.finding.severity == "low"
    assert "口误" in amended.finding.reasons[-1].zh
    assert "corrected" in amended.finding.reasons[-1].en


@pytest.mark.parametrize("later", ["没有口误我就是这么说的", "谢谢大家支持"])
def test_engine_amends_nothing_without_a_correction(load: Load, later: str) -> None:
    session = ClaimSession(ClaimEngine(load(rule())))
    session.observe(speech("这是国家级的品质", start=0.0))
    assert session.observe(speech(later, start=4.0)) == []


def test_engine_correction_comes_too_late(load: Load) -> None:
    session = ClaimSession(ClaimEngine(load(rule())))
    session.observe(speech("这是国家级的品质", start=0.0))
    assert session.observe(speech("刚才口误了", start=60.0)) == []


AUDIENCES = {
    "groups": {
        "elderly": {"name": {"zh": "老年人", "en": "the elderly"}, "said": ["叔叔阿姨"]},
    },
    "not_categories": ["minors"],
}


def test_engine_talk_to_the_elderly_raises_severity_with_the_reason(load: Load) -> None:
    pack = load(rule(severity="medium"), audiences=AUDIENCES)
    plain = ClaimSession(ClaimEngine(pack)).observe(speech("这是国家级的品质"))
    assert plain[0].finding.severity == "medium"
    session = ClaimSession(ClaimEngine(pack))
    session.observe(speech("叔叔阿姨听我说", start=0.0))
    (found,) = session.observe(speech("这是国家级的品质", start=6.0))
    assert found.finding.severity == "high"
    assert any("老年人" in reason.zh for reason in found.finding.reasons)
    later = ClaimSession(ClaimEngine(pack))
    later.observe(speech("叔叔阿姨听我说", start=0.0))
    assert later.observe(speech("这是国家级的品质", start=60.0))[0].finding.severity == "medium"


def test_engine_severity_stays_where_the_rule_is_about_that_audience(load: Load) -> None:
    pack = load(rule(severity="medium", category="minors"), audiences=AUDIENCES)
    (found,) = findings(pack, "叔叔阿姨这是国家级的品质")
    assert found.finding.severity == "medium"


def test_engine_denial_inside_the_words_is_seen(load: Load) -> None:
    pack = load(rule(match=[{"regex": "海鲜过敏{gap:12}试试"}]))
    assert findings(pack, "海鲜过敏的朋友喝这个试试")
    assert findings(pack, "海鲜过敏的朋友千万别尝试试") == []


def test_engine_words_that_are_only_spoken_of(load: Load) -> None:
    pack = load(rule(match=[{"terms": ["顶级"]}]))
    assert findings(pack, "有一家把“顶级”两个字换成了材质和尺寸") == []
    assert findings(pack, "这就是“顶级”的面膜")


def test_engine_expired_document_is_named(load: Load) -> None:
    pack = load(rule(needs=["sales_report"]))
    late = {"name": "茶", "proofs": [{"kind": "sales_report", "valid_until": "2021-03-01"}]}
    (found,) = findings(pack, "最好", passport_from(late, "t"))
    assert any("2021-03-01" in one for one in found.finding.exemptions_considered)


def test_engine_rule_against_the_passport_is_silent_without_a_contradiction(load: Load) -> None:
    body = rule(
        category="false_origin_or_ingredient",
        match=[{"regex": "产自{gap:4}五常"}],
        applies={"against_passport": True},
    )
    pack = load(body)
    assert findings(pack, "产自五常") == []
    here = passport_from({"name": "米", "origin": "黑龙江五常"}, "t")
    assert findings(pack, "产自五常", here) == []
    elsewhere = passport_from({"name": "米", "origin": "江苏盐城"}, "t")
    (found,) = findings(pack, "产自五常", elsewhere)
    assert found.finding.disposition is Disposition.VIOLATION
    assert "五常" in found.finding.reasons[0].zh
    assert "江苏盐城" in found.finding.reasons[0].zh


def test_engine_accuses_no_one_for_a_few_words_of_which_the_recogniser_guessed_one(
    load: Load,
) -> None:
    pack = load(rule())

    def said(text: str, unsure: str) -> Sighting:
        heard = speech(text)
        at = text.index(unsure)
        chars = [replace(c, confidence=0.2) if i == at else c for i, c in enumerate(heard.chars)]
        (found,) = ClaimSession(ClaimEngine(pack)).observe(replace(heard, chars=tuple(chars)))
        return found

    elsewhere = said("这是国家级的品质", "品").finding
    assert elsewhere.disposition is Disposition.VIOLATION
    guessed = said("这是国家级的品质", "级").finding
    assert guessed.disposition is Disposition.SUSPECT
    assert "级" in guessed.reasons[-1].zh
