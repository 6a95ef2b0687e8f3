"""Makes the sample rooms and the .docx script again: voices, pictures, videos and ground truth.

    python -m samples.make_samples [--only NAME …] [--out DIR] [--cache DIR]

The same sources give the same files: everything random is seeded. Needs the `samples` extra,
ffmpeg and the font Noto Sans CJK.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.progress import Progress

from samples import music, picture, screenplay
from samples.handout import write_docx
from samples.screenplay import Screenplay, Timeline
from samples.voice import SAMPLE_RATE_HZ, Audio, Voice, write_wav

HERE = Path(__file__).parent
_MUSIC_GAIN = 0.07
_VOICE_GAIN = 0.8


def main() -> None:
    known = sorted(path.stem for path in (HERE / "rooms").glob("*.yaml") if _is_screenplay(path))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=[*known, "scripts"], help="make only these")
    parser.add_argument("--out", type=Path, default=HERE, help="instead of the folder samples/")
    parser.add_argument(
        "--cache", type=Path, default=_default_cache(), help="where voices are kept"
    )
    arguments = parser.parse_args()
    wanted = arguments.only or [*known, "scripts"]

    if "scripts" in wanted:
        for source in sorted((HERE / "scripts" / "source").glob("*.md")):
            target = arguments.out / "scripts" / f"{source.stem}.docx"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_docx(source.read_text(encoding="utf-8"), target)
    voice = Voice(arguments.cache)
    with Progress() as progress:
        for name in known:
            if name in wanted:
                play = screenplay.load(HERE / "rooms" / f"{name}.yaml")
                make_room(play, arguments.out / "rooms", voice, progress)


def make_room(play: Screenplay, out: Path, voice: Voice, progress: Progress) -> Timeline:
    """Write `<room>.mp4`, `<room>.truth.json` and `<room>.room.yaml` into `out`.

    Raises subprocess.CalledProcessError when ffmpeg fails, RuntimeError when a font or ffmpeg is
    missing, and what `Voice.speak` raises.
    """
    spoken: list[Audio] = []
    for line in progress.track(play.lines, description=f"{play.id}: voices"):
        speaker = play.speakers[line.speaker]
        spoken.append(voice.speak(line.text, speaker.voice, line.speed or speaker.speed))
    timeline = screenplay.time(play, [len(audio) / SAMPLE_RATE_HZ for audio in spoken])
    out.mkdir(parents=True, exist_ok=True)
    _film(timeline, spoken, out / f"{play.id}.mp4", progress)
    truth = json.dumps(timeline.truth(), ensure_ascii=False, indent=1)
    (out / f"{play.id}.truth.json").write_text(truth + "\n", encoding="utf-8")
    room = yaml.safe_dump(dict(play.room), allow_unicode=True, sort_keys=False)
    (out / f"{play.id}.room.yaml").write_text(room, encoding="utf-8")
    return timeline


def _film(timeline: Timeline, spoken: list[Audio], target: Path, progress: Progress) -> None:
    passports = _passports()
    stage = picture.Stage(timeline, passports)
    track, by_figure = _mix(timeline, spoken)
    frames = int(timeline.duration_s * picture.FRAMES_A_SECOND)
    loudness = {figure: _loudness(audio, frames) for figure, audio in by_figure.items()}
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "sound.wav"
        film = Path(folder) / target.name
        write_wav(sound, track)
        encoder = subprocess.Popen(_encode(sound, film), stdin=subprocess.PIPE)
        assert encoder.stdin is not None
        task = progress.add_task(f"{target.stem}: picture", total=frames)
        with encoder.stdin as pipe:
            for frame in stage.frames(loudness):
                pipe.write(frame)
                progress.advance(task)
        if encoder.wait():
            raise subprocess.CalledProcessError(encoder.returncode, "ffmpeg")
        shutil.move(film, target)


def _mix(timeline: Timeline, spoken: list[Audio]) -> tuple[Audio, dict[int, Audio]]:
    """The whole sound, and beside it the voice of each figure alone."""
    length = int(timeline.duration_s * SAMPLE_RATE_HZ)
    speakers = timeline.screenplay.speakers
    alone = {speaker.figure: np.zeros(length, np.float32) for speaker in speakers.values()}
    for timed, audio in zip(timeline.lines, spoken, strict=True):
        begin = round(timed.start * SAMPLE_RATE_HZ)
        alone[speakers[timed.line.speaker].figure][begin : begin + len(audio)] += audio
    track = np.sum(list(alone.values()), axis=0) * _VOICE_GAIN
    if timeline.screenplay.music:
        seed = timeline.screenplay.seed
        track += _MUSIC_GAIN * music.bed(timeline.duration_s, SAMPLE_RATE_HZ, seed)[:length]
    return track.astype(np.float32), alone


def _loudness(audio: Audio, frames: int) -> NDArray[np.float32]:
    """One value a frame, 0 to 1, for the movement of a mouth."""
    hop = SAMPLE_RATE_HZ // picture.FRAMES_A_SECOND
    padded = np.zeros(frames * hop, np.float32)
    padded[: min(len(audio), len(padded))] = audio[: len(padded)]
    rms = np.sqrt(np.mean(padded.reshape(frames, hop) ** 2, axis=1))
    return np.asarray(np.minimum(1, rms / 0.3), np.float32)


def _encode(sound: Path, film: Path) -> list[str]:
    size = f"{picture.WIDTH}x{picture.HEIGHT}"
    rate = str(picture.FRAMES_A_SECOND)
    video = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
    # One thread and bitexact headers: the file does not depend on the machine's cores or date.
    coded = ["-c:v", "libx264", "-preset", "medium", "-crf", "30", "-pix_fmt", "yuv420p"]
    coded += ["-g", "100", "-threads", "1", "-c:a", "aac", "-b:a", "64k", "-ar", "44100"]
    flags = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"]
    end = ["-map", "0:v", "-map", "1:a", "-movflags", "+faststart", str(film)]
    head = [_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"]
    return [*head, *video, "-i", str(sound), *coded, *flags, *end]


def _ffmpeg() -> str:
    found = shutil.which("ffmpeg")
    if found is None:
        raise RuntimeError("ffmpeg was not found (apt-get install ffmpeg)")
    return found


def _passports() -> Mapping[str, Mapping[str, Any]]:
    listed = yaml.safe_load((HERE / "passports.yaml").read_text(encoding="utf-8"))
    return {passport["id"]: passport for passport in listed}


def _is_screenplay(path: Path) -> bool:
    return not path.name.endswith(".room.yaml")


def _default_cache() -> Path:
    return Path.home() / ".cache" / "moderator" / "samples"


if __name__ == "__main__":
    main()
