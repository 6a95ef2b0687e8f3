import pytest

from moderator.claims.patterns import PatternTimeout, alternatives, compile_pattern
from moderator.errors import ModeratorError

LEXICONS = {"disease": ("糖尿病", "高血压"), "cure": ("治好", "根治")}


def test_patterns_fill_macros_and_find() -> None:
    pattern = compile_pattern("{cure}(?:了)?{gap:6}{disease}", LEXICONS, "x")
    assert list(pattern.find("它根治了你的糖尿病")) == [(1, 9)]
    assert list(pattern.find("根治。糖尿病")) == []
    assert list(compile_pattern("{num}天见效", {}, "x").find("二十八天见效")) == [(0, 6)]


def test_patterns_prefer_the_longest_lexicon_term() -> None:
    pattern = compile_pattern("治{d}", {"d": ("糖尿", "糖尿病")}, "x")
    assert list(pattern.find("治糖尿病")) == [(0, 4)]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{cure}{gap:3}{disease}", "治好你的高血压"),
        ("(?:最|第)一{gap:4}(?:面膜|精华)", "第一款面膜"),
        ("[最极]好", "极好"),
        ("不(?:得|能)?治病", "不治病"),
        ("(?:根治|断根)?{disease}", "糖尿病"),
    ],
)
def test_patterns_every_match_holds_a_gate(source: str, text: str) -> None:
    pattern = compile_pattern(source, LEXICONS, "x")
    assert list(pattern.find(text))
    assert pattern.gates
    assert all(any(gate in text for gate in gates) for gates in pattern.gates)


def test_patterns_have_a_gate_for_each_part() -> None:
    gates = compile_pattern("{cure}{gap:3}{disease}", LEXICONS, "x").gates
    assert set(gates) == {frozenset(LEXICONS["cure"]), frozenset(LEXICONS["disease"])}


def test_patterns_without_literals_run_ungated() -> None:
    assert compile_pattern(r"\d{11}", {}, "x").gates == ()


def test_patterns_name_the_place_of_a_bad_regex() -> None:
    with pytest.raises(ModeratorError, match=r"LM-205 a\.yaml:7"):
        compile_pattern("(最好", {}, "a.yaml:7")


def test_patterns_suggest_a_lexicon() -> None:
    with pytest.raises(ModeratorError, match="did you mean 'disease'"):
        compile_pattern("{diseases}", LEXICONS, "a.yaml:7")


def test_patterns_bound_a_catastrophic_regex_in_time() -> None:
    pattern = compile_pattern("(?:(?:a|aa)+)+好$", {}, "a.yaml:7")
    with pytest.raises(PatternTimeout):
        list(pattern.find("a" * 60 + "好x"))
    with pytest.raises(ModeratorError, match="LM-210"):
        compile_pattern("(?:(?:最|最最)+)+$x", {}, "a.yaml:7").check_speed()
    with pytest.raises(ModeratorError, match="LM-210"):
        compile_pattern("(?:(?:最|好)+)+x", {}, "a.yaml:7").check_speed()


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("a|b", ["a", "b"]),
        ("a(?:b|c)|d", ["a(?:b|c)", "d"]),
        (r"[|)]x|\\|y", ["[|)]x", r"\\", "y"]),
        (r"a\|b", [r"a\|b"]),
        ("(?:a|b)c", ["(?:a|b)c"]),
    ],
)
def test_patterns_split_only_the_outermost_alternatives(source: str, parts: list[str]) -> None:
    assert alternatives(source) == parts
