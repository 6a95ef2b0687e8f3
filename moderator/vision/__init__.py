"""What is seen on the screen: frames worth reading, text, codes, and how long each stays.

The data goes `sampler` → `rapid_ocr` / `codes` → `tracks`, and `reader` wires the four together.
Importing this package is cheap and needs neither OpenCV nor onnxruntime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moderator.vision.ocr import ENGINES, OcrEngine

if TYPE_CHECKING:
    from moderator.config import Settings


def _rapidocr(**options: Any) -> OcrEngine:
    from moderator.vision.rapid_ocr import RapidOcr

    return RapidOcr(**options)


ENGINES.register("rapidocr", _rapidocr)


LINES_A_ROOM = 64
"""Lines of text that stand in a busy room at a time, and those just gone."""


def screen_engine(settings: Settings, rooms: int = 1) -> OcrEngine:
    """The screen reader that the settings name, for so many rooms. Raises LM-401, LM-408, and what
    the reader raises.
    """
    from moderator import devices

    options: dict[str, Any] = {}
    if settings.ocr_engine == "rapidocr":
        offer = devices.onnxruntime_offer()
        options["device"] = devices.settle(settings.ocr_device, offer, "onnxruntime")
        options["cache_lines"] = max(256, LINES_A_ROOM * rooms)
        if options["device"] != "cpu":
            options["batch"] = settings.ocr_batch
    elif settings.ocr_device != "auto":
        options["device"] = devices.checked(settings.ocr_device)
    return ENGINES.create(settings.ocr_engine, **options)


__all__ = ["ENGINES", "OcrEngine", "screen_engine"]
