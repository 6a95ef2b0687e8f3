"""One running ffmpeg: its arguments, its pipes, and a reading thread for each track.

Sound and pictures leave ffmpeg as bare samples and pixels, which carry no time. So each track has
a second pipe with a line for every chunk of samples or frame that the filters let through: one
line belongs to one fixed number of bytes. The lines of the video track also tell of frames that
are not kept, so that long decoding without output is seen to live.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import IO, NoReturn

import ffmpeg
import numpy as np

from moderator.errors import (
    DECODE_FAILED,
    DURATION_DIFFERS,
    FFMPEG_MISSING,
    MEDIA_DAMAGED,
    MEDIA_TIMEOUT,
    STREAM_UNREACHABLE,
    TIME_JUMP,
    ModeratorError,
    in_ui_language,
)
from moderator.media.blocks import SAMPLE_RATE_HZ, AudioBlock, VideoFrame
from moderator.media.clock import TrackClock
from moderator.media.command import (
    SOURCE,
    Input,
    command_line,
    decode_log,
    find_ffmpeg,
    is_error,
    passthrough_options,
    reason_in,
)
from moderator.media.interleave import Interleaver, Stalled
from moderator.media.probe import MediaInfo, frame_size, parse_banner, refuse_large_frames

Item = AudioBlock | VideoFrame


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What to decode and how; `MediaSource` explains the fields."""

    audio: bool
    video: bool
    frame_every_s: float
    scene_change: float | None
    max_frame_side: int
    max_frame_pixels: int
    block_s: float
    stall_timeout_s: float
    threads: int

    def __post_init__(self) -> None:
        if min(self.frame_every_s, self.block_s, self.stall_timeout_s) <= 0:
            raise ValueError("frame_every_s, block_s and stall_timeout_s must be positive")
        if min(self.max_frame_side, self.max_frame_pixels) < 1:
            raise ValueError("max_frame_side and max_frame_pixels must be positive")


