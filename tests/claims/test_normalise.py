from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moderator.claims.normalise import Rewritten, normalise, without_pauses


def words(original: str, wanted: str) -> str:
    """The original characters behind `wanted` in the normalised text."""
    done = normalise(original)
    at = done.text.index(wanted)
    begin, end = done.span(at, at + len(wanted))
    return original[begin:end]


def test_normalise_simplifies_and_keeps_the_original_words() -> None:
    assert normalise("國家級品質").text == "国家级品质"
    assert words("這是國家級品質", "国家级") == "國家級"


def test_normalise_joins_what_symbols_and_spaces_split() -> None:
    assert normalise("国 家*级").text == "国家级"
    assert words("真的国 家*级哦", "国家级") == "国 家*级"
    assert normalise("祛-斑、美·白").text == "祛斑，美白"


def test_normalise_drops_emoji_inside_words() -> None:
    assert normalise("国家😀级❤️").text == "国家级"


def test_normalise_folds_width_and_circled_digits() -> None:
    assert normalise("第①，１００％ ＶＸ").text == "第1，100% vx"


def test_normalise_drops_fillers_between_chinese_and_keeps_final_ones() -> None:
    assert normalise("国啊家级").text == "国家级"
    assert normalise("好啊").text == "好啊"


def test_normalise_collapses_stressed_repeats() -> None:
    assert normalise("最最最好的").text == "最好的"
    assert words("这是最最最好的", "最好") == "最最最好"


def test_normalise_keeps_decimals_and_addresses_but_ends_sentences() -> None:
    assert normalise("3.5元").text == "3.5元"
    assert normalise("a.com").text == "a.com"
    assert normalise("good. 好").text.startswith("good。")


def test_normalise_keeps_spaces_between_latin_words() -> None:
    assert normalise("Best  Quality 面膜").text == "best quality面膜"


@given(st.text("好的，。国 *ａ1", min_size=1, max_size=30), st.integers(0, 30))
def test_normalise_knows_where_the_new_text_begins(original: str, fresh: int) -> None:
    for text in (normalise(original), without_pauses(normalise(original))):
        told = replace(text, fresh=fresh)
        first = told.first_fresh
        assert all(told.span(at, at + 1)[0] < fresh for at in range(first))
        assert all(told.span(at, at + 1)[0] >= fresh for at in range(first, len(told.text)))
        assert without_pauses(told).fresh == fresh


def test_normalise_writes_out_known_evasions_with_the_original_kept() -> None:
    def morphs(text: str) -> list[Rewritten]:
        at = text.find("v信")
        return [Rewritten(at, at + 2, "微信", "initial")] if at >= 0 else []

    done = normalise("加Ｖ信领券", morphs)
    assert done.text == "加微信领券"
    assert done.rewritten[0].original == "Ｖ信"
    assert done.span(1, 3) == (1, 3)


@given(st.text(max_size=60))
def test_normalise_maps_every_character_into_the_original(original: str) -> None:
    done = normalise(original)
    for i in range(len(done.text)):
        begin, end = done.span(i, i + 1)
        assert 0 <= begin < end <= len(original)


@given(st.text(alphabet="国家级最好啊嗯 *·😀①Ａ.。，！", max_size=40))
def test_normalise_is_stable(original: str) -> None:
    once = normalise(original).text
    again = normalise(once).text
    assert normalise(again).text == again


@given(st.text(max_size=60))
def test_normalise_offsets_never_run_backwards(original: str) -> None:
    done = normalise(original)
    begins = [done.span(i, i + 1)[0] for i in range(len(done.text))]
    assert begins == sorted(begins)
