"""Frames read a second against the batch, on the CPU or a GPU.

    python -m benchmarks.gpu_ocr [--device auto] [--batches 1 2 4 …] [--frames N]

Frames from all over the sample rooms, each read in full: no line is remembered from another frame,
which in a live room saves most of the work. Beside the rate stands how many lines a batch reads
otherwise than one frame at a time does.
"""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from benchmarks.workload import frames, timed
from moderator import devices
from moderator.vision.rapid_ocr import RapidOcr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batches", type=int, nargs="*")
    parser.add_argument("--frames", type=int, default=0, help="default: 96 on a GPU, else 12")
    print(write_result("gpu_ocr", measure(parser.parse_args())))


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    device = devices.settle(chosen.device, devices.onnxruntime_offer(), "onnxruntime")
    pictures = frames(chosen.frames or (12 if device == "cpu" else 96))
    alone = RapidOcr(cache_lines=0, device=device)
    alone.read(pictures[0])
    wanted = [[line.text for line in alone.read(picture)] for picture in pictures]
    lines = sum(map(len, wanted))
    rows = []
    for batch in chosen.batches or ((1, 4) if device == "cpu" else (1, 4, 8, 16, 32)):
        engine = RapidOcr(cache_lines=0, device=device, batch=batch)
        cuts = [pictures[at : at + batch] for at in range(0, len(pictures), batch)]
        engine.read_many(cuts[0])
        found: list[list[str]] = []

        def read(engine: RapidOcr = engine, cuts: Any = cuts, found: Any = found) -> None:
            for cut in cuts:
                found.extend([line.text for line in one] for one in engine.read_many(cut))

        took_s = timed(read, "cpu")
        differing = sum(
            a.replace(" ", "") != b.replace(" ", "")
            for one, other in zip(wanted, found, strict=True)
            for a, b in zip(one, other, strict=False)
        ) + sum(abs(len(one) - len(other)) for one, other in zip(wanted, found, strict=True))
        rows.append(
            {
                "batch": batch,
                "frames_per_s": round(len(pictures) / took_s, 3),
                "lines_per_s": round(lines / took_s, 2),
                "lines_differing": differing,
            }
        )
    show(rows, device)
    return {"device": device, "frames": len(pictures), "lines": lines, "rows": rows}


def show(rows: list[dict[str, Any]], device: str) -> None:
    table = Table("batch", "frames/s", "lines/s", "lines that differ", title=device)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
