"""Sentences for people: what was said, which rule, why no exemption, what would be lawful."""

from __future__ import annotations

from moderator.claims.judge import Finding
from moderator.claims.passports import DOCUMENT_NAMES
from moderator.claims.rules import AbsenceMatch, Rule
from moderator.records import Channel, Disposition

_CHANNEL = {
    "speech": ("口播", "speech"),
    "screen": ("画面文字", "on screen"),
    "code": ("二维码", "QR code"),
    "script": ("文案", "script"),
    "stream": ("整场直播", "the whole stream"),
}
_VERDICT = {
    Disposition.VIOLATION: ("涉嫌违法", "likely unlawful"),
    Disposition.NEEDS_PROOF: ("需要证明材料", "needs proof"),
    Disposition.SUSPECT: ("疑似，请人工复核", "suspect, a person should look"),
}


def explanation(finding: Finding, channel: Channel, lang: str = "zh") -> str:
    """One paragraph a compliance officer can follow, in `zh` or `en`."""
    rule = finding.rule
    zh = lang == "zh"
    at = 0 if zh else 1
    message = rule.message.of(lang).replace("{quote}", finding.quote)
    cited = "、".join(f"《{ref.title}》{ref.article}" for ref in rule.law)
    reasons = [reason.of(lang) for reason in finding.reasons]
    parts = []
    if zh:
        parts.append(f"{_CHANNEL[channel][0]}“{finding.quote}”：{message}")
        if finding.heard and finding.heard != finding.quote:
            parts.append(f"识别文字为“{finding.heard}”，{'；'.join(reasons)}")
        elif reasons:
            parts.append("；".join(reasons))
        parts.append(f"依据：{cited}")
        if finding.exemptions_considered:
            parts.append(f"已考虑但不适用的例外：{'、'.join(finding.exemptions_considered)}")
        if rule.needs:
            parts.append(f"如能提供{_documents(rule.needs, at, '或')}，则可合法使用")
        parts.append(f"判断：{_VERDICT[finding.disposition][0]}")
        return "。".join(part.rstrip("。") for part in parts) + "。"
    parts.append(f"{_CHANNEL[channel][1]}, “{finding.quote}”: {message}")
    if finding.heard and finding.heard != finding.quote:
        parts.append(f"The recogniser wrote “{finding.heard}”: {'; '.join(reasons)}")
    elif reasons:
        said = "; ".join(reasons)
        parts.append(said[0].upper() + said[1:])
    parts.append(f"Basis: {cited}")
    if rule.needs:
        parts.append(f"Lawful with: {_documents(rule.needs, at, ' or ')}")
    parts.append(f"Verdict: {_VERDICT[finding.disposition][1]}")
    return ". ".join(part.rstrip(".") for part in parts) + "."


def _documents(kinds: tuple[str, ...], at: int, joint: str) -> str:
    return joint.join(DOCUMENT_NAMES[kind][at] for kind in kinds)


def absence_explanation(rule: Rule, due: AbsenceMatch, lang: str = "zh") -> str:
    """Why something that was never said is a record of its own."""
    cited = "、".join(f"《{ref.title}》{ref.article}" for ref in rule.law)
    message = rule.message.of(lang).replace("{quote}", "")
    if lang == "zh":
        return f"整场未说明也未展示“{due.phrases[0]}”：{message.rstrip('。')}。依据：{cited}。"
    return f"Never said nor shown: “{due.phrases[0]}”. {message.rstrip('.')}. Basis: {cited}."
