"""The forms of what goes in and out. Times are RFC 3339 in UTC, `*_s` are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from moderator.review.permissions import Role


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("holds half of a surrogate pair")
    return text


def _storable_all(value: Any) -> Any:
    """The same for every text within."""
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, dict):
        return {_storable(str(key)): _storable_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable_all(item) for item in value]
    return value


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_storable)]
Label = Annotated[str, Field(max_length=200), AfterValidator(_storable)]
Words = Annotated[str, Field(max_length=5000), AfterValidator(_storable)]
Ref = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_storable)]
Secret = Annotated[str, Field(max_length=1024), AfterValidator(_storable)]


class In(BaseModel):
    """What comes in: a field nobody knows is refused."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Done(Out):
    ok: Literal[True] = True


# --- accounts -------------------------------------------------------------------------


class LoginIn(In):
    username: Name = Field(examples=["admin"])
    password: Secret = Field(examples=["abcd-efgh-jkmn-pqrs"])


class MeOut(Out):
    """`csrf_token` goes into the header X-CSRF-Token of every request that changes something."""

    id: str
    username: str
    name: str
    role: Role
    organisation_id: str | None
    permissions: list[str]
    kind: Literal["session", "token"]
    csrf_token: str
    must_change_password: bool
    preferences: dict[str, Any]


class MeIn(In):
    display_name: Label | None = None
    preferences: Annotated[dict[str, Any], AfterValidator(_storable_all)] | None = Field(
        default=None, description="What the console remembers, such as its keys. 16 KiB at most."
    )


class PasswordIn(In):
    old: Secret
    new: Secret


class SessionOut(Out):
    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    address: str
    agent: str
    current: bool = False


class TokenIn(In):
    name: Name = Field(examples=["nightly export"])
    scopes: list[Ref] = Field(min_length=1, max_length=30, examples=[["violations:read"]])
    expires_at: AwareDatetime | None = None


class TokenOut(Out):
    id: str
    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


class NewTokenOut(TokenOut):
    """`token` is shown this once."""

    token: str


class OrganisationIn(In):
    name: Name


class OrganisationOut(Out):
    id: str
    name: str
    created_at: datetime


