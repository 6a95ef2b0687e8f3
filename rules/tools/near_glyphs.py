"""Write `rules/cn/near_glyphs.yaml`: spellings that look like a term of the rules.

    pip install Pillow jieba && python rules/tools/near_glyphs.py --font NotoSansCJK-Regular.ttc

Every common character is drawn in one font and compared by pixels (cosine of blurred pictures), so
that 己 stands beside 已 and 末 beside 未. Hosts write one for the other on banners and in scripts,
and screen readers mistake them. A spelling is left out when the changed character makes an ordinary
word with a neighbour (by the dictionary of the jieba package, MIT licence).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import files
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from moderator.claims.normalise import is_han
from moderator.claims.rules import load_rules

SIDE = 48
COMMON = 5000
LEAST_LIKENESS = 0.9
MOST = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--font", default="/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")
    chosen = parser.parse_args()
    font = ImageFont.truetype(chosen.font, SIDE - 4)
    pack = load_rules()
    wanted = {c for lexicon in pack.lexicons.values() for t in lexicon.terms for c in t}
    wanted |= {c for term in pack.sounded_terms() for c in term}
    common = [char for char, _ in _frequencies().most_common(COMMON)]
    terms = sorted(char for char in wanted if is_han(char))
    drawn = {char: _drawn(char, font) for char in {*common, *terms}}
    pool = sorted(drawn)
    matrix = np.stack([drawn[char] for char in pool])
    alike = {}
    for char in terms:
        likeness = matrix @ drawn[char]
        order = np.argsort(-likeness)[: MOST + 1]
        found = [pool[i] for i in order if likeness[i] >= LEAST_LIKENESS and pool[i] != char]
        if found:
            alike[char] = found
    words = set(_dictionary())
    # 冒药 looks like 胃药, and stands in 感冒药.
    known = {cue for cues in pack.product_cues.values() for cue in cues}
    known |= {term for lexicon in pack.lexicons.values() for term in lexicon.terms}
    spellings = {
        spelling: term
        for term in sorted(pack.disguised_terms())
        for spelling, at in _spellings(term, alike)
        if not _makes_words(spelling, at, words) and not any(spelling in word for word in known)
    }
    out = Path(__file__).parents[1] / "cn" / "near_glyphs.yaml"
    head = "# Spelling that looks like a term → the term; written by rules/tools/near_glyphs.py\n"
    body = yaml.safe_dump({"spellings": spellings}, allow_unicode=True, width=100)
    out.write_text(head + body, encoding="utf-8")
    print(f"{len(alike)} of {len(terms)} characters look like another")
    print(f"{len(spellings)} spellings → {out}")


def _spellings(term: str, alike: dict[str, list[str]]) -> Iterator[tuple[str, int]]:
    for at, char in enumerate(term):
        for other in alike.get(char, ()):
            if len(term) >= 2:
                yield term[:at] + other + term[at + 1 :], at


def _makes_words(spelling: str, at: int, words: set[str]) -> bool:
    around = (
        spelling[begin:end]
        for begin in range(at + 1)
        for end in range(at + 1, len(spelling) + 1)
        if end - begin >= 2
    )
    return any(part in words for part in around)


def _drawn(char: str, font: ImageFont.FreeTypeFont) -> NDArray[np.float32]:
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text((SIDE / 2, SIDE / 2), char, fill=255, font=font, anchor="mm")
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1.2)), np.float32).ravel()
    pixels -= pixels.mean()
    return pixels / float(np.linalg.norm(pixels) or 1.0)


def _frequencies() -> Counter[str]:
    count: Counter[str] = Counter()
    for word, often in _dictionary().items():
        for char in filter(is_han, word):
            count[char] += often
    return count


@cache
def _dictionary() -> dict[str, int]:
    path = next(
        f for f in files("jieba") or [] if f.name == "dict.txt" and f.parent.name == "jieba"
    )
    lines = Path(str(path.locate())).read_text(encoding="utf-8").splitlines()
    return {word: int(often) for word, often, _ in (line.split(" ") for line in lines)}


if __name__ == "__main__":
    main()
