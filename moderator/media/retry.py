"""When to try again: fast at first, then ever more slowly, never all rooms at the same moment."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Retries:
    """The waits between attempts of one outage, in seconds.

    `fast` waits of about `fast_s`, then 1, 2, 4 … up to `max_s`, each shortened by up to half at
    random (jitter as in "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that
    a thousand rooms do not come back to a server in one instant.
    """

    fast: int
    fast_s: float
    max_s: float
    random: random.Random = field(default_factory=random.Random)
    failed: int = 0

    def next_wait_s(self) -> float:
        self.failed += 1
        if self.failed <= self.fast:
            wait_s = self.fast_s
        else:
            wait_s = min(self.max_s, 2.0 ** min(self.failed - self.fast - 1, 30))
        return wait_s * self.random.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        self.failed = 0
