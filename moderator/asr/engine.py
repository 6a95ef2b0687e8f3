"""What a speech engine is, and where engines are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from moderator.records import TimedChar
from moderator.registry import Registry

SAMPLE_RATE_HZ = 16_000

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SpeechSegment:
    """A stretch of speech cut by the segmenter.

    `samples` is mono float32 in −1…1 at 16 kHz; `start` is the media-clock second of
    `samples[0]`. `forced_cut` says that the cap on length ended it, not a pause.
    """

    start: float
    samples: Samples
    forced_cut: bool = False

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def end(self) -> float:
        return self.start + self.duration_s


@dataclass(frozen=True, slots=True)
class Transcript:
    """What an engine heard in one segment, before the guards.

    `chars` are on the media clock. `mean_logprob` is the average log-probability of a
    token in nats; `no_speech_prob` is 0 and `chinese_prob` 1 where the model does not give one.
    """

    text: str
    chars: tuple[TimedChar, ...]
    mean_logprob: float = 0.0
    no_speech_prob: float = 0.0
    chinese_prob: float = 1.0


class AsrEngine(Protocol):
    """A batch of segments in, one Transcript each out, in the same order.

    Text is in simplified characters. One worker owns an engine, and calls it from one thread at a
    time unless it says that it decodes `SideBySide`.
    """

    name: str

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]: ...


@runtime_checkable
class FixedContexts(Protocol):
    """An engine that hears a segment in one of a few contexts, by the segment's length alone.

    `fixed_contexts` says whether it does; `context_s` gives the seconds. Segments of one context
    are decoded together, and then write what each alone would.
    """

    @property
    def fixed_contexts(self) -> bool: ...

    def context_s(self, length_s: float) -> float: ...


def context_of(engine: object) -> Callable[[float], float] | None:
    """`engine.context_s` where contexts are fixed, else None."""
    if isinstance(engine, FixedContexts) and engine.fixed_contexts:
        return engine.context_s
    return None


ENGINES: Registry[AsrEngine] = Registry("asr")
