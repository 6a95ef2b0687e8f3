"""A small rule pack built by hand, so that these tests do not depend on the shipped rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderator.claims.rules import RulePack, load_rules

LAW = {
    "id": "cn.ad_law",
    "title": "中华人民共和国广告法",
    "short": "广告法",
    "issuer": "全国人大常委会",
    "effective": "2015-09-01",
    "text_status": "test",
    "source": "test",
    "articles": [
        {"id": "9", "article": "第九条", "status": "verbatim", "text": "广告不得有下列情形"},
        {"id": "17", "article": "第十七条", "status": "unverified", "note": "转述"},
    ],
}


def rule(**changes: Any) -> dict[str, Any]:
    """A valid rule as a mapping, with `changes`."""
    body: dict[str, Any] = {
        "id": "cn.absolute.state_level",
        "title": {"zh": "最高级用语", "en": "Superlatives"},
        "status": "test",
        "version": 1,
        "severity": "high",
        "category": "absolute_term",
        "law": ["cn.ad_law.9#（三）"],
        "match": [{"terms": ["国家级", "最好"]}],
        "message": {"zh": "“{quote}”是绝对化用语", "en": "“{quote}” is a superlative"},
        "suggest": {"zh": "换成具体事实", "en": "State a fact"},
        "tests": {"violation": ["这是国家级品质"], "compliant": ["这是很好的品质"]},
    }
    body.update(changes)
    return body


@pytest.fixture
def write_pack(tmp_path: Path) -> Callable[..., Path]:
    """Write rules (mappings or raw YAML text) as a pack of their own; returns its folder."""

    def write(*rules: dict[str, Any] | str, **aids: Any) -> Path:
        home = tmp_path / "pack"
        (home / "cn" / "lexicons").mkdir(parents=True, exist_ok=True)
        (home / "law").mkdir(exist_ok=True)
        (home / "law" / "ad_law.yaml").write_text(yaml.safe_dump(LAW, allow_unicode=True), "utf-8")
        for number, body in enumerate(rules):
            text = body if isinstance(body, str) else yaml.safe_dump(body, allow_unicode=True)
            (home / "cn" / f"rule{number}.yaml").write_text(text, "utf-8")
        for name, content in aids.items():
            folder = home / "cn" / "lexicons" if name.startswith("lexicon") else home / "cn"
            (folder / f"{name}.yaml").write_text(
                yaml.safe_dump(content, allow_unicode=True), "utf-8"
            )
        return home

    return write


@pytest.fixture
def load(write_pack: Callable[..., Path]) -> Callable[..., RulePack]:
    def load_pack(*rules: dict[str, Any] | str, **aids: Any) -> RulePack:
        return load_rules(write_pack(*rules, **aids))

    return load_pack
