"""Records become alerts: a host is warned, a control room is called, and not forty times."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from moderator.live.config import AlertConfig
from moderator.records import Disposition, Severity, Violation


@dataclass(frozen=True, slots=True)
class Alert:
    """`count` records met the condition of `config`; `record` is the last of them."""

    config: AlertConfig
    count: int
    record: Violation

    def body(self) -> dict[str, object]:
        """The JSON form, for the envelope."""
        record = self.record
        return {
            "event": self.config.event,
            "count": self.count,
            "within_s": self.config.within_s,
            "severity": self.config.severity,
            "violation": record.id,
            "category": record.category,
            "quote": record.quote,
            "suggestion": record.suggestion,
            "text": teleprompter_line(record),
        }


@dataclass(slots=True)
class AlertRules:
    """The alert conditions of one room. Times are media-clock seconds."""

    configs: Sequence[AlertConfig]
    _seen: list[deque[float]] = field(init=False)
    _quiet_until: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = [deque() for _ in self.configs]
        self._quiet_until = [float("-inf")] * len(self.configs)

    def on_record(self, record: Violation, media_s: float) -> list[Alert]:
        """The alerts that a new record at `media_s` sets off."""
        alerts = []
        for index, config in enumerate(self.configs):
            if not _counts(record, config):
                continue
            seen = self._seen[index]
            seen.append(media_s)
            while seen and seen[0] < media_s - config.within_s:
                seen.popleft()
            # Never more than needed: a room that breaks every rule stays small.
            while len(seen) > 10 * config.count:
                seen.popleft()
            if len(seen) >= config.count and media_s >= self._quiet_until[index]:
                self._quiet_until[index] = media_s + config.cooldown_s
                alerts.append(Alert(config, len(seen), record))
        return alerts


def teleprompter_line(record: Violation) -> str:
    """One line that a host can read at a glance while talking."""
    quote = record.quote.replace("\n", " ")
    what = f"“{quote[:24]}”" if quote else record.rule.title
    return f"⚠ {what} {record.rule.title if quote else ''} → {record.suggestion}".replace("  ", " ")


def _counts(record: Violation, config: AlertConfig) -> bool:
    return (
        record.severity.rank >= Severity(config.severity).rank
        and record.disposition.rank >= Disposition(config.disposition).rank
    )
