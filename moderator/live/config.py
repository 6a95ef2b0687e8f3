"""`rooms.yaml`: which rooms to watch and how. A field nobody knows is refused with its place."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    field_validator,
    model_validator,
)

from moderator.errors import ROOM_INVALID, ModeratorError, in_ui_language
from moderator.records import Room
from moderator.rooms import read_fields

Step = Literal["interim", "frames", "beam", "phrases", "low_risk_screen"]

STEPS: tuple[Step, ...] = ("interim", "frames", "beam", "low_risk_screen", "phrases")
"""What can be given up when the machine is too small, in the default order."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResolverConfig(_Strict):
    """Who knows a fresh URL when the one at hand has expired; exactly one of the two."""

    command: list[str] = Field(
        default=[],
        title="Command",
        description="Program and arguments, run without a shell; prints the URL, or JSON.",
    )
    http: str = Field("", title="HTTP hook", description="Address that answers with the URL.")
    timeout_s: float = Field(15.0, gt=0, le=300, title="Patience", description="Seconds to wait.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.command) == bool(self.http):
            raise ValueError("give either command or http")
        return self


class AlertConfig(_Strict):
    """`count` records of at least `severity` within `within_s` make an alert."""

    event: Literal["room.warn", "room.escalate"] = Field(
        "room.warn", title="Event", description="What is sent: to the host, or to the control room."
    )
    severity: Literal["low", "medium", "high", "critical"] = Field(
        "high", title="Severity", description="Records below this do not count."
    )
    disposition: Literal["suspect", "needs_proof", "violation"] = Field(
        "violation", title="Disposition", description="Records that accuse less do not count."
    )
    count: int = Field(1, ge=1, title="Count", description="How many records it takes.")
    within_s: float = Field(
        60.0, gt=0, title="Window", description="Media seconds within which they must lie."
    )
    cooldown_s: float = Field(
        60.0, ge=0, title="Cooldown", description="Seconds in which the same alert is not repeated."
    )


class RoomConfig(_Strict):
    """One live room."""

    id: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[\w.\-]+$",
        title="Id",
        description="Unique; letters, digits, dot, dash, underscore. Names folders.",
    )
    source: str = Field(
        "",
        title="Source",
        description="Stream URL or path of a file (relative to rooms.yaml). May be empty with a "
        "resolver.",
    )
    resolver: ResolverConfig | None = Field(
        None, title="Resolver", description="Asked for a fresh URL when the stream cannot be read."
    )
    headers: dict[str, str] = Field(
        default={},
        repr=False,
        title="Headers",
        description="HTTP headers for the stream; `env:NAME` takes the value from the environment.",
    )
    realtime: bool | None = Field(
        None, title="Real time", description="Play a file at live speed; default as --realtime."
    )
    allow_private: bool | None = Field(
        None, title="Private addresses", description="Allow the stream on a private address."
    )
    networks: tuple[IPvAnyNetwork, ...] = Field(
        (),
        title="Networks",
        description="Private networks the stream may be on, such as 10.1.0.0/16.",
    )
    give_up_after_s: float | None = Field(
        None,
        ge=10,
        title="Give up",
        description="Seconds of outage after which the session has failed; default: never.",
    )
    wait_for_next: bool | None = Field(
        None,
        title="Next broadcast",
        description="When a broadcast is over, wait for the next one; default for streams, not "
        "for files.",
    )
    platform: str = Field("", title="Platform", description="For records and rules.")
    title: str = Field("", title="Title", description="Title of the room.")
    host: str = Field("", title="Host", description="Who speaks.")
    merchant: str = Field("", title="Merchant", description="Who sells.")
    products: list[str] = Field(
        default=[], title="Products", description="Ids of passports on sale here."
    )
    passports: Path | None = Field(
        None, title="Passports", description="File of product passports; default the global one."
    )
    ai_host: bool = Field(
        False, title="AI host", description="A digital human hosts: the AI label is owed."
    )
    risk: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Risk",
        description="0 to 1. Riskier rooms are looked at more often and degrade last.",
    )
    priority: int | None = Field(
        None,
        ge=0,
        le=9,
        title="Priority",
        description="Who is served first when the machine is busy; default from the risk.",
    )
    frame_every_s: float | None = Field(
        None,
        gt=0,
        le=60,
        title="Frame interval",
        description="Seconds between frames; default the global one, weighted by the risk.",
    )
    audio: bool = Field(True, title="Listen", description="Listen to the speech.")
    video: bool = Field(True, title="Look", description="Read the screen.")
    alerts: list[AlertConfig] | None = Field(
        None, title="Alerts", description="Instead of the global ones."
    )

    @field_validator("headers")
    @classmethod
    def _no_line_breaks(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not name or any(char in name + value for char in "\r\n\0"):
                raise ValueError("a header has a name and holds no line break")
        return headers

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.source and self.resolver is None:
            raise ValueError("give a source or a resolver")
        if not (self.audio or self.video):
            raise ValueError("audio and video are both off: nothing would be checked")
        return self

    def room(self) -> Room:
        """What records and rules need to know."""
        return Room(
            id=self.id,
            platform=self.platform,
            title=self.title,
            host=self.host,
            merchant=self.merchant,
            products=tuple(self.products),
            ai_host=self.ai_host,
        )

    def sent_headers(self) -> dict[str, str]:
        """The headers with `env:NAME` filled in. Raises LM-302 when the variable is not set."""
        filled = {}
        for name, value in self.headers.items():
            if value.startswith("env:"):
                variable = value.removeprefix("env:")
                if variable not in os.environ:
                    raise ModeratorError(
                        ROOM_INVALID,
                        place=f"{self.id}: headers.{name}",
                        reason=in_ui_language(
                            f"the environment has no {variable}", f"环境变量 {variable} 未设置"
                        ),
                    )
                value = os.environ[variable]
            filled[name] = value
        return filled

    @property
    def is_file(self) -> bool:
        return bool(self.source) and "://" not in self.source

    @property
    def urgency(self) -> int:
        """0 to 9, from `priority` or else the risk."""
        return round(9 * self.risk) if self.priority is None else self.priority


class SpeechConfig(_Strict):
    """How speech is cut and decoded."""

    batch: int = Field(
        4,
        ge=1,
        le=64,
        title="Batch",
        description="Segments decoded together. On a CPU more only make each other wait.",
    )
    beam: int = Field(5, ge=1, le=10, title="Beam", description="Beam width of final text.")
    narrow_beam: int = Field(
        2, ge=1, le=10, title="Narrow beam", description="Beam width after the step `beam`."
    )
    threads: int = Field(
        0, ge=0, le=64, title="Threads", description="Of one decoder; 0: as its engine likes."
    )
    deadline_s: float = Field(
        1.5, gt=0, title="Deadline", description="How long a segment should wait at most."
    )
    interim_every_s: float = Field(
        0.8, ge=0, title="Interim text", description="Seconds between interim texts; 0 is never."
    )
    interim_share: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Interim share",
        description="Largest part of the decoder's time spent on interim text.",
    )
    cut_on_suspicion: bool = Field(
        True,
        title="Cut on suspicion",
        description="End a segment soon after words that the interim text makes suspect.",
    )


