"""Sentences as a recogniser might have misheard them, or a host disguised them: 血糖 → 雪堂.

Words are replaced by words, or characters by characters, of the same toneless sound with the usual
confusions folded together (`moderator.claims.phonetics.fold`). Frequencies come from the dictionary
of the jieba package (MIT licence).
"""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cached_property
from importlib.metadata import files
from pathlib import Path

from moderator.claims.normalise import is_han
from moderator.claims.phonetics import sound_of

LEAST_COUNT = 5


class Mishearing:
    """Makes mistakes from a seeded generator: the same calls in the same order give the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - noise, not secrets

    def mishear(self, text: str, rate: float) -> str:
        """`text` with about `rate` of its words misheard; only Chinese characters change."""
        import jieba

        return "".join(
            self._misheard(word) if self._random.random() < rate else word
            for word in jieba.cut(text)
        )

    def _misheard(self, word: str) -> str:
        if not all(map(is_han, word)):
            return word
        alike = [pair for pair in self._words.get(sound_of(word), ()) if pair[0] != word]
        if alike and (len(word) == 1 or self._random.random() < 0.7):
            return self._one_of(alike)
        return "".join(self._other(char) if self._random.random() < 0.6 else char for char in word)

    def _other(self, char: str) -> str:
        alike = self._words.get(sound_of(char), ())
        return self._one_of(alike) if alike else char

    def _one_of(self, pairs: list[tuple[str, int]]) -> str:
        weights = [count**0.5 for _, count in pairs]
        return self._random.choices(pairs, weights)[0][0]

    @cached_property
    def _words(self) -> dict[str, list[tuple[str, int]]]:
        """Folded sound → the words that have it, with how often they occur."""
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for line in _dictionary().read_text(encoding="utf-8").splitlines():
            word, count, _ = line.split(" ")
            if int(count) >= LEAST_COUNT and len(word) <= 4 and all(map(is_han, word)):
                found[sound_of(word)].append((word, int(count)))
        return found


def _dictionary() -> Path:
    path = next(
        f for f in files("jieba") or [] if f.name == "dict.txt" and f.parent.name == "jieba"
    )
    return Path(str(path.locate()))