class Decoder:
    """Starts ffmpeg on construction; `take` until None, then `conclude`; `close` in any case."""

    def __init__(self, source: Input, info: MediaInfo, options: DecodeOptions) -> None:
        self.damaged = False
        self._source = source
        self._info = info
        self._options = options
        self._frame_size = frame_size(info, options.max_frame_side)
        wanted = {
            "audio": options.audio and info.has_audio,
            "video": options.video and info.has_video,
        }
        self._clocks = {track: TrackClock() for track, yes in wanted.items() if yes}
        self._every_track = len(self._clocks) == info.has_audio + info.has_video
        bounds = {"audio": max(2, round(_AUDIO_QUEUE_S / options.block_s)), "video": _FRAME_QUEUE}
        self._items: Interleaver[Item] = Interleaver(
            {track: bounds[track] for track in self._clocks},
            patience_s=_STREAM_PATIENCE_S if source.is_stream else _FILE_PATIENCE_S,
        )
        self._zero_known = threading.Event()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._delivered: set[str] = set()
        self._failed = False
        self._cut = False
        self._threads: list[threading.Thread] = []
        self._process = self._start() if self._clocks else None

    def take(self) -> Item | None:
        """The next item; None after the last. Raises LM-109, having stopped ffmpeg."""
        try:
            item = self._items.take(self._options.stall_timeout_s)
        except Stalled:
            self._give_up()
        if item is not None:
            self._delivered.add("audio" if isinstance(item, AudioBlock) else "video")
        return item

    @property
    def end_s(self) -> float:
        """Media-clock second up to which ffmpeg has decoded."""
        return max((clock.end_s for clock in self._clocks.values()), default=0.0)

    def conclude(self) -> list[ModeratorError]:
        """Reap ffmpeg after the last item; returns warnings.

        Sets `damaged`. Raises LM-107, LM-110 or LM-112 when there was no item at all.
        """
        if self._process is None:
            return []
        try:
            returncode = self._process.wait(self._options.stall_timeout_s)
        except subprocess.TimeoutExpired:
            self._give_up()
        self.close()
        shown, log = self._source.shown, "\n".join(self._log)
        reason = reason_in(log, self._source)
        if returncode < 0:
            reason = in_ui_language(
                f"ffmpeg was killed by signal {-returncode}", f"ffmpeg 被信号 {-returncode} 终止"
            )
        if not self._delivered:
            refuse_large_frames(log, self._source, None, self._options.max_frame_pixels)
            if returncode == 0 and not log:
                reason = in_ui_language("its tracks are empty", "音视频轨是空的")
            spec = STREAM_UNREACHABLE if self._source.is_stream else DECODE_FAILED
            raise ModeratorError(spec, path=shown, url=shown, reason=reason)
        self._failed = returncode != 0
        self.damaged = self._failed or bool(log)
        damage = [ModeratorError(MEDIA_DAMAGED, path=shown, reason=reason)] if self.damaged else []
        return damage + self._time_jumps() + self._wrong_duration()

    def rest(self) -> Decoder | None:
        """After `conclude`: a decoder of the other track alone, when one that never gave anything
        made ffmpeg fail before the end of the file; else None.

        ffmpeg 5 drops what it had queued of a good track when it cannot set up the other.
        """
        header_s = self._info.duration_s
        reached_end = header_s is not None and abs(header_s - self.end_s) < 0.1
        one_of_two = 0 < len(self._delivered) < len(self._clocks)
        if not (self._failed and one_of_two) or self._source.is_stream:
            return None
        if reached_end and not self._cut:
            return None
        wanted = {track: track in self._delivered for track in ("audio", "video")}
        return Decoder(self._source, self._info, replace(self._options, **wanted))

    def close(self) -> None:
        """Kill and reap ffmpeg, end the threads, close every pipe. May be called again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._items.close()
        self._zero_known.set()
        for thread in self._threads:
            thread.join()

    def _give_up(self) -> NoReturn:
        self.close()
        seconds = f"{self._options.stall_timeout_s:g}"
        raise ModeratorError(MEDIA_TIMEOUT, path=self._source.shown, seconds=seconds)

    def _time_jumps(self) -> list[ModeratorError]:
        return [
            ModeratorError(
                TIME_JUMP,
                path=self._source.shown,
                track=track,
                at_s=f"{jump.at_s:.1f}",
                jump_s=f"{jump.step_s:+.1f}",
            )
            for track, clock in self._clocks.items()
            for jump in clock.jumps
            if abs(jump.step_s) > 1.0
        ]

    def _wrong_duration(self) -> list[ModeratorError]:
        header_s = self._info.duration_s
        if header_s is None or self._source.is_stream or not self._every_track:
            return []
        decoded_s = self.end_s
        if abs(header_s - decoded_s) <= max(2.0, 0.05 * decoded_s):
            return []
        return [
            ModeratorError(
                DURATION_DIFFERS,
                path=self._source.shown,
                header_s=f"{header_s:.1f}",
                decoded_s=f"{decoded_s:.1f}",
            )
        ]

    def _start(self) -> subprocess.Popen[bytes]:
        with ExitStack() as ours, ExitStack() as theirs:
            read_from: dict[str, IO[bytes]] = {}
            write_to: dict[str, int] = {}
            for track in self._clocks:
                for pipe in (track, _times(track)):
                    read_end, write_to[pipe] = os.pipe()
                    theirs.callback(os.close, write_to[pipe])
                    read_from[pipe] = ours.enter_context(os.fdopen(read_end, "rb"))
            if "video" in write_to:
                _widen(write_to["video"])
            try:
                process = subprocess.Popen(
                    self._arguments(write_to),
                    pass_fds=tuple(write_to.values()),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    # Ctrl-C is for us to handle: ffmpeg would stop on its own half-way.
                    start_new_session=True,
                )
            except OSError as error:
                raise ModeratorError(FFMPEG_MISSING) from error
            ours.pop_all()
        if process.stderr is not None:
            self._spawn("log", self._read_log, process.stderr)
        for track, read in (("audio", self._read_audio), ("video", self._read_video)):
            if track in self._clocks:
                self._spawn(track, read, read_from[track], read_from[_times(track)])
        return process

    def _arguments(self, write_to: dict[str, int]) -> list[str]:
        binary = find_ffmpeg()
        options: dict[str, str | int | None] = {**self._source.options, "copyts": None}
        if self._options.threads:
            options["threads"] = self._options.threads
        if "video" in write_to:
            options["max_pixels"] = self._options.max_frame_pixels
        source = ffmpeg.input(SOURCE, **options)
        outputs = []
        # Each track has its own filter graph: one graph for both would hold back decoded
        # pictures, without bound, until the first sound is there.
        if "audio" in write_to:
            outputs.append(
                source["a:0"].output(
                    f"pipe:{write_to['audio']}",
                    f="s16le",
                    af=_audio_filters(write_to[_times("audio")]),
                    flush_packets=1,
                )
            )
        if "video" in write_to:
            outputs.append(
                source["V:0"].output(
                    f"pipe:{write_to['video']}",
                    f="rawvideo",
                    pix_fmt="bgr24",
                    vf=self._video_filters(write_to[_times("video")]),
                    flush_packets=1,
                    **passthrough_options(binary),
                )
            )
        return command_line(ffmpeg.merge_outputs(*outputs), binary, self._source)

    def _video_filters(self, times_to: int) -> str:
        every_s, zero_s = self._options.frame_every_s, self._info.start_s
        width, height = self._frame_size

        def period(time: str) -> str:
            return f"floor(({time}-({zero_s:.6f}))/{every_s:.6f}+0.000001)"

        pick = f"not(eq({period('t')},{period('prev_selected_t')}))"
        if self._options.scene_change is not None:
            spaced = f"gte(abs(t-prev_selected_t),{every_s / 4:.6f})"
            pick += f"+gt(scene,{self._options.scene_change:.6f})*{spaced}"
        return ",".join(
            (
                f"settb=1/{_VIDEO_CLOCK_HZ}",
                "metadata=mode=add:key=lm:value=seen",
                f"metadata={_lines(times_to)}",
                # A stream without time stamps must not have every frame picked.
                f"select='if(isnan(t),not(mod(n,25)),{pick})'",
                "metadata=mode=modify:key=lm:value=kept",
                f"metadata={_lines(times_to)}",
                f"scale={width}:{height}:force_original_aspect_ratio=decrease:flags=area",
                "format=bgr24",
                f"pad={width}:{height}:-1:-1",
            )
        )

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
                text = decode_log(line)
                if is_error(text):
                    self._log.append(text.rstrip("\n"))
        finally:
            self._set_zero(banner)

    def _set_zero(self, banner: bytearray) -> None:
        if self._zero_known.is_set():
            return
        # A live stream has moved on since the probe: the start of this connection counts.
        info = parse_banner(decode_log(bytes(banner)), self._source) or self._info
        for clock in self._clocks.values():
            clock.zero_s = info.start_s
        self._zero_known.set()

    def _read_audio(self, samples: IO[bytes], times: IO[bytes]) -> None:
        clock = self._clocks["audio"]
        block = _Block()
        for line in times:
            stamp = _STAMP.match(line)
            if stamp is None:
                continue
            chunk = samples.read(_CHUNK_BYTES)
            if len(chunk) < _CHUNK_BYTES:
                self._cut = True
                break
            self._zero_known.wait()
            start = clock.place(_seconds(stamp, SAMPLE_RATE_HZ), _CHUNK_S)
            if start is None:
                continue
            if block.chunks and abs(start - block.end) > _CHUNK_S / 2:
                self._put(block)
                block = _Block()
            block.add(start, chunk)
            self._items.reached("audio", block.start)
            if block.end - block.start > self._options.block_s - _CHUNK_S / 2:
                self._put(block)
                block = _Block()
        if block.chunks:
            self._put(block)

    def _put(self, block: _Block) -> None:
        pcm = np.frombuffer(b"".join(block.chunks), dtype="<i2")
        samples = pcm.astype(np.float32) / np.float32(32768)
        self._items.put("audio", block.start, AudioBlock(block.start, samples))

    def _read_video(self, pixels: IO[bytes], times: IO[bytes]) -> None:
        clock = self._clocks["video"]
        width, height = self._frame_size
        pts: float | None = None
        time = 0.0
        for line in times:
            stamp = _STAMP.match(line)
            if stamp is not None:
                pts = _seconds(stamp, _VIDEO_CLOCK_HZ)
            elif line == b"lm=seen\n":
                self._zero_known.wait()
                time = clock.place(pts, 0.0) or 0.0
                self._items.reached("video", time)
            elif line == b"lm=kept\n":
                image = np.empty((height, width, 3), np.uint8)
                if not _fill(pixels, image.data.cast("B")):
                    self._cut = True
                    break
                if not self._items.put("video", time, VideoFrame(time, image)):
                    break


_AUDIO_QUEUE_S = 10.0
_FRAME_QUEUE = 4
_STREAM_PATIENCE_S = 0.5
_FILE_PATIENCE_S = 5.0
_CHUNK_SAMPLES = 1024
_CHUNK_S = _CHUNK_SAMPLES / SAMPLE_RATE_HZ
_CHUNK_BYTES = 2 * _CHUNK_SAMPLES
_VIDEO_CLOCK_HZ = 1_000_000
_PIPE_BYTES = 1 << 20
_LOG_LINES = 200
_LOG_LINE_BYTES = 1 << 16
_BANNER_BYTES = 1 << 20
_BANNER_END = b"[info] Stream mapping:"
_STAMP = re.compile(rb"frame:\d+ +pts:(-?\d+|NOPTS) ")


@dataclass(slots=True)
class _Block:
    start: float = 0.0
    chunks: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.start + len(self.chunks) * _CHUNK_S

    def add(self, start: float, chunk: bytes) -> None:
        if not self.chunks:
            self.start = start
        self.chunks.append(chunk)


def _times(track: str) -> str:
    return f"{track} times"


def _lines(to: int) -> str:
    return f"mode=print:key=lm:file='pipe\\:{to}':direct=1"


def _audio_filters(times_to: int) -> str:
    return ",".join(
        (
            f"aresample={SAMPLE_RATE_HZ}",
            "aformat=sample_fmts=s16:channel_layouts=mono",
            # The last chunk is filled up with silence: every line stands for as many bytes.
            f"asetnsamples=n={_CHUNK_SAMPLES}:p=1",
            "ametadata=mode=add:key=lm:value=kept",
            f"ametadata={_lines(times_to)}",
        )
    )


def _seconds(stamp: re.Match[bytes], clock_hz: int) -> float | None:
    return None if stamp[1] == b"NOPTS" else int(stamp[1]) / clock_hz


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
