"""What is known of a live room, as people write it down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from moderator.errors import MISSING_FILE, ROOM_INVALID, ModeratorError
from moderator.records import Room


class RoomFile(BaseModel):
    """The form of `room.yaml`. `products` are ids of passports."""

    model_config = ConfigDict(extra="forbid")

    id: str
    platform: str = ""
    title: str = ""
    host: str = ""
    merchant: str = ""
    products: list[str] = []
    ai_host: bool = False


def load_room(path: Path) -> Room:
    """Read one room. Raises LM-101 or LM-302 naming the field at fault."""
    data = read_fields(path)
    try:
        room = RoomFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ModeratorError(ROOM_INVALID, place=f"{path}: {field}", reason=first["msg"]) from None
    return Room(**{**room.model_dump(), "products": tuple(room.products)})


def read_fields(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file of rooms holds. Raises LM-101 or LM-302."""
    if not path.is_file():
        raise ModeratorError(MISSING_FILE, path=path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise ModeratorError(ROOM_INVALID, place=path, reason=reason) from None
    if not isinstance(data, dict):
        raise ModeratorError(ROOM_INVALID, place=path, reason="not a mapping of fields")
    return data
