"""The music bed is music of the length asked for, and the same each time."""

import numpy as np

from samples.music import bed


def test_music_has_the_length_and_peak_asked_for() -> None:
    track = bed(6.0, 8000, seed=3)
    assert track.shape == (48000,)
    assert np.isclose(np.abs(track).max(), 1.0)


def test_music_fades_at_both_ends() -> None:
    track = np.abs(bed(8.0, 8000, seed=3))
    assert track[:200].max() < 0.1
    assert track[-200:].max() < 0.1


def test_music_is_the_same_for_the_same_seed() -> None:
    assert np.array_equal(bed(3.0, 8000, seed=5), bed(3.0, 8000, seed=5))
    assert not np.array_equal(bed(3.0, 8000, seed=5), bed(3.0, 8000, seed=6))
