"""docs/coverage.md names every article and every rule; `python rules/tools/coverage.py` writes it."""

import re
from pathlib import Path

from moderator.claims.rules import load_rules

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text("utf-8")


def test_coverage_names_only_rules_that_exist_and_all_of_them() -> None:
    named = set(re.findall(r"`(cn\.[a-z0-9_.]+)`", PAGE))
    pack = load_rules()
    rules = {rule.id for rule in pack.rules}
    assert named <= rules
    assert {rule.id for rule in pack.rules if not rule.semantic_only} <= named


def test_coverage_names_every_article() -> None:
    pack = load_rules()
    rows = [line for line in PAGE.splitlines() if line.startswith("| 第")]
    assert len(rows) == len(pack.law)
    for statute in {article.title for article in pack.law.values()}:
        assert f"## {statute}" in PAGE
