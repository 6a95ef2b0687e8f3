"""What reading the screen of a room costs: whole frames against only what changed.

    python -m benchmarks.screen [--every 2]

The sample rooms, a frame every `--every` seconds as in a live room, through the sampler, the reader
and the tracker on one thread. Once all of each frame that is worth reading is read, once only the
places that may have changed. The processor's seconds a minute of the room stand beside what was
found: planted claims, and texts that stood for some seconds and are in the one and not the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from moderator.media.command import find_ffmpeg
from moderator.media.probe import probe
from moderator.records import ScreenText
from moderator.vision.ocr import Image, OcrEngine
from moderator.vision.rapid_ocr import RapidOcr
from moderator.vision.reader import ScreenReader

ROOMS = Path(__file__).parents[1] / "samples" / "rooms"
STOOD_S = 6.0
"""Texts that were seen for less are not compared: one way looks a moment after the other."""
ALIKE = 80.0
"""Of 100 (rapidfuzz's partial ratio)."""


class Whole:
    """The same engine, which can read only all of a frame."""

    def __init__(self, engine: OcrEngine) -> None:
        self.name = engine.name
        self.read = engine.read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--every", type=float, default=2.0, help="seconds between frames")
    every_s = parser.parse_args().every
    rooms = {}
    for video in sorted(ROOMS.glob("*.mp4")):
        rooms[video.stem] = room = compare(video, every_s)
        Console(stderr=True).print(video.stem, {way: room[way]["cpu_s"] for way in WAYS})
    print(write_result("screen", {"every_s": every_s, "rooms": rooms, "all": total(rooms)}))
    show(total(rooms))


WAYS = ("whole", "places")


def compare(video: Path, every_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {"seconds": round(probe(video).duration_s or 0.0, 1)}
    texts: dict[str, list[ScreenText]] = {}
    quotes = planted(video)
    for way in WAYS:
        engine = RapidOcr()
        reader = ScreenReader(engine if way == "places" else Whole(engine))
        texts[way] = []
        cpu_s = 0.0
        for time, image in frames(video, every_s):
            began = thread_time()
            reader.feed(time, image)
            texts[way] += reader.take()[0]
            cpu_s += thread_time() - began
        texts[way] += reader.finish()[0]
        found[way] = {
            "cpu_s": round(cpu_s, 2),
            "frames": reader.stats.frames_seen,
            "frames_read": reader.stats.frames_read,
            "frames_read_in_part": reader.stats.frames_read_in_part,
            "lines_recognised": engine.lines_recognised,
            "texts": len(texts[way]),
            "planted": len(quotes),
            "planted_found": sum(
                any(quote in joined(one) for one in texts[way]) for quote in quotes
            ),
        }
    for way, other in (WAYS, WAYS[::-1]):
        stood = [one for one in texts[way] if one.end - one.start >= STOOD_S]
        alone = [joined(one) for one in stood if not any(alike(one, two) for two in texts[other])]
        found[way] |= {"stood": len(stood), "only_here": alone}
    return found


def planted(video: Path) -> list[str]:
    """The words of the claims that were planted on this room's screen."""
    truth = json.loads(video.with_suffix(".truth.json").read_text(encoding="utf-8"))
    on_screen = [one for one in truth["violations"] if one["channel"] == "screen"]
    return ["".join(one["quote"].split()) for one in on_screen]


def frames(video: Path, every_s: float) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Media-clock seconds and BGR frames."""
    about = probe(video)
    height, width = about.height, about.width
    command = [find_ffmpeg(), "-v", "error", "-i", str(video), "-vf", f"fps={1 / every_s}"]
    command += ["-pix_fmt", "bgr24", "-f", "rawvideo", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        number = 0
        while len(raw := running.stdout.read(width * height * 3)) == width * height * 3:
            image: Image = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
            yield number * every_s, image
            number += 1


def joined(text: ScreenText) -> str:
    return "".join(text.text.split())


def alike(one: ScreenText, other: ScreenText) -> bool:
    """Whether both were seen at one time and say much the same, or one is part of the other."""
    together = min(one.end, other.end) >= max(one.start, other.start)
    return together and fuzz.partial_ratio(joined(one), joined(other)) >= ALIKE


SUMMED = (
    *("frames", "frames_read", "frames_read_in_part", "lines_recognised"),
    *("planted", "planted_found", "texts", "stood"),
)


def total(rooms: dict[str, Any]) -> dict[str, Any]:
    minutes = sum(room["seconds"] for room in rooms.values()) / 60
    return {
        way: {
            "cpu_s_a_minute": round(sum(r[way]["cpu_s"] for r in rooms.values()) / minutes, 2),
            **{name: sum(room[way][name] for room in rooms.values()) for name in SUMMED},
            "only_here": sum(len(room[way]["only_here"]) for room in rooms.values()),
        }
        for way in WAYS
    }


def show(found: dict[str, Any]) -> None:
    table = Table("", *WAYS)
    for name in found[WAYS[0]]:
        table.add_row(name, *(str(found[way][name]) for way in WAYS))
    Console().print(table)


if __name__ == "__main__":
    main()