class DegradationConfig(_Strict):
    """What is given up when the machine is too small, and when."""

    order: list[Step] = Field(
        default=list(STEPS), title="Order", description="Steps, the first to be given up first."
    )
    lag_s: float = Field(
        2.0, gt=0, title="Lag", description="The next step is taken while some room lags this much."
    )
    after_s: float = Field(
        3.0, ge=0, title="Patience", description="Seconds of such lag before the next step."
    )
    phrases_lag_s: float = Field(
        6.0,
        gt=0,
        title="Lag for phrases",
        description="As `lag_s`, for the step `phrases`: it delays all text by seconds itself.",
    )
    recover_lag_s: float = Field(
        1.0, ge=0, title="Recovery", description="A step is taken back while all lag less."
    )
    recover_after_s: float = Field(
        30.0, ge=0, title="Recovery patience", description="Seconds of little lag before that."
    )
    frame_factor: float = Field(
        2.0,
        ge=1,
        title="Frame factor",
        description="Frames are so many times rarer after `frames`.",
    )
    low_risk: float = Field(
        0.3,
        ge=0,
        le=1,
        title="Low risk",
        description="Rooms up to this risk are low-risk ones; a room that says nothing has 0.5.",
    )

    @field_validator("order")
    @classmethod
    def _each_once(cls, order: list[Step]) -> list[Step]:
        if len(set(order)) != len(order):
            raise ValueError("each step stands once")
        return order

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.recover_lag_s >= self.lag_s:
            raise ValueError("recover_lag_s must be below lag_s")
        return self


