from datetime import date
from typing import Any

import pytest

from moderator.claims.amounts import amounts_in, numbers_in, per_cents_in
from moderator.claims.facts import FactBook
from moderator.claims.passports import Passport, passport_from
from moderator.claims.rules import load_rules
from moderator.errors import ModeratorError

BOOK = FactBook(load_rules().facts)
contradiction = BOOK.contradiction


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("原价三百九十九今天九十九", [399, 99]),
        ("一百二", [120]),
        ("一万二", [12000]),
        ("两千零五", [2005]),
        ("最后十瓶", [10]),
        ("只要19.9元", [19.9]),
        ("没有数字", []),
        ("十五", [15]),
        ("三万五千", [35000]),
        ("上万", [10000]),
        ("万二", [12000]),
        ("平时万一百二十九", [129]),
    ],
)
def test_facts_read_numbers_as_people_say_them(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


def test_facts_stock_below_the_record_is_a_contradiction() -> None:
    passport = passport_from({"proofs": [{"kind": "stock_record", "quantity": 1260}]}, "t")
    assert "1260" in (contradiction("stock_record", "全国只剩最后五瓶", passport) or "")
    assert contradiction("stock_record", "还有一千三百瓶", passport) is None


def test_facts_compared_price_above_the_record_is_a_contradiction() -> None:
    passport = passport_from({"price": {"list": 129, "lowest_30d": 99, "live": 99}}, "t")
    assert contradiction("price_record", "原价三百九十九今天九十九", passport)
    assert contradiction("price_record", "平时一百二十九今天九十九", passport) is None
    assert contradiction("price_record", "历史最低价", passport) is None
    dearer = passport_from({"price": {"list": 129, "lowest_30d": 89, "live": 99}}, "t")
    assert "89" in (contradiction("price_record", "历史最低价", dearer) or "")


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("九块九包邮", [9.9]),
        ("九块三瓶", [9]),
        ("一百二十九一盒", [129]),
        ("三瓶八十", [80]),
        ("打八折", []),
        ("一千二", [1200]),
    ],
)
def test_amounts_are_prices_and_not_counts(text: str, amounts: list[float]) -> None:
    assert [a.value for a in amounts_in(text)] == amounts


def test_amounts_read_per_cents() -> None:
    said = "百分百羊毛，含绒百分之九十点五，棉60%"
    assert [a.value for a in per_cents_in(said)] == [100, 90.5, 60]


def priced(**price: Any) -> Passport:
    return passport_from({"price": price}, "t")


HISTORY = [
    {"date": "2026-01-01", "price": 399},
    {"date": "2026-02-20", "price": 199},
    {"date": "2026-03-10", "price": 159},
]


def test_facts_former_price_is_the_lowest_deal_of_the_seven_days_before() -> None:
    sold = priced(list=399, live=159, history=HISTORY)
    why = contradiction("price_record", "原价三百九十九今天一百五十九", sold)
    assert why is not None
    assert "399" in why
    assert "199" in why
    held = BOOK.hold(["price_record"], "原价一百九十九今天一百五十九", "", sold)
    assert held is not None
    assert held.agrees


def test_facts_list_price_alone_does_not_bear_out_a_former_price() -> None:
    assert BOOK.hold(["price_record"], "原价399今天到手159", "", priced(list=399, live=159)) is None
    marked = BOOK.hold(["price_record"], "吊牌价399今天159", "", priced(list=399, live=159))
    assert marked is not None
    assert marked.agrees


def test_facts_another_shops_price_is_not_in_the_record() -> None:
    sold = priced(list=399, live=159, history=HISTORY)
    assert BOOK.hold(["price_record"], "专柜卖八百今天一百五十九", "", sold) is None
    assert BOOK.hold(["price_record"], "送价值八百的洁面仪", "", sold) is None


@pytest.mark.parametrize(
    ("words", "agrees"),
    [("直降两百", True), ("直降三百", False), ("打四折", True), ("打两折", False)],
)
def test_facts_reductions_are_reckoned(words: str, agrees: bool) -> None:
    held = BOOK.hold(["price_record"], words, "", priced(list=399, live=159))
    assert held is not None
    assert held.agrees is agrees


def test_facts_price_of_today_lower_than_in_the_room() -> None:
    sold = priced(list=699, live=599)
    assert "599" in (contradiction("price_record", "今天只要三百九十九", sold) or "")
    assert contradiction("price_record", "今天就三块", sold) is None
    assert contradiction("price_record", "领券后今天三百九十九", sold) is None


