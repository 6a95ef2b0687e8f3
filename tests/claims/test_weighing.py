import pytest

from moderator.claims.weighing import weights_from

BODY = {
    "intercept": -1.0,
    "meaning": 1.0,
    "rule": 0.5,
    "floor": 0.25,
    "keen_floor": 0.1,
    "firm": 0.6,
    "sure": 3.0,
    "unmet": 0.0,
    "rules": {"cn.sure": 4.0, "cn.loose": -2.0},
}


def test_weighing_adds_the_rule_and_the_meaning() -> None:
    weights = weights_from(BODY)
    assert weights is not None
    assert weights.chance("cn.sure", 0.0) == pytest.approx(0.731, abs=1e-3)
    assert weights.chance("cn.loose", 0.0) < weights.chance("cn.never_met", 0.0)
    assert weights.chance("cn.loose", 4.0) > weights.chance("cn.loose", -4.0)


def test_weighing_stays_a_probability_whatever_comes_in() -> None:
    weights = weights_from(BODY)
    assert weights is not None
    assert 0.0 < weights.chance("cn.sure", -1e9) < weights.chance("cn.sure", 1e9) < 1.0


def test_weighing_drops_no_finding_of_a_rule_that_is_hardly_ever_wrong() -> None:
    weights = weights_from(BODY)
    assert weights is not None
    assert weights.drops("cn.loose", 0.24)
    assert weights.drops("cn.never_met", 0.24)
    assert not weights.drops("cn.loose", 0.25)
    assert not weights.drops("cn.loose", 0.24, keen=True)
    assert weights.drops("cn.loose", 0.09, keen=True)
    assert not weights.drops("cn.sure", 0.01)


def test_weighing_is_off_without_weights() -> None:
    assert weights_from({}) is None
