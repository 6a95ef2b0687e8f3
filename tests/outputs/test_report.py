from __future__ import annotations

import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from moderator.outputs.report import article_key
from moderator.records import (
    CATEGORIES,
    Disposition,
    Evidence,
    MatchInfo,
    Place,
    Severity,
    Violation,
)
from tests.outputs.builders import (
    AD_LAW,
    code,
    media_report,
    screen_text,
    script_report,
    utterance,
    violation,
)

SCHEMA = json.loads(
    files("moderator").joinpath("schemas/violation.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)

FULL = violation(
    "祛斑",
    "这款面霜区斑效果好",
    heard="区斑",
    match=MatchInfo("phonetic", 0.87, 3.25, "祛斑"),
    product="p1",
    exemptions_considered=("否定",),
    evidence=Evidence(
        "clips/1.mp4", ("frames/1.jpg",), "transcript.jsonl", {"clips/1.mp4": "a" * 64}
    ),
    occurrences=3,
    latency_ms=812.5,
)


def test_schema_is_itself_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "record",
    [violation(), FULL, violation(place=Place(3, 4, 3, 7), channel="script", start=0.0, end=0.0)],
)
def test_schema_accepts_records_and_they_round_trip(record: Violation) -> None:
    body = json.loads(json.dumps(record.to_json()))
    VALIDATOR.validate(body)
    assert Violation.from_json(body) == record


def test_schema_knows_every_category_disposition_and_severity() -> None:
    fields = SCHEMA["properties"]
    assert fields["category"]["enum"] == list(CATEGORIES)
    assert set(fields["disposition"]["enum"]) == {str(d) for d in Disposition}
    assert set(fields["severity"]["enum"]) == {str(s) for s in Severity}
    assert set(fields) == set(FULL.to_json())


def test_schema_describes_every_field() -> None:
    assert [n for n, f in SCHEMA["properties"].items() if not f.get("description")] == []


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"confidence": 1.2},
        {"category": "nonsense"},
        {"span": [1]},
        {"id": "not-a-ulid"},
        {"law": [{"title": "x"}]},
        {"evidence": {"clip": None, "frames": [], "transcript": None, "sha256": {"a": "xyz"}}},
        {"place": {"line": 0, "column": 1, "end_line": 1, "end_column": 2}},
        {"schema": "moderator/violation@2"},
    ],
)
def test_schema_refuses_what_is_not_a_record(change: dict[str, object]) -> None:
    assert not VALIDATOR.is_valid({**FULL.to_json(), **change})


def test_schema_refuses_a_missing_field() -> None:
    for name in FULL.to_json():
        body = FULL.to_json()
        del body[name]
        assert not VALIDATOR.is_valid(body), name


@given(
    quote=st.text(min_size=1, max_size=20),
    confidence=st.floats(0, 1),
    start=st.floats(0, 1e6),
    llr=st.none() | st.floats(-50, 50),
)
def test_schema_accepts_any_words(
    quote: str, confidence: float, start: float, llr: float | None
) -> None:
    record = violation(
        quote,
        confidence=confidence,
        start=start,
        end=start + 1,
        match=MatchInfo("literal", confidence, llr, quote),
    )
    VALIDATOR.validate(record.to_json())


def test_report_counts_by_disposition_severity_and_category() -> None:
    report = media_report(
        violation(),
        violation(severity=Severity.CRITICAL, category="price_fraud"),
        violation(disposition=Disposition.SUSPECT),
    )
    counts = report.to_json()["summary"]
    assert counts["total"] == 3
    assert counts["disposition"] == {"violation": 2, "needs_proof": 0, "suspect": 1}
    assert counts["severity"] == {"critical": 1, "high": 2, "medium": 0, "low": 0}
    assert counts["category"] == {"absolute_term": 2, "price_fraud": 1}
    assert len(report.at_or_above(Disposition.NEEDS_PROOF)) == 2


def test_report_json_holds_everything_observed() -> None:
    report = media_report(
        violation(),
        utterances=(utterance("你好", 1.23456, 2.0),),
        screen_texts=(screen_text("最低价"),),
        codes=(code("https://x"),),
        articles={article_key(AD_LAW): "条文"},
        notes=("没有画面",),
    )
    body = json.loads(json.dumps(report.to_json()))
    assert body["utterances"][0]["text"] == "你好"
    assert body["utterances"][0]["start"] == 1.235
    assert body["utterances"][0]["chars"][0][0] == "你"
    assert body["screen_texts"][0]["box"] == {"x0": 1, "y0": 2, "x1": 30, "y1": 40}
    assert body["codes"][0]["symbology"] == "QR"
    assert body["notes"] == ["没有画面"]
    assert report.law_text(AD_LAW) == "条文"


def test_report_rebuilds_script_rows_from_its_lines() -> None:
    report = script_report("一\n\n  国家级\n四", "国家级", script_text="")
    assert report.script_rows() == ["一", "", "  国家级", "四"]
