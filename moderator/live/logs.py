"""Logs on stderr: one JSON object a line for machines, colours for people, no credentials."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from moderator.media.address import redact_text

LogForm = Literal["json", "pretty"]


def configure_logs(
    form: LogForm | None = None, *, level: str = "info", stream: TextIO | None = None
) -> None:
    """Set up structlog for the process. `form` None is pretty on a terminal, else JSON."""
    stream = stream or sys.stderr
    if form is None:
        form = "pretty" if stream.isatty() else "json"
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=form == "json"),
    ]
    # Tracebacks as text, before secrets are taken out: a renderer of its own shows local variables.
    processors += [structlog.processors.format_exc_info, without_secrets]
    if form == "json":
        processors.append(structlog.processors.JSONRenderer(ensure_ascii=False, default=str))
    else:
        processors.append(structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def without_secrets(
    logger: Any, name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Addresses lose passwords and tokens wherever they stand; headers are left out."""
    return {
        key: "***" if key in ("headers", "authorization", "cookie") else _clean(value)
        for key, value in event.items()
    }


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
