"""What `moderator serve` can be told; environment names are `MODERATOR_REVIEW_` and the field."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from moderator.errors import CONFIG_INVALID, ModeratorError


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/moderator`: the same place from whatever folder the server is started."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "moderator"


class ReviewSettings(BaseSettings):
    """Everything that can be set about the server. A name nobody knows is refused."""

    model_config = SettingsConfigDict(
        env_prefix="MODERATOR_REVIEW_", extra="forbid", frozen=True, populate_by_name=True
    )

    database_url: str = Field(
        "",
        validation_alias="DATABASE_URL",
        description="postgresql://… or sqlite:///…; empty is SQLite in the data folder.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="Evidence, uploads, exports, SQLite."
    )
    evidence_roots: tuple[Path, ...] = Field(
        (), description="Folders outside the data folder whose sessions may be shown."
    )
    font: Path | None = Field(
        None, description="Font with Chinese characters for printed reports; found by itself."
    )
    lang: Literal["zh", "en"] = Field("zh", description="Language where a browser names none.")
    secret_key: str = Field(
        "", repr=False, description="Signs appeal links; empty: made once and kept in the database."
    )
    public_url: str = Field("", description="Where people reach the console; begins appeal links.")
    secure_cookies: Literal["auto", "always"] = Field(
        "auto", description="`auto`: the Secure flag is set on HTTPS."
    )
    allowed_hosts: tuple[str, ...] = Field(("*",), description="Host names answered to.")

    session_hours: float = Field(12.0, gt=0, le=720, description="Longest life of a session.")
    session_idle_minutes: float = Field(
        120.0, gt=0, description="A session not used for so long is over."
    )
    password_min_length: int = Field(10, ge=8, le=128, description="Characters.")
    login_failures: int = Field(5, ge=1, description="Wrong passwords before a name must wait.")
    login_window_minutes: float = Field(15.0, gt=0, description="How long a failure counts.")

    claim_minutes: float = Field(10.0, gt=0, description="A claim not renewed for so long is free.")
    undo_hours: float = Field(24.0, gt=0, description="How long a decision can be taken back.")
    appeal_days: float = Field(14.0, gt=0, description="How long an appeal link is good.")

    json_limit_kib: int = Field(2048, ge=16, description="Largest JSON body.")
    document_limit_mib: int = Field(10, ge=1, description="Largest appeal document.")
    document_count: int = Field(10, ge=1, description="Documents of one appeal.")
    script_limit_mib: int = Field(5, ge=1, description="Largest script file.")
    script_limit_chars: int = Field(200_000, ge=1000, description="Longest pasted script.")
    recording_limit_mib: int = Field(4096, ge=1, description="Largest recording.")
    watch_private: bool = Field(
        False, description="Streams on private addresses may be watched from the console."
    )
    evidence_limit_mib: int = Field(512, ge=1, description="Largest clip sent in.")
    jobs_per_user: int = Field(20, ge=1, description="Unfinished uploads of one person.")
    job_workers: int = Field(1, ge=0, le=16, description="Recordings checked at once; 0: none.")

    keep_confirmed_days: int = Field(
        1096, ge=1, description="Records confirmed or waiting for proof: three years by default."
    )
    keep_undecided_days: int = Field(365, ge=1, description="Records nobody decided.")
    keep_dismissed_days: int = Field(180, ge=1, description="Dismissed records.")
    keep_transcript_days: int = Field(365, ge=1, description="Transcripts and recordings.")
    keep_upload_days: int = Field(30, ge=1, description="Uploaded scripts and recordings.")
    retention_hours: float = Field(24.0, ge=0, description="How often it runs; 0: never.")

    @property
    def url(self) -> str:
        """The database URL as SQLAlchemy wants it, with the psycopg 3 driver for PostgreSQL."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir / 'console.sqlite3'}"
        scheme, separator, rest = self.database_url.partition("://")
        if scheme in ("postgres", "postgresql"):
            return f"postgresql+psycopg{separator}{rest}"
        return self.database_url


def load_review_settings(**flags: Any) -> ReviewSettings:
    """Environment, then `flags` (None means not given). Raises LM-303 naming the setting."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return ReviewSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ModeratorError(
            CONFIG_INVALID, place=f"settings: {name}", reason=first["msg"]
        ) from None
