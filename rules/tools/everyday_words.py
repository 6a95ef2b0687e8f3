"""Write `rules/cn/everyday_words.yaml`: ordinary words that sound like a term of the rules.

A recogniser that writes 敌意 most likely heard 敌意 and not 第一; and in 国家机关 nobody said
国家级, though it begins alike. Run it again after adding terms that are found by sound::

    pip install jieba && python rules/tools/everyday_words.py

Word frequencies come from the dictionary of the jieba package (MIT licence).
"""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path

import yaml

from moderator.claims.phonetics import SoundIndex
from moderator.claims.rules import load_rules

LEAST_COUNT = 20
"""Words rarer than this in the dictionary's corpus are more often mishearings than words."""
YOUNGER = ("小姐姐", "小姐姐们", "好运来", "每百克", "每百毫升", "拿不出", "拿不出手", "没白来")
"""Words of live rooms that the dictionary, of 2012, does not know or seldom saw."""


def main() -> None:
    terms = load_rules().sounded_terms()
    sounds = SoundIndex(terms)
    common = {word for word, count in _dictionary() if count >= LEAST_COUNT}
    words = sorted(
        word
        for word in {*common, *YOUNGER}
        if not any(term in word for term in terms) and sounds.find(word)
    )
    out = Path(__file__).parents[1] / "cn" / "everyday_words.yaml"
    head = "# Ordinary words that sound like a term; written by rules/tools/everyday_words.py\n"
    body = yaml.safe_dump({"words": words}, allow_unicode=True, width=100, default_flow_style=None)
    out.write_text(head + body, encoding="utf-8")
    print(f"{len(words)} words that sound like one of {len(terms)} terms → {out}")


def _dictionary() -> list[tuple[str, int]]:
    path = next(
        f for f in files("jieba") or [] if f.name == "dict.txt" and f.parent.name == "jieba"
    )
    entries = []
    for line in Path(str(path.locate())).read_text(encoding="utf-8").splitlines():
        word, count, _ = line.split(" ")
        if len(word) >= 2:
            entries.append((word, int(count)))
    return entries


if __name__ == "__main__":
    main()