class UserIn(In):
    username: Annotated[
        str, Field(min_length=2, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")
    ]
    role: Role
    display_name: Label = ""
    organisation_id: Ref | None = None


class UserChange(In):
    role: Role | None = None
    display_name: Label | None = None
    disabled: bool | None = None


class UserOut(Out):
    id: str
    username: str
    display_name: str
    role: Role
    organisation_id: str | None
    disabled: bool
    must_change_password: bool
    created_at: datetime
    last_login_at: datetime | None


class NewUserOut(UserOut):
    """`password` is good once: it must be changed at the first login."""

    password: str


class GivenPasswordOut(Out):
    password: str


class ColleagueOut(Out):
    id: str
    username: str
    display_name: str
    role: Role


# --- the queue ------------------------------------------------------------------------


class ViolationOut(Out):
    """A row of the queue. `risk` is 0 to 1; `at` is when the words were said."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "01JNE0T5B6T0Y3WZ5V3K9Q8R7S",
                    "room_id": "skincare_and_health",
                    "broadcast_id": "01JNE0SZZ1",
                    "host": "小棠",
                    "merchant": "棠露日化旗舰店",
                    "rule_id": "cn.absolute.best",
                    "rule_title": "绝对化用语",
                    "category": "absolute_term",
                    "disposition": "violation",
                    "severity": "high",
                    "confidence": 0.93,
                    "risk": 0.72,
                    "channel": "speech",
                    "start": 61.2,
                    "end": 63.0,
                    "quote": "全网最好的面霜",
                    "status": "open",
                    "version": 1,
                    "occurrences": 1,
                    "at": "2026-03-01T10:00:00Z",
                    "arrived_at": "2026-03-01T10:00:02Z",
                }
            ]
        },
    )

    id: str
    seq: int = 0
    room_id: str
    broadcast_id: str
    organisation_id: str | None = None
    host: str
    merchant: str
    rule_id: str
    rule_title: str
    category: str
    disposition: str
    severity: str
    confidence: float
    risk: float
    channel: str
    start: float
    end: float
    quote: str
    product: str | None = None
    occurrences: int
    latency_ms: float | None = None
    at: datetime
    arrived_at: datetime
    status: str
    version: int
    assignee_id: str | None = None
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    decided_at: datetime | None = None
    exported_at: datetime | None = None
    held: bool = False


class ViolationsOut(Out):
    items: list[ViolationOut]
    next_cursor: str | None = None


class CountsOut(Out):
    counts: dict[str, int] = Field(examples=[{"open": 12, "confirmed": 40}])
    total: int


class ValuesOut(Out):
    room: list[str]
    host: list[str]
    merchant: list[str]
    rule: list[str]


class ArticleOut(Out):
    """`text` is empty where the article was not verified at its source."""

    title: str
    article: str
    effective: str
    text: str


class RuleOut(Out):
    id: str
    title: str
    status: str
    version: int
    needs: list[str]
    needs_names: list[str]
    message: str
    suggest: str


class DecisionOut(Out):
    id: str
    user_id: str | None
    user_name: str
    action: str
    reason: str
    comment: str
    stage: int
    status_before: str
    status_after: str
    at: datetime
    undone_at: datetime | None


class NoteOut(Out):
    id: str
    user_id: str
    user_name: str
    text: str
    at: datetime


class DocumentOut(Out):
    id: str
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    at: datetime


class AppealOut(Out):
    id: str
    violation_id: str
    state: str
    invited_at: datetime
    expires_at: datetime
    name: str
    contact: str
    text: str
    submitted_at: datetime | None
    answer: str
    answered_at: datetime | None
    documents: list[DocumentOut] = []


class ExportOut(Out):
    id: str
    violation_id: str
    user_name: str
    kind: str
    sha256: str
    size_bytes: int
    at: datetime
    url: str = ""


class ObservationOut(Out):
    """Something said or seen. `body` has what there is besides, such as the text's box."""

    id: int
    channel: str
    start: float
    end: float
    text: str
    body: dict[str, Any] = {}


class EvidenceFileOut(Out):
    """`url` serves it; `there` says whether the file lies where it should."""

    kind: Literal["clip", "frame", "transcript"]
    path: str
    url: str
    sha256: str
    there: bool


class DetailOut(Out):
    """Everything that a decision needs, in one answer."""

    violation: ViolationOut
    record: dict[str, Any]
    rule: RuleOut | None
    articles: list[ArticleOut]
    transcript: list[ObservationOut]
    evidence: list[EvidenceFileOut]
    passport: dict[str, Any] | None
    decisions: list[DecisionOut]
    notes: list[NoteOut]
    appeals: list[AppealOut]
    exports: list[ExportOut]
    host_history: dict[str, int]
    similar: list[ViolationOut]
    can: list[str] = Field(description="Actions that the reader may take now.")


class DecisionIn(In):
    action: Literal["confirm", "dismiss", "needs_proof", "escalate", "reopen"]
    reason: Annotated[str, Field(max_length=50), AfterValidator(_storable)] = Field(
        "", description="For `dismiss`: one of the reasons of /api/v1/meta.", examples=["context"]
    )
    comment: Words = ""
    version: int | None = Field(
        None, ge=1, le=2**31 - 1, description="The version that was looked at."
    )


class DecidedOut(Out):
    violation: ViolationOut
    decision: DecisionOut


class NextIn(In):
    """Which of the queue to take: a filter as in GET /violations, and ids to pass over."""

    filter: FilterIn | None = None
    sort: Literal["risk", "newest", "oldest", "confidence"] = "risk"
    skip: list[Ref] = Field(default=[], max_length=200)


class NextOut(Out):
    violation: ViolationOut | None


class FilterIn(In):
    """What the queue shows; lists are alternatives, fields go together."""

    status: list[Ref] = Field(default=[], max_length=50)
    category: list[Ref] = Field(default=[], max_length=50)
    severity: list[Ref] = Field(default=[], max_length=10)
    disposition: list[Ref] = Field(default=[], max_length=10)
    room: list[Ref] = Field(default=[], max_length=200)
    host: list[Label] = Field(default=[], max_length=200)
    merchant: list[Label] = Field(default=[], max_length=200)
    rule: list[Label] = Field(default=[], max_length=200)
    channel: list[Ref] = Field(default=[], max_length=10)
    organisation: Ref | None = None
    assignee: Ref | None = None
    min_confidence: float | None = Field(None, ge=0, le=1)
    max_confidence: float | None = Field(None, ge=0, le=1)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    exported: bool | None = None
    q: Annotated[str, Field(max_length=500), AfterValidator(_storable)] = ""


NextIn.model_rebuild()


class AssigneeIn(In):
    user_id: Ref | None


class NoteIn(In):
    text: Annotated[str, Field(min_length=1, max_length=5000), AfterValidator(_storable)]


class HoldIn(In):
    held: bool
    reason: Words = Field("", description="Kept in the audit log.")


class SavedFilterIn(In):
    name: Name
    query: FilterIn


class SavedFilterOut(Out):
    id: str
    name: str
    query: dict[str, Any]
    created_at: datetime


class ExportIn(In):
    kind: Literal["zip", "pdf"] = "zip"


# --- appeals --------------------------------------------------------------------------


class InvitationOut(Out):
    """`url` is for the merchant; whoever has it can see the case and answer to it."""

    appeal: AppealOut
    url: str


class AppealsOut(Out):
    items: list[AppealOut]
    next_cursor: str | None = None


class AnswerIn(In):
    accepted: bool
    answer: Annotated[str, Field(min_length=1, max_length=5000), AfterValidator(_storable)]


class AppealIn(In):
    name: Label = Field("", examples=["棠露日化旗舰店 法务"])
    contact: Label = ""
    text: Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(_storable)]


