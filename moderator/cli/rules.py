"""`moderator rules`: look at, check and test rule packs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moderator.cli.application import JurisdictionOption, RulesOption, app, err, out
from moderator.errors import RULE_TESTS, RULE_UNKNOWN, ModeratorError, ui_language

rules_app = typer.Typer(help="规则包 · Look at, check and test rule packs.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")


@rules_app.command("list")
def rules_list(
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
    law: Annotated[bool, typer.Option("--law", help="List the articles instead.")] = False,
) -> None:
    """List the rules, or with --law the articles they can cite."""
    from moderator.claims.rules import load_rules

    pack = load_rules(rules, jurisdiction)
    lang = ui_language()
    if law:
        table = Table("ref", "《》", "", "status")
        for key, article in pack.law.items():
            table.add_row(key, article.title, article.name, article.status)
    else:
        table = Table("id", "category", "severity", "disposition", "status", "title")
        for rule in pack.rules:
            table.add_row(
                rule.id,
                rule.category,
                str(rule.severity),
                str(rule.disposition),
                rule.status,
                rule.title.of(lang),
            )
    out().print(table)
    err.print(f"{len(pack.rules)} rules, {len(pack.law)} articles, version {pack.version}")


@rules_app.command("show")
def rules_show(
    rule_id: Annotated[str, typer.Argument(help="For example cn.absolute.state_level")],
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
) -> None:
    """Show one rule with the articles it cites, word for word where they were verified."""
    import difflib

    from moderator.claims.rules import load_rules

    pack = load_rules(rules, jurisdiction)
    rule = pack.rule(rule_id)
    if rule is None:
        near = difflib.get_close_matches(rule_id, [r.id for r in pack.rules], n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ModeratorError(RULE_UNKNOWN, id=rule_id, hint=hint)
    console = out()
    text = rule.path.read_text(encoding="utf-8")
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    for key, ref in zip(rule.law_keys, rule.law, strict=True):
        article = pack.law.article_of(key)
        console.print(
            f"《{ref.title}》{ref.article} ({ref.effective}) [{article.status}]",
            markup=False,
            soft_wrap=True,
        )
        console.print(article.text or f"(not quoted) {article.note}", markup=False, soft_wrap=True)


@rules_app.command("lint")
def rules_lint(rules: RulesOption = None, jurisdiction: JurisdictionOption = "cn") -> None:
    """Check every file: fields, law references, expressions and their speed."""
    from moderator.claims.engine import ClaimEngine
    from moderator.claims.rules import load_rules

    pack = load_rules(rules, jurisdiction)
    engine = ClaimEngine(pack)
    for pattern in engine.expressions:
        pattern.check_speed()
    for warning in pack.warnings():
        err.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    err.print(f"{len(pack.rules)} rules, {len(engine.patterns.terms)} literals: no faults")


@rules_app.command("test")
def rules_test(
    rules: RulesOption = None,
    jurisdiction: JurisdictionOption = "cn",
    only: Annotated[str, typer.Option("--only", help="Rule ids that start with this.")] = "",
    explain: Annotated[
        str | None, typer.Option("--explain", help="Show the whole decision on this sentence.")
    ] = None,
    product: Annotated[
        str | None, typer.Option("--product", help="With --explain: the product's category.")
    ] = None,
) -> None:
    """Run the tests that the rules carry; exit 1 if one fails."""
    from moderator.claims.rules import load_rules
    from moderator.claims.selftest import explain_text, failures

    pack = load_rules(rules, jurisdiction)
    if explain is not None:
        out().print(explain_text(pack, explain, product))
        return
    chosen = [rule for rule in pack.rules if rule.id.startswith(only)]
    count = sum(len(rule.must_find) + len(rule.must_pass) for rule in chosen)
    failed = 0
    for failure in failures(pack, chosen):
        failed += 1
        reason = f"{failure.rule}: {failure.reason}: {failure.text}"
        err.print(
            ModeratorError(RULE_TESTS, place=failure.place, reason=reason).text().splitlines()[0],
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    out().print(f"{count - failed} passed, {failed} failed", highlight=False)
    if failed:
        raise typer.Exit(1)


@rules_app.command("diff")
def rules_diff(
    old: Annotated[Path, typer.Argument(help="Folder of the rules as they were.")],
    new: Annotated[Path, typer.Argument(help="Folder of the rules as they are now.")],
    on: Annotated[Path, typer.Option("--on", help="Sentences: a .jsonl batch.")],
    jurisdiction: JurisdictionOption = "cn",
) -> None:
    """Show which verdicts a change of rules flips; exit 1 if any."""
    from moderator.claims.diff import flips
    from moderator.claims.passports import passport_from
    from moderator.claims.rules import load_rules
    from moderator.script import read_batch

    sentences = (
        (
            item.id,
            item.text,
            passport_from(item.product, f"{on}:{item.line}") if item.product else None,
        )
        for item in read_batch(on)
    )
    table = Table("id", "text", "before", "after")
    count = 0
    for flip in flips(load_rules(old, jurisdiction), load_rules(new, jurisdiction), sentences):
        count += 1
        before, after = (
            "\n".join(f"{rule} {verdict}" for rule, verdict in sorted(side.items())) or "–"
            for side in (flip.before, flip.after)
        )
        table.add_row(flip.id, flip.text, before, after)
    if count:
        out().print(table)
    err.print(f"{count} verdicts flipped")
    if count:
        raise typer.Exit(1)
