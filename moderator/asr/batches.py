"""Which segments are decoded together, and batches decoded side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Protocol, TypeVar, runtime_checkable

from moderator.asr.engine import SpeechSegment, context_of

Result = TypeVar("Result")


@runtime_checkable
class SideBySide(Protocol):
    """An engine that may decode `at_once` batches at the same time, each called on a thread of its
    own."""

    @property
    def at_once(self) -> int: ...


def at_once(engine: object) -> int:
    """How many batches the engine decodes side by side; 1 where it does not say."""
    return engine.at_once if isinstance(engine, SideBySide) else 1


def batches(
    engine: object, segments: Sequence[SpeechSegment], most: int, workers: int = 1
) -> Iterator[list[int]]:
    """Indices of segments to decode together, the short ones first: at most `most`, and where the
    engine's contexts are fixed, of one context. `workers` that decode side by side get even shares.
    """
    context_s = context_of(engine)
    most = _even_share(len(segments), most, workers)
    chosen: list[int] = []
    of: float | None = None
    for index in sorted(range(len(segments)), key=lambda index: len(segments[index].samples)):
        context = context_s(segments[index].duration_s) if context_s else None
        if chosen and (len(chosen) == most or context != of):
            yield chosen
            chosen = []
        chosen.append(index)
        of = context
    if chosen:
        yield chosen


def each_batch(
    groups: Sequence[list[int]], job: Callable[[list[int]], Result], workers: int
) -> Iterator[tuple[list[int], Result]]:
    """Each group with what `job` makes of it, in no particular order, by `workers` at once.

    What a job raises is raised here.
    """
    workers = min(workers, len(groups))
    if workers < 2:
        for group in groups:
            yield group, job(group)
        return
    # The longest take longest: begun last they would leave the other threads idle at the end.
    with ThreadPoolExecutor(workers, thread_name_prefix="asr") as pool:
        jobs = [pool.submit(job, group) for group in reversed(groups)]
        for group, found in zip(reversed(groups), jobs, strict=True):
            yield group, found.result()


def _even_share(count: int, most: int, workers: int) -> int:
    """The size of a batch when `count` segments go to `workers` in as few rounds as possible."""
    rounds = ceil(count / (most * workers))
    return max(1, min(most, ceil(count / (workers * max(rounds, 1)))))
