"""The vocabulary of the product: observations go in, violations come out.

Every stage of the pipeline speaks in these frozen types. Times are media-clock
seconds (seconds since the first PTS of the session) unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from ulid import ULID

SCHEMA = "moderator/violation@1"

Channel = Literal["speech", "screen", "code", "script", "stream"]
MatchKind = Literal["literal", "phonetic", "semantic", "visual", "absence"]

CATEGORIES: tuple[str, ...] = (
    "absolute_term",
    "medical_efficacy",
    "health_food_disease",
    "cosmetic_medical",
    "unproven_efficacy",
    "false_origin_or_ingredient",
    "fake_data_or_citation",
    "fake_honor_or_endorsement",
    "price_fraud",
    "false_scarcity",
    "investment_guarantee",
    "education_guarantee",
    "superstition_vulgar",
    "disparagement",
    "off_platform_diversion",
    "minors",
    "tobacco_alcohol_drugs",
    "ai_unlabelled",
    "missing_notice",
    "other",
)
"""What a claim can be wrong about; the first field a reviewer filters by."""

PRODUCT_CATEGORIES: tuple[str, ...] = (
    "food",
    "health_food",
    "fsmp",
    "infant_food",
    "alcohol",
    "tobacco",
    "cosmetic",
    "drug",
    "medical_device",
    "medical_service",
    "appliance",
    "electronics",
    "apparel",
    "jewelry",
    "household",
    "baby",
    "toy",
    "pet",
    "agriculture",
    "education",
    "finance",
    "real_estate",
    "travel",
    "culture",
    "auto",
    "other",
)
"""Product categories of passports and of `applies.products` in rules.
`fsmp` is 特殊医学用途配方食品; `agriculture` is seeds, pesticide, feed, veterinary drugs."""


class Disposition(StrEnum):
    """How firmly a record accuses, weakest first."""

    SUSPECT = "suspect"
    NEEDS_PROOF = "needs_proof"
    VIOLATION = "violation"

    @property
    def rank(self) -> int:
        return _DISPOSITION_RANK[self]


_DISPOSITION_RANK = {
    Disposition.SUSPECT: 1,
    Disposition.NEEDS_PROOF: 2,
    Disposition.VIOLATION: 3,
}


class Severity(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return _SEVERITY_RANK[self]


_SEVERITY_RANK = {s: i for i, s in enumerate(Severity, start=1)}


@dataclass(frozen=True, slots=True)
class Room:
    """One live room. `products` names passports by id; `ai_host` says a digital human hosts."""

    id: str = "local"
    platform: str = ""
    title: str = ""
    host: str = ""
    merchant: str = ""
    products: tuple[str, ...] = ()
    ai_host: bool = False


@dataclass(frozen=True, slots=True)
class TimedChar:
    """One character of recognised speech: media-clock seconds and confidence in 0–1."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Relistened:
    """A second listen to a place of an utterance that sounds like a term of the rules.

    `llr` is the natural-log likelihood of the sound with `term` in place of `text[begin:end]`,
    minus that of the text as it was written; above 0 the term fits better. `doubt` is how unsure
    the recogniser was of what it wrote there: minus the sum of the log-confidences of those
    characters. Both in nats.
    """

    begin: int
    end: int
    term: str
    llr: float
    doubt: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """Timed speech text. `"".join(c.text for c in chars) == text` holds.

    `distrust` names the guard that failed (`""` when none did); an utterance with a
    `distrust` is shown in the transcript and never accuses anyone. `relistened` are the places
    that sound like a term of the rules, where the engine could listen again.
    """

    text: str
    start: float
    end: float
    chars: tuple[TimedChar, ...]
    confidence: float
    engine: str
    distrust: str = ""
    no_speech_prob: float = 0.0
    mean_logprob: float = 0.0
    relistened: tuple[Relistened, ...] = ()

    channel: Channel = field(default="speech", init=False)

    def time_of(self, begin: int, end: int) -> tuple[float, float]:
        """Media-clock seconds of the characters `text[begin:end]`."""
        span = self.chars[begin:end]
        if not span:
            return self.start, self.end
        return span[0].start, span[-1].end

    def confidence_of(self, begin: int, end: int) -> float:
        """Mean recogniser confidence of the characters `text[begin:end]`."""
        span = self.chars[begin:end]
        if not span:
            return self.confidence
        return sum(c.confidence for c in span) / len(span)


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned rectangle in pixels of the upright frame, `x0 < x1`, `y0 < y1`."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def area(self) -> int:
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def shared(self, other: Box) -> int:
        """Pixels that lie in both."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(width, 0) * max(height, 0)


@dataclass(frozen=True, slots=True)
class ScreenText:
    """Text seen on frames, tracked: one banner is one ScreenText however long it stays.

    `frame_time` is the media-clock second of the frame where it was read best, and
    `box` where it stood there.
    """

    text: str
    start: float
    end: float
    box: Box
    frame_time: float
    confidence: float
    engine: str
    sightings: int = 1

    channel: Channel = field(default="screen", init=False)
    distrust: str = field(default="", init=False)

    def time_of(self, begin: int, end: int) -> tuple[float, float]:
        return self.start, self.end

    def confidence_of(self, begin: int, end: int) -> float:
        return self.confidence


@dataclass(frozen=True, slots=True)
class Code:
    """A QR or barcode seen on frames. `text` is its payload as UTF-8."""

    text: str
    symbology: str
    start: float
    end: float
    box: Box
    frame_time: float
    engine: str
    confidence: float = 1.0

    channel: Channel = field(default="code", init=False)
    distrust: str = field(default="", init=False)

    def time_of(self, begin: int, end: int) -> tuple[float, float]:
        return self.start, self.end

    def confidence_of(self, begin: int, end: int) -> float:
        return self.confidence


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a script: 1-based line and column, `end_column` exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class ScriptLine:
    """One line (or subtitle cue, or batch item) of a script.

    `line` and `column` are 1-based positions of `text[0]` in the file. Subtitles also
    carry their cue times; plain scripts have `start == end == 0`.
    """

    text: str
    line: int = 1
    column: int = 1
    start: float = 0.0
    end: float = 0.0
    timed: bool = False

    channel: Channel = field(default="script", init=False)
    distrust: str = field(default="", init=False)

    def time_of(self, begin: int, end: int) -> tuple[float, float]:
        return self.start, self.end

    def confidence_of(self, begin: int, end: int) -> float:
        return 1.0

    def place_of(self, begin: int, end: int) -> Place:
        """Where in the file `text[begin:end]` stands; text without markup inside the line."""
        return Place(self.line, self.column + begin, self.line, self.column + end)


Observation = Utterance | ScreenText | Code | ScriptLine


@dataclass(frozen=True, slots=True)
class RuleRef:
    id: str
    version: int
    title: str


@dataclass(frozen=True, slots=True)
class LawRef:
    """An article as a record cites it. `effective` is the ISO date it came into force."""

    title: str
    article: str
    effective: str


@dataclass(frozen=True, slots=True)
class MatchInfo:
    """How the rule matched.

    `acoustic_llr` is from the second listen: the natural-log likelihood of the sound with
    the rule's words in the utterance, minus that with the words as recognised. None if not run.
    """

    kind: MatchKind
    score: float
    acoustic_llr: float | None = None
    matched: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Paths relative to the output folder, and the sha256 of each file by path."""

    clip: str | None = None
    frames: tuple[str, ...] = ()
    transcript: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Advice:
    """What a language model said of a finding. `applied` says that the finding was lowered for it;
    `quote` is the part of the context that decided it."""

    model: str
    verdict: str
    confidence: float
    reason: str
    quote: str
    latency_ms: float
    cached: bool = False
    applied: bool = False


