"""Seconds of sound decoded a second against the batch, and where the time goes.

    python -m benchmarks.gpu_asr [--device auto] [--models base small large-v3 large-v3-turbo]
        [--batches 1 2 4 …] [--audio-s N] [--compare]

`base` has the real weights; of the others only the architecture is timed, with random weights and a
fixed number of tokens a segment, and their rows say so (`weights: random`). For each phase
(encoder, decoder) stands the fraction of the device's own rate of matrix products, measured in the
same run, that its multiplications reach: 2 operations a weight and position, and those of the
attention products. `--compare` also runs, on the same segments, faster-whisper, openai-whisper and
transformers' own pipeline, and counts texts that a batch writes otherwise than each segment alone.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from benchmarks.workload import matmul_flops, peak_memory_mib, segments, timed
from moderator import devices
from moderator.asr import ENGINES
from moderator.asr.convert import transformers_folder
from moderator.asr.engine import SAMPLE_RATE_HZ, SpeechSegment
from moderator.asr.transformers_engine import TransformersEngine

ARCHITECTURES: dict[str, dict[str, int]] = {
    "small": {"d_model": 768, "layers": 12, "decoder_layers": 12, "heads": 12, "mels": 80},
    "large-v3": {"d_model": 1280, "layers": 32, "decoder_layers": 32, "heads": 20, "mels": 128},
    "large-v3-turbo": {
        "d_model": 1280, "layers": 32, "decoder_layers": 4, "heads": 20, "mels": 128,
    },
}  # fmt: skip
"""Widths and depths as in the model cards of openai/whisper-*."""
TOKENS_A_SEGMENT = 24
"""The fixed length for random weights; `base` on the sample rooms writes about as many."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--batches", type=int, nargs="*")
    parser.add_argument("--audio-s", type=float, default=0.0, help="of each sample room")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--note", default="", help="kept with the result")
    print(write_result("gpu_asr", measure(parser.parse_args())))


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    device = devices.settle(chosen.device, devices.torch_offer(), "torch")
    gpu = device != "cpu"
    heard = segments(chosen.audio_s or (120.0 if gpu else 15.0))
    names = chosen.models or (["base", *ARCHITECTURES] if gpu else ["base"])
    batches = chosen.batches or ([1, 4, 16, 32, 64, 128] if gpu else [1, 4])
    rate = matmul_flops(device, "float16" if gpu else "float32")
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            source = name if name == "base" else str(random_whisper(Path(folder) / name, name))
            engine = TransformersEngine(
                model=source, device=device, beam_size=1, batch_size=max(batches)
            )
            for batch in batches:
                rows.append(row(engine, name, heard, batch, rate))
                show(rows, device, rate)
            del engine
        gc.collect()
    found: dict[str, Any] = {
        "device": device,
        "threads": _threads(),
        "matmul_tflops": round(rate / 1e12, 3),
        "audio_s": round(sum(one.duration_s for one in heard), 1),
        "segments": len(heard),
        "note": getattr(chosen, "note", ""),
        "rows": rows,
    }
    if chosen.compare:
        found["peers"] = peers(heard, device, max(batches))
        show_peers(found["peers"])
    return found


