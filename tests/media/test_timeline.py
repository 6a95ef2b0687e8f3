from __future__ import annotations

import numpy as np
import pytest

from moderator.media.blocks import AudioBlock, VideoFrame
from moderator.media.room_state import Gap, Reason
from moderator.media.timeline import Timeline


def block(start: float, seconds: float = 0.2) -> AudioBlock:
    samples = np.arange(round(seconds * 16_000), dtype=np.float32)
    return AudioBlock(start, samples)


def frame(time: float) -> VideoFrame:
    return VideoFrame(time, np.zeros((2, 2, 3), np.uint8))


def put(timeline: Timeline, *items: AudioBlock | VideoFrame) -> list[object]:
    return [out for item in items for out in timeline.put(item, Reason.NO_PACKETS)]


def test_timeline_first_connection_begins_without_a_gap() -> None:
    timeline = Timeline()
    assert list(timeline.join(0.0, 0.4, Reason.RESTARTED)) == []
    assert [out.start for out in put(timeline, block(0.4), block(0.6))] == pytest.approx([0.4, 0.6])  # type: ignore[attr-defined]


def test_timeline_gap_between_connections_is_named() -> None:
    timeline = Timeline()
    list(timeline.join(0.0, 0.0, Reason.RESTARTED))
    put(timeline, block(0.0))
    gaps = list(timeline.join(10.0, 0.5, Reason.PROCESS_DIED))
    assert gaps == [Gap(pytest.approx(0.2), 10.5, Reason.PROCESS_DIED)]
    assert put(timeline, block(0.5))[0].start == 10.5  # type: ignore[attr-defined]
    assert timeline.gap_s == pytest.approx(10.3)


def test_timeline_what_was_sent_before_is_left_out() -> None:
    timeline = Timeline()
    list(timeline.join(0.0, 0.0, Reason.RESTARTED))
    put(timeline, block(0.0, 1.0), frame(0.5))
    assert list(timeline.join(0.3, 0.0, Reason.PROCESS_DIED)) == []
    outs = put(timeline, block(0.0, 0.5), block(0.5, 0.4), frame(0.1), frame(0.6))
    sound = [out for out in outs if isinstance(out, AudioBlock)]
    frames = [out for out in outs if isinstance(out, VideoFrame)]
    assert [out.start for out in sound] == [pytest.approx(1.0)]
    assert sound[0].end == pytest.approx(1.2)
    assert sound[0].samples[0] == pytest.approx(3200, abs=1)
    assert [out.time for out in frames] == [pytest.approx(0.9)]
    assert timeline.sent_before_s == pytest.approx(0.7)


def test_timeline_hole_in_the_sound_is_a_gap_and_jitter_is_none() -> None:
    timeline = Timeline()
    list(timeline.join(0.0, 0.0, Reason.RESTARTED))
    outs = put(timeline, block(0.0), block(0.3), block(1.5))
    assert [type(out) for out in outs] == [AudioBlock, AudioBlock, Gap, AudioBlock]
    assert outs[2] == Gap(pytest.approx(0.5), 1.5, Reason.NO_PACKETS)


def test_timeline_resumed_session_begins_with_a_gap() -> None:
    timeline = Timeline(reached_s=60.0)
    assert list(timeline.join(89.0, 1.0, Reason.RESTARTED)) == [Gap(60.0, 90.0, Reason.RESTARTED)]