class LimitsConfig(_Strict):
    """Bounds that keep the program small and able to end."""

    max_rooms: int = Field(200, ge=1, title="Rooms", description="Rooms at a time.")
    max_lag_s: float = Field(
        60.0,
        gt=0,
        title="Lag bound",
        description="Sound that has waited longer is dropped, counted, and a gap in the record.",
    )
    drain_s: float = Field(
        20.0, ge=0, title="Drain", description="Seconds to finish in after SIGTERM."
    )
    ring_s: float = Field(
        900.0, ge=0, title="Ring, seconds", description="Copy of the stream kept a room; 0 is none."
    )
    ring_mib: int = Field(
        512, ge=1, title="Ring, MiB", description="Largest copy of the stream a room."
    )
    evidence_queue: int = Field(
        200, ge=1, title="Evidence", description="Records that may wait for their clip."
    )
    restart_s: float = Field(
        1.0, gt=0, title="Restart", description="Pause before a crashed room starts again."
    )
    restart_max_s: float = Field(
        60.0, gt=0, title="Longest pause", description="The pause doubles up to this."
    )


class EvidenceConfig(_Strict):
    """Clips and frames beside the records."""

    clips: bool = Field(True, title="Clips", description="Cut a clip for each record.")
    pre_s: float = Field(3.0, ge=0, le=60, title="Before", description="Seconds before the words.")
    post_s: float = Field(3.0, ge=0, le=60, title="After", description="Seconds after the words.")
    longest_s: float = Field(
        60.0, gt=0, le=600, title="Longest", description="Seconds of an episode in its clip."
    )


class MetricsConfig(_Strict):
    """The port for Prometheus and health checks."""

    host: str = Field("127.0.0.1", title="Address", description="Address to listen on.")
    port: int = Field(
        0, ge=0, le=65535, title="Port", description="0 takes a free one and says which."
    )


