import pytest

from moderator.claims.disguises import Disguises
from moderator.claims.normalise import normalise

LISTED = [{"heard": ["薇信", "v信"], "means": "微信", "kind": "homophone"}]
NEAR = {"末病": "未病"}
DISGUISES = Disguises(LISTED, NEAR, ["国家级", "治愈", "高血压", "降糖"], ["高血压", "降糖"])


def written_out(text: str) -> str:
    return normalise(text, DISGUISES.find).text


@pytest.mark.parametrize(
    ("disguised", "meant"),
    [
        ("加我薇信", "加我微信"),
        ("加我V信", "加我微信"),
        ("治末病", "治未病"),
        ("国jia级品质", "国家级品质"),
        ("国家J的", "国家级的"),
        ("高xue压的叔叔", "高血压的叔叔"),
        ("guojiaji品质", "国家级品质"),
        ("治yu了", "治愈了"),
        ("高某压", "高血压"),
        ("高什么压", "高血压"),
        ("降某糖", "降糖"),
    ],
)
def test_disguises_are_written_out(disguised: str, meant: str) -> None:
    assert written_out(disguised) == meant


@pytest.mark.parametrize(
    "text",
    [
        "治yummy的胃口",  # the letters go on: another word
        "降什么糖都行",  # a question, not a hole
        "我的iphone很好用",
        "国家队的xl码",
    ],
)
def test_disguises_leave_other_words_alone(text: str) -> None:
    assert written_out(text) == normalise(text).text


def test_disguises_keep_the_original_words_with_the_record() -> None:
    text = normalise("这是国jia级品质", DISGUISES.find)
    at = text.text.index("国家级")
    begin, end = text.span(at, at + 3)
    assert text.original[begin:end] == "国jia级"
    assert [(one.original, one.kind) for one in text.rewritten] == [("国jia级", "pinyin")]


def test_disguises_of_nothing() -> None:
    assert Disguises([], {}).find("国家j") == []
