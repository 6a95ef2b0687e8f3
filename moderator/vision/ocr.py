"""What a screen reader is, and where readers are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from moderator.records import Box
from moderator.registry import Registry

Image = NDArray[np.uint8]
"""An upright frame, shape (height, width, 3), BGR."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text read on a frame; `confidence` in 0–1."""

    text: str
    box: Box
    confidence: float


@dataclass(frozen=True, slots=True)
class FrameLines:
    """The lines of a frame, and the places of it that they were read in: None for all of it."""

    lines: Sequence[TextLine]
    places: Sequence[Box] | None = None


class OcrEngine(Protocol):
    """One frame in, its lines of text out, top to bottom then left to right."""

    name: str

    def read(self, image: Image) -> list[TextLine]: ...


@runtime_checkable
class ReadsMany(Protocol):
    """A reader for which several frames at once cost less than one by one.

    `batch` is how many it likes to have. Results are those of `read`, in the order given.
    """

    @property
    def batch(self) -> int: ...

    def read_many(self, images: Sequence[Image]) -> list[list[TextLine]]: ...


@runtime_checkable
class ReadsPlaces(Protocol):
    """A reader for which a part of a frame costs less than all of it."""

    def read_places(self, image: Image, places: Sequence[Box]) -> FrameLines:
        """The lines whose middle lies in `places`, which do not overlap; where one of them cuts
        through a line, the lines of all of the frame.
        """
        ...


def read_all(engine: OcrEngine, images: Sequence[Image]) -> list[list[TextLine]]:
    """The lines of each frame, together where the engine likes that."""
    if len(images) > 1 and isinstance(engine, ReadsMany) and engine.batch > 1:
        return engine.read_many(images)
    return [engine.read(image) for image in images]


ENGINES: Registry[OcrEngine] = Registry("ocr")
