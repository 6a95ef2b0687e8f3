"""Settings: file < environment < command line. A setting nobody knows is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from moderator.errors import CONFIG_INVALID, MISSING_FILE, ModeratorError


class Settings(BaseSettings):
    """Everything that can be set. Environment names are `MODERATOR_` and the field."""

    model_config = SettingsConfigDict(env_prefix="MODERATOR_", extra="forbid", frozen=True)

    lang: Literal["zh", "en"] = Field("zh", description="Language of explanations in records.")
    audio: bool = Field(True, description="Listen to the speech.")
    video: bool = Field(True, description="Read the screen.")
    asr_engine: str = Field("faster-whisper", description="Speech engine, by registry name.")
    asr_model: str = Field(
        "base-rooms", description="Model of that engine: a name or a local folder."
    )
    asr_device: str = Field(
        "auto",
        description="auto, cpu, cuda or cuda:N; several after commas: `watch` has one worker each.",
    )
    asr_beam: int = Field(5, ge=1, le=10, description="Beam width of the decoder.")
    asr_batch: int = Field(
        4, ge=1, le=64, description="Segments decoded together; on a GPU more are better."
    )
    min_silence_s: float = Field(
        0.8, ge=0.3, le=5, description="A pause this long ends a segment; shorter ones stay inside."
    )
    max_segment_s: float = Field(12.0, ge=4, le=27, description="Longest segment, seconds.")
    ocr_engine: str = Field("rapidocr", description="Screen reader, by registry name.")
    ocr_device: str = Field("auto", description="auto, cpu, cuda or cuda:N.")
    ocr_batch: int = Field(
        16, ge=1, le=64, description="Frames of several rooms read together, on a GPU."
    )
    classifier_device: str = Field(
        "cpu",
        description="auto, cpu, cuda or cuda:N; on a GPU the sentences of many rooms go together.",
    )
    hwaccel: Literal["none", "auto", "cuda", "vaapi", "qsv", "videotoolbox"] = Field(
        "none", description="How ffmpeg decodes pictures: none is in software; auto tries."
    )
    classifier: bool = Field(
        True, description="Also look for claims by meaning, where the classifier is installed."
    )
    sensitivity: Literal["auto", "usual", "keen"] = Field(
        "auto",
        description="How much the classifier suspects: keen finds more and is wrong more often; "
        "auto is keen in scripts alone.",
    )
    adjudicator_url: str = Field(
        "",
        description="Base of an OpenAI-compatible API that gives a second opinion; none if empty.",
    )
    adjudicator_model: str = Field("", description="The model to ask there.")
    adjudicator_key: SecretStr = Field(SecretStr(""), description="Its API key.")
    adjudicator_timeout_s: float = Field(8.0, gt=0, le=120, description="Longest wait for advice.")
    adjudicator_budget_s: float = Field(
        60.0, gt=0, description="Longest wait for all advice of one report."
    )
    adjudicator_cache: Path | None = Field(None, description="SQLite file that remembers advice.")
    frame_every_s: float = Field(1.0, gt=0, le=60, description="Seconds between sampled frames.")
    max_frame_pixels: int = Field(9_200_000, gt=0, description="Largest frame accepted.")
    stall_timeout_s: float = Field(60.0, gt=0, description="Give up when ffmpeg is silent so long.")
    clip_pre_s: float = Field(3.0, ge=0, le=60, description="Seconds of clip before the words.")
    clip_post_s: float = Field(3.0, ge=0, le=60, description="Seconds of clip after the words.")
    script_limit_mib: int = Field(20, ge=1, description="Largest script accepted, MiB.")
    allow_private: bool = Field(False, description="Allow streams on private addresses.")


def load_settings(path: Path | None = None, **flags: Any) -> Settings:
    """Settings from `path` (YAML), the environment and `flags` (None means not given).

    Raises LM-303 naming the setting at fault.
    """
    values: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise ModeratorError(MISSING_FILE, path=path)
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = str(error).replace("\n", " ")
            raise ModeratorError(CONFIG_INVALID, place=path, reason=reason) from None
        if not isinstance(loaded, dict | None):
            raise ModeratorError(CONFIG_INVALID, place=path, reason="not a mapping of settings")
        values.update({str(name): value for name, value in (loaded or {}).items()})
    try:
        from_environment = Settings().model_dump(exclude_unset=True)
        values.update(from_environment)
        values.update({name: value for name, value in flags.items() if value is not None})
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ModeratorError(
            CONFIG_INVALID, place=f"{path or 'settings'}: {name}", reason=first["msg"]
        ) from None
