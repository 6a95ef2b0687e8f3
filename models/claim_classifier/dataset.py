"""The sentences, split by family so that no near-duplicate stands on both sides.

Three parts: `train`, `dev` (thresholds and calibration) and `held` (reported, never looked at
while training). A family is one situation written in many ways; it lies wholly in one part.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.claim_classifier.noise import Mishearing
from models.claim_classifier.talk import Certainty, Rereading
from moderator.claims.classifier import MAX_CHARS, sentences, spoken_form
from moderator.claims.normalise import normalise, without_pauses
from moderator.claims.rules import RulePack

HERE = Path(__file__).parent
RECOGNISED = HERE / "data" / "recognised.jsonl"
"""Sentences as the speech model wrote them; `recognise.py` makes it."""
CLEAN_SPEECH = HERE.parents[1] / "tests" / "data" / "clean_speech"
SHINGLE = 4
NEAR_DUPLICATE = 0.6
CLEAN_WEIGHT = 1.0
"""How much a sentence of plain talk counts in training."""
MISHEARD_SHARES = (0.12, 0.25, 0.45)
MISHEARD_WEIGHT = 0.6
RUN_ONS, RUN_ON_WEIGHT = 3000, 0.6
LONGEST_PIECE, RUN_ON_CHARS = 30, (36, MAX_CHARS)
"""How many runs of short sentences are made, and how many characters pieces and runs have."""
ROOMS = "rooms_"
"""Files that begin so were added when the held-out part was large already; they give less to it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence as the classifier reads it. `labels` is empty for lawful talk; `weight` is
    below one where the label was not given by hand for this sentence."""

    text: str
    labels: tuple[str, ...]
    family: str
    part: str
    source: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Corpus:
    """All examples, and what was taken out: identical texts, and near-duplicates of `held`."""

    examples: tuple[Example, ...]
    repeated: int
    near_duplicates: int

    def part(self, name: str) -> list[Example]:
        return [example for example in self.examples if example.part == name]


def load_corpus(pack: RulePack) -> Corpus:
    """The written corpus, the rules' own tests, and harmless talk."""
    examples = [*_written(), *_rule_tests(pack), *_clean_speech()]
    once: dict[str, Example] = {}
    # Held-out sentences go first: a repetition is taken out of the training side.
    for example in sorted(examples, key=lambda e: (_ORDER[e.part], e.source == "rules")):
        once.setdefault(example.text, example)
    held = [e for e in once.values() if e.part == "held"]
    rest = [e for e in once.values() if e.part != "held"]
    near = _near(rest, held)
    kept = [*held, *(e for e in rest if e.text not in near)]
    kept.sort(key=lambda e: hashlib.md5(e.text.encode(), usedforsecurity=False).digest())
    return Corpus(tuple(kept), len(examples) - len(once), len(near))


def misheard(examples: list[Example], pack: RulePack, seed: int) -> list[Example]:
    """The same sentences with the mistakes of a recogniser, as far as the product does not mend
    them (`talk.Rereading`): real ones where `recognised.jsonl` has them, made-up ones for every
    other sentence (`noise.py`)."""
    noise = Mishearing(seed, pack.misheard)
    again = Rereading(((example.text, example.family) for example in examples), pack)
    drawn = Certainty(RECOGNISED, seed)
    found = []
    by_text = {example.text: example for example in examples}
    if RECOGNISED.is_file():
        for line in RECOGNISED.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            said = by_text.get(_form(row["said"]))
            heard, certainty = _with_certainty(row["heard"], row["confidences"])
            if said is not None and not row["distrust"] and len(heard) >= 4:
                text = again.guess(heard, certainty, said.family)
                found.append(replace(said, text=text, source="recognised"))
    for number, example in enumerate(examples[::2]):
        text = noise.mishear(example.text, MISHEARD_SHARES[number % len(MISHEARD_SHARES)])
        if text != example.text:
            text = again.guess(text, drawn.of(text, example.text), example.family)
            found.append(replace(example, text=text, weight=example.weight * MISHEARD_WEIGHT))
    return found