@dataclass(frozen=True, slots=True)
class Violation:
    """The record we emit. `docs/records.md` explains each field; the JSON Schema is in
    `moderator/schemas/violation.schema.json`."""

    room: str
    session: str
    source: str
    rule: RuleRef
    category: str
    disposition: Disposition
    severity: Severity
    confidence: float
    law: tuple[LawRef, ...]
    channel: Channel
    start: float
    end: float
    quote: str
    span: tuple[int, int]
    context: str
    match: MatchInfo
    explanation: str
    suggestion: str
    engine: dict[str, str]
    heard: str | None = None
    product: str | None = None
    exemptions_considered: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    occurrences: int = 1
    place: Place | None = None
    latency_ms: float | None = None
    advice: Advice | None = None
    wall_time: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds")
    )
    id: str = field(default_factory=lambda: str(ULID()))

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the record, valid against the published schema."""
        body = asdict(self)
        body["disposition"] = str(self.disposition)
        body["severity"] = str(self.severity)
        return {"schema": SCHEMA, "id": body.pop("id"), **_plain(body)}

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Violation:
        """The inverse of `to_json`. Raises KeyError or ValueError on a foreign document."""
        data = dict(body)
        if data.pop("schema") != SCHEMA:
            raise ValueError(f"not a {SCHEMA} record")
        data["rule"] = RuleRef(**data["rule"])
        data["disposition"] = Disposition(data["disposition"])
        data["severity"] = Severity(data["severity"])
        data["law"] = tuple(LawRef(**ref) for ref in data["law"])
        data["span"] = tuple(data["span"])
        data["match"] = MatchInfo(**data["match"])
        data["exemptions_considered"] = tuple(data["exemptions_considered"])
        evidence = dict(data["evidence"])
        evidence["frames"] = tuple(evidence["frames"])
        data["evidence"] = Evidence(**evidence)
        if data.get("advice") is not None:
            data["advice"] = Advice(**data["advice"])
        if data.get("place") is not None:
            data["place"] = Place(**data["place"])
        return cls(**data)

    def with_evidence(self, evidence: Evidence) -> Violation:
        return replace(self, evidence=evidence)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 4)
    return value
