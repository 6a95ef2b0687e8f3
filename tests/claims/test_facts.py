import pytest

from moderator.claims.facts import contradiction, numbers_in
from moderator.claims.passports import passport_from


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
