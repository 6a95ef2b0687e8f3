"""The shipped exemptions of 广告绝对化用语执法指南: each acquits its own use and no praise."""

import pytest

from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.judge import Acquittal
from moderator.claims.passports import Passport
from moderator.claims.products import ProductTracker
from moderator.claims.rules import load_rules
from moderator.records import Room, ScriptLine

ENGINE = ClaimEngine(load_rules())


def absolute(text: str, *passports: Passport) -> list[str]:
    found = ClaimSession(ENGINE, Room(), passports).observe(ScriptLine(text))
    return [s.finding.quote for s in found if s.finding.rule.category == "absolute_term"]


def test_exemptions_name_every_item_of_the_guide() -> None:
    cited = {one.law.article for one in ENGINE.pack.exemptions}
    assert cited == {
        *(f"第五条（{n}）" for n in "一二三"),
        *(f"第六条（{n}）" for n in "一二三四五六"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "顾客第一是我们店的规矩",
        "我们的口号是做到极致",
        "我们争取五年内做成行业第一品牌",
        "这款唯一的缺点就是有点重",
        "世界上最大的沙漠是撒哈拉",
        "这三款里面最顶级的是右边这台",
        "这几个口味里最高端的是抹茶的",
        "最佳赏味期是三天以内",
        "按国家标准分级，这批茶是最高级，编号印在罐子上",
        "店名就叫极致咖啡",
        "楼下第一医药的师傅跟我熟",
        "这位是国家级非物质文化遗产传承人的工作室",
        "2026年3月推出的最新一代",
    ],
)
def test_exemptions_acquit(text: str) -> None:
    assert absolute(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "这就是全国最高端的面膜",
        "顾客都说这是市面上最好的面膜",
        "里面用的是最好的原料",
        "我们的东西就是行业第一品牌",
        "这款茶就是极品",
        "国家级的品质给到大家",
    ],
)
def test_exemptions_leave_praise_alone(text: str) -> None:
    assert absolute(text)


def test_exemptions_cover_a_products_own_name() -> None:
    tea = Passport(name="周记极品毛尖王", category="food")
    assert absolute("这罐周记极品毛尖王今天上架", tea) == []
    assert absolute("这罐茶叶真的是极品", tea)


def test_exemptions_are_named_with_their_article() -> None:
    text = ENGINE.normalise("我们争取五年内做成行业第一品牌")
    view = ProductTracker([], ENGINE.cues).see(text.text)
    reasons = [r.reason for r in ENGINE.rulings(text, view, "script") if isinstance(r, Acquittal)]
    assert any("第五条（二）" in reason for reason in reasons)
    (found,) = ClaimSession(ENGINE).observe(ScriptLine("这就是全国最高端的面膜"))
    assert any("第六条（一）" in one for one in found.finding.exemptions_considered)
