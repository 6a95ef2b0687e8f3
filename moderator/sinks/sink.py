"""What a sink is, and the two ways in which it can fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from moderator.sinks.envelope import Envelope


class Sink(Protocol):
    """A place that envelopes are delivered to. `send` and `close` come from one thread.

    `types` are the envelope types it wants and `batch_size` how many it takes at a time. The same
    envelope may come again, with the same id, after the process was killed or a batch failed.
    """

    @property
    def name(self) -> str: ...

    @property
    def types(self) -> frozenset[str]: ...

    @property
    def batch_size(self) -> int: ...

    def send(self, batch: Sequence[Envelope]) -> None:
        """Deliver `batch`, in order; all of it has arrived when this returns.

        Raises Unavailable (try again later) and Rejected (these will never be taken). Any other
        exception counts as Unavailable.
        """

    def close(self) -> None: ...


class SinkError(Exception):
    """A delivery failed. The text is shown and logged, so it holds no secret."""


class Unavailable(SinkError):
    """The receiver cannot take anything now. `retry_after_s` is when it asks to be tried again."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Rejected(SinkError):
    """The receiver understood and refuses: trying again would not help."""
