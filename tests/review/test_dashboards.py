"""Figures: right, within one's organisation, as CSV that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import json

import pytest

from moderator.records import RuleRef
from moderator.review import dashboards
from tests.review.world import Caller, World


def rows(world: World, name: str, role: str = "auditor", key: str = "") -> list[dict[str, object]]:
    answer = world.caller(role, key).get(f"/dashboards/{name}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [dict(zip(body["columns"], row, strict=True)) for row in body["rows"]]


def test_dashboards_precision_by_rule_comes_from_verdicts(world: World) -> None:
    caller = world.caller("reviewer")
    for wrong in (True, True, False):
        case = world.add(rule=RuleRef("cn.bad", 1, "差"))
        caller.decide(
            case, "dismiss" if wrong else "confirm", reason="rule_too_wide" if wrong else ""
        )
    caller.decide(world.add(rule=RuleRef("cn.good", 1, "好")), "confirm")
    world.add(rule=RuleRef("cn.new", 1, "新"))
    found = rows(world, "rule_precision")
    assert [row["rule"] for row in found] == ["cn.bad", "cn.good", "cn.new"]
    assert (found[0]["precision"], found[1]["precision"], found[2]["precision"]) == (
        0.3333,
        1.0,
        None,
    )
    assert found[0]["low"] < found[0]["precision"] < found[0]["high"]  # type: ignore[operator]
    (why,) = rows(world, "dismiss_reasons")
    assert (why["reason"], why["total"]) == ("rule_too_wide", 2)


def test_dashboards_agreement_counts_what_two_people_judged(world: World) -> None:
    second = Caller(world.app, "second_reviewer2")
    for action in ("confirm", "confirm", "dismiss"):
        case = world.add_critical()
        world.caller("reviewer").decide(case, "confirm")
        second.decide(case, action, reason="context" if action == "dismiss" else "")
    (row,) = rows(world, "agreement")
    assert (row["judged_twice"], row["agreed"], row["share"]) == (3, 2, 0.6667)
    assert row["kappa"] == 0.0


@pytest.mark.parametrize("name", sorted(dashboards.DASHBOARDS))
def test_dashboards_each_answers_empty_full_and_as_csv(world: World, name: str) -> None:
    assert rows(world, name) == []
    for key in ("a", "b"):
        case = world.add(room=key, latency_ms=1200.0)
        world.caller("reviewer").decide(case, "confirm")
    found = rows(world, name)
    if name not in ("agreement", "dismiss_reasons"):
        assert found
    text = world.caller("auditor").get(f"/dashboards/{name}?format=csv").content.decode("utf-8-sig")
    table = list(csv.reader(io.StringIO(text)))
    assert len(table) == len(found) + 1
    mine = json.dumps(rows(world, name, "auditor", "a"), ensure_ascii=False)
    assert not any(word in mine for word in ("room_b", "阿乙", "乙商行"))


def test_dashboards_a_formula_in_a_name_is_defused_in_csv(world: World) -> None:
    world.add(rule=RuleRef("=HYPERLINK(1)", 1, '=cmd|"/c calc"'))
    text = world.caller("auditor").get("/dashboards/rule_precision?format=csv").text
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]


def test_dashboards_time_window_and_unknown_names(world: World) -> None:
    world.add()
    caller = world.caller("auditor")
    window = {"since": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"}
    assert caller.get("/dashboards/category", params=window).json()["rows"] == []
    assert caller.get("/dashboards/nothing").status_code == 404


def test_dashboards_verdicts_are_labelled_examples(world: World) -> None:
    caller = world.caller("reviewer")
    right, wrong = world.add(), world.add("最低价")
    caller.decide(right, "confirm")
    caller.decide(wrong, "dismiss", reason="context")
    world.add("未定")
    answer = world.caller("second_reviewer").get("/verdicts")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert {line["id"]: line["label"] for line in lines} == {right: 1, wrong: 0}
    first = lines[0]
    begin, end = first["span"]
    assert first["text"][begin:end] == first["quote"]
    assert lines[1]["reason"] == "context"


def test_dashboards_the_interval_is_wilsons() -> None:
    low, high = dashboards.wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.49, 0.943)
    assert dashboards.wilson(0, 5)[0] == 0.0
    assert dashboards.percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0
    assert dashboards.kappa({("a", "a"): 5, ("b", "b"): 5}) == 1.0
