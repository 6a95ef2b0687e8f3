"""What happens in a sample room: who says what, what is on the screen, and what is wrong with it.

A screenplay is written by hand in `rooms/<room>.yaml`. Voiced lines give it times, and then it
is a Timeline, from which the picture, the sound and the ground truth are made.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LEAD_IN_S = 1.2
LEAD_OUT_S = 1.6


@dataclass(frozen=True, slots=True)
class Planted:
    """A violation put there on purpose. `also` names categories that a checker may choose too.

    One stands for all the words at fault of that kind in its line; `quote` is the heart of them.
    `product` is a passport id, for what is not on the pinned product.
    """

    category: str
    quote: str
    disposition: str
    also: tuple[str, ...] = ()
    channel: str = ""
    text: str = ""
    product: str = ""


@dataclass(frozen=True, slots=True)
class Speaker:
    name: str
    voice: str
    speed: float
    figure: int


@dataclass(frozen=True, slots=True)
class Line:
    """`near_miss` says why a line that looks like a violation is lawful."""

    speaker: str
    text: str
    id: str = ""
    pinned: str = ""
    near_miss: str = ""
    speed: float = 0.0
    planted: tuple[Planted, ...] = ()


@dataclass(frozen=True, slots=True)
class ScreenEvent:
    """Something shown over the picture. `start` and `end` are seconds or `line_id±seconds`.

    `kind` is banner, poster, code, ticker or notice.
    """

    kind: str
    text: tuple[str, ...]
    start: str
    end: str
    title: str = ""
    payload: str = ""
    planted: tuple[Planted, ...] = ()


@dataclass(frozen=True, slots=True)
class Screenplay:
    room: Mapping[str, Any]
    look: Mapping[str, Any]
    seed: int
    music: bool
    pause_s: float
    speakers: Mapping[str, Speaker]
    lines: tuple[Line, ...]
    screen: tuple[ScreenEvent, ...]
    comments: tuple[tuple[str, str], ...]
    planted: tuple[Planted, ...] = ()

    @property
    def id(self) -> str:
        return str(self.room["id"])


@dataclass(frozen=True, slots=True)
class TimedLine:
    line: Line
    start: float
    end: float

    def time_of(self, quote: str) -> tuple[float, float]:
        """Seconds of `quote`, taking every spoken character to last equally long.

        Raises ValueError when the line does not hold the quote.
        """
        place = self.line.text.index(quote)
        before = _spoken(self.line.text[:place])
        until = _spoken(self.line.text[: place + len(quote)])
        each_s = (self.end - self.start) / max(_spoken(self.line.text), 1)
        return self.start + before * each_s, self.start + until * each_s


@dataclass(frozen=True, slots=True)
class TimedEvent:
    event: ScreenEvent
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A screenplay with times in seconds from the start of the video."""

    screenplay: Screenplay
    lines: tuple[TimedLine, ...]
    events: tuple[TimedEvent, ...]
    duration_s: float

    def pinned_at(self, time: float) -> str:
        """The product on sale at `time`, by passport id."""
        shown = ""
        for timed in self.lines:
            if timed.line.pinned and (timed.start <= time or not shown):
                shown = timed.line.pinned
        return shown

    def truth(self) -> dict[str, Any]:
        """The ground truth in its JSON form; `samples/README.md` explains the fields."""
        play = self.screenplay
        violations = [*self._spoken_truth(), *self._shown_truth(), *self._absent_truth()]
        return {
            "room": play.id,
            "duration_s": round(self.duration_s, 2),
            "products": list(play.room["products"]),
            "lines": [
                {
                    "start": round(timed.start, 2),
                    "end": round(timed.end, 2),
                    "speaker": play.speakers[timed.line.speaker].name,
                    "text": timed.line.text,
                    **({"near_miss": timed.line.near_miss} if timed.line.near_miss else {}),
                }
                for timed in self.lines
            ],
            "violations": sorted(violations, key=lambda v: (v["start"], v["channel"], v["quote"])),
        }

    def _spoken_truth(self) -> list[dict[str, Any]]:
        return [
            self._violation(planted, "speech", timed.line.text, timed.time_of(planted.quote), timed)
            for timed in self.lines
            for planted in timed.line.planted
        ]

    def _shown_truth(self) -> list[dict[str, Any]]:
        found = []
        for timed in self.events:
            for planted in timed.event.planted:
                channel = planted.channel or "screen"
                shown = (timed.event.title, *timed.event.text)
                text = timed.event.payload if channel == "code" else "\n".join(filter(None, shown))
                times = (timed.start, timed.end)
                found.append(self._violation(planted, channel, text, times, timed))
        return found

    def _absent_truth(self) -> list[dict[str, Any]]:
        return [
            self._violation(planted, planted.channel, planted.text, (0.0, self.duration_s), None)
            for planted in self.screenplay.planted
        ]

    def _violation(
        self,
        planted: Planted,
        channel: str,
        text: str,
        times: tuple[float, float],
        whole: TimedLine | TimedEvent | None,
    ) -> dict[str, Any]:
        start, end = times
        within = (whole.start, whole.end) if whole else times
        return {
            "start": round(start, 2),
            "end": round(end, 2),
            "within": [round(moment, 2) for moment in within],
            "channel": channel,
            "category": planted.category,
            "also": list(planted.also),
            "disposition": planted.disposition,
            "quote": planted.quote,
            "text": text,
            "product": planted.product or self.pinned_at((start + end) / 2),
        }