class WatchConfig(_Strict):
    """The whole of `rooms.yaml`."""

    rooms: list[RoomConfig] = Field(min_length=1, title="Rooms", description="Rooms to watch.")
    rules: Path | None = Field(
        None, title="Rules", description="Folder of rules instead of the shipped pack."
    )
    jurisdiction: str = Field("cn", title="Jurisdiction", description="Rule pack to use.")
    passports: Path | None = Field(
        None, title="Passports", description="Product passports for rooms that name none."
    )
    frame_every_s: float = Field(
        2.0, gt=0, le=60, title="Frame interval", description="Seconds between frames of a room."
    )
    min_confidence: float = Field(
        0.0, ge=0, le=1, title="Confidence", description="Records below this are left out."
    )
    sinks: list[dict[str, Any]] = Field(
        default=[], title="Sinks", description="Where records go, see docs/operations.md."
    )
    retention: dict[str, Any] = Field(
        default={}, title="Retention", description="How long things are kept, see there."
    )
    alerts: list[AlertConfig] = Field(
        default=[
            AlertConfig(),
            AlertConfig(event="room.escalate", count=3, within_s=300, cooldown_s=300),
        ],
        title="Alerts",
        description="When the host is warned and the control room called.",
    )
    teleprompter: Path | None = Field(
        None,
        title="Teleprompter",
        description="Folder for one text file a room that holds the latest warning.",
    )
    speech: SpeechConfig = Field(
        SpeechConfig(), title="Speech", description="How speech is cut and decoded."
    )
    degradation: DegradationConfig = Field(
        DegradationConfig(), title="Degradation", description="What is given up under load."
    )
    evidence: EvidenceConfig = Field(
        EvidenceConfig(), title="Evidence", description="Clips and frames."
    )
    limits: LimitsConfig = Field(LimitsConfig(), title="Limits", description="Bounds.")
    metrics: MetricsConfig = Field(
        MetricsConfig(), title="Metrics", description="Prometheus and health checks."
    )

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        seen: set[str] = set()
        for room in self.rooms:
            # Folders are named after rooms, and some file systems know no case.
            if room.id.lower() in seen:
                raise ValueError(f"two rooms have the id {room.id}")
            seen.add(room.id.lower())
        if len(self.rooms) > self.limits.max_rooms:
            raise ValueError(f"{len(self.rooms)} rooms exceed limits.max_rooms")
        return self

    def frame_interval_s(self, room: RoomConfig) -> float:
        """Seconds between frames of `room`: a risk of 1 halves the interval, 0 makes it 1.5 ×."""
        return room.frame_every_s or self.frame_every_s * (1.5 - room.risk)


def load_watch_config(path: Path) -> WatchConfig:
    """Read `rooms.yaml`; relative paths in it are beside it. Raises LM-101 or LM-302."""
    data = read_fields(path)
    try:
        config = WatchConfig.model_validate(data)
    except ValidationError as error:
        raise _first_fault(error, path) from None
    return _beside(config, path.parent)


def rooms_of(sources: list[str]) -> list[RoomConfig]:
    """Rooms for sources named on the command line, with ids from their names."""
    rooms: list[RoomConfig] = []
    taken: set[str] = set()
    for source in sources:
        name = Path(source.partition("?")[0].rstrip("/")).stem if source else ""
        stem = "".join(char if char.isalnum() or char in "._-" else "-" for char in name)[:80]
        stem = stem.strip(".-") or "room"
        number, unique = 1, stem
        while unique.lower() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.lower())
        rooms.append(RoomConfig(id=unique, source=source))
    return rooms


def _beside(config: WatchConfig, folder: Path) -> WatchConfig:
    def place(path: Path | None) -> Path | None:
        return None if path is None else folder / path.expanduser()

    rooms = [
        room.model_copy(
            update={
                "passports": place(room.passports),
                "source": room.source
                if not room.source or "://" in room.source
                else str(folder / room.source),
            }
        )
        for room in config.rooms
    ]
    return config.model_copy(
        update={
            "rooms": rooms,
            "rules": place(config.rules),
            "passports": place(config.passports),
            "teleprompter": place(config.teleprompter),
        }
    )


def _first_fault(error: ValidationError, path: Path) -> ModeratorError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"]
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(first["loc"][-1]), _field_names(), n=1)
        reason = in_ui_language("no such field", "没有这个字段")
        if near:
            reason += in_ui_language(f"; did you mean '{near[0]}'?", f"；是否想写 '{near[0]}'？")
    return ModeratorError(ROOM_INVALID, place=f"{path}: {place}", reason=reason)


def _field_names() -> list[str]:
    models = (WatchConfig, RoomConfig, ResolverConfig, AlertConfig, SpeechConfig)
    more = (DegradationConfig, LimitsConfig, EvidenceConfig, MetricsConfig)
    return [name for model in (*models, *more) for name in model.model_fields]
