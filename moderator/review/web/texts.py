"""Everything the console says, in Chinese and English, from one file that scripts read too."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

TEXTS = Path(__file__).parent / "static" / "texts.json"


@cache
def texts() -> dict[str, tuple[str, str]]:
    """Key → (zh, en)."""
    body: dict[str, list[str]] = json.loads(TEXTS.read_text(encoding="utf-8"))
    return {key: (zh, en) for key, (zh, en) in body.items()}


def text(key: str, lang: str) -> str:
    """What `key` says in `lang`; a key nobody wrote a text for is its own text."""
    words = texts().get(key)
    if words is None:
        return key
    return words[0] if lang == "zh" else words[1]