def load(path: Path) -> Screenplay:
    """Read one screenplay. Raises KeyError, TypeError or ValueError where it is not well formed."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    speakers = {key: Speaker(**value) for key, value in data["speakers"].items()}
    return Screenplay(
        room=data["room"],
        look=data["look"],
        seed=data["seed"],
        music=data["music"],
        pause_s=data["pause_s"],
        speakers=speakers,
        lines=tuple(_line(entry, speakers) for entry in data["lines"]),
        screen=tuple(_event(entry) for entry in data["screen"]),
        comments=tuple((user, text) for user, text in data["comments"]),
        planted=_planted(data.get("planted", [])),
    )


def time(play: Screenplay, durations_s: Sequence[float]) -> Timeline:
    """Lay the lines out one after the other, with pauses that vary a little as people's do.

    `durations_s` holds the seconds of every voiced line. Raises ValueError for a screen event
    that names a line there is not, or that ends before it starts.
    """
    dice = random.Random(play.seed)
    clock = LEAD_IN_S
    lines = []
    for line, duration_s in zip(play.lines, durations_s, strict=True):
        lines.append(TimedLine(line, clock, clock + duration_s))
        clock += duration_s + play.pause_s * dice.uniform(0.8, 1.6)
    end = lines[-1].end + LEAD_OUT_S
    marks = {timed.line.id: timed.start for timed in lines if timed.line.id} | {"end": end}
    events = tuple(
        TimedEvent(event, _moment(event.start, marks), _moment(event.end, marks))
        for event in play.screen
    )
    for timed in events:
        if not 0 <= timed.start < timed.end <= end:
            raise ValueError(f"{play.id}: {timed.event.text[0]!r} does not fit between 0 and {end}")
    return Timeline(play, tuple(lines), events, end)


def _line(entry: Mapping[str, Any], speakers: Mapping[str, Speaker]) -> Line:
    fields = dict(entry)
    speaker = next(key for key in fields if key in speakers)
    text = fields.pop(speaker)
    planted = _planted(fields.pop("planted", []))
    for each in planted:
        if each.quote not in text:
            raise ValueError(f"{each.quote!r} is not in {text!r}")
    return Line(speaker=speaker, text=text, planted=planted, **fields)


def _event(entry: Mapping[str, Any]) -> ScreenEvent:
    fields = dict(entry)
    text = fields.pop("text")
    return ScreenEvent(
        text=(text,) if isinstance(text, str) else tuple(text),
        start=str(fields.pop("start")),
        end=str(fields.pop("end")),
        planted=_planted(fields.pop("planted", [])),
        **fields,
    )


def _planted(entries: Sequence[Mapping[str, Any]]) -> tuple[Planted, ...]:
    return tuple(Planted(**{**entry, "also": tuple(entry.get("also", ()))}) for entry in entries)


def _moment(written: str, marks: Mapping[str, float]) -> float:
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)|([a-z_]+)([+-]\d+(?:\.\d+)?)?)", written)
    if found is None or (found[2] and found[2] not in marks):
        raise ValueError(f"{written!r} is neither seconds nor the id of a line")
    return float(found[1]) if found[1] else marks[found[2]] + float(found[3] or 0)


def _spoken(text: str) -> int:
    return sum("一" <= character <= "鿿" for character in text)
