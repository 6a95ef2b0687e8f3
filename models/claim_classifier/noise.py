"""Sentences as a recogniser might have misheard them, or a host disguised them: 血糖 → 雪堂.

Words are replaced by words, or characters by characters, that sound the same once the usual
confusions are folded together (`moderator.claims.phonetics.fold`); some syllables become another
one first, the likelier the nearer it sounds and the oftener the recogniser was measured to take the
one for the other (`rules/cn/misheard.yaml`). Frequencies come from the dictionary of the jieba
package (MIT licence).
"""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cached_property
from importlib.metadata import files
from math import exp
from pathlib import Path

from moderator.claims.normalise import is_han
from moderator.claims.phonetics import Misheard, fold, syllable, syllable_distance

LEAST_COUNT = 5
STRAYED, DROPPED = 0.2, 0.02
"""Shares of the syllables of a misheard word that are taken for another one, or not heard at all.
Chosen so that letters and syllables go wrong about as often as in `recognised.jsonl`."""
FARTHEST, STEEPNESS = 0.5, 6.0
"""How far apart syllables may be that are taken for one another, and how fast that gets rare."""
MEASURED_WEIGHT = 20.0


class Mishearing:
    """Makes mistakes from a seeded generator: the same calls in the same order give the same."""

    def __init__(self, seed: int, misheard: Misheard | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - noise, not secrets
        self._misheard_as = misheard or {}
        self._near: dict[str, tuple[list[str], list[float]]] = {}

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
        heard = [(char, self._strayed(fold(syllable(char)))) for char in word]
        heard = [one for one in heard if self._random.random() >= DROPPED]
        sounds = " ".join(sound for _, sound in heard)
        alike = [pair for pair in self._words.get(sounds, ()) if pair[0] != word]
        if alike and (len(word) == 1 or self._random.random() < 0.7):
            return self._one_of(alike)
        return "".join(self._written(char, sound) for char, sound in heard)

    def _written(self, char: str, sound: str) -> str:
        """A character of that sound; now and then the right one, where the sound is right."""
        if sound == fold(syllable(char)) and self._random.random() >= 0.6:
            return char
        alike = self._words.get(sound, ())
        return self._one_of(alike) if alike else char

    def _strayed(self, sound: str) -> str:
        if self._random.random() >= STRAYED:
            return sound
        if sound not in self._near:
            measured = self._misheard_as.get(sound, {})
            weights = {
                other: exp(-STEEPNESS * away) + MEASURED_WEIGHT * measured.get(other, 0.0)
                for other in self._syllables
                if (away := syllable_distance(sound, other)) <= FARTHEST or other in measured
            }
            weights.pop(sound, None)
            self._near[sound] = (list(weights), list(weights.values()))
        others, weights_of = self._near[sound]
        return self._random.choices(others, weights_of)[0] if others else sound

    def _one_of(self, pairs: list[tuple[str, int]]) -> str:
        weights = [count**0.8 for _, count in pairs]
        return self._random.choices(pairs, weights)[0][0]

    @cached_property
    def _words(self) -> dict[str, list[tuple[str, int]]]:
        """Folded syllables → the words that have them, with how often they occur."""
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for line in _dictionary().read_text(encoding="utf-8").splitlines():
            word, count, _ = line.split(" ")
            if int(count) >= LEAST_COUNT and len(word) <= 4 and all(map(is_han, word)):
                found[" ".join(fold(syllable(char)) for char in word)].append((word, int(count)))
        return found

    @cached_property
    def _syllables(self) -> list[str]:
        return sorted(sounds for sounds in self._words if " " not in sounds)


def _dictionary() -> Path:
    path = next(
        f for f in files("jieba") or [] if f.name == "dict.txt" and f.parent.name == "jieba"
    )
    return Path(str(path.locate()))
