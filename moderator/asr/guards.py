"""When not to believe a recogniser: it writes sentences on music, noise and silence too.

The limits were set on recorded Mandarin (clean, far-field, over music and noise down to 5 dB)
against music, noise, applause, tones and silence; `tests/asr/test_guards.py` and
`tests/asr/test_faster_whisper_engine.py` hold both sides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from moderator.asr.engine import SpeechSegment, Transcript
from moderator.records import Utterance

GUARDS: dict[str, dict[str, str]] = {
    "no_speech": {
        "en": "the model itself finds no speech here",
        "zh": "模型判断此处没有人说话",
    },
    "not_chinese": {
        "en": "does not sound like Chinese: music, noise, or another language",
        "zh": "听起来不是中文：可能是音乐、噪声或其他语言",
    },
    "low_probability": {
        "en": "the words are too improbable to be what was said",
        "zh": "识别结果的概率过低，不可信",
    },
    "repetition": {
        "en": "the decoder ran in a loop",
        "zh": "识别陷入重复循环",
    },
    "too_fast": {
        "en": "more characters than anyone can say in that time",
        "zh": "字数超出该时长内可能说出的字数",
    },
    "phantom": {
        "en": "a phrase that the model writes where nothing is said, such as subtitle credits",
        "zh": "模型在无人说话处常凭空写出的套话（字幕署名等）",
    },
}
"""Why an utterance is not trusted, by the name in `Utterance.distrust`."""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """Where trust ends.

    Probabilities in 0–1, log-probabilities in nats a token, rates in characters a second.
    `no_speech` and `not_chinese` need both of their limits to be passed: a confident text
    outweighs the first, and the language of a second of speech is often guessed wrong.
    `too_fast` leaves texts under `min_rate_chars` alone. `repeats` gives how often a group of
    1, 2–4, or more characters may follow itself: hosts do chant 买它买它买它.
    """

    no_speech_prob: float = 0.6
    no_speech_logprob: float = -0.7
    chinese_prob: float = 0.25
    chinese_logprob: float = -0.65
    mean_logprob: float = -1.3
    chars_per_second: float = 13.0
    min_rate_chars: int = 8
    repeats: tuple[int, int, int] = (9, 7, 5)
    phantom_logprob: float = -0.4
    phantom_no_speech_prob: float = 0.2


def guard(
    transcript: Transcript,
    segment: SpeechSegment,
    engine: str,
    limits: GuardLimits | None = None,
) -> Utterance:
    """The Utterance of what was heard in `segment`, with `distrust` filled in.

    `start` and `end` are those of its first and last character, and `confidence` is the mean
    over the characters; without characters, the segment's own times and 0.
    """
    chars = transcript.chars
    confidences = [char.confidence for char in chars if char.text.isalnum()]
    return Utterance(
        text=transcript.text,
        start=chars[0].start if chars else segment.start,
        end=chars[-1].end if chars else segment.end,
        chars=chars,
        confidence=sum(confidences) / len(confidences) if confidences else 0.0,
        engine=engine,
        distrust=distrust_of(transcript, segment.duration_s, limits),
        no_speech_prob=transcript.no_speech_prob,
        mean_logprob=transcript.mean_logprob,
    )


def distrust_of(
    transcript: Transcript, duration_s: float, limits: GuardLimits | None = None
) -> str:
    """The name of the first guard that fails, a key of GUARDS; `""` when all hold."""
    limits = limits or GuardLimits()
    text = "".join(char for char in transcript.text.lower() if char.isalnum())
    silent = transcript.no_speech_prob > limits.no_speech_prob
    if not text or (silent and transcript.mean_logprob < limits.no_speech_logprob):
        return "no_speech"
    if loops(text, limits):
        return "repetition"
    if _is_phantom(text, transcript, limits):
        return "phantom"
    foreign = transcript.chinese_prob < limits.chinese_prob
    if foreign and transcript.mean_logprob < limits.chinese_logprob:
        return "not_chinese"
    if transcript.mean_logprob < limits.mean_logprob:
        return "low_probability"
    if too_fast(text, duration_s, limits):
        return "too_fast"
    return ""


def loops(text: str, limits: GuardLimits | None = None) -> bool:
    """Whether half of `text` or more is one group of characters following itself too often."""
    one, few, many = (limits or GuardLimits()).repeats
    for size in range(1, len(text) // min(one, few, many) + 1):
        allowed = one if size == 1 else few if size <= 4 else many
        run = _longest_run(text, size)
        if run > allowed and run * size * 2 >= len(text):
            return True
    return False


def too_fast(text: str, duration_s: float, limits: GuardLimits | None = None) -> bool:
    """Whether `text` holds more characters than anyone can say in `duration_s`."""
    limits = limits or GuardLimits()
    spoken = [char for char in text if char.isalnum()]
    # A Latin word is read faster than its letters; three of them count as one syllable.
    latin = sum(char.isascii() for char in spoken)
    syllables = len(spoken) - latin + latin / 3
    return len(spoken) >= limits.min_rate_chars and syllables > limits.chars_per_second * duration_s


def ran_away(heard: Transcript, segment: SpeechSegment) -> bool:
    """Whether the decoder looped, or wrote more than anyone can say in the segment's time."""
    return loops(heard.text) or too_fast(heard.text, segment.duration_s)


def _longest_run(text: str, size: int) -> int:
    """How often, at most, a group of `size` characters follows itself."""
    longest = same = 0
    for here, there in zip(text, text[size:], strict=False):
        same = same + 1 if here == there else 0
        longest = max(longest, same)
    return longest // size + 1 if text else 0


_CREDITS = re.compile(
    "(?:中文)?字幕(?:由.{1,12}提供|组|制作人?|志愿者.{0,6}|校对|翻译|by.{1,12})?"
    "|作词|作曲|编曲|词曲|演唱|混音|母带|监制|制作人|李宗盛"
    "|索兰娅|杨茜茜|明镜(?:需要您的支持|与点点)?|点点栏目|优优独播剧场|yoyotelevision|amaraorg"
)
"""Credits of videos that the model was trained on; no host says these as a whole utterance."""

_FAREWELLS = re.compile(
    "(?:感谢|谢谢|多谢|欢迎|记得|支持|收看|观看|收听|聆听|观赏|点赞|订阅|转发|打赏|关注|分享"
    "|频道|栏目|视频|节目|小铃铛|下次|下期|本期|今天|再见|拜拜|byebye|到此结束|就到这里|不吝"
    "|大家|我们|你们|请|您|你|我|的|会|再|见|与|和)+"
)
"""Farewells of a video channel; a host may say them, so they need poor evidence besides."""


def _is_phantom(text: str, transcript: Transcript, limits: GuardLimits) -> bool:
    rest = _CREDITS.sub("", text)
    credited = len(text) - len(rest)
    if credited * 2 > len(text):
        return True
    weak = (
        transcript.mean_logprob < limits.phantom_logprob
        or transcript.no_speech_prob > limits.phantom_no_speech_prob
    )
    return (weak or credited > 0) and _FAREWELLS.fullmatch(rest) is not None
