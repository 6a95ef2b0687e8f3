"""The same sound into WhisperLive, WhisperLiveKit and us: same weights, same machine, same run.

    python -m benchmarks.peers_live [--rooms 1 2 4 8] [--seconds 60] [--peers ours whisperlive …]

Each system gets the sound of the sample rooms at live speed, from another place for each room, and
the embedded Whisper base weights as published. Reported for each number of rooms: from the end of a
line to its final text (p50, p95), CPU seconds a minute, character error rate. Ours is `moderator
watch` with pictures off, rules, journal and evidence on. A system is not tried with more rooms once
its p95 has passed the limit.

The peers live in environments of their own in `--envs` (made on first use, from the package index,
on top of the libraries that are installed here). One that cannot be installed is reported so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table

from benchmarks.report import write_result
from benchmarks.watching import SAMPLES, begin_of, events, make_sources, percentiles, watch
from moderator import models
from moderator.asr.embedded import PUBLISHED
from moderator.asr.tokens import simplify
from moderator.media.command import find_ffmpeg

CLIENT = Path(__file__).with_name("peers_client.py")
PACKAGES = {
    "whisperlive": [
        *("whisper-live==0.10.0", "websockets", "websocket-client", "kaldialign", "av", "uvicorn"),
        *("fastapi", "starlette", "python-multipart", "soundfile"),
    ],
    "whisperlivekit": [
        *("whisperlivekit==0.2.26", "websockets", "uvicorn", "fastapi>=0.141.1", "librosa"),
        *("python-multipart>=0.0.31", "starlette>=1.3.1", "soundfile", "tiktoken", "tqdm"),
        *("annotated-doc", "typing-inspection", "lazy-loader", "audioread", "pooch", "soxr"),
        *("decorator", "joblib", "msgpack", "threadpoolctl", "scikit-learn"),
    ],
}
LATE_S = 15.0
WARM_UP = "skincare_and_health.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, nargs="*", default=(1, 2, 4, 8, 12))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--limit-s", type=float, default=15.0)
    parser.add_argument("--envs", type=Path, default=Path(".cache/peers"))
    parser.add_argument("--peers", nargs="*", default=["ours", *PACKAGES])
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        for peer in chosen.peers:
            if peer != "ours" and (reason := install(peer, chosen.envs)):
                missing[peer] = reason
                continue
            for count in chosen.rooms:
                sounds = make_sounds(folder, count, chosen.seconds)
                runs = ours if peer == "ours" else theirs
                try:
                    row = runs(peer, sounds, folder / f"{peer}-{count}", chosen)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    missing[f"{peer}, {count} rooms"] = str(error)
                    break
                rows.append({"system": peer, "rooms": count, **row})
                show(rows)
                if (row["line_to_text_s"]["p95"] or 1e9) > chosen.limit_s:
                    break
    for peer, reason in missing.items():
        print(f"{peer}: not measured: {reason}")
    settings = {"seconds": chosen.seconds, "limit_s": chosen.limit_s, "packages": PACKAGES}
    print(write_result("peers_live", {**settings, "not_measured": missing, "runs": rows}))


# --- sound and truth ----------------------------------------------------------------


def make_sounds(folder: Path, count: int, seconds: float) -> list[dict[str, Any]]:
    """Per room: media, its sound as raw PCM, and the lines spoken in it."""
    rooms = make_sources(folder / "sources", count, seconds)
    for number, room in enumerate(rooms):
        media = Path(room["source"])
        raw = media.with_suffix(".s16le")
        if not raw.is_file():
            command = [find_ffmpeg(), "-v", "error", "-y", "-i", str(media), "-ac", "1"]
            subprocess.run([*command, "-ar", "16000", "-f", "s16le", str(raw)], check=True)
        room |= {"sound": raw, "lines": lines_of(number, seconds)}
    return rooms


def lines_of(number: int, seconds: float) -> list[dict[str, Any]]:
    """The lines wholly inside the first `seconds` of room `number`, as `make_sources` cuts it."""
    import yaml

    from moderator.media.probe import probe

    known = yaml.safe_load((SAMPLES / "rooms.yaml").read_text(encoding="utf-8"))["rooms"]
    media = SAMPLES / known[number % len(known)]["source"]
    begin_s = begin_of(number // len(known), probe(media).duration_s or 180.0)
    truth = json.loads(media.with_suffix(".truth.json").read_text(encoding="utf-8"))
    moved = [
        {
            "text": plain(line["text"]),
            "start": line["start"] - begin_s,
            "end": line["end"] - begin_s,
        }
        for line in truth["lines"]
    ]
    return [line for line in moved if line["start"] >= 0 and line["end"] <= seconds - 1]


def plain(text: str) -> str:
    return "".join(char for char in simplify(text) if char.isalnum()).lower()


def judge(
    lines: list[dict[str, Any]], told: list[tuple[float, str]]
) -> tuple[list[float], int, int]:
    """Seconds from the end of each line to the final text that reaches it; edits, characters.

    How far a text reaches is the prefix of the truth that it is nearest to, less two characters.
    A line that is never reached counts as `LATE_S` late after the last text. What was said before
    the first whole line and after the last is in the text and not in the truth, and left out.
    """
    truth = "".join(line["text"] for line in lines)
    whole = plain(told[-1][1]) if told else ""
    whole = whole[: nearest_prefix(whole, truth)]
    lead = len(whole) - nearest_prefix(whole[::-1], truth[::-1])
    ends = np.cumsum([len(line["text"]) for line in lines])
    reached_at = [None] * len(lines)
    last_at, final = 0.0, ""
    for at, text in told:
        final = plain(text)[lead:]
        last_at = at
        reach = nearest_prefix(truth, final)
        for index, end in enumerate(ends):
            if reached_at[index] is None and reach >= end - 2:
                reached_at[index] = at
    late = [
        (at if at is not None else max(last_at, line["end"]) + LATE_S) - line["end"]
        for at, line in zip(reached_at, lines, strict=True)
    ]
    final = final[: nearest_prefix(final, truth)]
    return late, Levenshtein.distance(truth, final), len(truth)


def nearest_prefix(truth: str, text: str) -> int:
    """The length of the prefix of `truth` with the smallest edit distance to `text`."""
    row = np.arange(len(truth) + 1)
    letters = np.array(list(truth))
    for char in text:
        shifted = np.minimum(row[1:] + 1, row[:-1] + (letters != char))
        best = np.concatenate([[row[0] + 1], shifted])
        # Insertions run along the row: a running minimum of (value - place).
        places = np.arange(len(best))
        row = np.minimum.accumulate(best - places) + places
    return int(np.flatnonzero(row == row.min())[-1])


def summed(
    judged: list[tuple[list[float], int, int]], cpu_s: float, seconds: float
) -> dict[str, Any]:
    late = [value for one, _, _ in judged for value in one]
    edits, chars = sum(e for _, e, _ in judged), sum(c for _, _, c in judged)
    return {
        "line_to_text_s": percentiles(late),
        "character_error_rate": round(edits / max(chars, 1), 4),
        "cpu_s_a_minute": round(60 * cpu_s / seconds, 1),
    }


# --- ours ---------------------------------------------------------------------------


def ours(peer: str, rooms: list[dict[str, Any]], out: Path, chosen: Any) -> dict[str, Any]:
    from datetime import datetime

    plain_rooms = [
        {name: value for name, value in room.items() if name not in ("sound", "lines")}
        | {"video": False}
        for room in rooms
    ]
    config = {"rooms": plain_rooms, "passports": str(SAMPLES / "passports.yaml")}
    settings = {"MODERATOR_ASR_MODEL": PUBLISHED}
    watched = watch(config, out, chosen.seconds + 20, settings=settings)
    zeros = {
        event["session"]: datetime.fromisoformat(event["body"]["media_zero"]).timestamp()
        for event in events(out, "session.started")
    }
    texts: dict[str, str] = {}
    told: dict[str, list[tuple[float, str]]] = {room["id"]: [] for room in rooms}
    for event in events(out, "observation"):
        room = event["room"]
        texts[room] = texts.get(room, "") + event["body"]["text"]
        at = datetime.fromisoformat(event["time"]).timestamp() - zeros[event["session"]]
        told[room].append((at, texts[room]))
    judged = [judge(room["lines"], told[room["id"]]) for room in rooms]
    return summed(judged, sum(watched.cpu_s.values()), watched.ran_s)


# --- theirs -------------------------------------------------------------------------


def install(peer: str, envs: Path) -> str:
    """Make the peer's environment; returns why it cannot be made, else an empty text."""
    home = (envs / peer).absolute()
    python = home / "bin" / "python"
    done = home / "installed"
    if done.is_file():
        return ""
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    # What is installed here (torch, faster-whisper) is used; what the peer adds goes before it.
    packages = next(home.glob("lib/python*/site-packages"))
    (packages / "zz_beside.pth").write_text("\n".join(paths_here()) + "\n", encoding="utf-8")
    command = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--ignore-installed"]
    ran = subprocess.run([*command, *PACKAGES[peer]], capture_output=True, text=True)
    if ran.returncode != 0:
        return (ran.stderr.strip().splitlines() or ["pip failed"])[-1]
    module = {"whisperlive": "whisper_live.server", "whisperlivekit": "whisperlivekit"}[peer]
    ran = subprocess.run([str(python), "-c", f"import {module}"], capture_output=True, text=True)
    if ran.returncode != 0:
        return (ran.stderr.strip().splitlines() or ["import failed"])[-1]
    done.write_text("", encoding="utf-8")
    return ""