def row(
    engine: TransformersEngine, name: str, heard: list[SpeechSegment], batch: int, rate: float
) -> dict[str, Any]:
    """One batch size: the whole way, and each phase by itself on one batch of like segments."""
    alike = sorted(heard, key=lambda one: one.duration_s)[len(heard) // 4 :][:batch]
    alike = (alike * batch)[:batch]
    context_s = engine.context_s(max(one.duration_s for one in alike))
    most = TOKENS_A_SEGMENT
    encoded = engine.encode(alike, context_s)
    engine._greedy.decode(encoded._hidden, most)  # captures the graph
    encode_s = timed(lambda: engine.encode(alike, context_s), engine.device)
    decode_s = timed(lambda: engine._greedy.decode(encoded._hidden, most), engine.device)
    encoder, decoder = flops(engine, batch, context_s, most)
    found = {
        "model": name,
        "weights": "real" if name == "base" else "random",
        "dtype": engine.dtype,
        "batch": batch,
        "encoder_ms": round(1000 * encode_s, 2),
        "decoder_ms": round(1000 * decode_s, 2),
        "encoder_of_matmul": round(encoder / encode_s / rate, 3),
        "decoder_of_matmul": round(decoder / decode_s / rate, 3),
        "graphs": engine._greedy.captures,
    }
    if name == "base":
        cuts = [heard[at : at + batch] for at in range(0, len(heard), batch)]
        took_s = timed(lambda: [engine.transcribe(cut) for cut in cuts], engine.device)
    else:
        # Random weights never end by themselves: the phases are what there is to time.
        took_s = (encode_s + decode_s) * len(heard) / batch
    total_s = sum(one.duration_s for one in heard)
    return found | {
        "audio_s_per_s": round(total_s / took_s, 2),
        "peak_memory_mib": round(peak_memory_mib(engine.device)),
    }


def flops(
    engine: TransformersEngine, rows: int, context_s: float, tokens: int
) -> tuple[float, float]:
    """Operations of the encoder over one batch, and of the decoder over its tokens.

    A weight matrix costs 2 operations an element and position; attention 4 a query, key and channel
    (two products). Convolutions, norms and softmax are left out.
    """
    config = engine._model.config
    width, steps = config.d_model, int(50 * context_s)
    layer = 4 * width * width + 2 * width * config.encoder_ffn_dim
    encoder = config.encoder_layers * (2 * layer * steps + 4 * steps * steps * width)
    per_token = 2 * (6 * width * width + 2 * width * config.decoder_ffn_dim) + 4 * steps * width
    cross = 2 * 2 * width * width * steps
    vocabulary = 2 * width * config.vocab_size
    decoder = config.decoder_layers * (cross + tokens * per_token) + tokens * vocabulary
    return float(rows * encoder), float(rows * decoder)


def random_whisper(folder: Path, name: str) -> Path:
    """A Whisper of that architecture with random weights and base's vocabulary."""
    import shutil

    import torch
    from transformers import (
        AutoConfig,
        GenerationConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    about, base = ARCHITECTURES[name], transformers_folder()
    config = AutoConfig.from_pretrained(base)
    config.update(
        {
            "d_model": about["d_model"],
            "encoder_layers": about["layers"],
            "decoder_layers": about["decoder_layers"],
            "encoder_attention_heads": about["heads"],
            "decoder_attention_heads": about["heads"],
            "encoder_ffn_dim": 4 * about["d_model"],
            "decoder_ffn_dim": 4 * about["d_model"],
            "num_mel_bins": about["mels"],
        }
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config).half()
    model.generation_config = GenerationConfig.from_pretrained(base)
    # Which heads follow the sound is known of the trained weights only.
    model.generation_config.alignment_heads = [[about["decoder_layers"] - 1, 0]]
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=about["mels"]).save_pretrained(folder)
    shutil.copyfile(base / "tokenizer.json", folder / "tokenizer.json")
    return folder


def peers(heard: list[SpeechSegment], device: str, batch: int) -> list[dict[str, Any]]:
    """The same segments and weights through every library, greedily, in this run."""
    options = {"beam_size": 1, "batch_size": batch, "device": device}
    found: list[dict[str, Any]] = []
    texts: dict[str, list[str]] = {}

    def take(name: str, write: Callable[[], list[str]]) -> None:
        write_once: list[list[str]] = []
        took_s = timed(lambda: write_once.append(write()), device)
        texts[name] = write_once[0]
        total_s = sum(one.duration_s for one in heard)
        found.append({"path": name, "audio_s_per_s": round(total_s / took_s, 2)})

    for name in ("transformers", "faster-whisper", "openai-whisper"):
        # Without its prompt, which the others do not have, the texts can be compared.
        own = {"prompt": ""} if name == "faster-whisper" else {}
        engine = ENGINES.create(name, **options, **own)
        engine.transcribe(heard[:1])
        take(f"ours: {name}", lambda e=engine: [one.text for one in e.transcribe(heard)])  # type: ignore[misc]
        if name == "transformers":
            take(
                "ours: transformers, one by one",
                lambda e=engine: [e.transcribe([one])[0].text for one in heard],  # type: ignore[misc]
            )
        del engine
        gc.collect()
    take("transformers pipeline()", lambda: _pipeline(heard, device, batch))
    first = texts["ours: transformers"]
    for one in found:
        pairs = list(zip(first, texts[one["path"]], strict=True))
        one["texts_differing"] = sum(a != b for a, b in pairs)
        one["characters_differing"] = sum(Levenshtein.distance(a, b) for a, b in pairs)
        one["characters"] = sum(len(a) for a in first)
    return found


def _pipeline(heard: list[SpeechSegment], device: str, batch: int) -> list[str]:
    import torch
    from transformers import (
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
        pipeline,
    )

    from moderator.asr.tokens import simplify

    folder = transformers_folder()
    kind = torch.float32 if device == "cpu" else torch.float16
    read = pipeline(
        "automatic-speech-recognition",
        model=WhisperForConditionalGeneration.from_pretrained(folder, dtype=kind),
        tokenizer=WhisperTokenizerFast.from_pretrained(folder),
        feature_extractor=WhisperFeatureExtractor.from_pretrained(folder),
        device=device,
        batch_size=batch,
    )
    sounds = [{"raw": one.samples.copy(), "sampling_rate": SAMPLE_RATE_HZ} for one in heard]
    wanted = {"language": "zh", "task": "transcribe", "num_beams": 1}
    return [simplify(one["text"].strip()) for one in read(sounds, generate_kwargs=wanted)]


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())


def show(rows: list[dict[str, Any]], device: str, rate: float) -> None:
    table = Table(title=f"{device}, {rate / 1e12:.2f} TFLOP/s of matrix products")
    shown = ("model", "weights", "batch", "audio_s_per_s", "encoder_ms", "decoder_ms")
    shown += ("encoder_of_matmul", "decoder_of_matmul", "peak_memory_mib")
    for name in shown:
        table.add_column(name)
    for one in rows:
        table.add_row(*(str(one[name]) for name in shown))
    Console().print(table)


def show_peers(rows: list[dict[str, Any]]) -> None:
    table = Table("path", "audio s/s", "texts that differ", "characters that differ")
    for one in rows:
        cells = (one["path"], one["audio_s_per_s"], one["texts_differing"])
        table.add_row(*(str(cell) for cell in (*cells, one["characters_differing"])))
    Console().print(table)


if __name__ == "__main__":
    main()
