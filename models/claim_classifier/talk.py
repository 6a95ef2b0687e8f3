"""What is said in live rooms, counted: words, and which follows which, for
`moderator.claims.rehearing`.

Texts are cut into words by jieba (MIT licence) with the terms of the rules added to its dictionary,
so that a term stays whole. A word of general Chinese that the texts do not know comes in with a
small share of its count in jieba's dictionary: what is not said in rooms must be able to win too.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from hashlib import md5
from importlib.metadata import files
from pathlib import Path

import jieba
from pypinyin import Style, lazy_pinyin
from rapidfuzz.distance import Levenshtein

from moderator.claims.normalise import is_han
from moderator.claims.phonetics import fold, syllable
from moderator.claims.rehearing import END, LONGEST, OTHER, START, Rehearing, Talk
from moderator.claims.rules import RulePack

GENERAL_SHARE = 2e-3
"""A general word counts one for every 500 times in jieba's dictionary (60 million words)."""
LEAST_GENERAL = 500
FOLDS = 4


class Counts:
    """Of words, and of which word followed which (START and END for the two ends)."""

    def __init__(self) -> None:
        self.words: Counter[str] = Counter()
        self.pairs: dict[str, Counter[str]] = defaultdict(Counter)

    def see(self, words: Iterable[str]) -> None:
        """One text, cut into words."""
        before = START
        for word in words:
            known = _counts(word)
            self.pairs[before][word if known else OTHER] += 1
            before = word if known else OTHER
            if known:
                self.words[word] += 1
        self.pairs[before][END] += 1

    def add(self, other: Counts) -> None:
        self.words.update(other.words)
        for word, followers in other.pairs.items():
            self.pairs[word].update(followers)

    def beside(self, terms: Iterable[str]) -> Counts:
        """These counts, with small ones for `terms` and for words of general use."""
        found = Counts()
        found.add(self)
        found.words.update(filter(_counts, terms))
        for word, often in _dictionary():
            if often >= LEAST_GENERAL and _counts(word) and word not in found.words:
                found.words[word] = max(1, round(often * GENERAL_SHARE))
        return found

    def word_lines(self) -> Iterator[str]:
        """As `rehearing.Talk` reads them."""
        for word, often in sorted(self.words.items()):
            yield f"{word} {often} {_read_otherwise(word)}".rstrip()

    def pair_lines(self) -> Iterator[str]:
        for word, followers in sorted(self.pairs.items()):
            told = (f"{f}={often}" if often > 1 else f for f, often in sorted(followers.items()))
            yield " ".join((word, *told))

    def talk(self) -> Talk:
        return Talk("\n".join(self.word_lines()), "\n".join(self.pair_lines()))


def terms_of(pack: RulePack) -> set[str]:
    """The pack's terms, which jieba keeps whole from now on."""
    terms = {t for lexicon in pack.lexicons.values() for t in lexicon.terms} | pack.sounded_terms()
    for term in terms:
        if 2 <= len(term) <= LONGEST:
            jieba.add_word(term)
    return terms


def counted(texts: Iterable[str], pack: RulePack) -> Counts:
    terms = terms_of(pack)
    counts = Counts()
    for text in texts:
        counts.see(jieba.cut(text))
    return counts.beside(terms)


class Rereading:
    """Misheard sentences as the product would read them: `Rehearing` by the counts of other
    families than the sentence's own, so that no sentence helps to guess itself."""

    def __init__(self, texts: Iterable[tuple[str, str]], pack: RulePack) -> None:
        """`texts` are pairs of a text and its family."""
        terms = terms_of(pack)
        parts = [Counts() for _ in range(FOLDS)]
        for text, family in texts:
            parts[_fold_of(family)].see(jieba.cut(text))
        self._by_fold = []
        for left_out in range(FOLDS):
            counts = Counts()
            for fold_, part in enumerate(parts):
                if fold_ != left_out:
                    counts.add(part)
            self._by_fold.append(Rehearing(counts.beside(terms).talk(), pack.misheard))

    def guess(self, text: str, certainty: Sequence[float], family: str) -> str:
        return self._by_fold[_fold_of(family)].guess(text, certainty)


class Certainty:
    """How sure the recogniser may have been of misheard text, drawn from how sure it was of right
    and of wrong characters in `recognised`, the rows of `recognised.jsonl`."""

    def __init__(self, recognised: Path, seed: int) -> None:
        self._recognised = recognised
        self._random = random.Random(seed)  # noqa: S311 - a draw, not secrets

    def of(self, text: str, said: str) -> list[float]:
        right, wrong = self._measured
        drawn = [self._random.choice(wrong) for _ in text]
        for block in Levenshtein.opcodes(text, said).as_matching_blocks():
            for at in range(block.a, block.a + block.size):
                drawn[at] = self._random.choice(right)
        return drawn

    @cached_property
    def _measured(self) -> tuple[list[float], list[float]]:
        right, wrong = [1.0], [0.5]
        for line in self._recognised.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            pairs = zip(row["heard"], row["confidences"], strict=False)
            heard = [(char, sure) for char, sure in pairs if is_han(char)]
            said = [char for char in row["said"] if is_han(char)]
            agreed = set()
            written = [char for char, _ in heard]
            for block in Levenshtein.opcodes(written, said).as_matching_blocks():
                agreed.update(range(block.a, block.a + block.size))
            for at, (_, sure) in enumerate(heard):
                (right if at in agreed else wrong).append(sure)
        return right, wrong


@cache
def _read_otherwise(word: str) -> str:
    """The word's syllables, joined by apostrophes, where its characters alone read otherwise."""
    own = lazy_pinyin(word, style=Style.NORMAL)
    if [*map(fold, own)] == [fold(syllable(char)) for char in word]:
        return ""
    return "'".join(own)


def _fold_of(family: str) -> int:
    return md5(family.encode(), usedforsecurity=False).digest()[0] % FOLDS


def _counts(word: str) -> bool:
    return 1 <= len(word) <= LONGEST and all(map(is_han, word))


@cache
def _dictionary() -> list[tuple[str, int]]:
    path = next(
        f for f in files("jieba") or [] if f.name == "dict.txt" and f.parent.name == "jieba"
    )
    lines = Path(str(path.locate())).read_text(encoding="utf-8").splitlines()
    return [(word, int(often)) for word, often, _ in (line.split(" ") for line in lines)]
