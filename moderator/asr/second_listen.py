"""The second listen: does the sound bear out a term that was only written alike?

Where the recogniser wrote 国家及 and a rule looks for 国家级, letters cannot tell a misheard
claim from harmless talk. So the decoder is made to read the utterance once as it was written and
once with the term in place, on the encoder output that gave the text in the first place; the
difference of the two log-probabilities says which the sound fits better.

That ratio leans towards what was written: the decoder knows common words and hardly the names of
illnesses. Alone it tells little (`auc` in benchmarks/results/second_listen-*.json), so it is kept
beside the recogniser's own doubt, which is large where it wrote nonsense for a word that it does
not know, and small where harmless words were really said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log
from typing import Protocol, runtime_checkable

from moderator.asr.batches import at_once, batches, each_batch
from moderator.asr.engine import SpeechSegment, Transcript
from moderator.asr.guards import ran_away
from moderator.records import Relistened

_LEAST_CONFIDENCE = 1e-4


class Encoded(Protocol):
    """Segments that an encoder has heard, to be decoded and scored without hearing them again."""

    def transcribe(self) -> list[Transcript]: ...

    def score(self, index: int, texts: Sequence[str]) -> list[float]:
        """The log-probability in nats of each text as the words of segment `index`."""
        ...


@runtime_checkable
class Scores(Protocol):
    """A speech engine that keeps what its encoder heard: the second listen asks it again."""

    name: str

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Transcript]: ...

    def encode(self, segments: Sequence[SpeechSegment]) -> Encoded: ...


class Likeness(Protocol):
    """`text[begin:end]` sounds like `term`."""

    @property
    def begin(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def term(self) -> str: ...


Likenesses = Callable[[str], Iterable[Likeness]]
"""The places of a text that sound like a term; `ClaimEngine.likenesses` is one."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an engine heard in a segment, and what came of listening again for likely terms."""

    transcript: Transcript
    relistened: tuple[Relistened, ...] = ()


class SecondListen:
    """An engine that holds each likeness in sound against the sound itself.

    Most utterances have none, and cost what `engine.transcribe` costs. Keeps nothing between calls:
    as many threads may call it as may call the engine.
    """

    def __init__(
        self,
        engine: Scores,
        likenesses: Likenesses,
        batch_size: int = 4,
        *,
        at_once: int | None = None,
    ) -> None:
        """`at_once` batches are decoded side by side, by default as many as the engine can."""
        self._at_once = at_once
        self._engine = engine
        self._likenesses = likenesses
        self._batch_size = batch_size

    def transcribe(self, segments: Sequence[SpeechSegment]) -> list[Heard]:
        """One Heard a segment, in the order given."""

        def listen(chosen: list[int]) -> tuple[Encoded, list[Transcript]]:
            encoded = self._engine.encode([segments[index] for index in chosen])
            return encoded, encoded.transcribe()

        heard: dict[int, Heard] = {}
        workers = self._at_once or at_once(self._engine)
        groups = list(batches(self._engine, segments, self._batch_size, workers))
        for chosen, (encoded, transcripts) in each_batch(groups, listen, workers):
            for row, transcript in enumerate(transcripts):
                segment = segments[chosen[row]]
                if ran_away(transcript, segment):
                    # The engine's own second try listens with more context than this batch has.
                    (transcript,) = self._engine.transcribe([segment])
                    heard[chosen[row]] = Heard(transcript)
                else:
                    found = relisten(encoded, row, transcript, self._likenesses)
                    heard[chosen[row]] = Heard(transcript, found)
        return [heard[index] for index in range(len(segments))]


def relisten(
    encoded: Encoded, index: int, heard: Transcript, likenesses: Likenesses
) -> tuple[Relistened, ...]:
    """How well each likely term fits segment `index`, beside what was heard in its place.

    Each term is put in place by itself, and all are scored in one call; a text without
    likenesses costs nothing.
    """
    text = heard.text
    found = list(likenesses(text))
    if not found:
        return ()
    candidates = [text[: one.begin] + one.term + text[one.end :] for one in found]
    as_written, *as_term = encoded.score(index, [text, *candidates])
    return tuple(
        Relistened(one.begin, one.end, one.term, score - as_written, _doubt(heard, one))
        for one, score in zip(found, as_term, strict=True)
    )


def _doubt(heard: Transcript, place: Likeness) -> float:
    chars = heard.chars[place.begin : place.end]
    return -sum(log(max(char.confidence, _LEAST_CONFIDENCE)) for char in chars)
