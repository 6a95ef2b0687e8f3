"""One running ffmpeg: its pipes, a reading thread for each track, and its end.

Sound and pictures leave ffmpeg as bare samples and pixels, which carry no time. So each track has
a second pipe with a line for every chunk of samples or frame that the filters let through: one
line belongs to one fixed number of bytes. The lines of the video track also tell of frames that
are not kept, so that long decoding without output is seen to live.
"""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from moderator.errors import FFMPEG_MISSING, ModeratorError
from moderator.media.blocks import SAMPLE_RATE_HZ, AudioBlock, VideoFrame
from moderator.media.clock import TrackClock
from moderator.media.command import Input, decode_log, is_error
from moderator.media.filters import (
    CHUNK_BYTES,
    CHUNK_S,
    KEPT,
    SEEN,
    SHOWN_SIZE,
    STAMP,
    VIDEO_CLOCK_HZ,
    seconds,
    shrunk,
)
from moderator.media.interleave import Interleaver
from moderator.media.probe import MediaInfo, parse_banner

Item = AudioBlock | VideoFrame
Arguments = Callable[[Mapping[str, int]], list[str]]
"""The command line, given the descriptors to write to: a track's name, and `times(track)`."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What comes through the pipes.

    `zero_s` is the PTS of media-clock zero; None: where the input starts, as ffmpeg's banner
    tells, or `expected_zero_s` if it does not. With `in_corner` a picture fills the corner of
    `frame_size`, as the log tells, else all of it.
    """

    block_s: float
    frame_size: tuple[int, int]
    zero_s: float | None = None
    expected_zero_s: float = 0.0
    in_corner: bool = False


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the process may use; None leaves a limit as it is."""

    memory_bytes: int | None = None
    file_bytes: int | None = None
    open_files: int | None = None
    environment: Mapping[str, str] | None = None
    folder: Path | None = None


class RunningFfmpeg:
    """Started on construction; `items` brings what it decodes; `close` in any case."""

    def __init__(
        self,
        source: Input,
        arguments: Arguments,
        clocks: Mapping[str, TrackClock],
        items: Interleaver[Item],
        reading: Reading,
        confinement: Confinement | None = None,
        on_open: Callable[[MediaInfo | None], None] | None = None,
    ) -> None:
        """`on_open` is called with what the banner tells before anything is read."""
        self.info: MediaInfo | None = None
        """What the banner tells; None until ffmpeg has opened its input."""
        self.errors: deque[str] = deque(maxlen=_LOG_LINES)
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self.cut = False
        """Whether a pipe ended in the middle of a piece."""
        self.picture_size = (0, 0)
        """Width and height of the last picture kept, as it came; only with `in_corner`."""
        self._source = source
        self._clocks = clocks
        self._items = items
        self._reading = reading
        self._on_open = on_open
        self._zero_known = threading.Event()
        self._sizes = _Sizes()
        self._threads: list[threading.Thread] = []
        self._process = self._start(arguments, confinement or Confinement())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> int:
        """The exit status, once `info` and `errors` hold all that ffmpeg said.

        Raises subprocess.TimeoutExpired.
        """
        status = self._process.wait(timeout_s)
        for thread in self._threads:
            if thread.name == _LOG_THREAD:
                thread.join(timeout_s)
        return status

    def close(self) -> None:
        """Kill and reap ffmpeg, end the threads, close every pipe. May be called again."""
        self._process.kill()
        self._process.wait()
        self._items.close()
        self._zero_known.set()
        self._sizes.close()
        for thread in self._threads:
            thread.join()

    def _start(self, arguments: Arguments, confinement: Confinement) -> subprocess.Popen[bytes]:
        with ExitStack() as ours, ExitStack() as theirs:
            read_from: dict[str, IO[bytes]] = {}
            write_to: dict[str, int] = {}
            for track in self._clocks:
                for pipe in (track, times(track)):
                    read_end, write_to[pipe] = os.pipe()
                    theirs.callback(os.close, write_to[pipe])
                    read_from[pipe] = ours.enter_context(os.fdopen(read_end, "rb"))
            if "video" in write_to:
                _widen(write_to["video"])
            try:
                process = subprocess.Popen(
                    arguments(write_to),
                    pass_fds=tuple(write_to.values()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=confinement.environment,
                    cwd=confinement.folder,
                    # Ctrl-C is for us to handle: ffmpeg would stop on its own half-way.
                    start_new_session=True,
                )
            except OSError as error:
                raise ModeratorError(FFMPEG_MISSING) from error
            _confine(process.pid, confinement)
            ours.pop_all()
        if process.stderr is not None:
            self._spawn("log", self._read_log, process.stderr)
        for track, read in (("audio", self._read_audio), ("video", self._read_video)):
            if track in self._clocks:
                self._spawn(track, read, read_from[track], read_from[times(track)])
        return process

    def _spawn(self, lane: str, read: Callable[..., None], *pipes: IO[bytes]) -> None:
        def guarded() -> None:
            error: BaseException | None = None
            try:
                with ExitStack() as stack:
                    for pipe in pipes:
                        stack.enter_context(pipe)
                    read(*pipes)
            except BaseException as caught:  # whatever it is, the reader of the items must know
                error = caught
            if lane in self._clocks:
                self._items.finish(lane, error)

        thread = threading.Thread(target=guarded, name=f"media {lane}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read_log(self, log: IO[bytes]) -> None:
        """The banner gives the zero of the clock; of the rest the errors are kept."""
        banner = bytearray()
        try:
            while line := log.readline(_LOG_LINE_BYTES):
                if not self._zero_known.is_set():
                    banner += line
                    if line.startswith(_BANNER_END) or len(banner) > _BANNER_BYTES:
                        self._set_zero(banner)
                shown = SHOWN_SIZE.search(line)
                if shown is not None:
                    self._sizes.put(shown[1], (int(shown[2]), int(shown[3])))
                    continue
                text = decode_log(line).rstrip("\n")
                if is_error(text):
                    self.errors.append(text)
                if "showinfo" not in text:
                    self.last_lines.append(text)
        finally:
            self._set_zero(banner)
            self._sizes.close()

    def _set_zero(self, banner: bytearray) -> None:
        if self._zero_known.is_set():
            return
        # A live stream has moved on since any probe: the start of this connection counts.
        self.info = parse_banner(decode_log(bytes(banner)), self._source)
        zero_s = self._reading.zero_s
        if zero_s is None:
            zero_s = self.info.start_s if self.info else self._reading.expected_zero_s
        for clock in self._clocks.values():
            clock.zero_s = zero_s
        if self._on_open is not None:
            self._on_open(self.info)
        self._zero_known.set()

    def _read_audio(self, samples: IO[bytes], lines: IO[bytes]) -> None:
        clock = self._clocks["audio"]
        block = _Block()
        for line in lines:
            stamp = STAMP.match(line)
            if stamp is None:
                continue
            chunk = samples.read(CHUNK_BYTES)
            if len(chunk) < CHUNK_BYTES:
                self.cut = True
                break
            self._zero_known.wait()
            start = clock.place(seconds(stamp[1], SAMPLE_RATE_HZ), CHUNK_S)
            if start is None:
                continue
            if block.chunks and abs(start - block.end) > CHUNK_S / 2:
                self._put(block)
                block = _Block()
            block.add(start, chunk)
            self._items.reached("audio", block.start)
            if block.end - block.start > self._reading.block_s - CHUNK_S / 2:
                self._put(block)
                block = _Block()
        if block.chunks:
            self._put(block)

    def _put(self, block: _Block) -> None:
        pcm = np.frombuffer(b"".join(block.chunks), dtype="<i2")
        samples = pcm.astype(np.float32) / np.float32(32768)
        self._items.put("audio", block.start, AudioBlock(block.start, samples))

    def _read_video(self, pixels: IO[bytes], lines: IO[bytes]) -> None:
        clock = self._clocks["video"]
        width, height = self._reading.frame_size
        pts = b"NOPTS"
        time = 0.0
        for line in lines:
            stamp = STAMP.match(line)
            if stamp is not None:
                pts = stamp[1]
            elif line == SEEN:
                self._zero_known.wait()
                time = clock.place(seconds(pts, VIDEO_CLOCK_HZ), 0.0) or 0.0
                self._items.reached("video", time)
            elif line == KEPT:
                image = np.empty((height, width, 3), np.uint8)
                if not _fill(pixels, image.data.cast("B")):
                    self.cut = True
                    break
                if self._reading.in_corner:
                    image = self._cut_out(image, pts)
                if not self._items.put("video", time, VideoFrame(time, image)):
                    break

    def _cut_out(self, canvas: NDArray[np.uint8], pts: bytes) -> NDArray[np.uint8]:
        self.picture_size = self._sizes.take(pts) or self.picture_size
        if self.picture_size == (0, 0):
            return canvas
        width, height = shrunk(*self.picture_size, len(canvas))
        # A copy lets go of the rest of the square.
        return canvas[:height, :width].copy()


def times(track: str) -> str:
    """The name of the pipe that brings the lines of a track."""
    return f"{track} times"


_LOG_THREAD = "media log"
_LOG_LINES = 200
_LAST_LINES = 30
_LOG_LINE_BYTES = 1 << 16
_BANNER_BYTES = 1 << 20
_BANNER_END = b"[info] Stream mapping:"
_PIPE_BYTES = 1 << 20
_SIZES_KEPT = 64
_SIZE_WITHIN_S = 0.5
"""The log is written before the pixels, but another thread reads it."""


class _Sizes:
    """Sizes of pictures by PTS, from the thread of the log to the thread of the pixels."""

    def __init__(self) -> None:
        self._sizes: dict[bytes, tuple[int, int]] = {}
        self._change = threading.Condition()
        self._closed = False

    def put(self, pts: bytes, size: tuple[int, int]) -> None:
        with self._change:
            self._sizes[pts] = size
            while len(self._sizes) > _SIZES_KEPT:
                del self._sizes[next(iter(self._sizes))]
            self._change.notify_all()

    def take(self, pts: bytes) -> tuple[int, int] | None:
        with self._change:
            self._change.wait_for(lambda: self._closed or pts in self._sizes, _SIZE_WITHIN_S)
            return self._sizes.pop(pts, None)

    def close(self) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()


@dataclass(slots=True)
class _Block:
    start: float = 0.0
    chunks: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.start + len(self.chunks) * CHUNK_S

    def add(self, start: float, chunk: bytes) -> None:
        if not self.chunks:
            self.start = start
        self.chunks.append(chunk)


def _confine(pid: int, confinement: Confinement) -> None:
    bounds = {
        resource.RLIMIT_AS: confinement.memory_bytes,
        resource.RLIMIT_FSIZE: confinement.file_bytes,
        resource.RLIMIT_NOFILE: confinement.open_files,
    }
    for kind, bound in bounds.items():
        if bound is not None:
            # Set from outside: code between fork and exec is not safe in a process with threads.
            with suppress(OSError, ValueError, AttributeError):
                resource.prlimit(pid, kind, (bound, bound))


def _fill(pipe: IO[bytes], buffer: memoryview) -> bool:
    """Read until `buffer` is full; False when the pipe ends before."""
    at = 0
    while at < len(buffer):
        count = pipe.readinto(buffer[at:])  # type: ignore[attr-defined]
        if not count:
            return False
        at += count
    return True


def _widen(pipe: int) -> None:
    # A frame is megabytes; the 64 KiB that a pipe has would cost a switch of threads each.
    with suppress(OSError, AttributeError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
