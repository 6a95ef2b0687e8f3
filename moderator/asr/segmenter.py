"""Sound in, stretches of speech out, while the stream runs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moderator.asr.engine import SAMPLE_RATE_HZ, Samples, SpeechSegment
from moderator.asr.vad import WINDOW_SAMPLES, SileroVad, VoiceActivity

_SYLLABLE_S = 0.1


@dataclass(frozen=True, slots=True)
class SegmenterOptions:
    """How speech is cut. The defaults suit a talking host.

    `threshold` starts speech, and speech lasts until the probability has stayed under
    `threshold - hysteresis` for `min_silence_s`, or for the longer `patience_s` while the segment
    is shorter than `patient_until_s`: Whisper errs far less with a sentence or two of context
    than on single phrases. Bursts shorter than `min_speech_s` are dropped.
    `padding_s` of sound is kept on both sides, because the detector is late on soft onsets.
    No segment is longer than `max_segment_s`: a longer one is cut at the quietest place of its
    last `cut_search_s`. A step in the time stamps larger than `gap_s` ends the segment.
    """

    threshold: float = 0.5
    hysteresis: float = 0.15
    min_speech_s: float = 0.2
    min_silence_s: float = 0.4
    patience_s: float = 0.8
    patient_until_s: float = 6.0
    padding_s: float = 0.2
    max_segment_s: float = 12.0
    cut_search_s: float = 3.0
    gap_s: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.hysteresis <= self.threshold < 1:
            raise ValueError("0 < hysteresis <= threshold < 1 must hold")
        if not 0 <= self.padding_s <= self.min_silence_s <= self.patience_s:
            raise ValueError("padding_s <= min_silence_s <= patience_s must hold")
        # Whisper hears 30 s at once, silence after the speech included.
        if not 2 * self.padding_s + 1 <= self.max_segment_s <= 27:
            raise ValueError("max_segment_s must lie between 2 × padding_s + 1 and 27")
        if not 0 < self.cut_search_s < self.max_segment_s - self.padding_s:
            raise ValueError("cut_search_s must be positive and shorter than a segment")


class SpeechSegmenter:
    """Cuts one stream into SpeechSegments.

    Feed it blocks of sound in order, then flush once at the end::

        for block in source:
            for segment in segmenter.feed(block.start, block.samples):
                ...
        for segment in segmenter.flush():
            ...

    Segments come out in order and never overlap; their times are those of the samples they
    hold. Memory is bounded by `max_segment_s` and the size of a block.
    """

    def __init__(
        self, options: SegmenterOptions | None = None, vad: VoiceActivity | None = None
    ) -> None:
        self.options = options or SegmenterOptions()
        self._vad: VoiceActivity = vad if vad is not None else SileroVad()
        self._audio: Samples = np.zeros(0, np.float32)
        self._anchors: list[tuple[int, float]] = []
        self._reset()

    def feed(self, start: float, samples: Samples) -> Iterator[SpeechSegment]:
        """Take mono float32 samples at 16 kHz whose first lies at `start` (media-clock seconds).

        Returns the segments that this block completed. A `start` that is off the end of the
        block before by more than `gap_s` is a gap: what was open ends there.
        """
        done: list[SpeechSegment] = []
        if self._anchors and abs(start - self._time_of(self._fed)) > self.options.gap_s:
            done.extend(self.flush())
        if len(samples):
            self._anchors.append((self._fed, start))
            self._audio = np.concatenate([self._audio, np.asarray(samples, np.float32)])
            done.extend(self._advance())
            self._forget()
        return iter(done)

    def flush(self) -> Iterator[SpeechSegment]:
        """End the stream: the open segment comes out, and the segmenter is as new."""
        done: list[SpeechSegment | None] = []
        left = self._fed - self._seen
        if left:
            short = np.zeros((1, WINDOW_SAMPLES), np.float32)
            short[0, :left] = self._slice(self._seen, self._fed)
            done.extend(self._step(float(p)) for p in self._vad.probabilities(short))
        if self._speech_from is not None:
            done.append(self._close(min(self._speech_to, self._fed), self._fed))
        self._reset()
        return iter([segment for segment in done if segment is not None])

    def _reset(self) -> None:
        self._audio = np.zeros(0, np.float32)
        self._first = 0  # index, counted from the start of the stream, of _audio[0]
        self._seen = 0  # index after the last window that the detector judged
        self._anchors = []
        self._speech_from: int | None = None
        self._speech_to = 0  # index after the last window that was speech
        self._taken = 0  # index after the last segment that was given out
        self._continued = False  # the open segment follows a forced cut
        self._vad.reset()

    @property
    def _fed(self) -> int:
        return self._first + len(self._audio)

    def _advance(self) -> list[SpeechSegment]:
        count = (self._fed - self._seen) // WINDOW_SAMPLES
        if not count:
            return []
        sound = self._slice(self._seen, self._seen + count * WINDOW_SAMPLES)
        probabilities = self._vad.probabilities(sound.reshape(count, WINDOW_SAMPLES))
        steps = (self._step(float(p)) for p in probabilities)
        return [segment for segment in steps if segment is not None]

    def _step(self, probability: float) -> SpeechSegment | None:
        """Judge the next window; at most one segment can end in it."""
        begin, end = self._seen, self._seen + WINDOW_SAMPLES
        self._seen = end
        keep = self.options.threshold - self.options.hysteresis
        if self._speech_from is None:
            if probability >= self.options.threshold:
                self._speech_from, self._speech_to = begin, end
            return None
        if probability >= keep:
            self._speech_to = end
        elif end - self._speech_to >= self._enough_silence():
            return self._close(self._speech_to, end)
        if end + WINDOW_SAMPLES - self._padded_start() > _samples(self.options.max_segment_s):
            return self._cut(end)
        return None

    def _enough_silence(self) -> int:
        assert self._speech_from is not None
        spoken = self._speech_to - self._speech_from
        patient = spoken < _samples(self.options.patient_until_s)
        return _samples(self.options.patience_s if patient else self.options.min_silence_s)

    def _close(self, speech_to: int, available: int) -> SpeechSegment | None:
        """End the open segment after `speech_to`; a burst too short to be a word is dropped."""
        start = self._padded_start()
        end = min(speech_to + _samples(self.options.padding_s), available, self._fed)
        assert self._speech_from is not None
        # What is left after a forced cut may be the last syllable of a sentence.
        shortest_s = _SYLLABLE_S if self._continued else self.options.min_speech_s
        wanted = speech_to - self._speech_from >= _samples(shortest_s)
        self._speech_from, self._continued = None, False
        if not wanted:
            return None
        self._taken = end
        return SpeechSegment(self._time_of(start), self._slice(start, end))

    def _cut(self, end: int) -> SpeechSegment:
        """End the open segment at the quietest place near its cap; speech goes on after it."""
        start = self._padded_start()
        searched_from = end - _samples(self.options.cut_search_s)
        place = searched_from + _quietest(self._slice(searched_from, end))
        self._taken = self._speech_from = place
        self._continued = True
        return SpeechSegment(self._time_of(start), self._slice(start, place), forced_cut=True)

    def _padded_start(self) -> int:
        assert self._speech_from is not None
        padding = 0 if self._continued else _samples(self.options.padding_s)
        return max(self._speech_from - padding, self._taken, self._first)

    def _forget(self) -> None:
        """Drop sound that no segment can need any more."""
        if self._speech_from is None:
            needed = self._seen - _samples(self.options.padding_s) - WINDOW_SAMPLES
        else:
            needed = self._padded_start()
        if needed > self._first:
            self._audio = self._audio[needed - self._first :].copy()
            self._first = needed
        while len(self._anchors) > 1 and self._anchors[1][0] <= self._first:
            self._anchors.pop(0)

    def _slice(self, begin: int, end: int) -> Samples:
        return self._audio[begin - self._first : end - self._first].copy()

    def _time_of(self, index: int) -> float:
        position = bisect_right(self._anchors, index, key=lambda anchor: anchor[0]) - 1
        at, start = self._anchors[max(position, 0)]
        return start + (index - at) / SAMPLE_RATE_HZ


def segment_all(
    blocks: Iterable[tuple[float, Samples]],
    options: SegmenterOptions | None = None,
    vad: VoiceActivity | None = None,
) -> Iterator[SpeechSegment]:
    """The segments of a whole recording, given as (start, samples) blocks."""
    segmenter = SpeechSegmenter(options, vad)
    for start, samples in blocks:
        yield from segmenter.feed(start, samples)
    yield from segmenter.flush()


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)


def _quietest(sound: Samples) -> int:
    """The middle of the quietest 96 ms in `sound`, as an index."""
    width, hop = 3 * WINDOW_SAMPLES, WINDOW_SAMPLES // 4
    energy: NDArray[np.float64] = np.cumsum(np.square(sound, dtype=np.float64))
    starts = np.arange(0, max(len(sound) - width, 1), hop)
    loudness = energy[np.minimum(starts + width, len(sound)) - 1] - energy[starts]
    return int(starts[np.argmin(loudness)]) + width // 2
