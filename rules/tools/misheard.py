"""Write `rules/cn/misheard.yaml`: which syllables the embedded recogniser takes for which.

    python rules/tools/misheard.py

Counts `models/claim_classifier/data/recognised.jsonl`, where a few thousand terms of the rules were
voiced in sentences and recognised (`python -m models.claim_classifier.recognise` makes it). What
was said and what was written are aligned by syllable (Levenshtein); confusions that
`moderator.claims.phonetics.fold` folds together already are left out.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import yaml
from pypinyin import Style, lazy_pinyin
from rapidfuzz.distance import Levenshtein

from moderator.claims.normalise import is_han, normalise
from moderator.claims.phonetics import fold, sound_of
from moderator.claims.rules import load_rules

ROOT = Path(__file__).parents[2]
RECOGNISED = ROOT / "models" / "claim_classifier" / "data" / "recognised.jsonl"
LEAST_COUNT = 3
LEAST_SHARE = 0.02
"""Seen fewer times than this, or in a smaller share of the times it was said: chance."""


def main() -> None:
    rows = [json.loads(line) for line in RECOGNISED.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if not row["distrust"]]
    said: Counter[str] = Counter()
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    events: Counter[str] = Counter()
    for row in rows:
        spoken, written = syllables(row["said"]), syllables(row["heard"])
        said.update(spoken)
        for tag, i0, i1, j0, j1 in Levenshtein.opcodes(spoken, written):
            events[tag] += max(i1 - i0, j1 - j0)
            if tag == "replace" and i1 - i0 == j1 - j0:
                for one, other in zip(spoken[i0:i1], written[j0:j1], strict=True):
                    taken[one][other] += 1
    table = {
        one: {
            other: round(count / said[one], 3)
            for other, count in sorted(others.items(), key=lambda pair: -pair[1])
            if count >= LEAST_COUNT and count / said[one] >= LEAST_SHARE
        }
        for one, others in sorted(taken.items())
    }
    table = {one: others for one, others in table.items() if others}
    body = {
        "measured": {
            "sentences": len(rows),
            "syllables": sum(said.values()),
            "right_to_the_fold": events["equal"],
            "replaced": events["replace"],
            "dropped": events["delete"],
            "doubled_or_invented": events["insert"],
            "terms": terms_heard(rows),
        },
        "syllables": table,
    }
    out = ROOT / "rules" / "cn" / "misheard.yaml"
    head = (
        "# Folded syllable said → syllable written by Whisper base → share of the times said.\n"
        "# Written by rules/tools/misheard.py from voiced and recognised sentences.\n"
    )
    out.write_text(
        head + yaml.safe_dump(body, allow_unicode=True, sort_keys=False, default_flow_style=None),
        encoding="utf-8",
    )
    print(f"{body['measured']}\n{sum(map(len, table.values()))} confusions → {out}")


def syllables(text: str) -> list[str]:
    """The folded syllables of the Chinese characters, read as phrases."""
    plain = "".join(char for char in normalise(text).text if is_han(char))
    return [fold(one) for one in lazy_pinyin(plain, style=Style.NORMAL)]


def terms_heard(rows: list[dict[str, str]]) -> dict[str, int]:
    """Of the terms that were said: written right, written with the same sound, or neither."""
    pack = load_rules()
    terms = {t for lexicon in pack.lexicons.values() for t in lexicon.terms if len(t) >= 2}
    terms |= set(pack.sounded_terms())
    count: Counter[str] = Counter()
    for row in rows:
        said, heard = normalise(row["said"]).text, normalise(row["heard"]).text
        sounds = sound_of(heard)
        for term in terms:
            if term in said:
                right, alike = term in heard, sound_of(term) in sounds
                count["right" if right else "alike" if alike else "lost"] += 1
    return dict(count)


if __name__ == "__main__":
    main()
