"""Speech is cut where it pauses, on the media clock, however the sound arrives.

The detector here is loudness, so that no model is needed; the last tests load Silero.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from moderator.asr.engine import Samples, SpeechSegment
from moderator.asr.segmenter import SegmenterOptions, SpeechSegmenter, segment_all
from moderator.asr.vad import SileroVad
from tests.asr.conftest import Speech
from tests.asr.sounds import NOT_SPEECH, silence, tone, white_noise

RATE = 16_000


class Loudness:
    """Loud is speech. Remembers how often it was told of a gap."""

    def __init__(self) -> None:
        self.resets = 0

    def probabilities(self, windows: Samples) -> NDArray[np.float32]:
        return (np.abs(windows).max(axis=1) > 0.01).astype(np.float32)

    def reset(self) -> None:
        self.resets += 1


def cut(
    *sounds: Samples, start: float = 0.0, block: int = 8000, **options: float
) -> list[SpeechSegment]:
    sound = np.concatenate(sounds)
    blocks = ((start + at / RATE, sound[at : at + block]) for at in range(0, len(sound), block))
    return list(segment_all(blocks, SegmenterOptions(**options), Loudness()))


def test_segmenter_pads_speech_and_keeps_its_place() -> None:
    (segment,) = cut(silence(1.024), tone(1.024), silence(1), start=100.0)
    assert segment.start == pytest.approx(100 + 1.024 - 0.2)
    assert segment.end == pytest.approx(100 + 2.048 + 0.2)
    assert not segment.forced_cut


def test_segmenter_gives_exactly_the_samples_of_its_times() -> None:
    sound = np.concatenate([silence(0.7), white_noise(1.3), silence(0.9), tone(2), silence(1)])
    for segment in segment_all([(0.0, sound)], vad=Loudness()):
        at = round(segment.start * RATE)
        np.testing.assert_array_equal(segment.samples, sound[at : at + len(segment.samples)])


def test_segmenter_bridges_short_pauses_and_splits_at_long_ones() -> None:
    short = cut(tone(7), silence(0.25), tone(1), silence(1))
    long = cut(tone(7), silence(0.6), tone(1), silence(1))
    assert len(short) == 1
    assert len(long) == 2
    assert long[0].end <= long[1].start


def test_segmenter_waits_longer_while_it_has_heard_little() -> None:
    pause = silence(0.6)
    assert len(cut(tone(1), pause, tone(1), silence(1))) == 1
    assert len(cut(tone(1), pause, tone(1), silence(1), patience_s=0.4)) == 2
    assert len(cut(tone(1), silence(1.1), tone(1), silence(1))) == 2


def test_segmenter_drops_a_click() -> None:
    assert cut(silence(1), tone(0.06), silence(1)) == []


def test_segmenter_caps_endless_speech_at_its_quietest_place() -> None:
    louder, quieter = tone(9.0), tone(0.3) * 0.1
    segments = cut(louder, quieter, tone(9.0), silence(1))
    assert [segment.forced_cut for segment in segments] == [True, False]
    assert 9.0 <= segments[0].end <= 9.3
    assert segments[1].start == segments[0].end


def test_segmenter_never_exceeds_the_cap_nor_loses_a_sample_of_speech() -> None:
    segments = cut(white_noise(60), max_segment_s=5.0, cut_search_s=2.0)
    assert all(segment.duration_s <= 5.0 for segment in segments)
    assert sum(segment.duration_s for segment in segments) == pytest.approx(60.0, abs=1e-6)


def test_segmenter_leaves_no_empty_rest_after_a_forced_cut() -> None:
    # Speech that stops right where the cap would cut it.
    for tail_ms in range(0, 900, 60):
        for segment in cut(tone(11.2 + tail_ms / 1000), silence(1)):
            assert segment.duration_s > 0.1


def test_segmenter_ends_open_speech_at_a_gap() -> None:
    vad = Loudness()
    segmenter = SpeechSegmenter(vad=vad)
    assert list(segmenter.feed(0.0, tone(1))) == []
    before = list(segmenter.feed(31.0, tone(1)))
    after = list(segmenter.flush())
    assert [(s.start, s.end) for s in before] == [(0.0, 1.0)]
    assert [(s.start, s.end) for s in after] == [(31.0, 32.0)]
    assert vad.resets >= 2


def test_segmenter_follows_a_clock_that_drifts() -> None:
    # Time stamps that run 1 % fast: each block is on time, no block is far off.
    sound = np.concatenate([silence(20), tone(1), silence(1)])
    blocks = [(at / RATE * 1.01, sound[at : at + 1600]) for at in range(0, len(sound), 1600)]
    (segment,) = segment_all(blocks, vad=Loudness())
    assert segment.start == pytest.approx((20 - 0.2) * 1.01, abs=0.04)


def test_segmenter_can_be_used_again_after_a_flush() -> None:
    segmenter = SpeechSegmenter(vad=Loudness())
    first = [*segmenter.feed(0.0, tone(1)), *segmenter.flush()]
    second = [*segmenter.feed(50.0, tone(1)), *segmenter.flush()]
    assert [s.start for s in first + second] == [0.0, 50.0]


def test_segmenter_holds_little_sound_in_a_silent_hour() -> None:
    segmenter = SpeechSegmenter(vad=Loudness())
    for second in range(3600):
        assert list(segmenter.feed(float(second), silence(1))) == []
    assert len(segmenter._audio) < 2 * RATE
    assert len(segmenter._anchors) <= 3


@given(
    lengths=st.lists(st.integers(1, 24_000), min_size=1, max_size=12),
    loud=st.lists(st.booleans(), min_size=12, max_size=12),
    block=st.integers(160, 20_000),
)
@settings(max_examples=60, deadline=None)
def test_segmenter_result_does_not_depend_on_block_size(
    lengths: list[int], loud: list[bool], block: int
) -> None:
    sound = np.concatenate(
        [np.full(n, 0.5 if on else 0.0, np.float32) for n, on in zip(lengths, loud, strict=False)]
    )
    whole = list(segment_all([(0.0, sound)], vad=Loudness()))
    pieces = cut(sound, block=block)
    assert [len(s.samples) for s in pieces] == [len(s.samples) for s in whole]
    np.testing.assert_allclose([s.start for s in pieces], [s.start for s in whole], atol=1e-9)
    for earlier, later in pairwise(whole):
        assert earlier.end <= later.start + 1e-9


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": 1.5},
        {"padding_s": 1.0, "min_silence_s": 0.4},
        {"max_segment_s": 40.0},
        {"cut_search_s": 20.0},
    ],
)
def test_segmenter_refuses_options_that_cannot_hold(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        SegmenterOptions(**options)


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
@pytest.mark.parametrize("name", NOT_SPEECH)
def test_segmenter_finds_no_speech_in(name: str) -> None:
    assert list(segment_all([(0.0, NOT_SPEECH[name](8.0))])) == []


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_segmenter_finds_every_line_of_a_room(speech: Speech) -> None:
    segments = list(segment_all([(0.0, speech.samples)]))
    for line in speech.lines:
        heard = sum(max(0.0, min(s.end, line.end) - max(s.start, line.start)) for s in segments)
        assert heard > 0.8 * (line.end - line.start), line


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_vad_carries_its_state_between_calls(speech: Speech) -> None:
    windows = speech.samples[: 512 * 400].reshape(-1, 512)
    whole = SileroVad().probabilities(windows)
    vad = SileroVad()
    pieces = np.concatenate([vad.probabilities(windows[at : at + 7]) for at in range(0, 400, 7)])
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_segmenter_in_two_halves_gives_what_feed_gives() -> None:
    sound = np.concatenate([silence(0.5), tone(2), silence(0.7), white_noise(4), silence(1)])
    vad = Loudness()
    halves, whole = SpeechSegmenter(vad=vad), SpeechSegmenter(vad=Loudness())
    found: list[SpeechSegment] = []
    expected: list[SpeechSegment] = []
    for at in range(0, len(sound), 1000):
        expected += whole.feed(at / RATE, sound[at : at + 1000])
        halves.take(at / RATE, sound[at : at + 1000])
        if at % 3000 == 0:  # the detector serves other rooms in between
            found += halves.judge(vad.probabilities(halves.unjudged()))
    found += halves.judge(vad.probabilities(halves.unjudged()))
    assert [(s.start, s.end) for s in found] == [(s.start, s.end) for s in expected]


def test_segmenter_shows_the_speech_that_has_not_ended() -> None:
    segmenter = SpeechSegmenter(vad=Loudness())
    assert segmenter.open_speech() is None
    assert list(segmenter.feed(10.0, np.concatenate([silence(1), tone(2)]))) == []
    open_speech = segmenter.open_speech()
    assert open_speech is not None
    assert open_speech.start == pytest.approx(10.8, abs=0.04)
    assert open_speech.end == pytest.approx(13.0, abs=0.04)


@pytest.mark.parametrize(("later", "expected"), [(silence(0.25), 3.08), (tone(0.3) * 0.1, 3.15)])
def test_segmenter_asked_to_cut_takes_the_next_breath_or_the_quietest_place(
    later: Samples, expected: float
) -> None:
    segmenter = SpeechSegmenter(vad=Loudness())
    assert list(segmenter.feed(0.0, tone(2.5))) == []
    segmenter.cut_after(2.4)
    sound = np.concatenate([tone(0.5), later, tone(2.0)])
    (segment,) = segmenter.feed(2.5, sound)
    assert segment.forced_cut
    assert segment.end == pytest.approx(expected, abs=0.12)
    (rest,) = segmenter.flush()
    assert rest.start == segment.end


def test_segmenter_asked_to_cut_what_is_already_out_does_nothing() -> None:
    segmenter = SpeechSegmenter(vad=Loudness())
    segmenter.cut_after(1.0)
    (segment,) = segmenter.feed(0.0, np.concatenate([tone(2), silence(1)]))
    segmenter.cut_after(1.0)
    assert not segment.forced_cut
    assert list(segmenter.flush()) == []
