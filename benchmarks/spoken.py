"""How much of what is said aloud do we find? Held-out sentences, voiced, recognised and judged.

    python -m benchmarks.spoken               # 150 unlawful, 150 near misses, 150 plain
    python -m benchmarks.spoken --count 20    # a quick look
    python -m benchmarks.spoken --again       # what was heard last time, judged by today's rules

Sentences of families that the classifier was not trained on (`models/claim_classifier/dataset.py`;
not of the files that are written as a recogniser writes, which nobody says) are spoken by the
sample voices at several speeds, clean and over music and noise 20 dB below the voice, and
recognised by the embedded model. `error_letters` is the character error rate,
`error_letters_reheard` that after reading again by the sound, `error_syllables` the error rate of
folded syllables. Each part of the engine is added in turn.

The lawful sentences are near misses of claims. `plain` is ordinary talk (`clean_speech`, likewise
of files not trained on): flags in ten minutes of it, sentence by sentence and said one after the
other in one room, where the room's other talk counts.

The embedded model has learned from four of these voices, with other sentences
(`models/speech_adapter`): `new_voice` has the errors for the fifth, and `published` all of it for
the weights that have learned nothing here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pypinyin import Style, lazy_pinyin
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.report import write_result
from benchmarks.voiced import at_16_khz, default_cache, manner, over_noise
from models.claim_classifier.dataset import Example, load_corpus
from models.speech_adapter.sounds import HELD_OUT, WRITTEN_MISHEARD
from moderator.asr.embedded import EMBEDDED, PUBLISHED, ROOMS
from moderator.asr.engine import SAMPLE_RATE_HZ, Samples, SpeechSegment
from moderator.asr.faster_whisper_engine import FasterWhisperEngine
from moderator.asr.guards import guard
from moderator.asr.second_listen import relisten
from moderator.claims.classifier import semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.normalise import is_han, normalise
from moderator.claims.phonetics import fold
from moderator.claims.rules import RulePack, load_rules
from moderator.records import Disposition, Relistened, TimedChar, Utterance
from samples import music, voice

COUNT = 150
CONDITIONS = ("clean", "music_noise_20db")
BATCH = 8
PAUSE_S = 1.0
"""Between two sentences of a room."""


@dataclass(frozen=True)
class Heard:
    """A sentence as it was recognised by one model under one condition."""

    model: str
    voice: str
    said: str
    unlawful: bool
    condition: str
    duration_s: float
    utterance: Utterance
    plain: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="sentences of each side")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--again", action="store_true", help="judge what was heard last time")
    parser.add_argument("--show", action="store_true", help="print what was missed or wrong")
    chosen = parser.parse_args()
    console = Console()
    pack = load_rules()
    kept = chosen.cache / "spoken.json"
    if chosen.again:
        heard = list(_read(kept))
    else:
        held = [*sentences(pack, chosen.count), *plain_talk(pack, chosen.count)]
        heard = hear(held, pack, chosen.cache)
        kept.write_text(json.dumps([_plain(one) for one in heard], ensure_ascii=False))
    payload: dict[str, Any] = {"asr": f"faster-whisper/{ROOMS}", "pack": pack.version}
    payload |= measured(heard, ROOMS, pack, console, chosen.show)
    payload["published"] = measured(heard, PUBLISHED, pack, console, show=False)
    if chosen.count == COUNT:
        console.print(write_result("spoken", payload))


def measured(
    heard: Sequence[Heard], model: str, pack: RulePack, console: Console, show: bool
) -> dict[str, Any]:
    """What one model heard, by condition."""
    found = {}
    for condition in CONDITIONS:
        here = [one for one in heard if (one.model, one.condition) == (model, condition)]
        own, plain = [h for h in here if not h.plain], [h for h in here if h.plain]
        new = [one for one in own if one.voice == HELD_OUT]
        found[condition] = {
            "sentences": len(own),
            "minutes": round(sum(one.duration_s for one in own) / 60, 2),
            **error_rates(own, ClaimEngine(pack)),
            "new_voice": {"sentences": len(new), **error_rates(new, ClaimEngine(pack))},
            "judged": judged(own, pack, console if show else None),
        }
        if plain:
            found[condition]["plain"] = flags_in_plain_talk(plain, pack, console if show else None)
        _print(console, f"{model}, {condition}", found[condition])
    return found


def sentences(pack: RulePack, count: int) -> list[Example]:
    """Held-out sentences, half unlawful, chosen by the digest of their text."""
    held = [
        example
        for example in load_corpus(pack).part("held")
        if example.source not in ("clean_speech", *WRITTEN_MISHEARD)
        and 8 <= len(example.text) <= 45
    ]
    held.sort(key=lambda e: hashlib.sha256(e.text.encode()).digest())
    unlawful = [e for e in held if e.labels][:count]
    lawful = [e for e in held if not e.labels][:count]
    return [example for pair in zip(unlawful, lawful, strict=True) for example in pair]


def plain_talk(pack: RulePack, count: int) -> list[Example]:
    """Held-out lines of ordinary talk, chosen by the digest of their text."""
    held = [
        example
        for example in load_corpus(pack).part("held")
        if example.source == "clean_speech" and 8 <= len(example.text) <= 45
    ]
    return sorted(held, key=lambda e: hashlib.sha256(e.text.encode()).digest())[:count]


def hear(spoken: Sequence[Example], pack: RulePack, cache: Path) -> list[Heard]:
    """Voice and recognise every sentence under every condition, with the second listen."""
    speaker = voice.Voice(cache)
    sounds: list[Sound] = []
    for number, example in enumerate(track(spoken, description="voices")):
        name, speed = manner(number)
        try:
            samples = at_16_khz(speaker.speak(example.text, name, speed))
        except ValueError:  # a character that the voices cannot say
            continue
        sounds.append(Sound(example, name, samples))
    sounds.sort(key=lambda sound: len(sound.samples))
    engine = ClaimEngine(pack)
    of_claims = [sound for sound in sounds if not _is_plain(sound.example)]
    return [
        one
        for model in EMBEDDED
        for one in _heard_by(model, sounds if model == ROOMS else of_claims, engine)
    ]


def _is_plain(example: Example) -> bool:
    return example.source == "clean_speech"


@dataclass(frozen=True)
class Sound:
    """A sentence, who says it, and how it sounds."""

    example: Example
    voice: str
    samples: Samples


def _heard_by(model: str, sounds: Sequence[Sound], engine: ClaimEngine) -> Iterator[Heard]:
    asr = FasterWhisperEngine(model=model, threads=1)
    for condition in CONDITIONS:
        for at in track(range(0, len(sounds), BATCH), description=f"{model}, {condition}"):
            chosen = sounds[at : at + BATCH]
            segments = [
                SpeechSegment(
                    0.0,
                    sound.samples if condition == "clean" else _over_music(sound.samples, at + i),
                )
                for i, sound in enumerate(chosen)
            ]
            encoded = asr.encode(segments)
            for row, transcript in enumerate(encoded.transcribe()):
                again = relisten(encoded, row, transcript, engine.likenesses)
                utterance = guard(transcript, segments[row], asr.name)
                yield Heard(
                    model,
                    chosen[row].voice,
                    chosen[row].example.text,
                    bool(chosen[row].example.labels),
                    condition,
                    segments[row].duration_s,
                    replace(utterance, relistened=again),
                    _is_plain(chosen[row].example),
                )


def error_rates(heard: Sequence[Heard], engine: ClaimEngine) -> dict[str, float]:
    """Of letters and of folded syllables over all utterances together, and of letters once the
    utterances are read again by their sound."""
    wrong: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for one in heard:
        said, written = _letters(one.said), _letters(one.utterance.text)
        confidences = [char.confidence for char in one.utterance.chars for _ in char.text]
        again = _letters(engine.reheard(normalise(one.utterance.text), confidences).text)
        pairs = {
            "letters": (said, written),
            "letters_reheard": (said, again),
            "syllables": (_syllables(said), _syllables(written)),
        }
        for name, (a, b) in pairs.items():
            wrong[name] += Levenshtein.distance(a, b)
            total[name] += len(a)
    return {f"error_{name}": round(wrong[name] / max(1, total[name]), 4) for name in wrong}


def judged(heard: Sequence[Heard], pack: RulePack, console: Console | None) -> dict[str, Any]:
    """Recall, precision, and flags in ten minutes of lawful talk, each part added in turn."""
    bare, whole = ClaimEngine(pack), ClaimEngine(pack, semantic_matchers(pack))
    ways = {
        "letters alone": (bare, lambda u: replace(u, chars=_certain(u), relistened=())),
        "+ sounds": (bare, lambda u: replace(u, relistened=())),
        "+ second listen": (bare, lambda u: u),
        "+ classifier": (whole, lambda u: u),
    }
    found = {}
    for name, (engine, way) in ways.items():
        flagged = [ClaimSession(engine).observe(way(one.utterance)) for one in heard]
        unlawful = sum(one.unlawful for one in heard)
        right = sum(bool(f) and one.unlawful for f, one in zip(flagged, heard, strict=True))
        wrong = sum(bool(f) and not one.unlawful for f, one in zip(flagged, heard, strict=True))
        firm = sum(
            not one.unlawful and any(s.finding.disposition == Disposition.VIOLATION for s in f)
            for f, one in zip(flagged, heard, strict=True)
        )
        minutes = sum(one.duration_s for one in heard if not one.unlawful) / 60
        found[name] = {
            "recall": round(right / max(1, unlawful), 4),
            "precision": round(right / max(1, right + wrong), 4),
            "lawful_flagged_in_10_min": round(wrong / minutes * 10, 2) if minutes else None,
            "lawful_accused_in_10_min": round(firm / minutes * 10, 2) if minutes else None,
        }
        if console is not None and name == "+ classifier":
            for f, one in zip(flagged, heard, strict=True):
                if bool(f) != one.unlawful:
                    kind = "missed" if one.unlawful else "wrong "
                    ids = [s.finding.rule.id for s in f]
                    console.print(f"{kind} {one.said} | {one.utterance.text} {ids}", markup=False)
    found["distrusted"] = sum(bool(one.utterance.distrust) for one in heard)
    return found


def flags_in_plain_talk(
    heard: Sequence[Heard], pack: RulePack, console: Console | None
) -> dict[str, Any]:
    """Utterances that are flagged, and for which someone is accused, in ten minutes of it."""
    engine = ClaimEngine(pack, semantic_matchers(pack))
    minutes = sum(one.duration_s for one in heard) / 60
    room = ClaimSession(engine)
    found: dict[str, Any] = {"sentences": len(heard), "minutes": round(minutes, 2)}
    at_s = 0.0
    counts: Counter[str] = Counter()
    # Sounds are heard by length; a room has them in no order.
    for one in sorted(heard, key=lambda h: hashlib.sha256(h.said.encode()).digest()):
        later = _moved(one.utterance, at_s)
        at_s += one.duration_s + PAUSE_S
        for name, session, told in (
            ("alone", ClaimSession(engine), one.utterance),
            ("in_one_room", room, later),
        ):
            flags = session.observe(told)
            counts[f"{name}_flagged"] += bool(flags)
            counts[f"{name}_accused"] += any(
                s.finding.disposition == Disposition.VIOLATION for s in flags
            )
            if console is not None and flags:
                ids = [s.finding.rule.id for s in flags]
                console.print(f"{name} {one.said} | {told.text} {ids}", markup=False)
    for name in ("alone_flagged", "alone_accused", "in_one_room_flagged", "in_one_room_accused"):
        found[f"{name}_in_10_min"] = round(counts[name] / minutes * 10, 2)
    return found


def _moved(utterance: Utterance, by_s: float) -> Utterance:
    chars = (replace(c, start=c.start + by_s, end=c.end + by_s) for c in utterance.chars)
    return replace(
        utterance,
        start=utterance.start + by_s,
        end=utterance.end + by_s,
        chars=tuple(chars),
    )


def _certain(utterance: Utterance) -> tuple[TimedChar, ...]:
    """Characters that the recogniser is sure of: nothing is heard loosely then."""
    return tuple(replace(char, confidence=1.0) for char in utterance.chars)


def _over_music(speech: Samples, seed: int) -> Samples:
    """Half of the disturbance is a music bed, half pink noise, together 20 dB below the voice."""
    bed = music.bed(len(speech) / SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, seed)[: len(speech)]
    power = float(np.mean(np.square(speech))) / 10**2.3
    bed = bed * np.sqrt(power / max(float(np.mean(np.square(bed))), 1e-12))
    noisy = over_noise(speech, 23.0, seed)
    noisy[: len(bed)] += bed.astype(np.float32)
    return np.clip(noisy, -1, 1).astype(np.float32)


def _letters(text: str) -> str:
    return "".join(char for char in normalise(text).text if is_han(char) or char.isalnum())


def _syllables(letters: str) -> list[str]:
    return [fold(one) for one in lazy_pinyin(letters, style=Style.NORMAL)]


def _plain(one: Heard) -> dict[str, Any]:
    return asdict(one)


def _read(path: Path) -> Iterator[Heard]:
    for row in json.loads(path.read_text(encoding="utf-8")):
        body = {k: v for k, v in row["utterance"].items() if k != "channel"}
        body["chars"] = tuple(TimedChar(**char) for char in body["chars"])
        body["relistened"] = tuple(Relistened(**again) for again in body["relistened"])
        yield Heard(**{**row, "utterance": Utterance(**body)})


def _print(console: Console, title: str, part: dict[str, Any]) -> None:
    head = f"{title}: letters {part['error_letters']:.3f}, syllables {part['error_syllables']:.3f}"
    table = Table("", "recall", "precision", "lawful flags / 10 min", "accused", title=head)
    for name, row in part["judged"].items():
        if isinstance(row, dict):
            table.add_row(name, *(str(value) for value in row.values()))
    console.print(table)
    if "plain" in part:
        console.print(f"ordinary talk: {part['plain']}", markup=False)


if __name__ == "__main__":
    main()
