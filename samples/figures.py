"""The people in front of the camera, drawn with curves: no photograph, nobody's likeness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

WIDTH = 330
HEIGHT = 560
"""Pixels of one figure, cut off at the bottom by the table."""

_FINE = 3  # drawn this many times larger, then made small: smooth edges

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    skin: Colour
    hair: Colour
    top: Colour
    collar: Colour
    lips: Colour
    style: str
    glasses: bool = False


LOOKS = {
    "woman_bun": Look(
        (252, 224, 206), (58, 40, 38), (236, 130, 150), (255, 244, 240), (206, 84, 96), "bun"
    ),
    "woman_long": Look(
        (250, 220, 198), (46, 32, 34), (40, 96, 104), (232, 214, 176), (190, 66, 78), "long"
    ),
    "man_short": Look(
        (242, 208, 182), (44, 38, 38), (98, 128, 176), (246, 248, 252), (190, 112, 104), "short"
    ),
    "man_glasses": Look(
        (240, 204, 174), (52, 48, 48), (88, 112, 84), (240, 236, 220), (184, 108, 98), "short", True
    ),
}


def draw(look: Look, mouth: int, eyes_open: bool) -> Image.Image:
    """An RGBA picture of WIDTH by HEIGHT. `mouth` is 0 (closed) to 2 (wide open)."""
    image = Image.new("RGBA", (WIDTH * _FINE, HEIGHT * _FINE))
    pen = _Pen(image)
    if look.style in ("long", "bun"):
        _hair_behind(pen, look)
    _body(pen, look)
    _neck(pen, look)
    _head(pen, look)
    _face(pen, look, mouth, eyes_open)
    _hair_in_front(pen, look)
    if look.glasses:
        _glasses(pen)
    _arms(pen, look)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


class _Pen:
    """Draws in the coordinates of the small picture."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image)

    def shape(self, points: Sequence[Point], fill: Colour) -> None:
        self._draw.polygon(_smooth([(x * _FINE, y * _FINE) for x, y in points]), fill=fill)

    def straight(self, points: Sequence[Point], fill: Colour) -> None:
        self._draw.polygon([(x * _FINE, y * _FINE) for x, y in points], fill=fill)

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        box = ((x - rx) * _FINE, (y - ry) * _FINE, (x + rx) * _FINE, (y + ry) * _FINE)
        self._draw.ellipse(box, fill=fill)

    def stroke(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        path = _curve(scaled)
        self._draw.line(path, fill=fill, width=round(width * _FINE))
        # Round joints: Pillow leaves notches between the pieces of a thick bent line.
        r = width * _FINE / 2
        for x, y in path:
            self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def soft(self, fill: Colour, draw: Callable[[_Pen], None], blur: float, share: float) -> None:
        """Tint what is there already with `fill`, blurred by `blur` pixels, where `draw` draws."""
        layer = Image.new("RGBA", self.image.size)
        draw(_Pen(layer))
        mask = layer.getchannel("A").filter(ImageFilter.GaussianBlur(blur * _FINE))
        mask = mask.point([int(a * share) for a in range(256)])
        under = self.image.getchannel("A")
        colours = self.image.convert("RGB")
        colours.paste(fill, mask=mask)
        colours.putalpha(under)
        self.image.paste(colours)


CX = WIDTH / 2


def _body(pen: _Pen, look: Look) -> None:
    dark = _shade(look.top, 0.82)
    wide = 128 if look.style == "short" else 112
    pen.shape(
        [
            (CX - 34, 262), (CX - wide * 0.72, 288), (CX - wide, 330), (CX - wide - 6, 440), (CX - wide, 600),
            (CX + wide, 600), (CX + wide + 6, 440), (CX + wide, 330), (CX + wide * 0.72, 288), (CX + 34, 262),
        ],
        look.top,
    )  # fmt: skip

    def folds(soft: _Pen) -> None:
        soft.stroke([(CX - 30, 300), (CX, 330), (CX + 30, 300)], 10, dark)
        soft.stroke([(CX - 50, 400), (CX - 44, 470), (CX - 60, 560)], 9, dark)

    pen.soft(dark, folds, 6, 0.7)
    if look.style == "short":
        pen.straight([(CX - 38, 258), (CX, 320), (CX - 52, 330), (CX - 62, 274)], look.collar)
        pen.straight([(CX + 38, 258), (CX, 320), (CX + 52, 330), (CX + 62, 274)], look.collar)
        for y in (352, 400, 448):
            pen.oval(CX, y, 4, 4, _shade(look.top, 0.6))
    else:
        pen.stroke(
            [(CX - 44, 266), (CX - 26, 300), (CX, 312), (CX + 26, 300), (CX + 44, 266)],
            9,
            look.collar,
        )


def _neck(pen: _Pen, look: Look) -> None:
    shadow = _shade(look.skin, 0.86)
    pen.shape(
        [
            (CX - 27, 210),
            (CX - 27, 262),
            (CX - 38, 276),
            (CX, 304),
            (CX + 38, 276),
            (CX + 27, 262),
            (CX + 27, 210),
        ],
        look.skin,
    )
    pen.soft(shadow, lambda soft: soft.oval(CX, 226, 34, 22, shadow), 4, 0.9)
    if look.style == "long":
        pen.stroke([(CX - 34, 272), (CX, 296), (CX + 34, 272)], 2.2, (222, 190, 120))
        pen.oval(CX, 298, 7, 8, (126, 186, 148))


def _head(pen: _Pen, look: Look) -> None:
    for side in (-1, 1):
        pen.oval(CX + side * 74, 156, 12, 18, _shade(look.skin, 0.93))
    jaw = 56 if look.style == "short" else 48
    pen.shape(
        [
            (CX, 66), (CX + 54, 82), (CX + 74, 130), (CX + 70, 172), (CX + jaw, 212), (CX + 20, 236),
            (CX, 240), (CX - 20, 236), (CX - jaw, 212), (CX - 70, 172), (CX - 74, 130), (CX - 54, 82),
        ],
        look.skin,
    )  # fmt: skip
    cheek = _mix(look.skin, (244, 128, 120), 0.55)

    def blush(soft: _Pen) -> None:
        soft.oval(CX - 44, 188, 17, 10, cheek)
        soft.oval(CX + 44, 188, 17, 10, cheek)

    pen.soft(cheek, blush, 6, 0.4 if look.style == "short" else 0.75)


def _face(pen: _Pen, look: Look, mouth: int, eyes_open: bool) -> None:
    brow = _mix(look.hair, look.skin, 0.25)
    for side in (-1, 1):
        x = CX + side * 32
        thick = 5.5 if look.style == "short" else 4
        pen.stroke([(x - side * 17, 134), (x, 127), (x + side * 16, 132)], thick, brow)
        if not eyes_open:
            pen.stroke([(x - 15, 158), (x, 163), (x + 15, 158)], 3.2, look.hair)
            continue
        pen.oval(x, 157, 15, 11.5, (255, 255, 255))
        pen.oval(x, 157.5, 9.5, 10.8, _mix(look.hair, (110, 70, 50), 0.5))
        pen.oval(x, 157.5, 5.5, 6.5, (26, 20, 22))
        pen.oval(x + 3.5, 153, 3, 3.2, (255, 255, 255))
        pen.stroke([(x - 16, 154), (x - 8, 146), (x + 4, 145), (x + 16, 153)], 3.6, look.hair)
        if look.style != "short":
            pen.stroke([(x + side * 14, 152), (x + side * 20, 147)], 2.6, look.hair)
    nose = _shade(look.skin, 0.84)
    pen.stroke([(CX - 3, 172), (CX - 5, 184), (CX + 1, 187), (CX + 6, 185)], 2.4, nose)
    if mouth == 0:
        pen.stroke([(CX - 20, 206), (CX, 214), (CX + 20, 206)], 4.2, look.lips)
    else:
        tall = 7 + 6 * (mouth - 1)
        wide = 19 - 2 * (mouth - 1)
        pen.oval(CX, 209, wide, tall + 2.5, look.lips)
        pen.oval(CX, 209, wide - 3.5, tall - 0.5, (116, 36, 44))
        pen.oval(CX, 209 - tall * 0.55, wide - 8, tall * 0.34, (255, 255, 255))


def _hair_behind(pen: _Pen, look: Look) -> None:
    if look.style == "bun":
        pen.oval(CX, 40, 40, 36, look.hair)
        shine = _mix(look.hair, (255, 255, 255), 0.4)
        pen.soft(shine, lambda soft: soft.oval(CX - 10, 28, 16, 10, shine), 5, 0.7)
    else:
        pen.shape(
            [
                (CX, 40), (CX - 74, 72), (CX - 98, 150), (CX - 104, 260), (CX - 112, 360), (CX - 70, 372),
                (CX, 330), (CX + 70, 372), (CX + 112, 360), (CX + 104, 260), (CX + 98, 150), (CX + 74, 72),
            ],
            look.hair,
        )  # fmt: skip


def _hair_in_front(pen: _Pen, look: Look) -> None:
    if look.style == "short":
        pen.shape(
            [
                (CX - 80, 142), (CX - 88, 96), (CX - 64, 56), (CX - 16, 36), (CX + 40, 42), (CX + 80, 74),
                (CX + 86, 112), (CX + 79, 142), (CX + 69, 116), (CX + 44, 98), (CX + 4, 104), (CX - 36, 94),
                (CX - 66, 112),
            ],
            look.hair,
        )  # fmt: skip
    else:
        pen.shape(
            [
                (CX - 81, 176), (CX - 90, 116), (CX - 66, 62), (CX, 42), (CX + 66, 62), (CX + 90, 116),
                (CX + 81, 176), (CX + 71, 138), (CX + 48, 104), (CX + 14, 84), (CX - 8, 84), (CX - 44, 108),
                (CX - 69, 140),
            ],
            look.hair,
        )  # fmt: skip
    shine = _mix(look.hair, (255, 236, 220), 0.45)
    pen.soft(
        shine,
        lambda soft: soft.stroke([(CX - 54, 82), (CX - 22, 62), (CX + 16, 58)], 8, shine),
        4,
        0.75,
    )
    if look.style != "short":
        for side in (-1, 1):
            pen.oval(CX + side * 77, 182, 4.5, 4.5, (246, 240, 232))


def _glasses(pen: _Pen) -> None:
    frame = (58, 58, 64)
    for side in (-1, 1):
        x = CX + side * 33
        ring = [(x + 24 * math.cos(a), 158 + 19 * math.sin(a)) for a in _angles(28)]
        pen.stroke([*ring, ring[0]], 3, frame)
        pen.stroke([(x + side * 24, 154), (CX + side * 74, 150)], 3, frame)
    pen.stroke([(CX - 10, 156), (CX, 152), (CX + 10, 156)], 3, frame)


def _arms(pen: _Pen, look: Look) -> None:
    edge = _shade(look.top, 0.78)
    wide = 108 if look.style == "short" else 94
    for side in (-1, 1):
        path = [
            (CX + side * wide, 322),
            (CX + side * (wide + 10), 430),
            (CX + side * (wide - 20), 540),
        ]
        inner = [(x - side * 21, y + 20) for x, y in path]

        def armpit(soft: _Pen, inner: Sequence[Point] = inner) -> None:
            soft.stroke(inner, 5, edge)

        pen.soft(edge, armpit, 3, 0.9)
        pen.stroke(path, 42, look.top)
    forearm = [(CX + wide - 16, 540), (CX + 52, 520), (CX + 28, 486)]
    pen.soft(edge, lambda soft: soft.stroke([(x - 4, y + 2) for x, y in forearm], 50, edge), 4, 0.8)
    pen.stroke(forearm, 40, look.top)
    pen.stroke([(CX + 36, 494), (CX + 22, 470)], 44, look.collar)
    pen.oval(CX + 18, 446, 21, 24, look.skin)
    for i, tip in enumerate(((-4, 402), (9, 395), (22, 397), (35, 407))):
        pen.stroke([(CX + 6 + 8 * i, 440), (CX + tip[0], tip[1])], 9, look.skin)
    pen.stroke([(CX + 4, 454), (CX - 14, 434)], 9.5, look.skin)
    line = _shade(look.skin, 0.88)
    pen.stroke([(CX + 10, 452), (CX + 22, 444), (CX + 33, 446)], 1.6, line)


def _smooth(points: Sequence[Point], steps: int = 10) -> list[Point]:
    """A closed Catmull-Rom curve through the points."""
    n = len(points)
    around = [points[(i + k) % n] for i in range(n) for k in (-1, 0, 1, 2)]
    return [p for i in range(n) for p in _spline(around[4 * i : 4 * i + 4], steps)]


def _curve(points: Sequence[Point], steps: int = 10) -> list[Point]:
    padded = [points[0], *points, points[-1]]
    path = [p for i in range(len(points) - 1) for p in _spline(padded[i : i + 4], steps)]
    return [*path, points[-1]]


def _spline(knots: Sequence[Point], steps: int) -> list[Point]:
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = knots
    out = []
    for step in range(steps):
        t = step / steps
        a, b, c, d = (
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            t**3 - t**2,
        )
        out.append(
            ((a * x0 + b * x1 + c * x2 + d * x3) / 2, (a * y0 + b * y1 + c * y2 + d * y3) / 2)
        )
    return out


def _angles(count: int) -> list[float]:
    return [2 * math.pi * i / count for i in range(count)]


def _shade(colour: Colour, factor: float) -> Colour:
    return _mix((0, 0, 0), colour, factor)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    r, g, c = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return (r, g, c)
