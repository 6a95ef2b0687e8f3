"""Claims that no pattern names: a small sentence classifier beside the patterns.

    它把坏的胆固醇包住 从大便里给你带出来    →  medical_efficacy 0.98

The model is a cut-down multilingual-e5-small with one output for "unlawful" and one for each
label, and beside it the runs of characters are counted (`grams.py`);
`models/claim_classifier/README.md` says how both were trained and how far to trust them. A rule
takes part with a match entry `semantic: {label, threshold}`; what it finds is never more than a
suspicion, and gives way to any pattern that found something in the same words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from moderator import devices
from moderator.claims.grams import Grams
from moderator.claims.matcher import ClaimMatcher, Match
from moderator.claims.networks import InEightBits, InFloats, Network, Pieces
from moderator.claims.normalise import SENTENCE_ENDS, Normalised, is_han
from moderator.claims.phonetics import fold, syllable
from moderator.claims.rules import Rule, RulePack, SemanticMatch
from moderator.claims.small_talk import SmallTalk
from moderator.claims.weighing import Said
from moderator.errors import RULE_LABEL, ModeratorError
from moderator.models import is_installed, locate

logger = structlog.get_logger()

NAME, RUNS = "claim-classifier", "claim-grams"
"""The entries of the network and of the runs of characters in `models/manifest.yaml`."""
MAX_CHARS = 60
"""A longer sentence is read in parts."""
MIN_CHARS = 5
"""Fewer characters say too little to suspect anyone."""
MIN_AROUND = 3
"""With fewer characters around them, words that a rule met stand for themselves: what they mean
can take the accusation from them, but does not drop them."""
LEAST_SHARE = -2.0
"""Log-odds that what is new must say by itself of a claim that it goes on with: random sentences
put together say many things. Chosen on held-out sentences after other talk and cut in two
(`benchmarks/flow.py`)."""
MAX_SOUNDS = 128
KEEN_CHANNELS: frozenset[str] = frozenset({"script"})
"""Where it costs little to be shown too much: a script is looked through before it is said."""
REMEMBERED = 2048
"""Sentences whose answer is kept: speech is read twice, and hosts repeat themselves. Until there
are so many a live room's memory grows."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The likeliest label of one sentence, and the calibrated chance (0–1) that it is unlawful."""

    label: str
    score: float

    @property
    def log_odds(self) -> float:
        return log_odds(self.score)


class Classifier:
    """The network with its tokenizer, and the runs of characters; safe to share between threads.
    On a GPU (`device` `cuda:N`) what several threads ask at the same time is read in one batch.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from tokenizers import Tokenizer

        about = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        self.labels: tuple[str, ...] = tuple(about["labels"])
        self.version: str = about["version"]
        self._slope, self._offset = float(about["slope"]), float(about["offset"])
        self._grams, self._share = Grams.load(folder / "grams.npz"), float(about["grams"])
        self._plain = float(about["plain"])
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(int(about["max_tokens"]))
        model = folder / "model.onnx"
        self._network: Network = InEightBits(model) if device == "cpu" else InFloats(model, device)
        self.read = lru_cache(REMEMBERED)(self._read)
        self._counted = lru_cache(REMEMBERED)(self._count)

    def logits(self, sentence: str) -> NDArray[np.float32]:
        """What the network alone says of one sentence, [1 + labels]: "unlawful" first."""
        return self._network.logits(self.pieces(sentence))

    def pieces(self, sentence: str) -> Pieces:
        """What the network reads of a sentence."""
        told = spoken_form(sentence)
        return self._tokenizer.encode(told).ids, sounds_in(told)[:MAX_SOUNDS]

    def skim(self, sentence: str) -> Reading:
        """As `read`, but without the network where the runs of characters alone are so sure of a
        lawful sentence that it would hardly ever change that. Such a reading has no label, and the
        runs' own chance."""
        counted = self._counted(sentence)
        return self.read(sentence) if counted >= self._plain else Reading("", _chance(counted))

    def _read(self, sentence: str) -> Reading:
        """Read one sentence of normalised text; pause and stop marks make no difference."""
        logits = self.logits(sentence)
        unlawful = self._slope * float(logits[0]) + self._offset
        unlawful += self._share * self._counted(sentence)
        return Reading(self.labels[int(np.argmax(logits[1:]))], _chance(unlawful))

    def _count(self, sentence: str) -> float:
        return self._grams.says(spoken_form(sentence))


