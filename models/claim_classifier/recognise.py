"""Run part of the corpus through the recogniser: what training hears of its mistakes.

    python -m models.claim_classifier.recognise               # 1,200 sentences, about 40 min
    python -m models.claim_classifier.recognise --count 50    # a quick look

Sentences of the training families are voiced with the sample voices, every other one over pink
noise, and recognised by the embedded speech model. Those with terms of the rules go first, rarest
term first, so that many terms are heard in context. The result, `data/recognised.jsonl`, is read by
`dataset.py` (noisy sentences for training) and by `rules/tools/misheard.py` (which syllables the
recogniser takes for which). Needs the `samples` and `embedded` extras. An interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

from benchmarks.voiced import at_16_khz, default_cache, manner, over_noise
from models.claim_classifier.dataset import RECOGNISED, written_rows
from moderator.asr.engine import SpeechSegment
from moderator.asr.faster_whisper_engine import FasterWhisperEngine
from moderator.asr.guards import guard
from moderator.claims.rules import RulePack, load_rules
from samples import voice

NOISE_DB = (None, 20.0)
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1200, help="how many sentences")
    parser.add_argument("--cache", type=Path, default=default_cache())
    chosen = parser.parse_args()
    done = {row["said"] for row in _kept()}
    texts = [text for text in sentences(load_rules()) if text not in done]
    texts = texts[: max(0, chosen.count - len(done))]
    speaker, asr = voice.Voice(chosen.cache), FasterWhisperEngine(threads=1)
    with RECOGNISED.open("a", encoding="utf-8") as file:
        for begin in track(range(0, len(texts), BATCH), description="voice and recognise"):
            rows, segments = [], []
            for number, text in enumerate(texts[begin : begin + BATCH], start=begin + len(done)):
                name, speed = manner(number)
                try:
                    sound = at_16_khz(speaker.speak(text, name, speed))
                except ValueError:  # a character that the voices cannot say
                    continue
                noise_db = NOISE_DB[number // len(voice.VOICES) % len(NOISE_DB)]
                segments.append(SpeechSegment(0.0, over_noise(sound, noise_db, number)))
                rows.append({"said": text, "voice": name, "speed": speed, "noise_db": noise_db})
            for row, segment, heard in zip(rows, segments, asr.transcribe(segments), strict=True):
                utterance = guard(heard, segment, asr.name)
                row["heard"] = utterance.text
                row["confidences"] = [round(char.confidence, 2) for char in utterance.chars]
                row["distrust"] = utterance.distrust
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()


def sentences(pack: RulePack) -> list[str]:
    """Sentences of training families, as they were written, those with the rarest terms first."""
    terms = {t for lexicon in pack.lexicons.values() for t in lexicon.terms if len(t) >= 2}
    terms |= set(pack.sounded_terms())
    texts = [row["text"] for row in written_rows() if row["part"] == "train"]
    texts = list(dict.fromkeys(text for text in texts if 6 <= len(text) <= 60))
    texts += [text for text in _rule_tests(pack) if 6 <= len(text) <= 60]
    inside = {text: [term for term in terms if term in text] for text in texts}
    often = Counter(term for found in inside.values() for term in found)
    order = sorted(range(len(texts)), key=lambda i: _rarest(inside[texts[i]], often))
    return [texts[i] for i in order]


def _rarest(found: list[str], often: Counter[str]) -> float:
    return min((often[term] / len(found) for term in found), default=1e9)


def _rule_tests(pack: RulePack) -> Iterator[str]:
    for rule in pack.rules:
        if not rule.absences:
            yield from (test.text for test in rule.must_find)


def _kept() -> list[dict[str, str]]:
    if not RECOGNISED.is_file():
        return []
    return [json.loads(line) for line in RECOGNISED.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
