"""How much of a room's talk is unlawful, and what that makes of a doubtful sentence.

The classifier's chances hold for talk of which a fixed share is unlawful. Rooms differ: in an hour
of recipes hardly a sentence is, in a lecture that sells cures every third. Going by Bayes, a
sentence's odds change with those of its room (Saerens, Latinne & Decaestecker 2002, "Adjusting the
Outputs of a Classifier to New a Priori Probabilities", Neural Computation 14(1)). The share is
estimated from the sentences themselves as they come, the older the less.

A room begins as the usual one, so that a sentence by itself is judged as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log

TAUGHT = 0.37
"""Share of unlawful sentences among those that the classifier's chances were fitted on."""
USUAL = 0.05
"""Share in a room of which nothing is known yet, for which the rules' thresholds are meant."""
PATIENCE = 30.0
"""Sentences' worth of the usual share that a room begins with and always keeps."""
MEMORY = 200.0
"""After so many sentences one counts 1/e of what the latest does."""
MOST, LEAST = log(3.0), -log(5.0)
"""A room changes a sentence's log-odds by these at most. What it adds is bounded more tightly: who
was wrong ten times is not wrong whenever the classifier is in doubt."""


class BaseRate:
    """The share of one room, from the log-odds that the classifier gave its sentences."""

    def __init__(self) -> None:
        self._unlawful = self._sentences = 0.0

    @property
    def share(self) -> float:
        return (USUAL * PATIENCE + self._unlawful) / (PATIENCE + self._sentences)

    @property
    def shift(self) -> float:
        """What to add to the classifier's log-odds here; 0.0 in a usual room."""
        return max(LEAST, min(MOST, _log_odds(self.share) - _log_odds(USUAL)))

    def see(self, log_odds: Iterable[float]) -> None:
        """Take the sentences of one observation, each as the classifier alone judged it."""
        here = _log_odds(self.share) - _log_odds(TAUGHT)
        for one in log_odds:
            kept = 1.0 - 1.0 / MEMORY
            self._unlawful = kept * self._unlawful + 1.0 / (1.0 + exp(-(one + here)))
            self._sentences = kept * self._sentences + 1.0


def _log_odds(share: float) -> float:
    return log(share / (1.0 - share))