class SemanticMatcher:
    """The `semantic` entries of a rule pack. Read-only after construction: share it freely.

    On the channels in `keen`, or on every one where it is None, the rules' keen thresholds hold.
    """

    name = "classifier"

    def __init__(
        self, pack: RulePack, classifier: Classifier, keen: Collection[str] | None = KEEN_CHANNELS
    ) -> None:
        self.version = classifier.version
        self._classifier = classifier
        self._keen = keen
        self._small_talk = SmallTalk(pack.small_talk, pack.set_phrases)
        self._rules: dict[str, list[tuple[SemanticMatch, Rule]]] = {}
        for rule in pack.rules:
            for entry in rule.match:
                if isinstance(entry, SemanticMatch):
                    if entry.label not in classifier.labels:
                        raise ModeratorError(
                            RULE_LABEL,
                            place=entry.place,
                            name=entry.label,
                            known=", ".join(classifier.labels),
                        )
                    self._rules.setdefault(entry.label, []).append((entry, rule))

    def find(
        self,
        text: Normalised,
        *,
        by_sound: bool,
        certainty: Sequence[float] | None = None,
        channel: str = "",
        leaning: float = 0.0,
    ) -> list[Match]:
        """At most one label a sentence; the match spans the sentence. Sound makes no difference.

        Sentences of small talk are not read. `leaning` moves the usual thresholds, down to the keen
        ones at most.
        """
        keen = self.keen_on(channel)
        found = []
        for stretch in self._stretches(text):
            reading = self._skim(text, stretch)
            for entry, rule in self._rules.get(reading.label, ()):
                lowest = log_odds(entry.keen)
                usual = lowest if keen else log_odds(entry.threshold)
                needed = usual if keen else max(lowest, usual - leaning)
                if reading.log_odds < needed:
                    continue
                if stretch.parts and not self._together(text, stretch, needed):
                    continue
                begin, end = stretch.begin, stretch.end
                words, by_room = text.text[begin:end], reading.log_odds < usual
                found.append(
                    Match(rule, begin, end, "semantic", reading.score, words, by_room=by_room)
                )
        return found

    def keen_on(self, channel: str) -> bool:
        """Whether the rules' keen thresholds hold on this channel."""
        return self._keen is None or channel in self._keen

    def _together(self, text: Normalised, stretch: Stretch, needed: float) -> bool:
        """Whether it takes all of the stretch to say so much, and what is new has its share."""
        parts = [(part, self._skim(text, part).log_odds) for part in stretch.parts]
        new = text.first_fresh
        return all(
            says < needed and (says > LEAST_SHARE or part.begin < new) for part, says in parts
        )

    def spoken(self, text: Normalised) -> list[float]:
        """The log-odds of each sentence that is new in `text`; of small talk none."""
        return [
            self._skim(text, stretch).log_odds
            for stretch in self._stretches(text)
            if not stretch.parts
        ]

    def meaning(self, text: Normalised) -> Callable[[int, int], Said | None]:
        """What stands around a place of `text`: the highest log-odds of the sentences that the
        place touches, of too short ones where there are no others."""
        long_enough = list(stretches_of(text))
        too_short = [
            Stretch(begin, end) for begin, end in _ended(text.text) if end - begin < MIN_CHARS
        ]

        def around(begin: int, end: int) -> Said | None:
            touched = _touching(long_enough, begin, end) or _touching(too_short, begin, end)
            if not touched:
                return None
            there = max(one.end for one in touched) - min(one.begin for one in touched)
            highest = max(self._read(text, one).log_odds for one in touched)
            return Said(highest, bare=there < MIN_CHARS or there - (end - begin) < MIN_AROUND)

        return around

    def _stretches(self, text: Normalised) -> Iterator[Stretch]:
        """Those with something new that is no small talk."""
        new = text.first_fresh
        for stretch in stretches_of(text):
            told = text.text[max(new, stretch.begin) : stretch.end]
            if told and not self._small_talk.covers(told):
                yield stretch

    def _read(self, text: Normalised, stretch: Stretch) -> Reading:
        return self._classifier.read(text.text[stretch.begin : stretch.end])

    def _skim(self, text: Normalised, stretch: Stretch) -> Reading:
        return self._classifier.skim(text.text[stretch.begin : stretch.end])


def _chance(odds: float) -> float:
    return float(1.0 / (1.0 + np.exp(-odds)))


def log_odds(chance: float) -> float:
    """Natural logarithm of chance : 1 − chance, for chances from a millionth to all but one."""
    chance = min(max(chance, 1e-6), 1.0 - 1e-6)
    return log(chance / (1.0 - chance))


def keen_channels(sensitivity: str) -> Collection[str] | None:
    """The channels on which the setting `sensitivity` (auto, usual, keen) is keen."""
    return {"auto": KEEN_CHANNELS, "usual": frozenset[str](), "keen": None}[sensitivity]


def semantic_matchers(
    pack: RulePack, keen: Collection[str] | None = KEEN_CHANNELS, device: str = "cpu"
) -> tuple[ClaimMatcher, ...]:
    """The semantic matcher of `pack`, or nothing: no such rule, no weights, no onnxruntime.

    `keen` as in `SemanticMatcher`.
    Raises LM-408 for what is no device, LM-213 when a rule names a label that the classifier does
    not know.
    """
    if not any(isinstance(entry, SemanticMatch) for rule in pack.rules for entry in rule.match):
        return ()
    offer = devices.classifier_offer()
    classifier = installed_classifier(devices.settle(device, offer, "onnxruntime"))
    return () if classifier is None else (SemanticMatcher(pack, classifier, keen),)


