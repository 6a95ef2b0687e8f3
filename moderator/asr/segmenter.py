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
    Where a cut was asked for (`cut_after`), the first pause of `breath_s` will do, and after
    `cut_within_s` the quietest place since.
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
    breath_s: float = 0.16
    cut_within_s: float = 1.2

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
        if not 0 < self.breath_s <= self.cut_within_s:
            raise ValueError("0 < breath_s <= cut_within_s must hold")


LIVE = SegmenterOptions(
    min_silence_s=0.35,
    patience_s=0.6,
    patient_until_s=2.5,
    max_segment_s=6.0,
    cut_search_s=2.5,
)
"""For a room that is watched: words wait for the end of their segment, so it comes sooner."""

THRIFTY = SegmenterOptions(
    min_silence_s=0.45,
    patience_s=0.8,
    patient_until_s=5.0,
    max_segment_s=9.0,
    cut_search_s=3.0,
)
"""For many rooms on a small machine: fewer, longer segments cost less a second of speech."""


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
        self._cut_wanted: int | None = None  # an index after which to cut soon
        self._reset()

    def feed(self, start: float, samples: Samples) -> Iterator[SpeechSegment]:
        """Take mono float32 samples at 16 kHz whose first lies at `start` (media-clock seconds).

        Returns the segments that this block completed. A `start` that is off the end of the
        block before by more than `gap_s` is a gap: what was open ends there.
        """
        done: list[SpeechSegment] = []
        if self._anchors and abs(start - self._time_of(self._fed)) > self.options.gap_s:
            done.extend(self.flush())
        self.take(start, samples)
        done.extend(self.judge(self._vad.probabilities(self.unjudged())))
        return iter(done)

    def breaks_at(self, start: float) -> bool:
        """Whether sound that begins at `start` does not follow on the sound before."""
        return bool(self._anchors) and (abs(start - self._time_of(self._fed)) > self.options.gap_s)

    def take(self, start: float, samples: Samples) -> None:
        """The first half of `feed`, for one detector that serves many streams at once.

        `unjudged` then gives the windows for the detector and `judge` takes its answer. Where
        `breaks_at(start)` holds, flush before.
        """
        if len(samples):
            self._anchors.append((self._fed, start))
            self._audio = np.concatenate([self._audio, np.asarray(samples, np.float32)])

    def unjudged(self) -> Samples:
        """The whole windows that the detector has not judged yet, shape (n, 512)."""
        count = (self._fed - self._seen) // WINDOW_SAMPLES
        sound = self._slice(self._seen, self._seen + count * WINDOW_SAMPLES)
        return sound.reshape(count, WINDOW_SAMPLES)

    def judge(self, probabilities: NDArray[np.float32]) -> Iterator[SpeechSegment]:
        """Take the speech probability of the first of the unjudged windows, in order.

        Returns the segments that they completed.
        """
        steps = [self._step(float(p)) for p in probabilities]
        self._forget()
        return iter([segment for segment in steps if segment is not None])

    def open_speech(self) -> SpeechSegment | None:
        """The segment that has not ended yet, as far as it was judged; None between segments."""
        if self._speech_from is None:
            return None
        start = self._padded_start()
        return SpeechSegment(self._time_of(start), self._slice(start, self._seen))

    def ending_speech(self) -> SpeechSegment | None:
        """The open segment as it will come out if the pause that has begun goes on.

        None while there is speech, and until `padding_s` of the pause were judged.
        """
        if self._speech_from is None:
            return None
        end = self._speech_to + _samples(self.options.padding_s)
        shortest_s = _SYLLABLE_S if self._continued else self.options.min_speech_s
        if end > self._seen or self._speech_to - self._speech_from < _samples(shortest_s):
            return None
        start = self._padded_start()
        return SpeechSegment(self._time_of(start), self._slice(start, end))

    def end_in_pause(self) -> SpeechSegment | None:
        """End the segment that `ending_speech` shows, without waiting for more of the pause."""
        if self.ending_speech() is None:
            return None
        return self._close(self._speech_to, self._seen)

    def cut_after(self, time_s: float) -> None:
        """Ask that the open segment end soon after media-clock second `time_s`.

        It is cut where the speaker next takes a breath, or at the quietest place of
        `cut_within_s`. Without an open segment at that time nothing happens.
        """
        if self._speech_from is None:
            return
        index = self._seen - _samples(self._time_of(self._seen) - time_s)
        if index >= self._speech_from:
            self._cut_wanted = index

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
        self._cut_wanted = None
        self._vad.reset()

    @property
    def _fed(self) -> int:
        return self._first + len(self._audio)

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
        if self._cut_wanted is not None:
            place = self._breath(self._cut_wanted, end)
            if place is not None:
                return self._cut(place)
        if end + WINDOW_SAMPLES - self._padded_start() > _samples(self.options.max_segment_s):
            searched_from = end - _samples(self.options.cut_search_s)
            return self._cut(searched_from + _quietest(self._slice(searched_from, end)))
        return None

    def _breath(self, after: int, end: int) -> int | None:
        """Where to cut between `after` and `end`; None while a better place may come."""
        if end - max(after, self._speech_to) >= _samples(self.options.breath_s):
            return max(after, self._speech_to) + _samples(self.options.breath_s) // 2
        if end - after < _samples(self.options.cut_within_s):
            return None
        return after + _quietest(self._slice(after, end))

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
        self._speech_from, self._continued, self._cut_wanted = None, False, None
        if not wanted:
            return None
        self._taken = end
        return SpeechSegment(self._time_of(start), self._slice(start, end))

    def _cut(self, place: int) -> SpeechSegment:
        """End the open segment at `place`; speech goes on after it."""
        start = self._padded_start()
        self._taken = self._speech_from = place
        self._continued, self._cut_wanted = True, None
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
