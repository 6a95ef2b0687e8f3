from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moderator.errors import ModeratorError
from moderator.media.command import find_ffmpeg


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "en")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """`make(name, *arguments)` has ffmpeg write `tmp_path / name`."""
    try:
        binary = find_ffmpeg()
    except ModeratorError:
        pytest.skip("no ffmpeg")

    def write(name: str, *arguments: object) -> Path:
        path = tmp_path / name
        words = [str(argument) for argument in arguments]
        subprocess.run(
            [binary, "-nostdin", "-y", "-loglevel", "error", *words, f"file:{path}"], check=True
        )
        return path

    return write


@pytest.fixture(params=["on PATH", "from imageio-ffmpeg"])
def each_ffmpeg(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Runs the test with each binary there is; ask for it after `make`."""
    if request.param == "on PATH":
        if shutil.which("ffmpeg") is None:
            pytest.skip("no ffmpeg on PATH")
    else:
        pytest.importorskip("imageio_ffmpeg")
        empty = tmp_path / "no binaries"
        empty.mkdir()
        monkeypatch.setenv("PATH", str(empty))
    return find_ffmpeg()


@pytest.fixture
def leaks_nothing() -> Iterator[None]:
    """Fails when the test leaves a child process, an open file or a thread behind."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to look into")
    before = (child_processes(), open_files(), threading.active_count())
    yield
    assert (child_processes(), open_files(), threading.active_count()) == before


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server on the loopback that serves `tmp_path`."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def copyfile(self, source: object, outputfile: object) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            super().copyfile(source, outputfile)  # type: ignore[arg-type]


def child_processes() -> set[str]:
    found: set[str] = set()
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(children.read_text().split())
        except OSError:
            continue
    return found


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
