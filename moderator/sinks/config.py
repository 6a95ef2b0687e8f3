"""From the `sinks:` of a configuration to sinks. A field nobody knows is refused with its place."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from moderator.errors import (
    SINK_CONFIG,
    SINK_PACKAGE,
    SINK_SECRET,
    SINK_UNKNOWN,
    ModeratorError,
    in_ui_language,
)
from moderator.registry import Registry
from moderator.sinks.dead_letters import FOLDER
from moderator.sinks.delivery import Deliveries, Delivery, DeliveryOptions
from moderator.sinks.envelope import EVENT_TYPES
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Sink

DEFAULT_SINKS: tuple[dict[str, Any], ...] = ({"type": "jsonl"},)
"""What `moderator watch` delivers to when its configuration names no sink."""


class SinkOptions(BaseModel):
    """A sink's own fields; each kind of sink has its subclass."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class SinkPlace:
    """What every sink is told: its name, the types asked for (None: the sink's own default), the
    output folder, and its place in the configuration for messages."""

    name: str
    types: frozenset[str] | None
    out: Path
    where: str


class SinkFactory(Protocol):
    """Makes a sink from its own fields. A package adds one under the entry point
    `moderator.sinks`; `read_options` checks the fields against a model."""

    def __call__(self, *, place: SinkPlace, options: Mapping[str, Any]) -> Sink: ...


class _Common(DeliveryOptions):
    """Fields of every sink, besides its own."""

    type: str = Field(title="Kind", description="jsonl, database, webhook, console, kafka, …")
    name: str = Field(
        "",
        max_length=100,
        pattern=r"^[\w.\-]*$",
        title="Name",
        description="Unique; names the cursor and the dead letters. Default: the kind.",
    )
    types: frozenset[str] | None = Field(
        None, title="Types", description="Envelope types it receives; default: the kind's own."
    )

    @field_validator("types")
    @classmethod
    def _known(cls, types: frozenset[str] | None) -> frozenset[str] | None:
        for name in sorted(types or ()):
            if name not in EVENT_TYPES:
                near = difflib.get_close_matches(name, EVENT_TYPES, n=1)
                raise ValueError(
                    f"'{name}' is not an envelope type"
                    + (f"; did you mean '{near[0]}'?" if near else f"; there are: {EVENT_TYPES}")
                )
        return types


Options = TypeVar("Options", bound=BaseModel)


def read_options(model: type[Options], options: Mapping[str, Any], where: str) -> Options:
    """Check a mapping against `model`. Raises LM-805 naming the field, never its value."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"]
        if first["type"] == "extra_forbidden":
            reason = in_ui_language("no such field", "没有这个字段")
            known = [*model.model_fields, *_Common.model_fields]
            near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
            if near:
                reason += in_ui_language(
                    f"; did you mean '{near[0]}'?", f"；是否想写 '{near[0]}'？"
                )
        raise ModeratorError(SINK_CONFIG, place=f"{where}.{field}", reason=reason) from None


def secret(variable: str, where: str) -> str:
    """The value of an environment variable. Raises LM-813 when it is not set."""
    value = os.environ.get(variable, "")
    if not value:
        reason = in_ui_language(f"the environment has no {variable}", f"环境变量 {variable} 未设置")
        raise ModeratorError(SINK_SECRET, place=where, reason=reason)
    return value


def filled_headers(headers: Mapping[str, str], where: str) -> dict[str, str]:
    """`headers` with `env:NAME` replaced by that variable. Raises LM-805, LM-813."""
    filled = {}
    for name, value in headers.items():
        if value.startswith("env:"):
            value = secret(value.removeprefix("env:"), f"{where}.headers.{name}")
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name) or re.search(r"[\r\n\0]", value):
            reason = in_ui_language("not an HTTP header", "不是合法的 HTTP 头")
            raise ModeratorError(SINK_CONFIG, place=f"{where}.headers.{name}", reason=reason)
        filled[name] = value
    return filled


def build_sink(config: Mapping[str, Any], *, out: Path, where: str = "sinks") -> Sink:
    """The sink that one entry of `sinks:` describes; `out` is the output folder.

    Raises LM-805 (a field), LM-806 (the kind), LM-807 (the address), LM-808 (a package is
    missing), LM-813 (a secret is missing).
    """
    return _build(config, out, where)[0]


def build_deliveries(
    journal: Journal, configs: Sequence[Mapping[str, Any]], *, out: Path, where: str = "sinks"
) -> Deliveries:
    """A delivery for each entry of `sinks:`, not started yet. Raises as `build_sink`."""
    built = [
        (f"{where}.{index}", *_build(config, out, f"{where}.{index}"))
        for index, config in enumerate(configs)
    ]
    seen: set[str] = set()
    for place, sink, _ in built:
        # Dead letters are files named after sinks, and some file systems know no case.
        if sink.name.lower() in seen:
            reason = in_ui_language(
                f"two sinks are called '{sink.name}'; give one a name",
                f"两个投递目标同名 '{sink.name}'；请为其中一个设置 name",
            )
            raise ModeratorError(SINK_CONFIG, place=f"{place}.name", reason=reason)
        seen.add(sink.name.lower())
    return Deliveries(Delivery(journal, sink, options, out / FOLDER) for _, sink, options in built)


def _build(config: Mapping[str, Any], out: Path, where: str) -> tuple[Sink, DeliveryOptions]:
    fields = dict(config)
    common = read_options(
        _Common, {name: fields.pop(name) for name in _Common.model_fields if name in fields}, where
    )
    if common.type not in SINKS.names():
        known = ", ".join(SINKS.names())
        raise ModeratorError(SINK_UNKNOWN, place=f"{where}.type", name=common.type, known=known)
    place = SinkPlace(common.name or common.type, common.types, out, where)
    sink = SINKS.create(common.type, place=place, options=fields)
    options = {name: getattr(common, name) for name in DeliveryOptions.model_fields}
    return sink, DeliveryOptions(**options)


# --- ours ---------------------------------------------------------------------------


def _lazy(module: str, extra: str = "") -> SinkFactory:
    """Imports a sink's packages only where it is used."""

    def make(*, place: SinkPlace, options: Mapping[str, Any]) -> Sink:
        try:
            made: SinkFactory = import_module(f"moderator.sinks.{module}").make
        except ImportError as error:
            raise ModeratorError(
                SINK_PACKAGE,
                place=f"{place.where}.type",
                package=error.name or str(error),
                install=f"live-stream-moderator[{extra}]",
            ) from None
        return made(place=place, options=options)

    return make


SINKS: Registry[Sink] = Registry("sinks")
SINKS.register("jsonl", _lazy("jsonl"))
SINKS.register("database", _lazy("database", "server"))
SINKS.register("webhook", _lazy("webhook", "server"))
SINKS.register("console", _lazy("console"))
SINKS.register("kafka", _lazy("kafka", "kafka"))
