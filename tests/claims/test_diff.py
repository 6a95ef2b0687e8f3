from collections.abc import Callable
from pathlib import Path
from typing import Any

from moderator.claims.diff import flips
from moderator.claims.rules import RulePack, load_rules

from .conftest import rule


def test_diff_shows_gained_lost_and_changed_verdicts(write_pack: Callable[..., Path]) -> None:
    def pack(**changes: Any) -> RulePack:
        return load_rules(write_pack(rule(**changes)))

    old = pack()
    new = pack(match=[{"terms": ["国家级", "顶级"]}], disposition="suspect")
    sentences = [("1", "国家级", None), ("2", "最好", None), ("3", "顶级", None), ("4", "好", None)]
    found = {flip.id: (flip.before, flip.after) for flip in flips(old, new, sentences)}
    name = "cn.absolute.state_level"
    assert found == {
        "1": ({name: "violation"}, {name: "suspect"}),
        "2": ({name: "violation"}, {}),
        "3": ({}, {name: "suspect"}),
    }
