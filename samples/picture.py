"""The picture of a sample room: a drawn studio with its hosts, under the furniture of a live app.

Everything is drawn here with Pillow and the Noto Sans CJK fonts; no picture is loaded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import segno
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from samples import figures
from samples.screenplay import TimedEvent, Timeline

WIDTH = 540
HEIGHT = 960
FRAMES_A_SECOND = 10

Colour = tuple[int, int, int]

_THEMES: dict[str, dict[str, Colour]] = {
    "rose": {"wall": (250, 226, 224), "low": (240, 190, 192), "shelf": (214, 160, 150), "table": (255, 246, 242), "accent": (232, 62, 96)},
    "bamboo": {"wall": (234, 238, 220), "low": (198, 210, 176), "shelf": (150, 112, 78), "table": (176, 132, 92), "accent": (204, 74, 44)},
    "night": {"wall": (62, 58, 92), "low": (34, 30, 56), "shelf": (112, 84, 80), "table": (72, 60, 84), "accent": (238, 84, 60)},
}  # fmt: skip

_TABLE_TOP = 700
_COMMENTS_SHOWN = 4
_TICKER_PIXELS_A_SECOND = 60


class Stage:
    """Draws the frames of one room. `passports` are the products by id, as plain mappings."""

    def __init__(self, timeline: Timeline, passports: Mapping[str, Mapping[str, Any]]) -> None:
        self._timeline = timeline
        self._play = timeline.screenplay
        self._passports = passports
        self._theme = _THEMES[self._play.look["theme"]]
        self._dice = random.Random(self._play.seed)
        self._blinks = [self._dice.uniform(0, 4) for _ in self._play.look["hosts"]]
        self._shown_key: tuple[object, ...] = ()
        self._shown: Image.Image = Image.new("RGBA", (WIDTH, HEIGHT))

    def frames(self, loudness: Mapping[int, NDArray[np.float32]]) -> Iterator[bytes]:
        """RGB24 frames of 540×960, ten a second.

        `loudness` gives for each figure one value a frame, 0 (silent) to 1.
        """
        count = int(self._timeline.duration_s * FRAMES_A_SECOND)
        for index in range(count):
            mouths = [
                _mouth(float(loudness[figure][index])) if figure in loudness else 0
                for figure in range(len(self._blinks))
            ]
            yield self.frame(index / FRAMES_A_SECOND, mouths).tobytes()

    def frame(self, time: float, mouths: Sequence[int]) -> Image.Image:
        """The picture at `time` seconds, RGB. `mouths` is 0 to 2 for each figure."""
        picture = self._studio.copy()
        for figure, mouth in enumerate(mouths):
            eyes_open = (time + self._blinks[figure]) % 4.1 > 0.15
            sway = round(2.5 * math.sin(time * 1.1 + 2 * figure))
            nod = round(1.5 * math.sin(time * 2.3 + figure)) if mouth else 0
            drawn = self._figures[figure][mouth, eyes_open]
            x, y = self._places[figure]
            picture.paste(drawn, (x + sway, y + nod), drawn)
        table = self._table(self._timeline.pinned_at(time))
        picture.paste(table, (0, 0), table)
        overlay = self._overlay(time)
        picture.paste(overlay, (0, 0), overlay)
        for timed in self._visible(time):
            if timed.event.kind == "ticker":
                self._scroll(picture, timed, time)
        return picture

    @cached_property
    def _figures(self) -> list[dict[tuple[int, bool], Image.Image]]:
        size = (round(figures.WIDTH * self._scale), round(figures.HEIGHT * self._scale))
        return [
            {
                (mouth, eyes): figures.draw(figures.LOOKS[name], mouth, eyes).resize(
                    size, Image.Resampling.LANCZOS
                )
                for mouth in range(3)
                for eyes in (True, False)
            }
            for name in self._play.look["hosts"]
        ]

    @property
    def _scale(self) -> float:
        return 1.12 if len(self._blinks) == 1 else 0.92

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        wide = round(figures.WIDTH * self._scale)
        if len(self._blinks) == 1:
            return [((WIDTH - wide) // 2, 236)]
        return [(-16, 328), (WIDTH - wide + 16, 304)]

    @cached_property
    def _studio(self) -> Image.Image:
        theme = self._theme
        wall = _gradient(theme["wall"], theme["low"])
        pen = ImageDraw.Draw(wall)
        for row, y in enumerate((300, 420)):
            for side in (0, 1):
                left = -10 if side == 0 else WIDTH - 150
                self._shelf(pen, left, y + 26 * side, row)
        lights = Image.new("RGB", (WIDTH, HEIGHT))
        glow = ImageDraw.Draw(lights)
        for _ in range(26):
            x, y = self._dice.randrange(WIDTH), self._dice.randrange(60, 640)
            r = self._dice.randrange(6, 22)
            shade = self._dice.randrange(24, 70)
            glow.ellipse(
                (x - r, y - r, x + r, y + r), fill=(shade, round(shade * 0.9), round(shade * 0.75))
            )
        wall = Image.fromarray(
            np.minimum(
                np.asarray(wall, np.int16)
                + np.asarray(lights.filter(ImageFilter.GaussianBlur(3)), np.int16),
                255,
            ).astype(np.uint8)
        )
        halo = Image.new("L", (WIDTH, HEIGHT))
        ImageDraw.Draw(halo).ellipse((40, 200, WIDTH - 40, 200 + WIDTH - 80), fill=110)
        wall.paste((255, 250, 244), mask=halo.filter(ImageFilter.GaussianBlur(50)))
        return wall.filter(ImageFilter.GaussianBlur(1.2))

    def _shelf(self, pen: ImageDraw.ImageDraw, left: int, y: int, row: int) -> None:
        board = self._theme["shelf"]
        pen.rounded_rectangle((left, y, left + 160, y + 10), 4, fill=board)
        pen.rectangle((left + 4, y + 10, left + 156, y + 14), fill=_shade(board, 0.75))
        x = left + 16
        while x < left + 132:
            wide, tall = self._dice.randrange(16, 30), self._dice.randrange(34, 78)
            colour = _tint(self._theme["accent"], self._dice.uniform(0.35, 0.85))
            if (x + row) % 2:
                colour = _tint(self._theme["shelf"], self._dice.uniform(0.3, 0.8))
            pen.rounded_rectangle((x, y - tall, x + wide, y), 6, fill=colour)
            pen.rounded_rectangle(
                (x + wide // 4, y - tall - 8, x + 3 * wide // 4, y - tall + 2),
                3,
                fill=_shade(colour, 0.8),
            )
            pen.rectangle(
                (x + 3, y - tall // 2, x + wide - 3, y - tall // 2 + 9), fill=_tint(colour, 0.7)
            )
            x += wide + self._dice.randrange(8, 16)

    @lru_cache(maxsize=8)  # noqa: B019 - a stage lives as long as its video
    def _table(self, product: str) -> Image.Image:
        layer = Image.new("RGBA", (WIDTH, HEIGHT))
        pen = ImageDraw.Draw(layer)
        colour = self._theme["table"]
        pen.rounded_rectangle((-20, _TABLE_TOP, WIDTH + 20, HEIGHT + 20), 26, fill=colour)
        pen.rectangle((0, _TABLE_TOP + 18, WIDTH, HEIGHT), fill=_shade(colour, 0.95))
        goods = _goods(self._passports[product]["category"], self._theme["accent"], 150)
        for x in (24, WIDTH // 2 - 75, WIDTH - 174):
            shadow = Image.new("L", (150, 26))
            ImageDraw.Draw(shadow).ellipse((18, 4, 132, 22), fill=90)
            shade = Image.new("RGBA", shadow.size, (40, 24, 24))
            shade.putalpha(shadow.filter(ImageFilter.GaussianBlur(4)))
            layer.alpha_composite(shade, (x, _TABLE_TOP + 46))
            layer.alpha_composite(goods, (x, _TABLE_TOP - 88))
        return layer

    def _visible(self, time: float) -> list[TimedEvent]:
        return [timed for timed in self._timeline.events if timed.start <= time < timed.end]

    def _overlay(self, time: float) -> Image.Image:
        product = self._timeline.pinned_at(time)
        visible = [timed for timed in self._visible(time) if timed.event.kind != "ticker"]
        each_s = self._timeline.duration_s / (len(self._play.comments) + 1)
        said = int(time / each_s)
        key = (product, tuple(id(timed) for timed in visible), said)
        if key != self._shown_key:
            self._shown_key = key
            self._shown = Image.new("RGBA", (WIDTH, HEIGHT))
            self._top_bar(self._shown)
            for timed in visible:
                self._show(self._shown, timed)
            self._comments(self._shown, self._play.comments[max(0, said - _COMMENTS_SHOWN) : said])
            self._product_card(self._shown, product)
            self._bottom_bar(self._shown)
        return self._shown

    def _show(self, layer: Image.Image, timed: TimedEvent) -> None:
        event = timed.event
        if event.kind == "banner":
            self._banner(layer, event.text)
        elif event.kind == "poster":
            self._poster(layer, event.title, event.text)
        elif event.kind == "code":
            self._code(layer, event.title, event.text, event.payload)
        elif event.kind == "notice":
            self._notice(layer, event.text[0])
        else:
            raise ValueError(f"no way to show a {event.kind!r}")

    def _top_bar(self, layer: Image.Image) -> None:
        pen = ImageDraw.Draw(layer)
        room, look = self._play.room, self._play.look
        title = _font(21, bold=True)
        right = 78 + max(round(title.getlength(room["title"])), 130) + 84
        pen.rounded_rectangle((12, 22, right, 78), 28, fill=(0, 0, 0, 120))
        pen.ellipse((16, 26, 64, 74), fill=(255, 255, 255))
        face = self._figures[0][0, True]
        head = face.crop(
            (round(face.width * 0.2), 16, round(face.width * 0.8), 16 + round(face.width * 0.6))
        )
        avatar = Image.new("RGB", head.size, self._theme["wall"])
        avatar.paste(head, mask=head)
        mask = Image.new("L", (44 * 4, 44 * 4))
        ImageDraw.Draw(mask).ellipse((0, 0, 44 * 4, 44 * 4), fill=255)
        layer.paste(
            avatar.resize((44, 44), Image.Resampling.LANCZOS), (18, 28), mask.resize((44, 44))
        )
        pen.text((74, 26), room["title"], font=title, fill=(255, 255, 255))
        pen.text((74, 53), f"{look['likes']} 本场点赞", font=_font(15), fill=(235, 235, 235))
        pen.rounded_rectangle((right - 74, 33, right - 10, 67), 17, fill=self._theme["accent"])
        pen.text(
            (right - 42, 50), "关注", font=_font(18, bold=True), fill=(255, 255, 255), anchor="mm"
        )
        seen = f"{look['viewers']}"
        pen.rounded_rectangle((WIDTH - 98, 30, WIDTH - 48, 66), 18, fill=(0, 0, 0, 110))
        pen.text((WIDTH - 73, 48), seen, font=_font(15), fill=(255, 255, 255), anchor="mm")
        pen.line((WIDTH - 34, 40, WIDTH - 18, 56), fill=(255, 255, 255), width=3)
        pen.line((WIDTH - 18, 40, WIDTH - 34, 56), fill=(255, 255, 255), width=3)
        merchant = f"销售者：{room['merchant']}"
        font = _font(16)
        pen.rounded_rectangle((12, 86, 36 + font.getlength(merchant), 112), 13, fill=(0, 0, 0, 90))
        pen.text((24, 99), merchant, font=font, fill=(255, 255, 255), anchor="lm")

    def _banner(self, layer: Image.Image, lines: Sequence[str]) -> None:
        pen = ImageDraw.Draw(layer)
        big, small = _font(40, bold=True), _font(24, bold=True)
        wide = max(big.getlength(lines[0]), *(small.getlength(line) for line in lines[1:])) + 64
        left = (WIDTH - wide) / 2
        accent = self._theme["accent"]
        pen.rounded_rectangle((left + 4, 126, left + wide + 4, 230), 18, fill=(0, 0, 0, 60))
        pen.rounded_rectangle((left, 122, left + wide, 226), 18, fill=accent)
        pen.rounded_rectangle(
            (left + 5, 127, left + wide - 5, 221), 14, outline=(255, 236, 190), width=2
        )
        pen.text((WIDTH / 2, 156), lines[0], font=big, fill=(255, 246, 214), anchor="mm")
        for i, line in enumerate(lines[1:]):
            pen.text((WIDTH / 2, 200 + 30 * i), line, font=small, fill=(255, 255, 255), anchor="mm")

    def _poster(self, layer: Image.Image, title: str, lines: Sequence[str]) -> None:
        pen = ImageDraw.Draw(layer)
        head, body = _font(21, bold=True), _font(30, bold=True)
        wide = max(head.getlength(title), *(body.getlength(line) for line in lines)) + 36
        tall = 58 + 44 * len(lines)
        left, top = 14, 240
        accent = self._theme["accent"]
        pen.rounded_rectangle(
            (left + 4, top + 5, left + wide + 4, top + tall + 5), 14, fill=(0, 0, 0, 70)
        )
        pen.rounded_rectangle((left, top, left + wide, top + tall), 14, fill=(255, 252, 246, 248))
        pen.rounded_rectangle((left, top, left + wide, top + 42), 14, fill=accent)
        pen.rectangle((left, top + 26, left + wide, top + 42), fill=accent)
        pen.text((left + wide / 2, top + 21), title, font=head, fill=(255, 255, 255), anchor="mm")
        for i, line in enumerate(lines):
            pen.text(
                (left + wide / 2, top + 70 + 44 * i),
                line,
                font=body,
                fill=_shade(accent, 0.72),
                anchor="mm",
            )

    def _code(self, layer: Image.Image, title: str, lines: Sequence[str], payload: str) -> None:
        pen = ImageDraw.Draw(layer)
        matrix = np.array([list(row) for row in segno.make(payload, error="m").matrix], np.uint8)
        cell = 5
        side = len(matrix) * cell
        wide, tall = side + 48, side + 110
        left, top = WIDTH - wide - 14, 246
        pen.rounded_rectangle(
            (left + 4, top + 5, left + wide + 4, top + tall + 5), 14, fill=(0, 0, 0, 80)
        )
        pen.rounded_rectangle((left, top, left + wide, top + tall), 14, fill=(255, 255, 255))
        pen.text(
            (left + wide / 2, top + 30),
            title,
            font=_font(25, bold=True),
            fill=(24, 150, 72),
            anchor="mm",
        )
        code = Image.fromarray(((1 - matrix) * 255).astype(np.uint8)).resize(
            (side, side), Image.Resampling.NEAREST
        )
        layer.paste(code.convert("RGB"), (round(left + 24), top + 54))
        pen.text(
            (left + wide / 2, top + tall - 28),
            lines[0],
            font=_font(22),
            fill=(60, 60, 60),
            anchor="mm",
        )

    def _notice(self, layer: Image.Image, text: str) -> None:
        pen = ImageDraw.Draw(layer)
        font = _font(23, bold=True)
        pen.rectangle((0, 626, WIDTH, 664), fill=(255, 255, 255, 225))
        pen.text((WIDTH / 2, 645), text, font=font, fill=(30, 30, 30), anchor="mm")

    def _scroll(self, picture: Image.Image, timed: TimedEvent, time: float) -> None:
        strip = _ticker(timed.event.text[0])
        band = Image.new("RGB", (WIDTH, 40), (28, 24, 40))
        shift = int((time - timed.start) * _TICKER_PIXELS_A_SECOND) % strip.width
        x = 20 - shift
        while x < WIDTH:
            band.paste(strip, (x, 0))
            x += strip.width
        ImageDraw.Draw(band).rectangle((0, 0, WIDTH, 2), fill=self._theme["accent"])
        picture.paste(band, (0, 862))

    def _comments(self, layer: Image.Image, comments: Sequence[tuple[str, str]]) -> None:
        pen = ImageDraw.Draw(layer)
        font = _font(18)
        y = 852
        for user, text in reversed(comments):
            name = f"{user}："
            wide = font.getlength(name) + font.getlength(text) + 28
            y -= 38
            pen.rounded_rectangle((12, y, 12 + wide, y + 33), 16, fill=(0, 0, 0, 110))
            pen.text((26, y + 16), name, font=font, fill=(160, 214, 255), anchor="lm")
            pen.text(
                (26 + font.getlength(name), y + 16),
                text,
                font=font,
                fill=(255, 255, 255),
                anchor="lm",
            )

    def _product_card(self, layer: Image.Image, product: str) -> None:
        pen = ImageDraw.Draw(layer)
        passport = self._passports[product]
        left, top = 346, 640 + 42
        pen.rounded_rectangle((left + 3, top + 4, WIDTH - 9, top + 172), 14, fill=(0, 0, 0, 70))
        pen.rounded_rectangle((left, top, WIDTH - 12, top + 168), 14, fill=(255, 255, 255))
        pen.rounded_rectangle(
            (left + 8, top + 8, WIDTH - 20, top + 88), 10, fill=_tint(self._theme["accent"], 0.86)
        )
        goods = _goods(passport["category"], self._theme["accent"], 84)
        layer.alpha_composite(goods, (left + (WIDTH - 12 - left) // 2 - 42, top + 4))
        pen.rounded_rectangle(
            (left + 8, top + 8, left + 58, top + 30), 8, fill=self._theme["accent"]
        )
        pen.text(
            (left + 33, top + 19),
            "讲解中",
            font=_font(14, bold=True),
            fill=(255, 255, 255),
            anchor="mm",
        )
        name = passport["aliases"][0]
        pen.text(
            (left + 12, top + 104), name, font=_font(18, bold=True), fill=(40, 40, 40), anchor="lm"
        )
        price = f"¥{passport['price']['live']:g}"
        pen.text(
            (left + 12, top + 144),
            price,
            font=_font(26, bold=True),
            fill=self._theme["accent"],
            anchor="lm",
        )
        pen.rounded_rectangle(
            (WIDTH - 88, top + 126, WIDTH - 20, top + 160), 17, fill=self._theme["accent"]
        )
        pen.text(
            (WIDTH - 54, top + 143),
            "去购买",
            font=_font(17, bold=True),
            fill=(255, 255, 255),
            anchor="mm",
        )

    def _bottom_bar(self, layer: Image.Image) -> None:
        pen = ImageDraw.Draw(layer)
        pen.rounded_rectangle((12, 908, 300, 948), 20, fill=(0, 0, 0, 110))
        pen.text((30, 928), "说点什么…", font=_font(18), fill=(225, 225, 225), anchor="lm")
        accent = self._theme["accent"]
        for i, x in enumerate((340, 394, 448, 502)):
            pen.ellipse(
                (x - 21, 907, x + 21, 949), fill=(*accent, 255) if i == 0 else (0, 0, 0, 120)
            )
        pen.polygon([(329, 922), (351, 922), (348, 936), (332, 936)], fill=(255, 255, 255))
        pen.arc((333, 914, 347, 930), 180, 360, fill=(255, 255, 255), width=2)
        pen.rectangle((384, 922, 404, 938), outline=(255, 255, 255), width=2)
        pen.line((394, 922, 394, 938), fill=(255, 255, 255), width=2)
        pen.line((383, 928, 405, 928), fill=(255, 255, 255), width=2)
        pen.polygon(
            [(439, 938), (439, 930), (452, 920), (452, 914), (462, 926), (452, 938), (452, 932)],
            fill=(255, 255, 255),
        )
        pen.pieslice((490, 917, 503, 930), 180, 360, fill=(255, 110, 130))
        pen.pieslice((501, 917, 514, 930), 180, 360, fill=(255, 110, 130))
        pen.polygon([(490, 924), (514, 924), (502, 940)], fill=(255, 110, 130))


def _mouth(loudness: float) -> int:
    return 0 if loudness < 0.12 else 1 if loudness < 0.45 else 2


@lru_cache(maxsize=64)
def _goods(category: str, accent: Colour, size: int) -> Image.Image:
    """A picture of the kind of product, `size` pixels square, transparent around it."""
    big = Image.new("RGBA", (600, 600))
    pen = ImageDraw.Draw(big)
    light, dark = _tint(accent, 0.6), _shade(accent, 0.75)
    if category == "cosmetic":
        pen.rounded_rectangle((150, 300, 450, 540), 50, fill=(252, 250, 248))
        pen.rounded_rectangle((150, 380, 450, 450), 0, fill=light)
        pen.rounded_rectangle((140, 210, 460, 310), 34, fill=accent)
        pen.rounded_rectangle((170, 225, 250, 245), 10, fill=_tint(accent, 0.5))
    elif category in ("health_food", "food"):
        pen.rounded_rectangle((170, 190, 430, 545), 40, fill=(252, 250, 244))
        pen.rounded_rectangle(
            (160, 110, 440, 210), 30, fill=dark if category == "food" else (46, 108, 190)
        )
        pen.rectangle((170, 290, 430, 460), fill=light if category == "food" else (188, 216, 246))
        pen.ellipse((250, 320, 350, 430), fill=accent if category == "food" else (46, 108, 190))
    elif category == "alcohol":
        pen.rounded_rectangle((260, 40, 340, 160), 16, fill=dark)
        pen.polygon([(265, 150), (335, 150), (400, 280), (200, 280)], fill=(250, 246, 238))
        pen.rounded_rectangle((200, 260, 400, 550), 36, fill=(250, 246, 238))
        pen.rectangle((200, 330, 400, 480), fill=accent)
        pen.ellipse((260, 360, 340, 450), fill=(246, 214, 140))
    elif category == "jewelry":
        pen.rounded_rectangle((110, 420, 490, 560), 30, fill=(70, 34, 44))
        pen.ellipse((170, 170, 430, 450), fill=(206, 226, 206))
        pen.ellipse((200, 195, 330, 300), fill=(228, 242, 228))
        pen.ellipse((262, 270, 338, 350), fill=(120, 140, 124))
        pen.arc((210, 10, 390, 250), 160, 380, fill=(150, 40, 44), width=12)
    else:
        pen.rounded_rectangle((160, 90, 440, 550), 46, fill=(246, 247, 250))
        for y in range(300, 500, 34):
            pen.rounded_rectangle((200, y, 400, y + 14), 7, fill=(190, 196, 208))
        pen.ellipse((240, 130, 360, 250), fill=light)
        pen.ellipse((270, 160, 330, 220), fill=accent)
    return big.resize((size, size), Image.Resampling.LANCZOS)


@lru_cache(maxsize=8)
def _ticker(text: str) -> Image.Image:
    font = _font(24, bold=True)
    strip = Image.new("RGB", (round(font.getlength(text)) + 160, 40), (28, 24, 40))
    ImageDraw.Draw(strip).text((0, 21), text, font=font, fill=(255, 232, 160), anchor="lm")
    return strip


def _gradient(top: Colour, bottom: Colour) -> Image.Image:
    share = np.linspace(0, 1, HEIGHT)[:, None]
    column = np.array(top) * (1 - share) + np.array(bottom) * share
    return Image.fromarray(np.repeat(column[:, None, :], WIDTH, axis=1).astype(np.uint8))


def _shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (round(c * factor) for c in colour)
    return (r, g, b)


def _tint(colour: Colour, share: float) -> Colour:
    r, g, b = (round(c + (255 - c) * share) for c in colour)
    return (r, g, b)


@lru_cache(maxsize=32)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    weight = "Bold" if bold else "Regular"
    for folder in (
        "/usr/share/fonts/opentype/noto",
        "/usr/share/fonts/noto-cjk",
        "/usr/share/fonts",
    ):
        path = Path(folder) / f"NotoSansCJK-{weight}.ttc"
        if path.is_file():
            return ImageFont.truetype(str(path), size, index=2)  # 2 is simplified Chinese
    raise RuntimeError(
        "the sample rooms need the font Noto Sans CJK (apt-get install fonts-noto-cjk)"
    )
