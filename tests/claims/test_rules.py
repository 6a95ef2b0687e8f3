from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderator.claims.rules import RulePack, load_rules
from moderator.claims.selftest import check_tests, failures
from moderator.errors import ModeratorError
from moderator.records import CATEGORIES

from .conftest import rule

Load = Callable[..., RulePack]


def test_rules_load_resolves_law_with_its_item(load: Load) -> None:
    pack = load(rule())
    assert pack.rules[0].law[0].article == "第九条（三）"
    assert pack.rules[0].law[0].effective == "2015-09-01"


def test_rules_unknown_field_names_line_and_suggests(write_pack: Callable[..., Path]) -> None:
    text = "\n".join(
        [
            "id: cn.absolute.x",
            "title: {zh: 甲, en: a}",
            "status: test",
            "version: 1",
            "severity: high",
            "category: absolute_term",
            "law: [cn.ad_law.9]",
            "match:",
            "  - near: [{terms: [一]}, {terms: [二]}]",
            "    within_char: 5",
            "message: {zh: 甲, en: a}",
            "suggest: {zh: 甲, en: a}",
            "tests: {violation: [一二], compliant: [三]}",
        ]
    )
    with pytest.raises(ModeratorError, match=r"LM-204 .*rule0\.yaml:\d+: .*within_char"):
        load_rules(write_pack(text))


def test_rules_unknown_top_level_field_suggests_the_right_one(
    write_pack: Callable[..., Path],
) -> None:
    body = rule()
    body["severty"] = "high"
    with pytest.raises(ModeratorError, match=r"'severty' is not a field; did you mean 'severity'"):
        load_rules(write_pack(body))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"law": ["cn.ad_law.99"]}, "LM-207"),
        ({"match": [{"regex": "(最好"}]}, "LM-205"),
        ({"match": [{"lexicon": "no_such"}]}, "LM-211"),
        ({"category": "nonsense"}, "LM-204"),
        ({"severity": "huge"}, "LM-204"),
        ({"tests": {"violation": ["最好"], "compliant": []}}, "LM-204"),
        ({"tests": {"violation": [], "compliant": ["好"]}}, "LM-204"),
        ({"match": []}, "LM-204"),
    ],
)
def test_rules_faults_have_codes(
    write_pack: Callable[..., Path], changes: dict[str, Any], code: str
) -> None:
    from moderator.claims.matcher import PatternMatcher

    with pytest.raises(ModeratorError, match=code):
        PatternMatcher(load_rules(write_pack(rule(**changes))))


def test_rules_bad_yaml_names_the_line(write_pack: Callable[..., Path]) -> None:
    with pytest.raises(ModeratorError, match=r"LM-201 .*rule0\.yaml:[23]"):
        load_rules(write_pack("id: cn.x\ntitle: {zh: 甲\nstatus: test\n"))


def test_rules_duplicate_id_names_both_files(write_pack: Callable[..., Path]) -> None:
    with pytest.raises(ModeratorError, match=r"LM-206 .*rule1\.yaml:\d+.*rule0\.yaml"):
        load_rules(write_pack(rule(), rule()))


def test_rules_missing_folder_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-209"):
        load_rules(tmp_path / "nothing")
    with pytest.raises(ModeratorError, match="LM-209"):
        load_rules(tmp_path)


def test_rules_failing_tests_are_reported_with_place(load: Load) -> None:
    pack = load(rule(tests={"violation": ["没有这些词"], "compliant": ["这是最好的"]}))
    found = list(failures(pack))
    assert len(found) == 2
    assert all("rule0.yaml:" in f.place for f in found)
    with pytest.raises(ModeratorError, match="LM-208"):
        check_tests(pack)


def test_rules_version_changes_with_content(write_pack: Callable[..., Path]) -> None:
    first = load_rules(write_pack(rule())).version
    second = load_rules(write_pack(rule(severity="low"))).version
    assert first != second


def test_rules_shipped_pack_covers_every_category_and_its_tests_hold() -> None:
    pack = load_rules()
    assert len(pack.rules) >= 40
    assert {rule.category for rule in pack.rules} == set(CATEGORIES)
    assert [f"{f.place} {f.rule} {f.reason}: {f.text}" for f in failures(pack)] == []


def test_rules_shipped_pack_quotes_no_unverified_article() -> None:
    for article in load_rules().law.values():
        assert (article.status == "unverified") == (article.text == "")
