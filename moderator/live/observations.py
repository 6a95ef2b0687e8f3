"""Observations as the journal keeps them, and back: what `moderator replay` reads again."""

from __future__ import annotations

from typing import Any

from moderator.outputs.report import observation_json
from moderator.records import (
    Box,
    Code,
    Observation,
    Relistened,
    ScreenText,
    TimedChar,
    Utterance,
)


def observation_body(observation: Observation) -> dict[str, Any]:
    """The body of an `observation` envelope: the JSON form that `check` writes, too."""
    return observation_json(observation)


def observation_of(body: dict[str, Any]) -> Observation:
    """The inverse of `observation_body`. Raises KeyError, TypeError or ValueError on another."""
    data = dict(body)
    channel = data.pop("channel")
    if channel == "speech":
        data["chars"] = tuple(TimedChar(*char) for char in data["chars"])
        data["relistened"] = tuple(Relistened(**one) for one in data.get("relistened", ()))
        return Utterance(**_known(data, Utterance))
    data["box"] = Box(**data["box"])
    if channel == "screen":
        return ScreenText(**_known(data, ScreenText))
    if channel == "code":
        return Code(**_known(data, Code))
    raise ValueError(f"no observation is of the channel {channel!r}")


def _known(data: dict[str, Any], kind: type[Observation]) -> dict[str, Any]:
    fields = kind.__dataclass_fields__
    return {name: value for name, value in data.items() if name in fields and fields[name].init}
