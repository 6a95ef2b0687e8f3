"""`srt`: violations as subtitles over the recording, for any player."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from moderator.errors import FORMAT_UNFIT, ModeratorError, ui_language
from moderator.outputs.labels import (
    CHANNEL,
    DISPOSITION,
    SEVERITY,
    category,
    citation,
    pick,
    printable,
)
from moderator.outputs.report import Report
from moderator.records import Violation

SHORTEST_S = 1.5
"""A subtitle shown for less than this cannot be read."""


_ONE_INPUT = ("字幕只对应一个输入", "subtitles belong to one input")
_NO_TIMES = ("这个脚本没有时间", "this script has no times")


def write_srt(reports: Iterable[Report], stream: TextIO, lang: str = "zh") -> None:
    """Numbered cues in order of time. Takes one recording or timed script.

    Raises LM-504 for a script without times, and for more than one input.
    """
    listed = list(reports)
    if len(listed) != 1:
        raise ModeratorError(FORMAT_UNFIT, format="srt", reason=pick(_ONE_INPUT, ui_language()))
    report = listed[0]
    if report.kind == "script" and not any(line.timed for line in report.script_lines):
        raise ModeratorError(FORMAT_UNFIT, format="srt", reason=pick(_NO_TIMES, ui_language()))
    found = sorted(report.violations, key=lambda v: (v.start, v.end))
    for number, violation in enumerate(found, start=1):
        end = max(violation.end, violation.start + SHORTEST_S)
        text = "\n".join(line for line in _lines(violation, lang) if line)
        stream.write(f"{number}\n{_stamp(violation.start)} --> {_stamp(end)}\n{text}\n\n")
    stream.flush()


def _lines(violation: Violation, lang: str) -> Iterable[str]:
    words = (SEVERITY[violation.severity], DISPOSITION[violation.disposition])
    kind = pick(category(violation.category), lang)
    head = " · ".join([pick(word, lang) for word in words] + [kind])
    quote = violation.quote or pick(CHANNEL[violation.channel], lang)
    yield _plain(f"【{head}】{quote}")
    yield _plain("；".join(citation(ref) for ref in violation.law))
    if violation.suggestion:
        yield _plain(f"→ {violation.suggestion}")


def _plain(text: str) -> str:
    """One line that no player takes for markup or for the time line of another cue."""
    text = printable(text).replace("-->", "→")
    return text.translate({ord("<"): "‹", ord(">"): "›", ord("{"): "｛", ord("}"): "｝"})


def _stamp(seconds: float) -> str:
    whole, millis = divmod(max(0, round(seconds * 1000)), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02},{millis:03}"
