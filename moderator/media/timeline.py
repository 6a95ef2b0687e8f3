"""Putting what connections bring onto the session's timeline: never back, holes named."""

from __future__ import annotations

from collections.abc import Iterator

from moderator.media.blocks import SAMPLE_RATE_HZ, AudioBlock, VideoFrame
from moderator.media.room_state import Gap, Reason
from moderator.media.session_clock import OVERLAP_S

GAP_S = 0.3
"""Holes up to this are jitter of the source."""


class Timeline:
    """Shifts items of the connection at hand by `base_s`, drops what was there before, and puts a
    Gap before what comes after a hole."""

    def __init__(self, reached_s: float = 0.0) -> None:
        self.base_s = 0.0
        self.gaps = 0
        self.gap_s = 0.0
        self.frames = 0
        self.audio_s = 0.0
        self.sent_before_s = 0.0
        """Seconds of sound that a new connection sent again."""
        self._sound_end: float | None = None
        self._last_frame: float | None = None
        self._reached_s = reached_s
        self._begun = reached_s > 0

    @property
    def end_s(self) -> float:
        """Where the session has content up to: of the sound, where there is any."""
        return self._reached_s if self._sound_end is None else self._sound_end

    def join(self, base_s: float, first_s: float, reason: Reason) -> Iterator[Gap]:
        """A connection begins whose first item has its own time `first_s`."""
        self.base_s = base_s
        start = base_s + first_s
        if self._begun:
            yield from self.gap_until(start, reason)
        self._begun = True

    def gap_until(self, start: float, reason: Reason) -> Iterator[Gap]:
        """The gap, if there is one, between what there is and media-clock second `start`."""
        if start - self.end_s > GAP_S:
            gap = Gap(self.end_s, start, reason)
            self.gaps += 1
            self.gap_s += gap.duration_s
            self._reached_s = max(self._reached_s, start)
            if self._sound_end is not None:
                self._sound_end = start
            yield gap

    def put(
        self, item: AudioBlock | VideoFrame, reason: Reason
    ) -> Iterator[AudioBlock | VideoFrame | Gap]:
        """The item in its place; `reason` is why sound would be missing before it."""
        if isinstance(item, AudioBlock):
            yield from self._put_sound(item, reason)
        else:
            yield from self._put_frame(item)

    def _put_sound(self, block: AudioBlock, reason: Reason) -> Iterator[AudioBlock | Gap]:
        start, samples = block.start + self.base_s, block.samples
        there = self._sound_end
        if there is None:
            # A hole before the first sound of all is a track that begins late, and no gap.
            there = start
        if start < there - OVERLAP_S:
            skip = min(len(samples), round((there - start) * SAMPLE_RATE_HZ))
            self.sent_before_s += skip / SAMPLE_RATE_HZ
            samples = samples[skip:]
            start += skip / SAMPLE_RATE_HZ
            if not len(samples):
                return
        elif self._sound_end is not None:
            yield from self.gap_until(start, reason)
        placed = AudioBlock(max(start, there) if start < there else start, samples)
        self._sound_end = placed.end
        self._reached_s = max(self._reached_s, placed.end)
        self.audio_s += len(samples) / SAMPLE_RATE_HZ
        yield placed

    def _put_frame(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        time = frame.time + self.base_s
        if self._last_frame is not None and time <= self._last_frame + OVERLAP_S:
            return
        self._last_frame = time
        self._reached_s = max(self._reached_s, time)
        self.frames += 1
        yield VideoFrame(time, frame.image)
