"""How well and how fast each installed speech engine writes Mandarin.

Reads a manifest, one JSON object a line with `file` (a sound file beside the manifest) and `text`
(what is said in it), and gives for each engine the character error rate over all files together
and the real-time factor, model loading excluded. "ours" is the segmenter and the engine as the
pipeline runs them, with the embedded weights as they have learned rooms (`base-rooms`, the default)
and as published (`base`); beside it runs faster-whisper's own `transcribe` on the published
weights, same beam, threads and sound, with and without its voice-activity filter.

    python -m benchmarks.asr [--manifest PATH] [--engine NAME ...] [--beam N] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from moderator import models
from moderator.asr import ENGINES
from moderator.asr.embedded import EMBEDDED
from moderator.asr.engine import SAMPLE_RATE_HZ, Samples
from moderator.asr.guards import guard
from moderator.asr.segmenter import segment_all
from moderator.asr.tokens import simplify
from moderator.media.command import find_ffmpeg

DEFAULT_MANIFEST = Path(__file__).parents[2] / "shared" / "speech" / "manifest.jsonl"
LIBRARY = {
    "faster-whisper": "faster_whisper",
    "openai-whisper": "whisper",
    "transformers": "transformers",
}
_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 2


@dataclass(frozen=True)
class Recording:
    file: str
    text: str
    samples: Samples

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Row:
    """`cer` over all characters of all files; `cpu_per_s` is CPU seconds a second of sound."""

    path: str
    cer: float
    real_time_factor: float
    cpu_per_s: float
    load_s: float
    utterances: int
    distrusted: int
    cer_by_file: dict[str, float]


def main() -> None:
    arguments = _arguments()
    recordings = list(_read(arguments.manifest))
    total_s = sum(recording.duration_s for recording in recordings)
    engines = arguments.engine or [
        name for name in ENGINES.names() if find_spec(LIBRARY.get(name, name.replace("-", "_")))
    ]
    rows = []
    for name in engines:
        rows += [_ours(name, model, arguments, recordings) for model in EMBEDDED]
        if name == "faster-whisper":
            rows.append(_theirs(arguments, recordings, vad=False))
            rows.append(_theirs(arguments, recordings, vad=True))
    _print(rows, total_s)
    path = write_result(
        "asr",
        {
            "manifest": arguments.manifest.name,
            "files": len(recordings),
            "audio_s": round(total_s, 1),
            "beam_size": arguments.beam,
            "threads": arguments.threads,
            "rows": [asdict(row) for row in rows],
        },
    )
    Console(stderr=True).print(f"wrote {path}")


def _ours(name: str, model: str, arguments: argparse.Namespace, recordings: list[Recording]) -> Row:
    options: dict[str, Any] = {"model": model, "beam_size": arguments.beam}
    if name == "faster-whisper":
        options["threads"] = arguments.threads
    began = time.perf_counter()
    engine = ENGINES.create(name, **options)
    load_s = time.perf_counter() - began
    counts = {"utterances": 0, "distrusted": 0}

    def transcribe(recording: Recording) -> str:
        blocks = (
            (at / SAMPLE_RATE_HZ, recording.samples[at : at + _BLOCK_SAMPLES])
            for at in range(0, len(recording.samples), _BLOCK_SAMPLES)
        )
        segments = list(segment_all(blocks))
        heard = engine.transcribe(segments)
        for transcript, segment in zip(heard, segments, strict=True):
            counts["utterances"] += 1
            counts["distrusted"] += bool(guard(transcript, segment, name).distrust)
        return "".join(transcript.text for transcript in heard)

    return _measure(f"ours: {engine.name}", load_s, transcribe, recordings, counts)


def _theirs(arguments: argparse.Namespace, recordings: list[Recording], vad: bool) -> Row:
    from faster_whisper import WhisperModel

    began = time.perf_counter()
    model = WhisperModel(
        str(models.locate("whisper-base")),
        device="cpu",
        compute_type="int8",
        cpu_threads=arguments.threads,
    )
    load_s = time.perf_counter() - began
    counts = {"utterances": 0, "distrusted": 0}

    def transcribe(recording: Recording) -> str:
        segments, _ = model.transcribe(
            recording.samples, language="zh", beam_size=arguments.beam, vad_filter=vad
        )
        texts = [segment.text for segment in segments]
        counts["utterances"] += len(texts)
        return "".join(texts)

    name = "faster-whisper transcribe()" + (" with vad_filter" if vad else "")
    return _measure(name, load_s, transcribe, recordings, counts)


def _measure(
    path: str,
    load_s: float,
    transcribe: Callable[[Recording], str],
    recordings: list[Recording],
    counts: dict[str, int],
) -> Row:
    # The first call pays for what libraries set up lazily.
    transcribe(min(recordings, key=lambda recording: recording.duration_s))
    counts.update(utterances=0, distrusted=0)
    wall, cpu = time.perf_counter(), time.process_time()
    heard = [transcribe(recording) for recording in recordings]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total_s = sum(recording.duration_s for recording in recordings)
    wanted = [_letters(recording.text) for recording in recordings]
    errors = [
        Levenshtein.distance(_letters(text), reference)
        for text, reference in zip(heard, wanted, strict=True)
    ]
    return Row(
        path=path,
        cer=round(sum(errors) / sum(map(len, wanted)), 4),
        real_time_factor=round(wall / total_s, 4),
        cpu_per_s=round(cpu / total_s, 4),
        load_s=round(load_s, 2),
        cer_by_file={
            recording.file: round(error / len(reference), 4)
            for recording, error, reference in zip(recordings, errors, wanted, strict=True)
        },
        **counts,
    )


def _print(rows: list[Row], total_s: float) -> None:
    table = Table(title=f"{total_s:.0f} s of Mandarin")
    columns = ("path", "CER", "real-time factor", "CPU s a second", "utterances", "distrusted")
    for column in columns:
        table.add_column(column, justify="left" if column == "path" else "right")
    for row in rows:
        table.add_row(
            row.path,
            f"{row.cer:.1%}",
            f"{row.real_time_factor:.3f}",
            f"{row.cpu_per_s:.3f}",
            str(row.utterances),
            str(row.distrusted),
        )
    Console().print(table)


def _read(manifest: Path) -> Iterator[Recording]:
    for line in manifest.read_text(encoding="utf-8").splitlines():
        if line.strip():
            entry = json.loads(line)
            samples = _decode(manifest.parent / entry["file"])
            yield Recording(entry["file"], entry["text"], samples)


def _decode(path: Path) -> Samples:
    command = [find_ffmpeg(), "-v", "error", "-i", str(path), "-ac", "1"]
    command += ["-ar", str(SAMPLE_RATE_HZ), "-f", "s16le", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    pcm: NDArray[np.int16] = np.frombuffer(raw, np.int16)
    return pcm.astype(np.float32) / 32768


def _letters(text: str) -> str:
    """Simplified, half-width, lower case, letters and digits only: what CER compares."""
    plain = simplify(unicodedata.normalize("NFKC", text)).lower()
    return "".join(char for char in plain if char.isalnum())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--manifest", type=Path, default=DEFAULT_MANIFEST)
    parser.add_argument(
        "--engine", action="append", help="an engine's name; default: all installed"
    )
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: CTranslate2 chooses")
    arguments = parser.parse_args()
    if not arguments.manifest.is_file():
        parser.error(f"{arguments.manifest}: no such manifest; name one with --manifest")
    return arguments


if __name__ == "__main__":
    main()
