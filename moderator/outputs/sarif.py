"""`sarif`: violations of scripts for code hosts and editors (OASIS SARIF 2.1.0)."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from moderator.errors import FORMAT_UNFIT, ModeratorError, ui_language
from moderator.outputs.json_lines import json_text
from moderator.outputs.labels import category, citation, encodable, pick
from moderator.outputs.report import Report, tool_version
from moderator.records import Disposition, Severity, Violation

SCHEMA_URI = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)

LEVEL = {
    Disposition.VIOLATION: "error",
    Disposition.NEEDS_PROOF: "warning",
    Disposition.SUSPECT: "note",
}


def write_sarif(
    reports: Iterable[Report], stream: TextIO, lang: str = "zh", root: Path | None = None
) -> None:
    """One run with every script as an artifact.

    Files under `root` (default: the working directory) are named relative to it, as code
    hosts expect; others by a `file:` URI. Columns count UTF-16 code units, as stated in
    `columnKind`. Raises LM-504 for media.
    """
    run = _Run(lang, (root or Path.cwd()).resolve())
    for report in reports:
        if report.kind != "script":
            reason = pick(("SARIF 只用于脚本", "SARIF is for scripts"), ui_language())
            raise ModeratorError(FORMAT_UNFIT, format="sarif", reason=reason)
        run.add(report)
    document = {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run.body()]}
    stream.write(json_text(document, indent=2) + "\n")
    stream.flush()


class _Run:
    """Collects results; rules and artifacts get the index of their first use."""

    def __init__(self, lang: str, root: Path) -> None:
        self._lang = lang
        self._root = root
        self._rules: dict[str, dict[str, Any]] = {}
        self._rule_index: dict[str, int] = {}
        self._artifacts: list[dict[str, Any]] = []
        self._results: list[dict[str, Any]] = []

    def add(self, report: Report) -> None:
        artifact = {"location": self._location(report.source), "roles": ["analysisTarget"]}
        self._artifacts.append(artifact)
        rows = report.script_rows()
        seen: Counter[str] = Counter()
        for violation in report.violations:
            self._results.append(self._result(violation, report, rows, seen))

    def body(self) -> dict[str, Any]:
        return {
            "tool": {
                "driver": {
                    "name": "moderator",
                    "version": tool_version(),
                    "rules": list(self._rules.values()),
                }
            },
            "columnKind": "utf16CodeUnits",
            "artifacts": self._artifacts,
            "results": self._results,
        }

    def _result(
        self, violation: Violation, report: Report, rows: list[str], seen: Counter[str]
    ) -> dict[str, Any]:
        rule = self._rules.setdefault(violation.rule.id, self._rule(violation, report))
        self._rule_index.setdefault(rule["id"], len(self._rule_index))
        location = {"index": len(self._artifacts) - 1, **self._location(report.source)}
        line = _row(rows, violation.place.line) if violation.place else ""
        hashed = hashlib.sha256(
            "\0".join(
                (violation.rule.id, encodable(violation.quote), encodable(line.strip()))
            ).encode()
        ).hexdigest()[:16]
        seen[hashed] += 1
        return {
            "ruleId": rule["id"],
            "ruleIndex": self._rule_index[rule["id"]],
            "level": LEVEL[violation.disposition],
            "rank": round(violation.confidence * 100, 1),
            "message": {"text": self._message(violation)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": location,
                        "region": _region(violation, rows),
                    }
                }
            ],
            # The name under which code hosts look for a fingerprint; without it an edit
            # above the line would close the finding and open it again.
            "partialFingerprints": {"primaryLocationLineHash": f"{hashed}:{seen[hashed]}"},
            "properties": {
                "id": violation.id,
                "category": violation.category,
                "disposition": str(violation.disposition),
                "severity": str(violation.severity),
                "confidence": round(violation.confidence, 3),
                "quote": violation.quote,
                "law": [citation(ref) for ref in violation.law],
                "suggestion": violation.suggestion,
            },
        }

    def _message(self, violation: Violation) -> str:
        law = "；".join(citation(ref) for ref in violation.law)
        advice = pick(
            (f"建议：{violation.suggestion}", f"Suggestion: {violation.suggestion}"), self._lang
        )
        parts = (violation.explanation, law, advice if violation.suggestion else "")
        return encodable("\n".join(part for part in parts if part) or violation.rule.title)

    def _rule(self, violation: Violation, report: Report) -> dict[str, Any]:
        law = [
            citation(ref) + (f"\n{text}" if (text := report.law_text(ref)) else "")
            for ref in violation.law
        ]
        help_text = "\n\n".join([violation.rule.title, *law])
        return {
            "id": violation.rule.id,
            "shortDescription": {"text": violation.rule.title or violation.rule.id},
            "help": {"text": help_text or violation.rule.id},
            "properties": {
                "tags": list(
                    dict.fromkeys(
                        (violation.category, pick(category(violation.category), self._lang))
                    )
                ),
                "problem.severity": _PROBLEM[violation.severity],
                "version": violation.rule.version,
            },
        }

    def _location(self, source: str) -> dict[str, Any]:
        path = Path(source)
        absolute = path if path.is_absolute() else self._root / path
        # Not resolved: a link inside the repository is named as the repository names it.
        normal = Path(os.path.normpath(absolute))
        if normal.is_relative_to(self._root):
            relative = normal.relative_to(self._root).as_posix()
            return {"uri": _percent(relative), "uriBaseId": "%SRCROOT%"}
        return {"uri": "file://" + _percent(normal.as_posix())}


_PROBLEM = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "recommendation",
}


def _percent(path: str) -> str:
    try:
        return quote(os.fsencode(path), safe="/")
    except UnicodeEncodeError:
        return quote(encodable(path), safe="/")


def _region(violation: Violation, rows: list[str]) -> dict[str, Any]:
    place = violation.place
    if place is None:
        return {"startLine": 1}
    return {
        "startLine": place.line,
        "startColumn": _utf16_column(_row(rows, place.line), place.column),
        "endLine": place.end_line,
        "endColumn": _utf16_column(_row(rows, place.end_line), place.end_column),
        "snippet": {"text": encodable(violation.heard or violation.quote)},
    }


def _row(rows: list[str], line: int) -> str:
    return rows[line - 1] if line <= len(rows) else ""


def _utf16_column(row: str, column: int) -> int:
    return column + sum(char > "\uffff" for char in row[: column - 1])
