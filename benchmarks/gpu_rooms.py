"""How many live rooms of speech does one device carry, and how soon is their text there?

    python -m benchmarks.gpu_rooms [--engine NAME] [--model NAME] [--device auto] [--beam 1]
        [--batch N] [--rooms 1 2 4 …] [--seconds 60] [--limit-s 3]

Sample rooms play in a loop at live speed, each from another place, into the speech worker of
`moderator watch`: shared voice activity, fair batches, guards; no screen and no rules. The time
from the end of the words to their text is taken for every utterance after the first seconds. The
largest number of rooms with p95 within the limit and no sound lost is the headline. On a GPU the
engine has a process of its own, as `watch` has it.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from benchmarks.watching import percentiles
from benchmarks.workload import ROOMS, sound
from moderator import devices
from moderator.asr import embedded
from moderator.asr.batches import at_once
from moderator.asr.engine import SAMPLE_RATE_HZ, AsrEngine, Samples, SpeechSegment, Transcript
from moderator.asr.shared_vad import SharedSileroVad
from moderator.live.config import SpeechConfig
from moderator.live.launch import speech_engines
from moderator.live.speech import SpeechWorker
from moderator.media.blocks import AudioBlock
from moderator.records import Utterance

CPU_STEPS = (1, 2, 4, 8, 12, 16, 24, 32)
GPU_STEPS = (50, 100, 200, 300, 400, 500, 650, 800, 1000, 1300, 1600)
BLOCK_S = 0.2
WARM_UP_S = 8.0


@dataclass
class Room:
    """Hears its texts and notes how late each is. `zero` is the wall clock of media second 0."""

    samples: Samples
    offset_s: float
    zero: float = 0.0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    lost_s: float = 0.0

    def on_utterance(self, utterance: Utterance, segment: SpeechSegment) -> None:
        end_s = min(utterance.end, segment.end)
        self.latencies.append((end_s, time.monotonic() - self.zero - end_s))

    def on_interim(self, transcript: Transcript) -> None: ...

    def on_sound_lost(self, start: float, end: float, reason: str) -> None:
        self.lost_s += end - start

    def on_speech_end(self) -> None: ...

    def block(self, number: int) -> AudioBlock:
        size = round(BLOCK_S * SAMPLE_RATE_HZ)
        at = (round(self.offset_s * SAMPLE_RATE_HZ) + number * size) % (len(self.samples) - size)
        return AudioBlock(number * BLOCK_S, self.samples[at : at + size])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", default="", help="default: transformers on a GPU, else int8")
    parser.add_argument("--model", default=embedded.ROOMS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="default: 64 on a GPU, else 4")
    parser.add_argument("--rooms", type=int, nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each step")
    parser.add_argument("--limit-s", type=float, default=3.0)
    parser.add_argument("--note", default="", help="kept with the result")
    print(write_result("gpu_rooms", measure(parser.parse_args())))


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    gpu = chosen.device != "cpu" and devices.torch_offer().devices > 0
    name = chosen.engine or ("transformers" if gpu else "faster-whisper")
    batch = chosen.batch or (64 if gpu else 4)
    options = {"model": chosen.model, "beam_size": chosen.beam, "batch_size": batch}
    engine = speech_engines(name, options, chosen.device)[0]
    steps: list[dict[str, Any]] = []
    for count in chosen.rooms or (GPU_STEPS if gpu else CPU_STEPS):
        steps.append(step(engine, count, chosen.seconds, batch, chosen.beam))
        show(steps)
        p95 = steps[-1]["p95_s"]
        if p95 is None or p95 > chosen.limit_s or steps[-1]["lost_s"]:
            break
    within = [
        one
        for one in steps
        if one["p95_s"] is not None and one["p95_s"] <= chosen.limit_s and not one["lost_s"]
    ]
    return {
        "engine": engine.name,
        "device": getattr(engine, "device", "cpu"),
        "beam_size": chosen.beam,
        "batch": batch,
        "seconds_a_step": chosen.seconds,
        "limit_s": chosen.limit_s,
        "note": getattr(chosen, "note", ""),
        "rooms_carried": max((one["rooms"] for one in within), default=0),
        "steps": steps,
    }


def step(engine: AsrEngine, count: int, seconds: float, batch: int, beam: int) -> dict[str, Any]:
    config = SpeechConfig(batch=batch, beam=beam, interim_every_s=0)
    worker = SpeechWorker(engine, SharedSileroVad(), config, max_lag_s=20.0)
    rooms = [
        Room(sound(ROOMS[index % len(ROOMS)], 150.0), 7.3 * (index // len(ROOMS)) % 100)
        for index in range(count)
    ]
    for index, room in enumerate(rooms):
        worker.open(f"room{index}", room)
    worker.start()
    try:
        late_s = play(worker, rooms, seconds)
    finally:
        worker.stop()
    found = [took for room in rooms for end_s, took in room.latencies if end_s >= WARM_UP_S]
    values = percentiles(found)
    stats = worker.stats
    return {
        "rooms": count,
        "p50_s": values["p50"],
        "p95_s": values["p95"],
        "p99_s": values["p99"],
        "utterances": len(found),
        "speech_per_s": round(stats.speech_s / seconds, 3),
        "speech_share": round(stats.speech_s / max(stats.sound_s, 1e-9), 3),
        "lost_s": round(sum(room.lost_s for room in rooms), 1),
        "segments_a_batch": round((stats.segments - stats.guesses_used) / max(stats.batches, 1), 2),
        "decode_share": round(stats.decode_s / seconds / at_once(engine), 3),
        "vad_share": round(stats.vad_s / seconds, 3),
        "failures": stats.failures,
        "player_late_s": round(late_s, 2),
    }


def play(worker: SpeechWorker, rooms: list[Room], seconds: float) -> float:
    """Hand over every room's sound as it would arrive, rooms spread over a block's time.

    Returns how late the player itself was at worst: far above a block's time, it is the player that
    is measured and not the worker.
    """
    began = time.monotonic() + 0.2
    for index, room in enumerate(rooms):
        # A block can be had only when its last sample has been said.
        room.zero = began + BLOCK_S * index / len(rooms)
    worst = 0.0
    for number in range(int(seconds / BLOCK_S)):
        for index, room in enumerate(rooms):
            wait_s = room.zero + (number + 1) * BLOCK_S - time.monotonic()
            if wait_s > 0.002:
                time.sleep(wait_s)
            worst = max(worst, -wait_s)
            worker.hear(f"room{index}", room.block(number))
    for _ in range(30):
        # What was said last may still be on its way.
        if not worker.waiting:
            break
        threading.Event().wait(0.1)
    return worst


def show(steps: list[dict[str, Any]]) -> None:
    table = Table("rooms", "p50 s", "p95 s", "p99 s", "lost s", "speech s/s", "a batch", "decode")
    for one in steps:
        cells = (one["rooms"], one["p50_s"], one["p95_s"], one["p99_s"], one["lost_s"])
        more = (one["speech_per_s"], one["segments_a_batch"], one["decode_share"])
        table.add_row(*(str(cell) for cell in (*cells, *more)))
    Console().print(table)


if __name__ == "__main__":
    main()
