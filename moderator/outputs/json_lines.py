"""`jsonl`: one violation record a line, written as it is found; `json`: the whole report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, TextIO

from moderator.outputs.report import Report


def write_jsonl(reports: Iterable[Report], stream: TextIO) -> None:
    """One record a line, flushed line by line: a reader at the other end never waits."""
    for report in reports:
        for violation in report.violations:
            stream.write(json_text(violation.to_json()) + "\n")
            stream.flush()


def write_json(reports: Iterable[Report], stream: TextIO) -> None:
    """One report as an object, several as an array of them."""
    bodies = [report.to_json() for report in reports]
    stream.write(json_text(bodies[0] if len(bodies) == 1 else bodies, indent=2) + "\n")
    stream.flush()


def json_text(body: Any, indent: int | None = None) -> str:
    """JSON in UTF-8 characters, on one line unless indented.

    What would end a line for some readers (U+0085, U+2028, U+2029) and lone surrogates,
    which UTF-8 cannot hold, are escaped.
    """
    text = json.dumps(body, ensure_ascii=False, indent=indent, allow_nan=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