def test_facts_lowest_price_needs_the_span_it_speaks_of() -> None:
    month = priced(live=99, lowest_30d=99)
    assert BOOK.hold(["price_record"], "史低", "今天史低", month) is None
    held = BOOK.hold(["price_record"], "最低价", "近三十天最低价", month)
    assert held is not None
    assert held.agrees
    assert (
        BOOK.hold(["price_record"], "全网最低价", "", priced(live=99, history=HISTORY[:1])) is None
    )


@pytest.mark.parametrize(
    ("words", "origin", "agrees"),
    [
        ("正宗五常大米", "黑龙江省哈尔滨市五常市", True),
        ("黑龙江的大米", "黑龙江五常", True),
        ("正宗五常大米", "江苏盐城", False),
        ("五常大米", "黑龙江", None),
        ("阳澄湖大闸蟹", "江苏盐城", False),
        ("智利原瓶进口", "智利", True),
        ("智利原瓶进口", "山东烟台", False),
        ("原装进口", "德国", True),
        ("原装进口", "广东佛山", False),
        ("德国工艺", "广东佛山", None),
        ("进口面料", "浙江嘉兴", None),
        ("澳洲牛排", "澳大利亚", True),
        ("云南的花", "", None),
    ],
)
def test_facts_origin(words: str, origin: str, agrees: bool | None) -> None:
    held = BOOK.hold(["origin_proof"], words, words, passport_from({"origin": origin}, "t"))
    assert (held.agrees if held else None) is agrees
    if held is not None:
        assert origin in held.why


@pytest.mark.parametrize(
    ("words", "ingredients", "agrees"),
    [
        ("百分百羊毛", ["羊毛 60%", "聚酯纤维 40%"], False),
        ("百分百羊毛", ["绵羊毛 100%"], True),
        ("百分百桑蚕丝", ["真丝"], True),
        ("全牛皮", ["聚氨酯"], False),
        ("含绒量百分之九十", ["绒子含量 90%"], True),
        ("含绒量95%", ["绒子含量 90%"], False),
        ("不含蔗糖", ["生牛乳", "白砂糖"], False),
        ("不含蔗糖", ["生牛乳", "菌种"], True),
        ("零添加", ["番茄"], None),
        ("零添加", ["番茄", "山梨酸钾"], False),
        ("没有甲醛", ["木材"], None),
        ("无硅油", ["水", "聚二甲基硅氧烷"], False),
    ],
)
def test_facts_ingredients(words: str, ingredients: list[str], agrees: bool | None) -> None:
    passport = passport_from({"ingredients": ingredients}, "t")
    held = BOOK.hold(["test_report"], words, words, passport)
    assert (held.agrees if held else None) is agrees


def test_facts_registration_for_another_function_contradicts() -> None:
    sunscreen = passport_from(
        {"registrations": [{"kind": "special_cosmetic", "functions": ["防晒"]}]}, "t"
    )
    why = contradiction("special_cosmetic", "美白", sunscreen)
    assert why is not None
    assert "祛斑美白" in why
    assert "防晒" in why
    assert contradiction("special_cosmetic", "spf50", sunscreen) is None
    assert BOOK.proves("special_cosmetic", sunscreen, "防晒五十倍")
    assert not BOOK.proves("special_cosmetic", sunscreen, "美白")


def test_facts_expired_document_proves_nothing() -> None:
    report = {"kind": "test_report", "valid_until": "2020-06-30"}
    passport = passport_from({"proofs": [report]}, "t")
    assert not BOOK.proves("test_report", passport, "零添加")
    assert BOOK.proves("test_report", passport, "零添加", on=date(2020, 6, 30))
    assert "2020-06-30" in BOOK.expired(["test_report"], passport)
    with pytest.raises(ModeratorError, match="LM-301"):
        passport_from({"proofs": [{"kind": "test_report", "valid_until": "明年"}]}, "t")


def test_facts_report_about_something_else_proves_nothing() -> None:
    report = {"kind": "test_report", "scope": "色牢度、甲醛含量"}
    passport = passport_from({"proofs": [report]}, "t")
    assert not BOOK.proves("test_report", passport, "百分百羊绒")
    assert BOOK.proves("test_report", passport, "无甲醛", "这个无甲醛")