class CaseOut(Out):
    """What the merchant sees of the case: nothing of who judged it, or of anything else."""

    state: str
    expires_at: datetime
    status: str
    room_title: str
    quote: str
    context: str
    start: float
    at: datetime
    rule_title: str
    explanation: str
    suggestion: str
    articles: list[ArticleOut]
    evidence: list[EvidenceFileOut]
    documents_wanted: list[str]
    name: str
    text: str
    submitted_at: datetime | None
    documents: list[DocumentOut]
    answer: str
    answered_at: datetime | None


# --- rooms ----------------------------------------------------------------------------


class RoomOut(Out):
    id: str
    organisation_id: str | None
    platform: str
    title: str
    host: str
    merchant: str
    products: list[str]
    ai_host: bool
    state: str
    state_reason: str
    lag_s: float | None
    last_words: str
    last_frame_url: str | None = None
    broadcast_id: str | None
    heard_at: datetime | None
    recent: int = Field(0, description="Violations of the last ten minutes.")
    open: int = Field(0, description="Violations nobody has decided.")
    risk: float = Field(0, description="The highest risk among those of the last ten minutes.")
    watching: bool = False


class RoomChange(In):
    organisation_id: Ref | None = None
    title: Label | None = None
    host: Label | None = None
    merchant: Label | None = None


class NewRoomIn(In):
    id: str = Field(pattern=r"^[\w.\-]{1,100}$", examples=["room-001"])
    platform: Label = ""
    title: Label = ""
    host: Label = ""
    merchant: Label = ""
    products: list[Ref] = Field([], max_length=500, description="Passports on sale here.")
    ai_host: bool = False


class WatchIn(In):
    source: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_storable)] = Field(
        examples=["https://example.com/live/room.flv"]
    )


class BroadcastOut(Out):
    id: str
    room_id: str
    source: str
    state: str
    duration_s: float
    started_at: datetime
    engines: dict[str, Any]
    notes: list[str]
    media_url: str | None = None


class TimelineOut(Out):
    broadcast: BroadcastOut
    observations: list[ObservationOut]
    violations: list[ViolationOut]
    next_cursor: str | None = None


class SpokenOut(ObservationOut):
    room_id: str
    broadcast_id: str


class SearchOut(Out):
    violations: list[ViolationOut]
    transcript: list[SpokenOut]


# --- pre-check ------------------------------------------------------------------------


class RoomIn(In):
    id: Ref = "local"
    platform: Label = ""
    title: Label = ""
    host: Label = ""
    merchant: Label = ""
    ai_host: bool = False


