from __future__ import annotations

from math import inf, log

import pytest

from moderator.claims.base_rate import LEAST, MOST, USUAL, BaseRate
from moderator.claims.classifier import Reading, SemanticMatcher
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.records import ScriptLine, Utterance
from tests.claims.test_classifier import EVASIVE, Reader, semantic_rule

CLAIM, RECIPE = "贴上三天老寒腿就好了", "萝卜切成小块先焯一遍水"
SAYS = {
    EVASIVE: Reading("medical_efficacy", 0.6),
    CLAIM: Reading("medical_efficacy", 0.99),
    RECIPE: Reading("other", 0.02),
}


def after(*chances: float) -> BaseRate:
    rate = BaseRate()
    rate.see(log(chance / (1 - chance)) for chance in chances)
    return rate


def test_base_rate_of_a_room_that_has_not_spoken_is_the_usual_one() -> None:
    assert (BaseRate().share, BaseRate().shift) == (USUAL, 0.0)


def test_base_rate_leans_with_what_is_said_within_bounds() -> None:
    assert LEAST <= after(*[0.02] * 1000).shift < -1.0
    assert 0.9 < after(*[0.99, 0.02] * 40).shift <= MOST
    assert after(0.99).shift < log(2)
    assert after(*[0.37] * 20).shift == pytest.approx(0.0, abs=0.1)


def test_base_rate_forgets_what_is_long_ago() -> None:
    rate = after(*[0.99] * 50, *[0.02] * 600)
    assert rate.shift < -1.0


def test_base_rate_is_not_upset_by_certainty() -> None:
    rate = BaseRate()
    rate.see([-13.8, 13.8] * 500)
    assert 0.0 < rate.share < 1.0
    assert abs(rate.shift) < inf


def room(load, keen: float = 0.5) -> ClaimSession:
    body = semantic_rule(threshold=0.8)
    body["match"][0]["semantic"]["keen"] = keen
    pack = load(body)
    return ClaimSession(ClaimEngine(pack, [SemanticMatcher(pack, Reader(SAYS))]))


def say(session: ClaimSession, *texts: str) -> list[list]:
    """Each text a while after the one before, so that none is read together with it."""
    begin = session._spoken_until if session._spoken_until > 0 else 0.0
    out = []
    for number, text in enumerate(texts, start=1):
        start = begin + 20.0 * number
        utterance = Utterance(
            text=text, start=start, end=start + 3.0, chars=(), confidence=1.0, engine="by-hand"
        )
        out.append([s.finding for s in session.observe(utterance)])
    return out


def test_base_rate_a_doubtful_sentence_counts_in_a_room_of_claims_alone(load) -> None:
    fresh, claims, recipes = room(load), room(load), room(load)
    say(claims, *[CLAIM, RECIPE] * 30)
    say(recipes, *[RECIPE] * 60)

    assert say(fresh, EVASIVE) == [[]]
    assert say(recipes, EVASIVE) == [[]]
    ((found,),) = say(claims, EVASIVE)
    assert (found.quote, found.match.by_room) == (EVASIVE, True)
    assert any("本场" in reason.zh for reason in found.reasons)
    ((plain,),) = say(claims, CLAIM)
    assert not any("本场" in reason.zh for reason in plain.reasons)


def test_base_rate_never_goes_below_the_keen_threshold(load) -> None:
    claims = room(load, keen=0.7)
    say(claims, *[CLAIM] * 60)
    assert say(claims, EVASIVE) == [[]]


def test_base_rate_a_strong_claim_is_found_after_hours_of_recipes(load) -> None:
    session = room(load)
    say(session, *[RECIPE] * 500)
    assert [len(found) for found in say(session, CLAIM)] == [1]


def test_base_rate_is_kept_when_the_rules_are_loaded_again(load) -> None:
    session = room(load)
    say(session, *[CLAIM, RECIPE] * 30)
    again = session.under(session._engine)
    assert again._base_rate.share == session._base_rate.share > USUAL


def test_base_rate_scripts_are_judged_line_by_line(load) -> None:
    session = room(load)
    for _ in range(60):
        session.observe(ScriptLine(CLAIM))
    assert session._base_rate.share == USUAL


def test_base_rate_a_preview_changes_nothing(load) -> None:
    session = room(load)
    session.preview(CLAIM)
    assert session._base_rate.share == USUAL
