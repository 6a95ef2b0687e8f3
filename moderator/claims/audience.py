"""To whom it is said: the elderly, children, patients, pregnant women are more easily harmed.

The words are data (`rules/<jurisdiction>/audiences.yaml`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from moderator.claims.patterns import Pattern, PatternTimeout, compile_pattern
from moderator.claims.rules import Text
from moderator.records import Severity

log = structlog.get_logger()

RAISED = {
    Severity.LOW: Severity.MEDIUM,
    Severity.MEDIUM: Severity.HIGH,
    Severity.HIGH: Severity.CRITICAL,
    Severity.CRITICAL: Severity.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Audience:
    """A group that is spoken to, and the words that show it."""

    name: Text
    words: str


class AudienceReader:
    def __init__(self, groups: Mapping[str, Any], lexicons: Mapping[str, tuple[str, ...]]) -> None:
        self._groups: list[tuple[Text, list[Pattern]]] = [
            (
                Text(str(group["name"]["zh"]), str(group["name"]["en"])),
                [
                    compile_pattern(source, lexicons, f"audiences.yaml: {key}")
                    for source in group["said"]
                ],
            )
            for key, group in groups.get("groups", {}).items()
        ]
        self._spared = frozenset(map(str, groups.get("not_categories", ())))

    @property
    def patterns(self) -> Iterator[Pattern]:
        for _, patterns in self._groups:
            yield from patterns

    def weighs(self, category: str) -> bool:
        """Whether it matters to a claim of this category who is spoken to."""
        return bool(self._groups) and category not in self._spared

    def addressed(self, texts: Iterable[str]) -> Audience | None:
        """The first group spoken to in any of `texts` (normalised)."""
        for text in texts:
            for name, patterns in self._groups:
                for pattern in patterns:
                    if pattern.gates and not any(gate in text for gate in pattern.gates[0]):
                        continue
                    try:
                        for begin, end in pattern.find(text):
                            return Audience(name, text[begin:end])
                    except PatternTimeout:
                        log.warning("regex_timeout", place=pattern.place, chars=len(text))
        return None