class CheckIn(In):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"text": "家人们，这是国家级的品质", "products": ["tanglu_cream"]}]
        },
    )

    text: Annotated[str, Field(max_length=1_000_000), AfterValidator(_storable)]
    kind: Literal["txt", "md", "srt", "vtt"] = "txt"
    room: RoomIn | None = None
    products: list[Ref] = Field(default=[], max_length=100, description="Ids of passports.")
    passports: list[Annotated[dict[str, Any], AfterValidator(_storable_all)]] = Field(
        default=[], max_length=100, description="Passports given here, for this check only."
    )
    lang: Literal["zh", "en"] | None = None


class MarkOut(Out):
    """A place in the script. `begin` and `end` are offsets into `text`, in code points.

    `rewrites` are wordings that could stand there instead, best first; may be empty.
    """

    begin: int
    end: int
    line: int
    column: int
    record: dict[str, Any]
    articles: list[ArticleOut]
    rewrites: list[str]


class CheckOut(Out):
    text: str
    kind: str
    marks: list[MarkOut]
    summary: dict[str, Any]
    engines: dict[str, str]
    took_ms: float


class DownloadIn(In):
    text: Annotated[str, Field(max_length=1_000_000), AfterValidator(_storable)]
    kind: Literal["txt", "md", "srt", "vtt"] = "txt"
    format: Literal["docx", "txt", "html"] = "docx"
    name: Annotated[str, Field(max_length=100), AfterValidator(_storable)] = "script"
    products: list[Ref] = Field(default=[], max_length=100)


class JobIn(In):
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)] = Field(
        examples=["recording.mp4"]
    )
    size_bytes: int = Field(ge=1, le=2**50)
    room: Ref = "local"
    products: list[Ref] = Field(default=[], max_length=100)


class JobOut(Out):
    """`received_bytes` is where an upload goes on; `progress` is 0 to 1 of the check."""

    id: str
    name: str
    room_id: str
    products: list[str]
    state: Literal["uploading", "queued", "running", "done", "failed", "cancelled"]
    size_bytes: int
    received_bytes: int
    done_s: float
    total_s: float
    progress: float
    error: dict[str, Any] | None
    summary: dict[str, Any] | None
    broadcast_id: str | None
    created_at: datetime
    finished_at: datetime | None


class PassportIn(In):
    passport: Annotated[dict[str, Any], AfterValidator(_storable_all)] = Field(
        description="As in samples/passports.yaml.",
        examples=[{"id": "cream", "name": "面霜", "category": "cosmetic"}],
    )
    organisation_id: Ref | None = None


class PassportOut(Out):
    id: str
    organisation_id: str | None
    name: str
    category: str
    body: dict[str, Any]


# --- figures, audit, the machine ------------------------------------------------------


class DashboardOut(Out):
    """A table: `rows` hold what `columns` name."""

    name: str
    columns: list[str]
    rows: list[list[str | int | float | None]]


class AuditOut(Out):
    seq: int
    at: str
    actor_id: str
    actor: str
    action: str
    object_type: str
    object_id: str
    organisation_id: str | None
    detail: dict[str, Any]
    address: str
    prev: str
    hash: str


class AuditPageOut(Out):
    items: list[AuditOut]
    next_cursor: str | None = None


class VerificationOut(Out):
    sound: bool
    entries: int
    head: str
    first_bad: int | None
    reason: str


class IngestIn(In):
    records: list[dict[str, Any]] = Field(
        max_length=1000, description="Violation records, docs/records.md."
    )
    room: RoomIn | None = None


class IngestedOut(Out):
    received: int
    new: int


class StoredOut(Out):
    path: str
    sha256: str
    bytes: int


class EnvelopesIn(In):
    envelopes: list[dict[str, Any]] = Field(max_length=1000)


class RetentionIn(In):
    dry_run: bool = True


class RetentionOut(Out):
    """What was removed, or with `dry_run` would be."""

    dry_run: bool
    violations: int
    observations: int
    files: int
    uploads: int
    held: int


class LabelOut(Out):
    id: str
    zh: str
    en: str


class MetaOut(Out):
    """The words of the lists, in both languages."""

    categories: list[LabelOut]
    severities: list[LabelOut]
    dispositions: list[LabelOut]
    statuses: list[LabelOut]
    reasons: list[LabelOut]
    roles: list[LabelOut]
    documents: list[LabelOut]
    dashboards: list[LabelOut]
    scopes: list[str]
    version: str


class DemoOut(Out):
    rooms: list[str]
    state: str
