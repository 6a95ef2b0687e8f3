"""How sure a finding is, all told: which rule met the words, and what the sentence means.

A pattern knows the words and not what is said with them: 降糖 stands in a claim and in
驼奶没有胰岛素能降糖这一说 alike. The classifier reads the sentence. Their evidence adds up in
log-odds:

    log-odds = intercept + meaning × classifier's log-odds + rule × the rule's own log-odds

where the rule's own log-odds say how much more often it meets unlawful than lawful sentences. All
figures come from the corpus (`models/claim_classifier/weigh.py` fits them on families that the
classifier was not trained on) and lie in `rules/<jurisdiction>/weights.yaml`. Without a classifier
nothing is weighed, and the rules stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any


@dataclass(frozen=True, slots=True)
class Said:
    """What a reader of meaning makes of the sentences around a match: the log-odds that they are
    unlawful, and whether they hold hardly more than the match itself (`bare`)."""

    log_odds: float
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Weights:
    """`floor`, `keen_floor` and `firm` are chances: a finding below the first (the second, where it
    costs little to be shown too much) is dropped, and only one above the last may say `violation`.
    Of rules whose own log-odds reach `sure` none is dropped: they are hardly ever wrong, the reader
    of meaning may be. Rules that the corpus never met have `unmet` as their log-odds.
    """

    intercept: float
    meaning: float
    rule: float
    floor: float
    keen_floor: float
    firm: float
    sure: float
    unmet: float
    rules: Mapping[str, float]

    def chance(self, rule_id: str, meaning: float) -> float:
        """Probability (0–1) that a finding of this rule is right, where the classifier gives the
        sentence the log-odds `meaning`."""
        log_odds = self.intercept + self.meaning * meaning + self.rule * self._own(rule_id)
        return 1.0 / (1.0 + exp(-max(-30.0, min(30.0, log_odds))))

    def drops(self, rule_id: str, chance: float, *, keen: bool = False) -> bool:
        """Whether a finding of this rule with that chance is none at all."""
        floor = self.keen_floor if keen else self.floor
        return chance < floor and self._own(rule_id) < self.sure

    def _own(self, rule_id: str) -> float:
        return self.rules.get(rule_id, self.unmet)


def weights_from(body: Mapping[str, Any]) -> Weights | None:
    """The weights of a rule pack, None where it has none."""
    if not body:
        return None
    return Weights(
        intercept=float(body["intercept"]),
        meaning=float(body["meaning"]),
        rule=float(body["rule"]),
        floor=float(body["floor"]),
        keen_floor=float(body["keen_floor"]),
        firm=float(body["firm"]),
        sure=float(body["sure"]),
        unmet=float(body["unmet"]),
        rules={str(name): float(value) for name, value in body["rules"].items()},
    )
