"""Reports and violations built by hand."""

from __future__ import annotations

from typing import Any

from moderator.outputs.report import Report
from moderator.records import (
    Box,
    Code,
    Disposition,
    Evidence,
    LawRef,
    MatchInfo,
    Place,
    Room,
    RuleRef,
    ScreenText,
    Severity,
    TimedChar,
    Utterance,
    Violation,
)
from moderator.script import script_from_text

AD_LAW = LawRef("中华人民共和国广告法", "第九条（三）", "2015-09-01")

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}"


def utterance(text: str, start: float = 0.0, end: float = 4.0, distrust: str = "") -> Utterance:
    step = (end - start) / max(1, len(text))
    chars = tuple(
        TimedChar(char, start + index * step, start + (index + 1) * step, 0.9)
        for index, char in enumerate(text)
    )
    return Utterance(text, start, end, chars, 0.9, "test-asr", distrust=distrust)


def screen_text(text: str, start: float = 0.0, end: float = 9.0) -> ScreenText:
    return ScreenText(text, start, end, Box(1, 2, 30, 40), start, 0.95, "test-ocr", 3)


def code(text: str, start: float = 0.0, end: float = 5.0) -> Code:
    return Code(text, "QR", start, end, Box(1, 2, 30, 40), start, "test-codes")


def violation(quote: str = "国家级", context: str = "", **changes: Any) -> Violation:
    context = context or f"这是{quote}的品质"
    begin = max(context.find(changes.get("heard") or quote), 0)
    values: dict[str, Any] = {
        "room": "local",
        "session": "S1",
        "source": "room.mp4",
        "rule": RuleRef("cn.absolute.state_level", 2, "绝对化用语"),
        "category": "absolute_term",
        "disposition": Disposition.VIOLATION,
        "severity": Severity.HIGH,
        "confidence": 0.9,
        "law": (AD_LAW,),
        "channel": "speech",
        "start": 1.0,
        "end": 2.0,
        "quote": quote,
        "span": (begin, begin + len(changes.get("heard") or quote)),
        "context": context,
        "match": MatchInfo("literal", 1.0, None, quote),
        "explanation": f"“{quote}”属于绝对化用语。",
        "suggestion": "改为“用料讲究”。",
        "engine": {"rules": "cn 1"},
        "evidence": Evidence(),
    }
    return Violation(**(values | changes))


def media_report(*violations: Violation, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "source": "room.mp4",
        "kind": "media",
        "room": Room(title="测试直播间"),
        "session": "S1",
        "duration_s": 60.0,
        "utterances": (utterance("这是国家级的品质"),),
        "violations": violations,
        "engines": {"rules": "cn 1", "asr": "test-asr"},
        "timings": {"total_s": 6.0},
    }
    return Report(**(values | changes))


def script_report(text: str, *quotes: str, source: str = "script.txt", **changes: Any) -> Report:
    """A report on a plain script with a violation at the first place of each quote."""
    script = script_from_text(text, source=source)
    found = []
    for quote in quotes:
        for line in script.lines:
            at = line.text.find(quote)
            if at >= 0:
                place = line.place_of(at, at + len(quote))
                found.append(
                    violation(
                        quote,
                        line.text,
                        channel="script",
                        source=source,
                        start=0.0,
                        end=0.0,
                        place=place,
                    )
                )
                break
        else:
            raise AssertionError(f"{quote} is not in the script")
    values: dict[str, Any] = {
        "source": source,
        "kind": "script",
        "script_lines": script.lines,
        "script_text": script.text,
        "violations": tuple(found),
        "engines": {"rules": "cn 1"},
    }
    return Report(**(values | changes))


def place(line: int, column: int, end_column: int) -> Place:
    return Place(line, column, line, end_column)