def paths_here() -> list[str]:
    """The folders that packages are imported from here, those of the main environment too."""
    every = [*site.getsitepackages(), *(path for path in sys.path if "site-packages" in path)]
    return list(dict.fromkeys(every))


def theirs(peer: str, rooms: list[dict[str, Any]], out: Path, chosen: Any) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    python = (chosen.envs / peer / "bin" / "python").absolute()
    port = free_port()
    with (out / "server.log").open("wb") as log:
        server = subprocess.Popen(
            server_command(peer, python, port, len(rooms), warm_up_sound(out)),
            stdout=log,
            stderr=log,
            env=os.environ | {"HOME": str(home_for(peer, out)), "HF_HUB_OFFLINE": "1"},
        )
        try:
            wait_for_port(port, server, out / "server.log")
            cpu_before = cpu_of(server.pid)
            began = time.monotonic()
            clients = [
                subprocess.Popen(
                    [str(python), str(CLIENT), peer, str(port), str(room["sound"])],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
                for room in rooms
            ]
            said = [client.communicate(timeout=chosen.seconds + 300)[0] for client in clients]
            ran_s = time.monotonic() - began
            cpu_s = cpu_of(server.pid) - cpu_before
        finally:
            server.kill()
            server.wait()
    judged = []
    for room, answer in zip(rooms, said, strict=True):
        told = [(at, text) for at, text in json.loads(answer)["events"]] if answer.strip() else []
        judged.append(judge(room["lines"], told))
    return summed(judged, cpu_s, ran_s)


def warm_up_sound(out: Path) -> Path:
    """A few seconds of speech, so that the first room does not pay for the first run."""
    path = out / "warm.wav"
    command = [find_ffmpeg(), "-v", "error", "-y", "-t", "5", "-i", SAMPLES / "rooms" / WARM_UP]
    subprocess.run([*command, "-ac", "1", "-ar", "16000", str(path)], check=True)
    return path


def server_command(peer: str, python: Path, port: int, rooms: int, warm: Path) -> list[str]:
    weights = str(models.locate("whisper-base"))
    if peer == "whisperlive":
        program = (
            "from whisper_live.server import TranscriptionServer as S; "
            f"S().run('127.0.0.1', port={port}, backend='faster_whisper', "
            f"faster_whisper_custom_model_path={weights!r}, single_model=True, "
            f"max_clients={rooms}, max_connection_time=3600, batch_enabled={rooms > 1})"
        )
        return [str(python), "-c", program]
    options = ["--host", "127.0.0.1", "--port", str(port), "--language", "zh", "--pcm-input"]
    options += ["--backend", "faster-whisper", "--backend-policy", "localagreement"]
    options += ["--model-path", weights, "--model", "base", "--warmup-file", str(warm)]
    return [str(python), "-m", "whisperlivekit.basic_server", *options]


def home_for(peer: str, out: Path) -> Path:
    """A home with what the peer would otherwise fetch from the network."""
    home = out / "home"
    if peer == "whisperlive":
        cache = home / ".cache" / "whisper-live"
        cache.mkdir(parents=True, exist_ok=True)
        for found in Path(".cache/peers").glob("**/silero_vad_models/silero_vad.onnx"):
            shutil.copy(found, cache / "silero_vad.onnx")
    home.mkdir(exist_ok=True)
    return home


def wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    ends_at = time.monotonic() + 180
    while time.monotonic() < ends_at and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            time.sleep(3)
            return
        time.sleep(0.5)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise RuntimeError(f"the server did not start: {' '.join(last)}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return sum(int(fields[index]) for index in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("system", "rooms", "line to text p50 s", "p95 s", "CPU s / min", "CER")
    for row in rows:
        late = row["line_to_text_s"]
        cells = (late["p50"], late["p95"], row["cpu_s_a_minute"], row["character_error_rate"])
        table.add_row(row["system"], str(row["rooms"]), *map(str, cells))
    Console().print(table)


if __name__ == "__main__":
    main()
