"""What was probably said, where the recogniser wrote other characters of the same or a like sound.

    持住好碎鸭糕别边米  →  吃出好血压告别便秘

Whisper base writes about one character in three of a fast host wrong and only one syllable in eight
(`error_letters` and `error_syllables` in benchmarks/results/spoken-*.json). So the syllables are
read once more as words that are said in live rooms: a noisy channel (Shannon), decoded by Viterbi
over words. What words follow each other comes from counts of pairs with absolute discounting (Ney,
Essen and Kneser 1994), which fall back on counts of words (`talk_words.txt`, `talk_pairs.txt` of
the rule pack); what a syllable is taken for from what was measured (`misheard.yaml`) and from how
like two syllables are. Every changed character costs the more the surer the recogniser was of it.
The result has as many characters as the text, so that places stay places. It is a guess: what is
found in it alone is never more than a `suspect`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from math import exp, log
from sys import intern

from moderator.claims.normalise import is_han
from moderator.claims.phonetics import (
    coded_syllable,
    fold,
    sound_of,
    syllable,
    syllable_distance,
)

LONGEST = 6
START, END, OTHER = "^", "$", "*"
"""Stand for the two ends of what is said, and for what are no Chinese characters."""
DISCOUNT = 0.7
"""Taken from each count of a pair, for the pairs that were never seen."""
CHANGE_COST = 0.5
"""Nats for changing a character, beside minus the logarithm of one less its confidence."""
UNKNOWN_COST = 2.0
"""Nats by which a character that is no known word is rarer than the rarest word."""
WRONG_SHARE = 0.08
"""Of the syllables that are said, how many are written as another (measured in misheard.yaml)."""
MEASURED_TRUST = 0.75
"""How much of that goes to what was measured, where anything was; the rest goes by likeness."""
LIKENESS = 5.0
"""How fast a mistake gets rarer with the syllables' distance (0–1): exp(−LIKENESS × distance)."""
LIKE_SYLLABLES = 8
"""Syllables that may have been said for one that was written, beside itself."""
DEAREST = 7.0
"""Nats for one wrong syllable beyond which it is not tried."""
ALIKE, ALIKE_ALONE, ALIKE_WRONG = 5, 8, 3
"""Words of one sound that are tried at a place, the most frequent ones: of several characters, of
one, and where a syllable is taken to be wrong."""
KEPT = 8
"""Words in which the text may end at a place that are followed further."""

_State = tuple[float, int, str]
"""Nats so far, where the last word begins, and the word before it."""


class Talk:
    """The words of live rooms, how often they are said and after which. Reads its texts when it is
    first asked: only what was heard needs it.

    `words` has lines `word count`, and behind the count the syllables of a word whose characters
    are not read as they are alone (`银行 9 yin'hang`). `pairs` has lines `word follower
    follower=count …`; a follower without a count was seen once.
    """

    def __init__(self, words: str = "", pairs: str = "") -> None:
        self._words, self._pairs = words, pairs

    @cached_property
    def counts(self) -> dict[str, int]:
        rows = (line.split() for line in self._words.splitlines() if line.strip())
        return {word: int(count) for word, count, *_ in rows}

    @cached_property
    def readings(self) -> dict[str, list[str]]:
        """Toneless syllables of the words that need it."""
        rows = (line.split() for line in self._words.splitlines() if line.strip())
        return {word: own[0].split("'") for word, _, *own in rows if own}

    @cached_property
    def pairs(self) -> dict[str, Followers]:
        """What followed each word; START and END stand for the ends."""
        found: dict[str, Followers] = {}
        for line in self._pairs.splitlines():
            word, *followers = line.split(" ")
            split = (follower.partition("=") for follower in followers)
            found[word] = Followers({intern(one): int(count or 1) for one, _, count in split})
        return found


class Followers:
    """How often each word followed one. `left` is the share that goes to those that never did,
    `back_off` the nats for being one of them."""

    __slots__ = ("back_off", "counts", "left", "often")

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts
        self.often = sum(counts.values())
        self.left = DISCOUNT * len(counts) / self.often if counts else 1.0
        self.back_off = -log(self.left)

    def cost(self, word: str, alone: float) -> float:
        """Nats for `word` as the next one; it costs `alone` by itself."""
        count = self.counts.get(word)
        if count is None:
            return self.back_off + alone
        return -log(self.left * exp(-alone) + (count - DISCOUNT) / self.often)


_NONE = Followers({})


