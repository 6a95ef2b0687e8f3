"""What is given up when the machine is too small, one step after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from moderator.live.config import DegradationConfig, Step


@dataclass(frozen=True, slots=True)
class StepChange:
    """`step` was taken (`active`) or taken back; `lag_s` is the lag that decided."""

    step: Step
    active: bool
    lag_s: float
    since: float


@dataclass(slots=True)
class Ladder:
    """Steps down while rooms lag, steps up again when they have caught up for a good while.

    Each step gets `after_s` to show what it helps before the next is taken, and steps are taken
    back in the reverse order, so a machine at its limit does not swing. `now` is any steady clock.
    """

    config: DegradationConfig
    active: list[Step] = field(default_factory=list)
    _above_since: float | None = None
    _below_since: float | None = None
    _since: dict[Step, float] = field(default_factory=dict)

    def watch(self, lag_s: float, now: float) -> StepChange | None:
        """Take note of the largest lag of any room; at most one step at a time."""
        config = self.config
        left = [step for step in config.order if step not in self.active]
        if lag_s < (config.phrases_lag_s if left[:1] == ["phrases"] else config.lag_s):
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        if lag_s > config.recover_lag_s:
            self._below_since = None
        elif self._below_since is None:
            self._below_since = now
        long = self._above_since is not None and now - self._above_since >= config.after_s
        if long and left:
            self._above_since = now
            self.active.append(left[0])
            self._since[left[0]] = now
            return StepChange(left[0], True, lag_s, now)
        enough = self._below_since is not None and now - self._below_since >= config.recover_after_s
        if enough and self.active:
            self._below_since = now
            step = self.active.pop()
            return StepChange(step, False, lag_s, self._since.pop(step))
        return None

    def describe(self, wall_of: Callable[[float], str]) -> list[dict[str, str]]:
        """The steps in force with their wall time, for people and metrics."""
        return [{"step": step, "since": wall_of(self._since[step])} for step in self.active]
