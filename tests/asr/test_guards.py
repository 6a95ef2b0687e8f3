"""What a guard must refuse, and what it must let through."""

from __future__ import annotations

import numpy as np
import pytest

from moderator.asr.engine import SpeechSegment, Transcript
from moderator.asr.guards import GUARDS, distrust_of, guard, loops, too_fast
from moderator.records import TimedChar


def heard(
    text: str,
    logprob: float = -0.2,
    no_speech: float = 0.01,
    chinese: float = 0.99,
    duration_s: float = 5.0,
) -> Transcript:
    step = duration_s / max(len(text), 1)
    chars = tuple(
        TimedChar(char, 10 + i * step, 10 + (i + 1) * step, 0.9) for i, char in enumerate(text)
    )
    return Transcript(text, chars, logprob, no_speech, chinese)


def segment(duration_s: float = 5.0) -> SpeechSegment:
    return SpeechSegment(10.0, np.zeros(round(duration_s * 16_000), np.float32))


@pytest.mark.parametrize(
    "transcript",
    [
        heard("家人们这款面霜用的是植物提取的成分"),
        heard("说一下咱们的上卡问题", logprob=-0.97, no_speech=0.26, chinese=0.88),
        heard("来来来来来来"),
        heard("买它买它买它买它买它"),
        heard("全网最低价全网最低价全网最低价全网最低价"),
        heard("三二一上链接三二一上链接三二一上链接"),
        heard("谢谢大家的支持我们下次再见", logprob=-0.1, no_speech=0.02),
        heard("喜欢的点点关注"),
        heard("这个视频里的字幕是我们自己做的和别人没有关系"),
        heard("OK OK this is buy one get one free 买一送一", duration_s=4.0),
        heard("快去找妈妈给你买", logprob=-0.57, no_speech=0.1, chinese=0.12),
        heard("好"),
    ],
    ids=lambda transcript: transcript.text,
)
def test_guards_trust_what_hosts_say(transcript: Transcript) -> None:
    assert distrust_of(transcript, 5.0) == ""


@pytest.mark.parametrize(
    ("transcript", "duration_s", "expected"),
    [
        (heard("真是真心", logprob=-2.6, no_speech=0.92, chinese=0.12), 5.0, "no_speech"),
        (heard("。。。"), 5.0, "no_speech"),
        (heard("寂寞", logprob=-1.0, no_speech=0.3, chinese=0.01), 5.0, "not_chinese"),
        (heard("整个圆围可以把这盒铺到椰子", logprob=-1.6), 5.0, "low_probability"),
        (heard("好" * 30), 5.0, "repetition"),
        (heard("谢谢" * 12), 5.0, "repetition"),
        (heard("大家要注意一下" * 7), 12.0, "repetition"),
        (heard("我们先说一下沪" + "沪" * 12), 5.0, "repetition"),
        (heard("我有的时候说不清楚你们知道吗" * 2), 1.8, "too_fast"),
        (heard("请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", no_speech=0.5), 5.0, "phantom"),
        (heard("谢谢观看", logprob=-0.6), 2.0, "phantom"),
        (heard("感谢您的收看，我们下次再见", no_speech=0.4), 3.0, "phantom"),
        (heard("字幕by索兰娅"), 2.0, "phantom"),
        (heard("中文字幕由Amara.org社区提供"), 2.0, "phantom"),
        (heard("作词 李宗盛 作曲 李宗盛"), 3.0, "phantom"),
    ],
)
def test_guards_refuse(transcript: Transcript, duration_s: float, expected: str) -> None:
    assert distrust_of(transcript, duration_s) == expected
    assert expected in GUARDS


def test_guards_keep_times_and_confidence_of_the_words() -> None:
    utterance = guard(heard("这款面霜"), segment(), "some/engine")
    assert (utterance.start, utterance.end) == (10.0, 15.0)
    assert utterance.confidence == pytest.approx(0.9)
    assert utterance.engine == "some/engine"
    assert utterance.distrust == ""
    assert "".join(char.text for char in utterance.chars) == utterance.text


def test_guards_leave_an_empty_transcript_distrusted() -> None:
    utterance = guard(heard(""), segment(), "e")
    assert utterance.distrust == "no_speech"
    assert (utterance.start, utterance.end, utterance.confidence) == (10.0, 15.0, 0.0)


def test_guards_name_every_reason_in_both_languages() -> None:
    for reason in GUARDS.values():
        assert set(reason) == {"en", "zh"}


def test_guards_loops_needs_half_of_the_text() -> None:
    assert not loops("今天这款产品的成分表大家看一下来来来来来来来来来来没有添加任何香精也没有酒精")
    assert loops("来来来来来来来来来来来来")
    assert not loops("")


def test_guards_too_fast_counts_syllables_not_letters() -> None:
    assert not too_fast("international comprehensive recommendation", 3.0)
    assert too_fast("一二三四五六七八九十一二三四五六七八九十", 1.0)
    assert not too_fast("一二三", 0.1)