class Rehearing:
    """Reads text again by its sound. Safe to share between threads; ready at the first guess.

    `misheard` says which share of each folded syllable is written as which other.
    """

    def __init__(
        self, talk: Talk, misheard: Mapping[str, Mapping[str, float]] | None = None
    ) -> None:
        self._talk = talk
        self._misheard = misheard or {}

    @cached_property
    def _total(self) -> float:
        return log(sum(self._talk.counts.values()) or 1)

    @cached_property
    def _cost(self) -> dict[str, float]:
        """The nats of each word."""
        return {word: self._total - log(count) for word, count in self._talk.counts.items()}

    @cached_property
    def _unknown(self) -> float:
        return self._total + UNKNOWN_COST

    @cached_property
    def _by_sound(self) -> dict[str, list[str]]:
        """The most frequent words of each sound."""
        found: dict[str, list[str]] = defaultdict(list)
        counts, readings = self._talk.counts, self._talk.readings
        for word in sorted(counts, key=lambda w: (-counts[w], w)):
            sounds = {sound_of(word)}
            if word in readings:
                sounds.add("".join(map(coded_syllable, readings[word])))
            for sound in sounds:
                alike = found[sound]
                if len(alike) < (ALIKE if len(word) > 1 else ALIKE_ALONE):
                    alike.append(word)
        return dict(found)

    def guess(self, text: str, certainty: Sequence[float]) -> str:
        """`text` with the likeliest characters of the same sound; `certainty` (0–1) of each."""
        if not self._by_sound:
            return text
        change = [CHANGE_COST - log(max(1.0 - sure, 1e-3)) for sure in certainty]
        coded = sound_of(text)
        like = [self._like(char, cost) for char, cost in zip(text, change, strict=True)]
        reached: list[dict[str, _State]] = [{START: (0.0, 0, "")}]
        for end in range(1, len(text) + 1):
            ending: dict[str, _State] = {}
            for begin in range(max(0, end - LONGEST), end):
                written = text[begin:end]
                if not all(map(is_han, written)):
                    if begin == end - 1:
                        word, (cost, _, _) = min(reached[begin].items(), key=lambda kept: kept[1])
                        ending[OTHER] = (cost, begin, word)
                    continue
                words = self._words(written, coded[begin:end], like[begin:end])
                for word, cost in words.items():
                    for at, char in enumerate(word, start=begin):
                        if char != text[at]:
                            cost += change[at]
                    self._extend(reached[begin], begin, word, cost, ending)
            best = sorted(ending.items(), key=lambda kept: kept[1])[:KEPT]
            reached.append(dict(best))
        return self._read_back(text, reached)

    def _extend(
        self,
        before: Mapping[str, _State],
        begin: int,
        word: str,
        cost: float,
        ending: dict[str, _State],
    ) -> None:
        """Put `word`, which costs as much itself, behind the best of the words before it."""
        alone = self._cost.get(word, self._unknown)
        least, last = 1e9, ""
        for previous, (so_far, _, _) in before.items():
            total = so_far + self._talk.pairs.get(previous, _NONE).cost(word, alone)
            if total < least:
                least, last = total, previous
        least += cost
        if least < 1e9 and (word not in ending or least < ending[word][0]):
            ending[word] = (least, begin, last)

    def _words(
        self, written: str, coded: str, like: Sequence[Sequence[tuple[str, float]]]
    ) -> dict[str, float]:
        """Words that may have been said here, with the nats for syllables that are wrong."""
        found = dict.fromkeys(self._by_sound.get(coded, ()), 0.0)
        if len(written) == 1 or written in self._cost:
            found[written] = 0.0
        for at, syllables in enumerate(like):
            before, behind = coded[:at], coded[at + 1 :]
            for other, cost in syllables:
                for word in self._by_sound.get(before + other + behind, ())[:ALIKE_WRONG]:
                    if cost < found.get(word, 1e9):
                        found[word] = cost
        return found

    def _like(self, char: str, change: float) -> list[tuple[str, float]]:
        """Codes of the syllables that may have been said for this one, with their nats."""
        if not is_han(char):
            return []
        heard = fold(syllable(char))
        said_for = self._said_for.get(heard, ())
        return [(code, cost) for code, cost in said_for if cost + change < DEAREST]

    @cached_property
    def _said_for(self) -> dict[str, list[tuple[str, float]]]:
        """For each folded syllable that is written, what may have been said, likeliest first."""
        known = sorted({fold(syllable(char)) for char in set("".join(self._cost))})
        found: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for said in known:
            likeness = {
                other: exp(-LIKENESS * syllable_distance(said, other))
                for other in known
                if other != said
            }
            whole = sum(likeness.values())
            measured = self._misheard.get(said, {})
            share = (1.0 - MEASURED_TRUST if measured else 1.0) * WRONG_SHARE / whole
            for heard, alike in likeness.items():
                chance = share * alike + MEASURED_TRUST * measured.get(heard, 0.0)
                found[heard].append((-log(chance), said))
        return {
            heard: [(coded_syllable(said), cost) for cost, said in sorted(row)[:LIKE_SYLLABLES]]
            for heard, row in found.items()
        }

    def _read_back(self, text: str, reached: Sequence[Mapping[str, _State]]) -> str:
        def ended(kept: tuple[str, _State]) -> tuple[float, str]:
            after = self._talk.pairs.get(kept[0], _NONE)
            return kept[1][0] + after.cost(END, self._unknown), kept[0]

        words: list[str] = []
        at = len(text)
        word = min(reached[at].items(), key=ended)[0] if at else ""
        while at:
            _, begin, before = reached[at][word]
            words.append(text[begin:at] if word == OTHER else word)
            at, word = begin, before
        return "".join(reversed(words))


def shared(words: str, pairs: str, misheard: Mapping[str, Mapping[str, float]]) -> Rehearing:
    """`Rehearing` by such files, the same one for all who ask: packs are loaded again and again."""
    return _shared(words, pairs, json.dumps(misheard, sort_keys=True))


@lru_cache(2)
def _shared(words: str, pairs: str, misheard: str) -> Rehearing:
    return Rehearing(Talk(words, pairs), json.loads(misheard))