def run_on(examples: list[Example], seed: int) -> list[Example]:
    """Short sentences said in one breath, as hosts do: half of the runs hold one unlawful sentence
    among lawful ones, half none."""
    drawn = random.Random(seed)  # noqa: S311 - a draw, not secrets
    short = [example for example in examples if len(example.text) <= LONGEST_PIECE]
    lawful = [example for example in short if not example.labels]
    unlawful = [example for example in short if example.labels]
    found = []
    for number in range(RUN_ONS if lawful and unlawful else 0):
        told = [drawn.choice(unlawful)] if number % 2 else []
        length, wanted = sum(len(one.text) for one in told), drawn.randint(*RUN_ON_CHARS)
        pieces = list(told)
        while length < wanted:
            piece = drawn.choice(lawful)
            if length + len(piece.text) <= MAX_CHARS:
                pieces.append(piece)
            length += len(piece.text)
        drawn.shuffle(pieces)
        text = "".join(piece.text for piece in pieces)
        labels = told[0].labels if told else ()
        found.append(Example(text, labels, "run_on", "train", "run_on", RUN_ON_WEIGHT))
    return found


def part_of(family: str, source: str = "") -> str:
    """The part a family lies in, by the digest of its name; less is held out of `ROOMS` files."""
    digest = hashlib.md5(family.encode(), usedforsecurity=False).hexdigest()
    if digest[0] in ("ef" if source.startswith(ROOMS) else "abcdef"):
        return "held"
    return "dev" if digest[0] in "01" else "train"


_ORDER = {"held": 0, "dev": 1, "train": 2}


def written_rows() -> Iterator[dict[str, Any]]:
    """The rows of `data/*.jsonl` as they stand, each with the `part` and `source` it belongs to."""
    for path in sorted((HERE / "data").glob("*.jsonl")):
        if path == RECOGNISED:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                row = json.loads(line)
                part = part_of(row["family"], path.stem)
                yield {**row, "part": part, "source": path.stem}


def _written() -> Iterable[Example]:
    for row in written_rows():
        text = _form(row["text"])
        if text:
            family = f"{row['source']}/{row['family']}"
            yield Example(text, tuple(row["labels"]), family, row["part"], row["source"])


def _rule_tests(pack: RulePack) -> Iterable[Example]:
    """A rule's tests name its own category only, and lawful talk only for that rule."""
    for rule in pack.rules:
        if rule.absences or rule.semantic_only:
            continue
        for test in rule.must_find:
            if len(test.text) <= 3 * MAX_CHARS:
                yield from _spread(test.text, (rule.category,), rule.id, "train", "rules", 0.5)
        for test in rule.must_pass:
            if test.product is None and len(test.text) <= 3 * MAX_CHARS:
                yield from _spread(test.text, (), rule.id, "train", "rules", 0.5)


def _clean_speech() -> Iterable[Example]:
    for path in sorted(CLEAN_SPEECH.glob("*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                part = part_of(path.stem, ROOMS)
                yield from _spread(line, (), path.stem, part, "clean_speech", CLEAN_WEIGHT)


def _spread(
    text: str, labels: tuple[str, ...], family: str, part: str, source: str, weight: float
) -> Iterable[Example]:
    whole = without_pauses(normalise(text)).text
    if labels and len(whole) > MAX_CHARS:
        return  # which of its sentences is at fault is not known
    for begin, end in sentences(normalise(text).text):
        piece = _form(normalise(text).text[begin:end])
        if len(piece) >= 4:
            yield Example(piece, labels, family, part, source, weight)


def _form(text: str) -> str:
    return spoken_form(normalise(text).text)


def _with_certainty(text: str, confidences: list[float]) -> tuple[str, list[float]]:
    """As `_form`, with how sure the recogniser was of each character."""
    plain = normalise(text)
    own = [
        (spoken_form(char), confidences[plain.span(at, at + 1)[0]])
        for at, char in enumerate(plain.text)
    ]
    kept = [(char, sure) for char, sure in own if char]
    return "".join(char for char, _ in kept), [sure for _, sure in kept]


def _near(examples: list[Example], held: list[Example]) -> set[str]:
    """Texts of `examples` whose character 4-grams overlap those of a held sentence too much."""
    where: dict[str, list[int]] = defaultdict(list)
    grams = [_shingles(example.text) for example in held]
    for number, own in enumerate(grams):
        for gram in own:
            where[gram].append(number)
    found = set()
    for example in examples:
        own = _shingles(example.text)
        shared = Counter(number for gram in own for number in where.get(gram, ()))
        for number, count in shared.items():
            if count / (len(own) + len(grams[number]) - count) > NEAR_DUPLICATE:
                found.add(example.text)
                break
    return found


def _shingles(text: str) -> set[str]:
    return {text[i : i + SHINGLE] for i in range(max(1, len(text) - SHINGLE + 1))}
