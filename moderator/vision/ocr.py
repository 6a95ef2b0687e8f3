"""What a screen reader is, and where readers are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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


class OcrEngine(Protocol):
    """One frame in, its lines of text out, top to bottom then left to right."""

    name: str

    def read(self, image: Image) -> list[TextLine]: ...


ENGINES: Registry[OcrEngine] = Registry("ocr")
