"""What is seen on the screen: frames worth reading, text, codes, and how long each stays.

The data goes `sampler` → `rapid_ocr` / `codes` → `tracks`, and `reader` wires the four together.
Importing this package is cheap and needs neither OpenCV nor onnxruntime.
"""

from __future__ import annotations

from moderator.vision.ocr import ENGINES, OcrEngine


def _rapidocr(*, threads: int = 1, detect_side: int = 736) -> OcrEngine:
    from moderator.vision.rapid_ocr import RapidOcr

    return RapidOcr(threads=threads, detect_side=detect_side)


ENGINES.register("rapidocr", _rapidocr)

__all__ = ["ENGINES", "OcrEngine"]
