"""Find advertising-law violations in live-stream selling: speech, screen and scripts.

The public API: `check` a recording or stream, `check_script` a text, `load_rules` a rule
pack; `Room` and `Violation` are the types they speak in. Nothing heavy is imported until
it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderator.claims.passports import Passport
    from moderator.claims.rules import load_rules
    from moderator.errors import ModeratorError
    from moderator.pipeline import check, check_script
    from moderator.records import Room, Violation

__all__ = [
    "ModeratorError",
    "Passport",
    "Room",
    "Violation",
    "check",
    "check_script",
    "load_rules",
]
__version__ = "0.1.0"

_HOMES = {
    "ModeratorError": "moderator.errors",
    "Passport": "moderator.claims.passports",
    "Room": "moderator.records",
    "Violation": "moderator.records",
    "check": "moderator.pipeline",
    "check_script": "moderator.pipeline",
    "load_rules": "moderator.claims.rules",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'moderator' has no attribute '{name}'")
