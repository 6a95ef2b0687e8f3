"""What the formats call things, in Chinese and English, and how they print hostile text."""

from __future__ import annotations

import re
import unicodedata

from moderator.records import Disposition, LawRef, Severity, Violation

CATEGORY: dict[str, tuple[str, str]] = {
    "absolute_term": ("绝对化用语", "Absolute term"),
    "medical_efficacy": ("涉医疗用语", "Medical claim"),
    "health_food_disease": ("食品宣称防病", "Food as a cure"),
    "cosmetic_medical": ("化妆品医疗化", "Cosmetic as medicine"),
    "unproven_efficacy": ("功效无依据", "Unproven efficacy"),
    "false_origin_or_ingredient": ("产地成分不实", "Origin or ingredient"),
    "fake_data_or_citation": ("数据引证不实", "Data or citation"),
    "fake_honor_or_endorsement": ("荣誉背书不实", "Honour or endorsement"),
    "price_fraud": ("价格误导", "Misleading price"),
    "false_scarcity": ("虚构稀缺", "False scarcity"),
    "investment_guarantee": ("投资收益承诺", "Investment promise"),
    "education_guarantee": ("教育效果承诺", "Education promise"),
    "superstition_vulgar": ("迷信低俗", "Superstition, vulgarity"),
    "disparagement": ("贬低同行", "Disparagement"),
    "off_platform_diversion": ("站外引流", "Off-platform diversion"),
    "minors": ("涉未成年人", "Minors"),
    "tobacco_alcohol_drugs": ("烟酒药品", "Tobacco, alcohol, drugs"),
    "ai_unlabelled": ("AI 未标识", "AI not labelled"),
    "missing_notice": ("缺少必要提示", "Missing notice"),
    "other": ("其他", "Other"),
}
SEVERITY: dict[Severity, tuple[str, str]] = {
    Severity.CRITICAL: ("严重", "Critical"),
    Severity.HIGH: ("高", "High"),
    Severity.MEDIUM: ("中", "Medium"),
    Severity.LOW: ("低", "Low"),
}
DISPOSITION: dict[Disposition, tuple[str, str]] = {
    Disposition.VIOLATION: ("违规", "Violation"),
    Disposition.NEEDS_PROOF: ("需举证", "Needs proof"),
    Disposition.SUSPECT: ("待复核", "Suspect"),
}
CHANNEL: dict[str, tuple[str, str]] = {
    "speech": ("语音", "Speech"),
    "screen": ("画面", "Screen"),
    "code": ("二维码", "Code"),
    "script": ("脚本", "Script"),
    "stream": ("整场", "Whole session"),
}
MATCH_KIND: dict[str, tuple[str, str]] = {
    "literal": ("字面", "Literal"),
    "phonetic": ("读音", "By sound"),
    "semantic": ("语义", "By meaning"),
    "visual": ("图像", "Visual"),
    "absence": ("缺失", "Absence"),
}

Words = tuple[str, str]
"""The same words in Chinese and English."""


def pick(words: Words, lang: str) -> str:
    return words[0] if lang == "zh" else words[1]


def category(name: str) -> Words:
    """The label of a category; a category nobody named yet is its own label."""
    return CATEGORY.get(name, (name, name))


def citation(ref: LawRef) -> str:
    """`《中华人民共和国广告法》第九条（三）`; a title that has its marks keeps them."""
    title = ref.title if ref.title.startswith("《") else f"《{ref.title}》"
    return title + ref.article


def clock(seconds: float, *, tenths: bool = False) -> str:
    """Media-clock seconds as `3:07` or `1:02:03`, with tenths on request. Never negative."""
    ticks = max(0, round(seconds * 10) if tenths else int(seconds) * 10)
    whole, tenth = divmod(ticks, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{text}.{tenth}" if tenths else text


def where(violation: Violation, *, script: bool) -> str:
    """Where a violation stands: `line:column` in a script, else its time."""
    if violation.place is not None:
        return f"{violation.place.line}:{violation.place.column}"
    return "–" if script or violation.channel == "stream" else clock(violation.start)


def printable(text: str) -> str:
    """`text` on one line without what could steer a terminal or turn the reading direction.

    Line breaks and tabs become spaces; control characters, bidirectional overrides and
    lone surrogates become `\ufffd`.
    """
    return _UNPRINTABLE.sub("\ufffd", _SPACES.sub(" ", text)).strip()


def encodable(text: str) -> str:
    """`text` with lone surrogates (undecodable file names) as `\ufffd`: UTF-8 can hold it."""
    return _SURROGATES.sub("\ufffd", text)


def cell_width(char: str) -> int:
    """Columns a character takes on a terminal: 0, 1 or 2 (Unicode East Asian Width)."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_SPACES = re.compile("[ \t\r\n\v\f\x85\u2028\u2029]+")
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
