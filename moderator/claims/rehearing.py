"""What was probably said, where the recogniser wrote other characters of the same sound.

    持住好碎鸭糕别边米  →  吃出好血压告别便秘

Whisper base writes about one character in three of a fast host wrong and only one syllable in eight
(`error_letters` and `error_syllables` in benchmarks/results/spoken-*.json). So the folded syllables
are read once more, as words that are said in live rooms: the likeliest cut into words, where a
word's cost is its rarity (`rules/<jurisdiction>/talk_words.txt`) and every changed character costs
the more the surer the recogniser was of it. The result has as many characters as the text, so that
places stay places. It is a guess: what is found in it alone is never more than a `suspect`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import log

from moderator.claims.normalise import is_han
from moderator.claims.phonetics import sound_of

LONGEST = 6
CHANGE_COST = 1.0
"""Nats for changing a character, beside minus the logarithm of one less its confidence."""
UNKNOWN_COST = 2.0
"""Nats by which a character that is no known word is rarer than the rarest word."""
ALIKE = 4
"""Words of one sound that are tried at a place: the most frequent ones, and what was written."""


class Rehearing:
    """Reads text again by its sound. Read-only after construction: share it freely."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        total = log(sum(counts.values()) or 1)
        self._cost = {word: total - log(count) for word, count in counts.items()}
        self._unknown = total + UNKNOWN_COST
        by_sound: dict[str, list[str]] = defaultdict(list)
        for word in sorted(counts, key=lambda w: -counts[w]):
            alike = by_sound[sound_of(word)]
            if len(alike) < ALIKE:
                alike.append(word)
        self._by_sound = dict(by_sound)

    def guess(self, text: str, certainty: Sequence[float]) -> str:
        """`text` with the likeliest characters of the same sound; `certainty` (0–1) of each."""
        if not self._by_sound:
            return text
        coded = sound_of(text)
        best: list[tuple[float, int, str]] = [(0.0, 0, "")]
        change = [CHANGE_COST - log(max(1.0 - sure, 1e-3)) for sure in certainty]
        for end in range(1, len(text) + 1):
            char = text[end - 1]
            kept = self._cost.get(char, self._unknown) if is_han(char) else 0.0
            options = [(best[end - 1][0] + kept, end - 1, char)]
            for begin in range(max(0, end - LONGEST), end):
                written = text[begin:end]
                words = self._by_sound.get(coded[begin:end], ())
                if written in self._cost and written not in words:
                    words = [*words, written]
                for word in words:
                    cost = best[begin][0] + self._cost[word]
                    cost += sum(change[i] for i in range(begin, end) if text[i] != word[i - begin])
                    options.append((cost, begin, word))
            best.append(min(options))
        return self._read_back(best)

    @staticmethod
    def _read_back(best: list[tuple[float, int, str]]) -> str:
        words: list[str] = []
        at = len(best) - 1
        while at:
            _, at, word = best[at]
            words.append(word)
        return "".join(reversed(words))


def counts_from(text: str) -> dict[str, int]:
    """The lines `word count` of a pack's `talk_words.txt`."""
    pairs = (line.split() for line in text.splitlines() if line.strip())
    return {word: int(count) for word, count in pairs}