@cache
def installed_classifier(device: str = "cpu") -> Classifier | None:
    """The shipped classifier, loaded once a device; None where it cannot run. A GPU that cannot run
    it after all leaves it to the CPU."""
    if not (is_installed(NAME) and is_installed(RUNS)) or any(
        find_spec(package) is None for package in ("onnxruntime", "tokenizers")
    ):
        return None
    try:
        locate(RUNS)  # lies beside the network; its sha256 is checked
        return Classifier(locate(NAME).parent, device)
    except Exception as error:  # a broken weight file must not stop the patterns
        logger.warning("classifier_unusable", device=device, reason=str(error))
        return None if device == "cpu" else installed_classifier()


@dataclass(frozen=True, slots=True)
class Stretch:
    """`text[begin:end]`, to be read in one. `parts` are those of it that are read for themselves,
    where it runs from what was read before into what is new."""

    begin: int
    end: int
    parts: tuple[Stretch, ...] = ()


def stretches_of(text: Normalised) -> Iterator[Stretch]:
    """The sentences of `text`. One that was broken off and goes on in what is new (`text.fresh`) is
    read as far as it was known, then what is new of it, then over both."""
    new = text.first_fresh
    for begin, end in _ended(text.text):
        if not begin < new < end:
            yield from (Stretch(*piece) for piece in _pieces(text.text, begin, end))
            continue
        known = [Stretch(*piece) for piece in _pieces(text.text, begin, new)]
        own = [Stretch(*piece) for piece in _pieces(text.text, new, end)]
        yield from (*known, *own)
        first_end = own[0].end if own else end
        over = Stretch(max(begin, first_end - MAX_CHARS), first_end, (*known[-1:], *own[:1]))
        if over.begin < new and over.end - over.begin >= MIN_CHARS:
            yield over


def _touching(stretches: Sequence[Stretch], begin: int, end: int) -> list[Stretch]:
    return [one for one in stretches if one.begin < end and begin < one.end]


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the sentences of normalised text, long ones cut at pauses or, failing that,
    in the middle, so that none is longer than MAX_CHARS. Too short ones are left out."""
    for begin, end in _ended(text):
        yield from _pieces(text, begin, end)


def _ended(text: str) -> Iterator[tuple[int, int]]:
    """What stands between marks that end a sentence."""
    begin = 0
    for at in range(len(text) + 1):
        if at == len(text) or text[at] in SENTENCE_ENDS:
            yield begin, at
            begin = at + 1


def spoken_form(text: str) -> str:
    """What the classifier sees: no marks at all, for a recogniser's marks are guesses."""
    return text.translate(_MARKS)


def sounds_in(text: str) -> list[int]:
    """What `text` sounds like: for each character the number, from 1, of its folded syllable in
    SOUNDS, of its letter, or of "digit" or "other"."""
    return [_SOUND_OF[char] for char in text] or [_SOUND_OF[" "]]


class _SoundOf(dict[str, int]):
    def __missing__(self, char: str) -> int:
        if is_han(char):
            name = fold(syllable(char))
        elif char.isdigit():
            name = "digit"
        else:
            name = char.lower()
        self[char] = number = _NUMBER.get(name, _NUMBER["other"])
        return number


_INITIALS = ("", *"bpmfdtnlgkhjqxzcsryw", "zh", "ch", "sh")
_FINALS = (
    *("a", "o", "e", "i", "u", "v", "ai", "ei", "ao", "ou", "an", "en", "ang", "eng", "ong", "er"),
    *("ia", "ie", "iao", "iu", "ian", "in", "iang", "ing", "iong"),
    *("ua", "uo", "uai", "ui", "uan", "un", "uang", "ueng", "ue", "ve", "van", "vn"),
)
SOUNDS: tuple[str, ...] = (
    "other",
    "digit",
    *map(chr, range(ord("a"), ord("z") + 1)),
    *sorted({fold(i + f) for i in _INITIALS for f in _FINALS} - {"a", "e", "o"}),
)
"""What the classifier tells apart by ear: folded syllables (every spelling that initials and
finals allow), letters, digits as one, and the rest."""
_NUMBER = {name: number for number, name in enumerate(SOUNDS, start=1)}
_SOUND_OF = _SoundOf()

_PAUSES = "，；：、"
_MARKS: dict[int, Any] = dict.fromkeys(map(ord, "，。！？；：、（）\n "))


def _pieces(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end and text[begin] in _PAUSES:
        begin += 1
    while begin < end and text[end - 1] in _PAUSES:
        end -= 1
    if end - begin < MIN_CHARS:
        return
    if end - begin <= MAX_CHARS:
        yield begin, end
        return
    middle, quarter = (begin + end) // 2, (end - begin) // 4
    pauses = [i for i in range(middle - quarter, middle + quarter) if text[i] in _PAUSES]
    cut = min(pauses, key=lambda i: abs(i - middle), default=middle)
    yield from _pieces(text, begin, cut)
    yield from _pieces(text, cut, end)
