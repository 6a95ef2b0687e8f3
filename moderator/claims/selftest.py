"""Run the tests that rules carry. Every rule must find its own and pass over the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.table import Table

from moderator.claims.classifier import semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.judge import Finding
from moderator.claims.passports import Passport
from moderator.claims.products import ProductTracker
from moderator.claims.rules import Rule, RulePack, RuleTest
from moderator.errors import RULE_TESTS, ModeratorError
from moderator.records import Box, Code, Observation, Room, ScreenText, ScriptLine, Utterance


@dataclass(frozen=True, slots=True)
class Failure:
    rule: str
    place: str
    text: str
    reason: str


def failures(pack: RulePack, rules: Iterable[Rule] | None = None) -> Iterator[Failure]:
    """Every test that does not hold, with file and line.

    The tests of rules that only the classifier can fulfil are left out where it is missing.
    """
    by_pattern = ClaimEngine(pack)
    semantic = semantic_matchers(pack)
    by_meaning = ClaimEngine(pack, semantic) if semantic else None
    for rule in pack.rules if rules is None else rules:
        # Reading every sentence of every rule by meaning would take minutes.
        engine = by_meaning if rule.semantic_only else by_pattern
        if engine is None:
            continue
        for test in rule.must_find:
            reason = _not_found(engine, rule, test)
            if reason:
                yield Failure(rule.id, test.place, test.text, reason)
        for test in rule.must_pass:
            found = _found(engine, rule, test)
            if found is not None:
                yield Failure(rule.id, test.place, test.text, f"must pass, but finds “{found}”")


def check_tests(pack: RulePack) -> None:
    """Raise LM-208 for the first failing test."""
    for failure in failures(pack):
        raise ModeratorError(
            RULE_TESTS,
            place=failure.place,
            reason=f"{failure.rule}: {failure.reason}: {failure.text}",
        )


def explain_text(pack: RulePack, text: str, category: str | None = None) -> Table:
    """Every match in `text` and what became of it, as a Rich table."""
    engine = ClaimEngine(pack, semantic_matchers(pack))
    passports = [Passport(name="--product", category=category)] if category else []
    normalised = engine.normalise(text)
    product = ProductTracker(passports, engine.cues).see(normalised.text)
    table = Table(
        "rule",
        "matched",
        "verdict",
        "why",
        title=f"{normalised.text}  [{product.category or product.inferred or '?'}]",
    )
    for ruling in engine.rulings(normalised, product, "script"):
        match = ruling.match
        if isinstance(ruling, Finding):
            reasons = (reason.zh for reason in ruling.reasons)
            why = "；".join((*reasons, f"例外不适用：{'、'.join(ruling.exemptions_considered)}"))
            verdict = f"{ruling.disposition} {ruling.severity} {ruling.confidence:.2f}"
        else:
            why, verdict = ruling.reason, "-"
        table.add_row(
            match.rule.id, f"{match.matched} ({match.kind} {match.score:.2f})", verdict, why
        )
    return table


def _not_found(engine: ClaimEngine, rule: Rule, test: RuleTest) -> str | None:
    if rule.absences and len(rule.absences) == len(rule.match):
        return None if _absent(engine, rule, test) else "must be found missing, and is not"
    findings = _findings(engine, rule, test)
    if not findings:
        return "must be found, and is not"
    if test.quote is not None and all(test.quote not in f.quote for f in findings):
        return f"finds “{findings[0].quote}” instead of “{test.quote}”"
    if test.disposition is not None and all(f.disposition != test.disposition for f in findings):
        return f"is {findings[0].disposition}, not {test.disposition}"
    if test.severity is not None and all(f.severity != test.severity for f in findings):
        return f"is {findings[0].severity}, not {test.severity}"
    return None


def _found(engine: ClaimEngine, rule: Rule, test: RuleTest) -> str | None:
    if rule.absences and len(rule.absences) == len(rule.match):
        return rule.title.zh if _absent(engine, rule, test) else None
    findings = _findings(engine, rule, test)
    return findings[0].quote if findings else None


def _absent(engine: ClaimEngine, rule: Rule, test: RuleTest) -> bool:
    session = _session(engine, test)
    for observation in _observations(test):
        session.observe(observation)
    return any(absent.rule.id == rule.id for absent in session.finish())


def _findings(engine: ClaimEngine, rule: Rule, test: RuleTest) -> list[Finding]:
    """The rule's own findings, whatever other rules say of the same words."""
    session = _session(engine, test)
    return [
        sighting.finding
        for observation in _observations(test)
        for sighting in session.every(observation)
        if sighting.finding.rule.id == rule.id
    ]


def _session(engine: ClaimEngine, test: RuleTest) -> ClaimSession:
    passports = [test.product] if test.product else []
    return ClaimSession(engine, Room(ai_host=test.ai_host, merchant=test.merchant), passports)


def _observations(test: RuleTest) -> Iterator[Observation]:
    if not test.observations:
        yield _observation(test.text, test.channel or "script")
    for one in test.observations:
        yield _observation(one.text, one.channel, one.at, one.until)


def _observation(text: str, channel: str, start: float = 0.0, end: float = 0.0) -> Observation:
    box = Box(0, 0, 1, 1)
    if channel == "screen":
        return ScreenText(text, start, end, box, start, 1.0, "test")
    if channel == "code":
        return Code(text, "QRCode", start, end, box, start, "test")
    if channel == "speech":
        return Utterance(text, start, end, (), 1.0, "test")
    return ScriptLine(text, start=start, end=end, timed=end > start)
