from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moderator import models
from moderator.errors import ModeratorError
from moderator.media.command import find_ffmpeg
from tests.live.stations import Folder, Play, Station
from tests.media.conftest import child_processes, open_files

SAMPLE = Path(__file__).parents[2] / "samples" / "rooms" / "food_and_tea.mp4"


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "en")


@pytest.fixture(scope="session")
def room_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of a room, small, with a key frame every half second."""
    return _encode(
        tmp_path_factory.mktemp("room") / "room.mp4",
        *("-ss", "20", "-t", "8", "-i", str(SAMPLE), "-vf", "scale=216:384", "-r", "10"),
    )


@pytest.fixture(scope="session")
def wide_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same room in landscape."""
    return _encode(
        tmp_path_factory.mktemp("wide") / "wide.mp4",
        *("-ss", "20", "-t", "8", "-i", str(SAMPLE), "-vf", "scale=400:224,setsar=1", "-r", "10"),
    )


def _encode(path: Path, *words: str) -> Path:
    try:
        binary = find_ffmpeg()
    except ModeratorError:
        pytest.skip("no ffmpeg")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "5", "-bf", "0", "-c:a", "aac")
    loud = ("-y", "-nostdin", "-loglevel", "error")
    subprocess.run([binary, *loud, *words, *codecs, "-ac", "1", str(path)], check=True)
    return path


@pytest.fixture
def station() -> Iterator[Callable[..., Station]]:
    """`station(play)` opens a web server that does `play` for each listener."""
    opened: list[Station] = []

    def open_station(play: Play, **where: object) -> Station:
        opened.append(Station(play, **where))  # type: ignore[arg-type]
        return opened[-1]

    yield open_station
    for one in opened:
        if isinstance(hang_up := getattr(one.play, "hang_up", None), Callable):
            hang_up()
        one.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    path = tmp_path / "served"
    path.mkdir()
    server = Folder(path)
    yield path, server.url
    server.close()


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails when a test leaves a child process, a thread or an open file."""
    if not Path("/proc/self/fd").is_dir():
        yield
        return
    before = (child_processes(), open_files(), threading.active_count())
    yield
    for _ in range(100):
        after = (child_processes(), open_files(), threading.active_count())
        if after == before:
            return
        time.sleep(0.05)
    assert after == before


@pytest.fixture(scope="session")
def embedded_weights() -> None:
    """Skips a test of real speech where the weights are not installed."""
    for name in ("whisper-base", "silero-vad-v6"):
        if not models.is_installed(name):
            pytest.skip(f"the weights {name} are not installed")
