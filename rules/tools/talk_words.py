"""Write `rules/cn/talk_words.txt` and `talk_pairs.txt`: the words of live rooms and of plain talk,
how often they come, and after which.

    pip install jieba && PYTHONPATH=. python rules/tools/talk_words.py

`moderator.claims.rehearing` reads speech with them. Counted is the *train* part of the classifier's
corpus, harmless talk included (`models/claim_classifier/talk.py` says how).
"""

from __future__ import annotations

from pathlib import Path

from models.claim_classifier.dataset import load_corpus
from models.claim_classifier.talk import counted
from moderator.claims.rules import load_rules


def main() -> None:
    pack = load_rules()
    counts = counted((example.text for example in load_corpus(pack).part("train")), pack)
    out = Path(__file__).parents[1] / "cn"
    for name, lines in (
        ("talk_words.txt", counts.word_lines()),
        ("talk_pairs.txt", counts.pair_lines()),
    ):
        (out / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    often = sum(map(len, counts.pairs.values()))
    print(f"{len(counts.words)} words, {often} pairs → {out}")


if __name__ == "__main__":
    main()
