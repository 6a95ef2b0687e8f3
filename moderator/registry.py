"""Engines are found by name: ours at import, a third party's through entry points.

A package adds an engine without touching ours by declaring, for example::

    [options.entry_points]
    moderator.asr =
        my-engine = my_package:MyEngine
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from moderator.errors import ENGINE_UNKNOWN, ModeratorError

Engine = TypeVar("Engine")


class Registry(Generic[Engine]):
    """Names → factories of one kind of engine (`asr`, `ocr`, `vad`, …)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., Engine]] = {}

    def register(self, name: str, factory: Callable[..., Engine]) -> None:
        self._factories[name] = factory

    def names(self) -> list[str]:
        found = {point.name for point in entry_points(group=f"moderator.{self.kind}")}
        return sorted(found | set(self._factories))

    def create(self, name: str, **options: object) -> Engine:
        """Build the engine. Raises LM-401 when the name is not known."""
        factory = self._factories.get(name) or self._from_entry_point(name)
        if factory is None:
            raise ModeratorError(
                ENGINE_UNKNOWN, kind=self.kind, name=name, known=", ".join(self.names())
            )
        return factory(**options)

    def _from_entry_point(self, name: str) -> Callable[..., Engine] | None:
        for point in entry_points(group=f"moderator.{self.kind}", name=name):
            loaded: Callable[..., Engine] = point.load()
            return loaded
        return None
