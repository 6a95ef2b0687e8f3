"""Accuracy, speed and latency in one go, held against a baseline: for a user's own CI.

    python -m benchmarks.suite --quick | --full [--device cpu|cuda] [--baseline FILE]
        [--write-baseline] [--out DIR]

Prints a Markdown table, writes it and the JSON result, and exits 1 when something was lost:

- *accuracy* (texts judged, speech written, frames read) may be worse than the baseline by no more
than
  TOLERANCES allow;
- *speed* is a multiple of a reference workload timed in the same run (products of matrices in
numpy),
  so that another or a busier machine does not fail; it may fall to SLOWEST of the baseline's
  multiple;
- *latency* is shown and compared with nothing: it depends on the machine alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from benchmarks import gpu_ocr, gpu_rooms
from benchmarks.asr import _letters
from benchmarks.report import reference_per_s, write_result
from benchmarks.workload import ROOMS, sound
from moderator import devices, load_rules
from moderator.asr import ENGINES, embedded
from moderator.asr.segmenter import segment_all
from moderator.claims.classifier import semantic_matchers
from moderator.claims.engine import ClaimEngine

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCES = {"exam_recall": 0.01, "exam_precision": 0.01, "speech_cer": 0.01, "ocr_differing": 0}
"""By how much a measure of accuracy may be worse, in its own unit."""
SLOWEST = 0.5
"""Share of the baseline's speed, counted in reference workloads, below which the suite fails."""
_LOWER_IS_BETTER = ("speech_cer", "ocr_differing")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--quick", action="store_true", help="a few minutes on two cores")
    size.add_argument("--full", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--write-baseline", action="store_true", help="this run becomes it")
    parser.add_argument("--out", type=Path, help="folder for suite.json and suite.md as well")
    chosen = parser.parse_args()
    kind = f"{'quick' if chosen.quick else 'full'}-{chosen.device}"
    found = measure(chosen.quick, chosen.device)
    known = json.loads(chosen.baseline.read_text("utf-8")) if chosen.baseline.is_file() else {}
    rows = compare(found, known.get(kind, {}))
    text = markdown(rows, kind)
    print(text)
    path = write_result("suite", {"kind": kind, **found, "rows": rows})
    print(path, file=sys.stderr)
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        (chosen.out / "suite.json").write_text(path.read_text("utf-8"), encoding="utf-8")
        (chosen.out / "suite.md").write_text(text + "\n", encoding="utf-8")
    if chosen.write_baseline:
        known[kind] = {name: found[name] for name in ("accuracy", "speed")}
        body = json.dumps(known, indent=2, sort_keys=True) + "\n"
        chosen.baseline.write_text(body, encoding="utf-8")
    elif any(row["verdict"] == "lost" for row in rows):
        sys.exit(1)


def measure(quick: bool, device: str) -> dict[str, Any]:
    """`accuracy`, `speed` (in reference workloads) and `parts`, the results of gpu_rooms and
    gpu_ocr."""
    if device == "cuda" and not devices.torch_offer().devices:
        sys.exit(f"no CUDA device: {devices.torch_offer().why_not}")
    accuracy, speed = {}, {}
    reference = reference_per_s()
    accuracy |= texts(speed, reference)
    accuracy["speech_cer"] = speech(speed, reference, quick, device)
    ocr = gpu_ocr.measure(
        argparse.Namespace(device=device, batches=[1, 4], frames=6 if quick else 48)
    )
    accuracy["ocr_differing"] = ocr["rows"][-1]["lines_differing"] / max(ocr["lines"], 1)
    best = max(row["frames_per_s"] for row in ocr["rows"])
    speed["frames_per_reference"] = best / reference_per_s()
    rooms = gpu_rooms.measure(
        argparse.Namespace(
            engine="", model=embedded.ROOMS, device=device, beam=1, batch=0,
            rooms=([1, 2] if device == "cpu" else [50, 100]) if quick else None,
            seconds=25.0 if quick else 60.0, limit_s=3.0,
        )
    )  # fmt: skip
    return {
        "reference_per_s": round(reference, 1),
        "accuracy": {name: round(value, 4) for name, value in accuracy.items()},
        "speed": {name: float(f"{value:.4g}") for name, value in speed.items()},
        "parts": {"gpu_rooms": rooms, "gpu_ocr": ocr},
    }


def texts(speed: dict[str, float], reference: float) -> dict[str, float]:
    """Recall and precision on the exam, and characters judged a second."""
    from benchmarks.accuracy import EXAM, flag

    pack = load_rules()
    engine = ClaimEngine(pack, semantic_matchers(pack))
    cases = [json.loads(line) for line in EXAM.read_text(encoding="utf-8").splitlines()]
    found = missed = false = 0
    began = time.perf_counter()
    for case in cases:
        flagged = bool(flag(engine, case["text"], category=case["product"]))
        found += flagged and bool(case["labels"])
        missed += not flagged and bool(case["labels"])
        false += flagged and not case["labels"]
    took_s = time.perf_counter() - began
    characters = sum(len(case["text"]) for case in cases)
    speed["characters_per_reference"] = characters / took_s / reference
    return {"exam_recall": found / (found + missed), "exam_precision": found / (found + false)}


def speech(speed: dict[str, float], reference: float, quick: bool, device: str) -> float:
    """The character error rate on the sample rooms, whose words are known."""
    engine = ENGINES.create(
        "transformers" if device == "cuda" else "faster-whisper", beam_size=1, device=device
    )
    wrong = total = 0
    heard_s = took_s = 0.0
    until_s = 45.0 if quick else 180.0
    for room in ROOMS[: 1 if quick else None]:
        cut = list(segment_all([(0.0, sound(room, until_s))]))
        began = time.perf_counter()
        heard = "".join(one.text for one in engine.transcribe(cut))
        took_s += time.perf_counter() - began
        heard_s += sum(one.duration_s for one in cut)
        wanted = _letters("".join(line["text"] for line in _lines(room) if line["end"] < until_s))
        wrong += Levenshtein.distance(_letters(heard), wanted)
        total += len(wanted)
    speed["speech_s_per_reference"] = heard_s / took_s / reference
    return wrong / total


def compare(found: dict[str, Any], known: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a measure: `verdict` is ok, lost, or new where the baseline has none."""
    rows = []
    for name, value in found["accuracy"].items():
        before = known.get("accuracy", {}).get(name)
        worse = (value - (before or 0)) * (1 if name in _LOWER_IS_BETTER else -1)
        lost = before is not None and worse > TOLERANCES[name] + 1e-9
        rows.append(_row(name, value, before, lost))
    for name, value in found["speed"].items():
        before = known.get("speed", {}).get(name)
        rows.append(_row(name, value, before, before is not None and value < SLOWEST * before))
    step = found["parts"]["gpu_rooms"]["steps"][-1]
    rows.append(
        {
            "measure": f"p95 of words → text, {step['rooms']} rooms, s",
            "now": step["p95_s"],
            "baseline": None,
            "verdict": "shown",
        }
    )
    return rows


def markdown(rows: list[dict[str, Any]], kind: str) -> str:
    lines = [f"### {kind}", "", "| measure | now | baseline | verdict |", "|---|---|---|---|"]
    for row in rows:
        cells = (row["measure"], row["now"], row["baseline"], row["verdict"])
        lines.append("| " + " | ".join("–" if cell is None else str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _row(name: str, value: float, before: float | None, lost: bool) -> dict[str, Any]:
    verdict = "lost" if lost else ("ok" if before is not None else "new")
    return {"measure": name, "now": value, "baseline": before, "verdict": verdict}


def _lines(room: str) -> list[dict[str, Any]]:
    from benchmarks.watching import SAMPLES

    truth = SAMPLES / "rooms" / f"{room}.truth.json"
    lines: list[dict[str, Any]] = json.loads(truth.read_text(encoding="utf-8"))["lines"]
    return lines


if __name__ == "__main__":
    main()
