"""Decoding one recording or stream from its beginning to its end, and what was wrong with it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import ffmpeg

from moderator.errors import (
    DECODE_FAILED,
    DURATION_DIFFERS,
    MEDIA_DAMAGED,
    MEDIA_TIMEOUT,
    STREAM_UNREACHABLE,
    TIME_JUMP,
    ModeratorError,
    in_ui_language,
)
from moderator.media.blocks import AudioBlock
from moderator.media.clock import TrackClock
from moderator.media.command import (
    SOURCE,
    Input,
    command_line,
    find_ffmpeg,
    passthrough_options,
    reason_in,
)
from moderator.media.filters import audio_filters, fitted, sampling
from moderator.media.interleave import Interleaver, Stalled
from moderator.media.probe import MediaInfo, frame_size, refuse_large_frames
from moderator.media.running import Item, Reading, RunningFfmpeg, times


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
    hwaccel: str = "none"

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
        self._delivered: set[str] = set()
        self._failed = False
        self._running = self._start() if self._clocks else None

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
        if self._running is None:
            return []
        try:
            returncode = self._running.wait(self._options.stall_timeout_s)
        except subprocess.TimeoutExpired:
            self._give_up()
        self.close()
        shown, log = self._source.shown, "\n".join(self._running.errors)
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
        if reached_end and self._running is not None and not self._running.cut:
            return None
        audio, video = (track in self._delivered for track in ("audio", "video"))
        options = replace(self._options, audio=audio, video=video)
        return Decoder(self._source, self._info, options)

    def close(self) -> None:
        """Kill and reap ffmpeg, end the threads, close every pipe. May be called again."""
        if self._running is not None:
            self._running.close()

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

    def _start(self) -> RunningFfmpeg:
        reading = Reading(
            block_s=self._options.block_s,
            frame_size=self._frame_size,
            expected_zero_s=self._info.start_s,
        )
        return RunningFfmpeg(self._source, self._arguments, self._clocks, self._items, reading)

    def _arguments(self, write_to: Mapping[str, int]) -> list[str]:
        binary = find_ffmpeg()
        options: dict[str, str | int | None] = {**self._source.options, "copyts": None}
        if self._options.threads:
            options["threads"] = self._options.threads
        if "video" in write_to:
            options["max_pixels"] = self._options.max_frame_pixels
            if self._options.hwaccel != "none":
                options["hwaccel"] = self._options.hwaccel
        source = ffmpeg.input(SOURCE, **options)
        outputs = []
        # Each track has its own filter graph: one graph for both would hold back decoded
        # pictures, without bound, until the first sound is there.
        if "audio" in write_to:
            outputs.append(
                source["a:0"].output(
                    f"pipe:{write_to['audio']}",
                    f="s16le",
                    af=audio_filters(write_to[times("audio")]),
                    flush_packets=1,
                )
            )
        if "video" in write_to:
            outputs.append(
                source["V:0"].output(
                    f"pipe:{write_to['video']}",
                    f="rawvideo",
                    pix_fmt="bgr24",
                    vf=self._video_filters(write_to[times("video")]),
                    flush_packets=1,
                    **passthrough_options(binary),
                )
            )
        return command_line(ffmpeg.merge_outputs(*outputs), binary, self._source)

    def _video_filters(self, times_to: int) -> str:
        options = self._options
        picked = sampling(times_to, options.frame_every_s, options.scene_change, self._info.start_s)
        return ",".join((*picked, *fitted(*self._frame_size)))


_AUDIO_QUEUE_S = 10.0
_FRAME_QUEUE = 4
_STREAM_PATIENCE_S = 0.5
_FILE_PATIENCE_S = 5.0
