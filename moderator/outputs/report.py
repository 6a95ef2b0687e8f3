"""What one check found: the input of every output format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal

from moderator.records import (
    CATEGORIES,
    Code,
    Disposition,
    LawRef,
    Room,
    ScreenText,
    ScriptLine,
    Severity,
    Utterance,
    Violation,
)

if TYPE_CHECKING:
    from moderator.claims.rules import RulePack

SCHEMA = "moderator/report@1"

DISTRIBUTION = "live-stream-moderator"


def tool_version() -> str:
    """The version of the installed distribution, `0+source` when run from a bare checkout."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+source"


def article_key(ref: LawRef) -> str:
    """The key of an article's text in `Report.articles`: its title and number."""
    return f"{ref.title} {ref.article}"


def articles_of(pack: RulePack, violations: Iterable[Violation]) -> dict[str, str]:
    """The texts of the cited articles, where they were read at their source."""
    cited = {violation.rule.id for violation in violations}
    texts = {}
    for rule in pack.rules:
        if rule.id in cited:
            for key, ref in zip(rule.law_keys, rule.law, strict=True):
                texts[article_key(ref)] = pack.law.article_of(key).text
    return {key: text for key, text in texts.items() if text}


@dataclass(frozen=True, slots=True)
class Report:
    """One recording, session or script, and the violations in it.

    `source` is a path, URL, `stdin` or a batch id. `duration_s` is media seconds (for
    subtitles, the end of the last cue). `script_text` is the decoded script that `place`
    of a violation refers to. `timings` are seconds by stage, `counts` anything counted on
    the way (frames sampled, frames read), `engines` names and versions by task.
    `articles` holds the text of cited articles by `article_key`; those whose text is not
    verified are left out. `notes` are sentences a reader must know, such as a missing track.
    """

    source: str
    kind: Literal["media", "script"]
    room: Room = field(default_factory=Room)
    session: str = ""
    duration_s: float = 0.0
    utterances: tuple[Utterance, ...] = ()
    screen_texts: tuple[ScreenText, ...] = ()
    codes: tuple[Code, ...] = ()
    script_lines: tuple[ScriptLine, ...] = ()
    script_text: str = ""
    violations: tuple[Violation, ...] = ()
    engines: dict[str, str] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    articles: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def at_or_above(self, disposition: Disposition) -> tuple[Violation, ...]:
        """The violations that accuse at least as firmly as `disposition`."""
        return tuple(v for v in self.violations if v.disposition.rank >= disposition.rank)

    def law_text(self, ref: LawRef) -> str:
        """The text of a cited article, `""` when it is not known."""
        return self.articles.get(article_key(ref), "")

    def script_rows(self) -> list[str]:
        """The lines of the script; row n − 1 is line n, as `Violation.place` counts."""
        if self.script_text:
            return self.script_text.split("\n")
        rows: list[str] = []
        for line in self.script_lines:
            rows.extend([""] * (line.line - len(rows)))
            row = rows[line.line - 1]
            rows[line.line - 1] = row.ljust(line.column - 1) + line.text.replace("\n", "\u2028")
        return rows

    def to_json(self) -> dict[str, Any]:
        """The whole report as JSON types; times in seconds rounded to a millisecond."""
        return {
            "schema": SCHEMA,
            "tool": {"name": "moderator", "version": tool_version()},
            "source": self.source,
            "kind": self.kind,
            "created": self.created,
            "room": _plain(asdict(self.room)),
            "session": self.session,
            "duration_s": round(self.duration_s, 3),
            "engines": self.engines,
            "summary": summary([self]),
            "violations": [violation.to_json() for violation in self.violations],
            "utterances": [observation_json(item) for item in self.utterances],
            "screen_texts": [observation_json(item) for item in self.screen_texts],
            "codes": [observation_json(item) for item in self.codes],
            "script_lines": [observation_json(item) for item in self.script_lines],
            "articles": dict(self.articles),
            "timings": _plain(self.timings),
            "counts": self.counts,
            "notes": list(self.notes),
        }


def summary(reports: Iterable[Report]) -> dict[str, Any]:
    """Counts of violations over `reports`: in all, by disposition, severity and category.

    Every disposition and severity is present, categories only where there are any.
    """
    found = [violation for report in reports for violation in report.violations]
    dispositions = Counter(v.disposition for v in found)
    severities = Counter(v.severity for v in found)
    categories = Counter(v.category for v in found)
    return {
        "total": len(found),
        "disposition": {str(d): dispositions[d] for d in reversed(Disposition)},
        "severity": {str(s): severities[s] for s in reversed(Severity)},
        "category": {c: categories[c] for c in CATEGORIES if categories[c]},
    }


def observation_json(item: Utterance | ScreenText | Code | ScriptLine) -> dict[str, Any]:
    """An observation as JSON types. An utterance's `chars` are `[text, start, end, confidence]`."""
    if isinstance(item, ScriptLine):
        body: dict[str, Any] = {
            "channel": item.channel,
            "text": item.text,
            "line": item.line,
            "column": item.column,
        }
        if item.timed:
            body |= {"start": round(item.start, 3), "end": round(item.end, 3)}
        return body
    body = {"channel": item.channel, **asdict(item)}
    if isinstance(item, Utterance):
        body["chars"] = [[c.text, c.start, c.end, c.confidence] for c in item.chars]
    plain: dict[str, Any] = _plain(body)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 3)
    return value
