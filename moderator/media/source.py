"""A file or stream in, blocks of sound and sampled frames out, on one media clock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from moderator.errors import ModeratorError
from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.command import open_input
from moderator.media.decoder import DecodeOptions, Decoder
from moderator.media.probe import MAX_FRAME_PIXELS, MediaInfo, probe, probe_input

__all__ = ["AudioBlock", "MediaInfo", "MediaSource", "VideoFrame", "probe"]


class MediaSource:
    """Decodes one file or stream with one ffmpeg process; a context manager and an iterator.

    ::

        with MediaSource("room.mp4") as media:
            for item in media:
                if isinstance(item, AudioBlock): ...

    `path` is a file or a stream URL. Entering probes it (`info`) and starts ffmpeg; leaving kills
    and reaps it, whatever happened. Items come roughly in order of time: each track in its own,
    and sound ahead of pictures by 10 s at most. A slow reader slows ffmpeg down: queues are
    bounded (10 s of sound, four frames) and nothing is dropped.

    The media clock is zero at the first PTS over all tracks, decoded or not. Frames: the first in
    every `frame_every_s` of it; besides, where the picture changes by more than `scene_change`
    (0–1, ffmpeg's scene score; None turns it off), at most one more in a quarter of that time.
    They are scaled so that the longer side is at most `max_frame_side` pixels, and all have one
    size even if the stream's size changes.

    `hwaccel` is how ffmpeg decodes pictures: `none` in software, `auto` on whatever works, or the
    name of a method that `ffmpeg -hwaccels` lists. Pictures come back to memory either way.

    After the last item `damaged` says whether ffmpeg met errors on the way, and `warnings` holds
    ModeratorErrors (LM-113 to LM-115) to show and not to raise.

    Raises as `probe` does on entering, and while iterating LM-109 (no sign of life from ffmpeg
    for `stall_timeout_s`), LM-110 (nothing at all could be decoded) and LM-112 (a stream that
    broke before it gave anything).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        frame_every_s: float = 2.0,
        scene_change: float | None = 0.1,
        audio: bool = True,
        video: bool = True,
        max_frame_side: int = 1280,
        max_frame_pixels: int = MAX_FRAME_PIXELS,
        block_s: float = 0.5,
        stall_timeout_s: float = 60.0,
        allow_private: bool = False,
        threads: int = 0,
        hwaccel: str = "none",
    ) -> None:
        self.path = path
        self.allow_private = allow_private
        self.options = DecodeOptions(
            audio=audio,
            video=video,
            frame_every_s=frame_every_s,
            scene_change=scene_change,
            max_frame_side=max_frame_side,
            max_frame_pixels=max_frame_pixels,
            block_s=block_s,
            stall_timeout_s=stall_timeout_s,
            threads=threads,
            hwaccel=hwaccel,
        )
        self.damaged = False
        self.warnings: list[ModeratorError] = []
        self._opened: tuple[MediaInfo, Decoder] | None = None
        self._position_s = 0.0

    @property
    def info(self) -> MediaInfo:
        """What the probe found; known once entered."""
        return self._entered()[0]

    @property
    def position_s(self) -> float:
        """Media-clock second up to which items were handed out."""
        return self._position_s

    def __enter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError("a MediaSource is entered once; make another to read again")
        options = self.options
        source = open_input(
            self.path, allow_private=self.allow_private, stall_timeout_s=options.stall_timeout_s
        )
        info = probe_input(
            source, max_frame_pixels=options.max_frame_pixels, timeout_s=options.stall_timeout_s
        )
        self._opened = info, Decoder(source, info, options)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            self._opened[1].close()

    def __iter__(self) -> Iterator[AudioBlock | VideoFrame]:
        info, decoder = self._entered()
        yield from self._items(decoder)
        self.warnings, self.damaged = decoder.conclude(), decoder.damaged
        rest = decoder.rest()
        if rest is not None:
            self._opened = info, rest
            yield from self._items(rest, after=self._position_s)
            self.warnings += rest.conclude()
            decoder = rest
        # Pictures between the last sample and the end were decoded too.
        self._position_s = max(self._position_s, decoder.end_s)

    def _items(self, decoder: Decoder, after: float = -1.0) -> Iterator[AudioBlock | VideoFrame]:
        while (item := decoder.take()) is not None:
            if item.end > after:
                self._position_s = max(self._position_s, item.end)
                yield item

    def _entered(self) -> tuple[MediaInfo, Decoder]:
        if self._opened is None:
            raise RuntimeError("enter the MediaSource first: with MediaSource(path) as media")
        return self._opened
