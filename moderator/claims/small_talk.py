"""Small talk and set phrases of a live room: sentences whose every word says nothing of goods.

A classifier taught on claims and their near misses has read few greetings and link numbers, and
what it makes of them means little; nor is a notice that the law prescribes a claim. Which words
count is data of the rule pack (`rules/cn/small_talk.yaml`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = frozenset("0123456789.零〇一二两三四五六七八九十百千万半点")
_PAUSE = frozenset(" ，,。.！!？?、；;：:…~～-—“”\"'（）()\t\n\u3000")


class SmallTalk:
    """`covers` says whether a sentence is made of the words, numbers and pauses alone, or is one of
    `set_phrases`, in which `…` stands for a name of at most six characters."""

    def __init__(self, words: Iterable[str] = (), set_phrases: Iterable[str] = ()) -> None:
        self._set_phrases = [_expression(phrase) for phrase in set_phrases]
        self._words = frozenset(word for word in words if word)
        self._longest = max(map(len, self._words), default=0)

    def covers(self, sentence: str) -> bool:
        """Linear in the length of the sentence; False for one without words."""
        bare = sentence.strip("".join(_PAUSE))
        if any(one.fullmatch(bare) for one in self._set_phrases):
            return True
        if not self._longest:
            return False
        reached = {0}
        size, said = len(sentence), False
        for at in range(size):
            if at not in reached:
                continue
            if sentence[at] in _PAUSE or sentence[at] in _NUMBER:
                reached.add(at + 1)
            for length in range(1, min(self._longest, size - at) + 1):
                if sentence[at : at + length] in self._words:
                    reached.add(at + length)
                    said = True
        return said and size in reached


def _expression(phrase: str) -> re.Pattern[str]:
    return re.compile(".{0,6}".join(map(re.escape, phrase.split("…"))))
