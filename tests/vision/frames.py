"""Pictures of live rooms, drawn when a test runs."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import numpy as np

from moderator.records import Box
from moderator.vision.ocr import Image, TextLine

WIDTH, HEIGHT = 540, 960


def line(
    text: str, x: int = 40, y: int = 100, *, height: int = 40, confidence: float = 0.99
) -> TextLine:
    """A line as a recogniser returns it: about as wide as its characters."""
    width = sum(height if ord(char) > 0x2E80 else height // 2 for char in text)
    return TextLine(text, Box(x, y, x + max(width, 4), y + height), confidence)


@cache
def cjk_font() -> str | None:
    """Path of a font with Chinese glyphs that Pillow can load, None when the machine has none."""
    try:
        found = subprocess.run(
            ["fc-match", "-f", "%{file}", "Noto Sans CJK SC:lang=zh-cn"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return found if "CJK" in Path(found).name else None


def drawn(texts: list[tuple[str, int, int, int]], background: Image | None = None) -> Image:
    """A 540×960 BGR frame with `(text, x, y, size)` in white on red plates. Needs a CJK font."""
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    path = cjk_font()
    assert path is not None
    if background is None:
        background = np.full((HEIGHT, WIDTH, 3), (90, 70, 60), dtype=np.uint8)
    picture = Pictures.fromarray(background[:, :, ::-1])
    pen = ImageDraw.Draw(picture)
    for text, x, y, size in texts:
        font = ImageFont.truetype(path, size)
        left, top, right, bottom = pen.textbbox((x, y), text, font=font)
        pen.rectangle((left - 8, top - 6, right + 8, bottom + 6), fill=(180, 20, 30))
        pen.text((x, y), text, font=font, fill=(255, 255, 255))
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8)[:, :, ::-1])


def room_background(seed: int = 0) -> Image:
    """A blurred room: large soft colour patches."""
    import cv2

    colours = np.random.default_rng(seed).integers(40, 220, (8, 5, 3), dtype=np.uint8)
    room: Image = cv2.resize(colours, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return room


def host(background: Image, step: int) -> Image:
    """The background with a talking, swaying head and shoulders."""
    import cv2

    frame = background.copy()
    rng = np.random.default_rng(step)
    x, y = 270 + int(rng.integers(-12, 13)), 470 + int(rng.integers(-8, 9))
    cv2.ellipse(frame, (x, y + 330), (190, 200), 0, 0, 360, (120, 60, 40), -1, cv2.LINE_AA)
    cv2.ellipse(frame, (x, y), (85, 110), 0, 0, 360, (150, 180, 225), -1, cv2.LINE_AA)
    cv2.ellipse(frame, (x, y - 60), (92, 70), 0, 180, 360, (30, 25, 25), -1, cv2.LINE_AA)
    for eye in (-32, 32):
        cv2.circle(frame, (x + eye, y - 10), 8, (40, 30, 30), -1, cv2.LINE_AA)
    opening = 4 + int(rng.integers(0, 16))
    cv2.ellipse(frame, (x, y + 50), (26, opening), 0, 0, 360, (60, 40, 150), -1, cv2.LINE_AA)
    return frame
