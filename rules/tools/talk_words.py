"""Write `rules/cn/talk_words.txt`: the words of live rooms and of plain talk, and how often they
come.

    pip install jieba && python rules/tools/talk_words.py

`moderator.claims.rehearing` reads speech with it. Counted are the *train* part of the classifier's
corpus, harmless talk included, cut into words by jieba (MIT licence) with the terms of the rules
added to its dictionary, so that a term stays whole. A word of general Chinese that the corpus does
not know comes in with a small share of its count in jieba's dictionary: what is not said in rooms
must be able to win too.
"""

from __future__ import annotations

from collections import Counter
from importlib.metadata import files
from pathlib import Path

import jieba

from models.claim_classifier.dataset import load_corpus
from moderator.claims.normalise import is_han
from moderator.claims.rules import load_rules

LONGEST = 6
GENERAL_SHARE = 2e-3
"""A general word counts one for every 500 times in jieba's dictionary (60 million words)."""
LEAST_GENERAL = 500


def main() -> None:
    pack = load_rules()
    terms = {t for lexicon in pack.lexicons.values() for t in lexicon.terms} | pack.sounded_terms()
    for term in terms:
        if 2 <= len(term) <= LONGEST:
            jieba.add_word(term)
    count: Counter[str] = Counter()
    for example in load_corpus(pack).part("train"):
        count.update(word for word in jieba.cut(example.text) if _counts(word))
    for term in terms:
        if _counts(term):
            count[term] += 1
    for word, often in _dictionary():
        if often >= LEAST_GENERAL and _counts(word) and word not in count:
            count[word] = max(1, round(often * GENERAL_SHARE))
    out = Path(__file__).parents[1] / "cn" / "talk_words.txt"
    lines = (f"{word} {often}\n" for word, often in sorted(count.items()))
    out.write_text("".join(lines), encoding="utf-8")
    print(f"{len(count)} words → {out}")


def _counts(word: str) -> bool:
    return 1 <= len(word) <= LONGEST and all(map(is_han, word))


def _dictionary() -> list[tuple[str, int]]:
    path = next(
        f for f in files("jieba") or [] if f.name == "dict.txt" and f.parent.name == "jieba"
    )
    lines = Path(str(path.locate())).read_text(encoding="utf-8").splitlines()
    return [(word, int(often)) for word, often, _ in (line.split(" ") for line in lines)]


if __name__ == "__main__":
    main()
