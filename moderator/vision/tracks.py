"""Text and codes over time: one ScreenText a banner, one Code a code, however long they stay.

A frame gives lines. A line joins the track of a line that stood there before and reads almost the
same, so that recogniser jitter and a hand in front of the banner start nothing new. What does start
a new track at the same place: other numbers (a price change is the very thing to be seen), and a
different wording that stays for some seconds. Numbers that will not rest (a countdown, a stock
counter) are one track.

A line that moves sideways is put together from the pieces that frames show of it, so a scrolling
message is one ScreenText however many times it comes round.

Lines that stand close together with one left edge, right edge or middle, and that come and go
together, are one block: a single ScreenText, its lines joined by a line feed and its pieces on one
line by a space, columns read from right to left. A claim broken over two lines (七天 / 美白) is
thereby one text. A line whose neighbour changes while it stays is a text of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rapidfuzz import fuzz

from moderator.records import Box, Code, ScreenText
from moderator.vision.codes import CodeSighting
from moderator.vision.ocr import TextLine


class ScreenTracker:
    """Turns the text lines of sampled frames of one stream into ScreenTexts.

    Call `update` for every frame that was read and `hold` for every frame that was not read because
    nothing had changed, both in order of time. A text not seen for `gap_s` is closed; when it comes
    back sooner it is the same text still, later it is a new one. `together_s` is how far apart the
    lines of one block may appear and vanish. `engine` names the reader in the records.
    """

    def __init__(self, *, engine: str = "", gap_s: float = 10.0, together_s: float = 5.0) -> None:
        if not 0 <= together_s <= gap_s:
            raise ValueError("0 <= together_s <= gap_s must hold")
        self.engine = engine
        self.gap_s = gap_s
        self.together_s = together_s
        self.found_new = False
        """Whether the last `update` had a line of no text known before, or more of one that
        scrolls."""
        self._open: list[_Track] = []
        self._closing: list[_Track] = []

    def update(self, time: float, lines: Sequence[TextLine]) -> list[ScreenText]:
        """Add the lines read on the frame at media-clock second `time`.

        Returns the texts that are now known to have ended, oldest first.
        """
        self._expire(time)
        for track in self._open:
            track.missed += 1
        unmatched = self._match(time, [line for line in lines if _says_something(line.text)])
        self.found_new = bool(unmatched) or any(t.grew for t in self._open if t.last == time)
        for line in unmatched:
            self._start(time, line)
        self._open = _merged(self._open)
        return self._ended()

    def hold(self, time: float) -> list[ScreenText]:
        """Say that at `time` everything on the last frame read was still there.

        Returns the texts that are now known to have ended, oldest first.
        """
        for track in [track for track in self._open if not track.missed]:
            track.hold(time)
            self._keep_split(track, time)
        self._expire(time)
        return self._ended()

    def just_missed(self) -> list[Box]:
        """Where texts that stood still are missing from the last frame read, for the first time.

        They may be gone, or the recogniser may have skipped them: a second look tells.
        """
        return [t.box for t in self._open if t.missed == 1 and not t.scrolls]

    def open_tracks(self) -> list[ScreenText]:
        """The texts not returned yet, as known so far, oldest first.

        One that is no longer on the screen is among them until it is known not to come back; its
        `end` tells.
        """
        return self._texts(_blocks([*self._closing, *self._open], self.together_s))

    def close(self) -> list[ScreenText]:
        """End of the stream: the texts still open, oldest first."""
        self._closing += self._open
        self._open = []
        return self._ended()

    def _match(self, time: float, lines: list[TextLine]) -> list[TextLine]:
        """Give each line to at most one track and each track at most one line; the rest is new."""
        fits = [
            (fit, track_index, line_index)
            for track_index, track in enumerate(self._open)
            for line_index, line in enumerate(lines)
            if (fit := _fit(track, line)) > 0
        ]
        fits.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
        taken_tracks: set[int] = set()
        taken_lines: set[int] = set()
        for _, track_index, line_index in fits:
            if track_index in taken_tracks or line_index in taken_lines:
                continue
            taken_tracks.add(track_index)
            taken_lines.add(line_index)
            track = self._open[track_index]
            track.add(time, lines[line_index])
            self._keep_split(track, time)
        return [
            line
            for index, line in enumerate(lines)
            if index not in taken_lines and not self._is_rest_of_scrolling(line)
        ]

    def _keep_split(self, track: _Track, time: float) -> None:
        changed = track.split(time)
        if changed is not None:
            self._open.append(changed)

    def _is_rest_of_scrolling(self, line: TextLine) -> bool:
        """A scrolling message that wraps shows its tail and its head at once, as two lines."""
        return any(
            track.scrolls
            and not track.missed
            and _same_row(track.box, line.box)
            and _key(line.text) in _key(track.text)
            for track in self._open
        )

    def _start(self, time: float, line: TextLine) -> None:
        before = [t for t in self._open if t.missed and _only_numbers_differ(t, line)]
        changes: list[float] = []
        if before:
            latest = max(before, key=lambda track: track.last)
            changes = [at for at in latest.changes if time - at <= _COUNTER_WINDOW_S] + [time]
            if len(changes) >= _COUNTER_CHANGES:
                latest.counter = True
                latest.add(time, line)
                return
        track = _Track(time, line)
        track.changes = changes
        self._open.append(track)

    def _expire(self, time: float) -> None:
        self._closing += [track for track in self._open if time - track.last > self.gap_s]
        self._open = [track for track in self._open if time - track.last <= self.gap_s]

    def _ended(self) -> list[ScreenText]:
        """Blocks of closing tracks; one waits while a line that may belong to it is open."""
        blocks = _blocks([*self._closing, *self._open], self.together_s)
        still_open = set(map(id, self._open))
        ended = [b for b in blocks if not any(id(track) in still_open for track in b)]
        done = {id(track) for block in ended for track in block}
        self._closing = [track for track in self._closing if id(track) not in done]
        return self._texts(ended)

    def _texts(self, blocks: Iterable[list[_Track]]) -> list[ScreenText]:
        texts = [_screen_text(block, self.engine) for block in blocks]
        return sorted(texts, key=lambda text: (text.start, text.box.y0, text.box.x0))


class CodeTracker:
    """Turns the codes of sampled frames of one stream into Codes, one a payload and showing.

    `gap_s` is longer than for text because a code is often undecodable for a while although it
    stands there: it is covered, blurred, or the bit rate is low.
    """

    def __init__(self, *, engine: str = "", gap_s: float = 30.0) -> None:
        self.engine = engine
        self.gap_s = gap_s
        self._open: dict[tuple[str, str], _CodeTrack] = {}

    def update(self, time: float, codes: Sequence[CodeSighting]) -> list[Code]:
        """Add the codes decoded on the frame at `time`; returns those known to have ended."""
        ended = self._expire(time)
        for track in self._open.values():
            track.seen_last = False
        for sighting in codes:
            key = (sighting.symbology, sighting.text)
            track = self._open.setdefault(key, _CodeTrack(sighting, time, time, time, sighting.box))
            track.saw(time, sighting.box)
        return ended

    def hold(self, time: float) -> list[Code]:
        """Say that at `time` everything on the last frame read was still there."""
        for track in self._open.values():
            if track.seen_last:
                track.last = time
        return self._expire(time)

    def open_tracks(self) -> list[Code]:
        """The codes not yet closed, oldest first."""
        return [track.code(self.engine) for track in self._open.values()]

    def close(self) -> list[Code]:
        """End of the stream: the codes still open, oldest first."""
        codes = self.open_tracks()
        self._open.clear()
        return codes

    def _expire(self, time: float) -> list[Code]:
        gone = [key for key, track in self._open.items() if time - track.last > self.gap_s]
        return [self._open.pop(key).code(self.engine) for key in gone]


@dataclass(slots=True)
class _CodeTrack:
    sighting: CodeSighting
    first: float
    last: float
    best_time: float
    best_box: Box
    seen_last: bool = True

    def saw(self, time: float, box: Box) -> None:
        self.last = time
        self.seen_last = True
        if box.area > self.best_box.area:
            self.best_time, self.best_box = time, box

    def code(self, engine: str) -> Code:
        return Code(
            text=self.sighting.text,
            symbology=self.sighting.symbology,
            start=self.first,
            end=self.last,
            box=self.best_box,
            frame_time=self.best_time,
            engine=engine,
        )


_SWITCH_S = 4.0
_SWITCH_CONFIDENCE = 0.9
_COUNTER_CHANGES = 4
_COUNTER_WINDOW_S = 60.0
_MAX_SIGHTINGS = 32
_MAX_READINGS = 32
_MAX_MESSAGE_CHARS = 500
_MIN_COMMON_CHARS = 3


@dataclass(frozen=True, slots=True)
class _Sighting:
    time: float
    text: str
    box: Box
    confidence: float


@dataclass(slots=True)
class _Reading:
    """One wording of a line: how often it was read or held, and its best spelling."""

    text: str
    votes: int = 0
    confidence_sum: float = 0.0
    best_confidence: float = 0.0

    def vote(self, sighting: _Sighting) -> None:
        self.votes += 1
        self.confidence_sum += sighting.confidence
        if sighting.confidence > self.best_confidence:
            self.text, self.best_confidence = sighting.text, sighting.confidence


class _Track:
    """One line over time.

    `text` of a line that stands still is the wording seen longest, weighted by confidence; one that
    contains it wins over it, because a covered banner shows less than is there and never more.
    `text` of a line that `scrolls` is stitched from its pieces. `key` is `text` without what the
    recogniser is fickle about. `grew` says that the last sighting of a line that scrolls showed
    more of it. `missed` counts the readings since the line was last seen.
    """

    def __init__(self, time: float, line: TextLine) -> None:
        self.first = time
        self.last = time
        self.missed = 0
        self.count = 0
        self.scrolls = False
        self.grew = False
        self.wanders = False
        self.counter = False
        self.changes: list[float] = []
        self.text = line.text
        self.key = _key(line.text)
        self.confidence = line.confidence
        self.latest = _Sighting(time, line.text, line.box, line.confidence)
        self._readings: dict[str, _Reading] = {}
        self._sightings: list[_Sighting] = []
        self._rivals: list[_Sighting] = []
        self._last_before_rivals = time
        self.add(time, line)

    @property
    def box(self) -> Box:
        return self.latest.box

    def add(self, time: float, line: TextLine) -> None:
        """Take a sighting of the line."""
        sighting = _Sighting(time, line.text, line.box, line.confidence)
        if self.count and not self.scrolls:
            self.scrolls = _has_scrolled(self.latest, sighting)
            self.wanders = self.wanders or _has_wandered(self.latest, sighting)
        self._note_rival(sighting)
        self.latest = sighting
        self.last = time
        self.missed = 0
        self.count += 1
        self._sightings = _kept([*self._sightings, sighting])
        if self.scrolls:
            before = len(self.text)
            self.text = _stitch(self.text, line.text, slack=1) or self.text
            self.grew = len(self.text) > before
            self.key = _key(self.text)
            self.confidence += (line.confidence - self.confidence) / self.count
        else:
            self._vote(sighting)

    def hold(self, time: float) -> None:
        """The frame at `time` looks the same: as good as reading the same again."""
        self.last = time
        if not self.scrolls:
            self._vote(self.latest)

    def split(self, time: float) -> _Track | None:
        """The track of the wording that has replaced this one for good, taken out of this one."""
        if not self._rivals or time - self._rivals[0].time < _SWITCH_S:
            return None
        first, *later = self._rivals
        new = _Track(first.time, TextLine(first.text, first.box, first.confidence))
        for seen in later:
            new.add(seen.time, TextLine(seen.text, seen.box, seen.confidence))
        new.last = time
        self._readings.pop(new.key, None)
        remaining = [seen for seen in self._sightings if _key(seen.text) != new.key]
        self._sightings = remaining or self._sightings
        self.latest = max(self._sightings, key=lambda seen: seen.time)
        self.count = max(1, self.count - len(self._rivals))
        self.last = self._last_before_rivals
        self.missed = len(self._rivals)
        self._rivals = []
        self._settle()
        return new

    def absorb(self, piece: _Track) -> None:
        """Take over a track that turned out to be another piece of the same scrolling message."""
        self.text = _stitch(self.text, piece.text, slack=1) or self.text
        self.key = _key(self.text)
        self.first = min(self.first, piece.first)
        self.missed = min(self.missed, piece.missed)
        self.count += piece.count
        self._sightings = _kept(self._sightings + piece._sightings)
        if piece.last > self.last:
            self.last, self.latest = piece.last, piece.latest

    def sightings(self) -> list[_Sighting]:
        """Sightings of the wording as it is told, or of pieces of it, best first."""
        telling = [seen for seen in self._sightings if _key(seen.text) == self.key]
        return telling or self._sightings

    def _note_rival(self, sighting: _Sighting) -> None:
        key = _key(sighting.text)
        if (
            self.scrolls
            or self.counter
            or sighting.confidence < _SWITCH_CONFIDENCE
            or key in self.key
            or self.key in key
            or _clockless(key) == _clockless(self.key)
        ):
            self._rivals = []
        elif self._rivals and _key(self._rivals[0].text) == key:
            self._rivals.append(sighting)
        else:
            self._rivals = [sighting]
            self._last_before_rivals = self.last

    def _vote(self, sighting: _Sighting) -> None:
        key = _key(sighting.text)
        self._readings.setdefault(key, _Reading(sighting.text)).vote(sighting)
        if len(self._readings) > _MAX_READINGS:
            others = [other for other in self._readings if other not in (key, self.key)]
            del self._readings[min(others, key=lambda k: self._readings[k].confidence_sum)]
        self._settle()

    def _settle(self) -> None:
        if self.scrolls or not self._readings:
            return
        reading = _winner(self._readings)
        self.text, self.key = reading.text, _key(reading.text)
        self.confidence = reading.confidence_sum / reading.votes
        if self._rivals and _key(self._rivals[0].text) == self.key:
            self._rivals = []


def _winner(readings: dict[str, _Reading]) -> _Reading:
    key, voted = max(readings.items(), key=lambda item: (item[1].confidence_sum, len(item[0])))
    # A single character glued on once is noise; more of it, or more often, is the whole line.
    whole = [
        reading
        for other, reading in readings.items()
        if other != key
        and key in other
        and reading.best_confidence >= 0.8
        and (len(other) - len(key) >= 2 or reading.votes >= 0.2 * voted.votes)
    ]
    return max(whole, key=lambda reading: (reading.votes, len(reading.text)), default=voted)


def _kept(sightings: list[_Sighting]) -> list[_Sighting]:
    """The most telling sightings, best first, bounded because a text may stay for a day."""
    best = sorted(sightings, key=lambda seen: (-len(seen.text), -seen.confidence, seen.time))
    return best[:_MAX_SIGHTINGS]


def _fit(track: _Track, line: TextLine) -> float:
    """How well a line continues a track; 0 not at all, 2 and above the same words."""
    key = _key(line.text)
    overlap = _overlap(track.box, line.box)
    if key == track.key or key == _key(track.latest.text):
        if overlap:
            return 3.0 + overlap
        if len(key) >= 4 and _similar_height(track.box, line.box):
            return 3.0 - _distance(track.box, line.box)
        return 0.0
    if _same_row(track.box, line.box):
        if track.scrolls and (
            (len(key) >= 2 and key in track.key) or _stitch(track.text, line.text, slack=1)
        ):
            return 1.9
        seen = _Sighting(track.last, line.text, line.box, line.confidence)
        if not track.scrolls and _has_scrolled(track.latest, seen):
            return 1.8
    if not overlap:
        return 0.0
    if track.counter and _skeleton(key) == _skeleton(track.key):
        return 1.0 + overlap
    similarity = max(_similarity(track.key, key), _similarity(_key(track.latest.text), key))
    return similarity + 0.5 * overlap if similarity else 0.0


def _similarity(known: str, seen: str) -> float:
    """0 for different wordings, else 0.6 to 1: what one and the same line may be read as."""
    short, long = sorted((known, seen), key=len)
    if short in long:
        if _cuts_number(long, short) or (len(short) < 2 and len(long) > 3):
            return 0.0
        return 0.6 + 0.4 * len(short) / len(long)
    if _clockless(known) == _clockless(seen):
        return 1.0
    if _numbers(known) != _numbers(seen):
        return 0.0
    ratio = fuzz.ratio(known, seen) / 100
    return ratio if ratio >= (0.74 if len(long) > 3 else 0.6) else 0.0


def _only_numbers_differ(track: _Track, line: TextLine) -> bool:
    key = _key(line.text)
    return bool(
        _overlap(track.box, line.box)
        and key != track.key
        and _skeleton(key) == _skeleton(track.key)
    )


def _has_scrolled(before: _Sighting, now: _Sighting) -> bool:
    """Whether two sightings show one text moving sideways through a window.

    The words they share must have moved by more than a centred or grown line's would, and where
    the sightings disagree they must do so only by one showing more than the other.
    """
    if not _same_row(before.box, now.box) or before.text == now.text:
        return False
    short, long = sorted((_key(before.text), _key(now.text)), key=len)
    if short in long and _cuts_number(long, short):
        return False
    was, now_is = _squeezed(before.text), _squeezed(now.text)
    common = _common(was, now_is)
    if common is None or _stitch(was, now_is, slack=0) is None:
        return False
    was_at = before.box.x0 + common[0] * _width(before.box) / len(was)
    is_at = now.box.x0 + common[1] * _width(now.box) / len(now_is)
    covered = abs(was_at - is_at) < 0.7 * _height(before.box)
    return not covered


def _has_wandered(before: _Sighting, now: _Sighting) -> bool:
    """Whether a line was carried elsewhere, as comments and stickers are."""
    slack = 0.7 * _height(before.box)
    return abs(before.box.y0 - now.box.y0) > slack or (
        abs(before.box.x0 - now.box.x0) > slack and abs(before.box.x1 - now.box.x1) > slack
    )


def _merged(tracks: list[_Track]) -> list[_Track]:
    """Joins pieces of one scrolling message that were begun apart and have grown together."""
    merged: list[_Track] = []
    for track in sorted(tracks, key=lambda track: not track.scrolls):
        whole = next((other for other in merged if _is_piece(track, other)), None)
        if whole is None:
            merged.append(track)
        else:
            whole.absorb(track)
    return merged


def _is_piece(track: _Track, whole: _Track) -> bool:
    if not whole.scrolls or not _same_row(whole.box, track.box):
        return False
    if not track.scrolls and track.count > 1:
        return False
    return track.key in whole.key or _stitch(whole.text, track.text, slack=1) is not None


def _stitch(known: str, seen: str, *, slack: int) -> str | None:
    """The message of which both are pieces, or None when they do not fit together.

    They fit when they share at least three characters in a row and what either has beyond
    those agrees with the other. Up to `slack` characters at the outer ends may be misread: a window
    cuts glyphs in half. A piece that the message has already is not added again at its other
    end, so a message that comes round does not grow.
    """
    known, seen = _squeezed(known), _squeezed(seen)
    common = _common(known, seen)
    if common is None:
        return None
    i, j, size = common
    head = _longer_end(known[:i][::-1], seen[:j][::-1], slack)
    tail = _longer_end(known[i + size :], seen[j + size :], slack)
    if head is None or tail is None:
        return None
    head = head[::-1]
    if head != known[:i] and _key(head) in _key(known):
        head = known[:i]
    if tail != known[i + size :] and _key(tail) in _key(known):
        tail = known[i + size :]
    message = head + known[i : i + size] + tail
    return message if len(message) <= _MAX_MESSAGE_CHARS else known


def _common(known: str, seen: str) -> tuple[int, int, int] | None:
    match = SequenceMatcher(None, known, seen, autojunk=False).find_longest_match()
    return (match.a, match.b, match.size) if match.size >= _MIN_COMMON_CHARS else None


def _longer_end(one: str, other: str, slack: int) -> str | None:
    short, long = sorted((one, other), key=len)
    return long if long.startswith(short[: max(0, len(short) - slack)]) else None


def _blocks(tracks: Sequence[_Track], together_s: float) -> list[list[_Track]]:
    """Groups the lines that stand close together and come and go together.

    All lines of a block came within `together_s`: a column of comments that grows by a line every
    few seconds is no block that has stood there since the first of them.
    """
    blocks: list[list[_Track]] = []
    for track in sorted(tracks, key=lambda track: track.first):
        joined = [
            block
            for block in blocks
            if track.first - block[0].first <= together_s
            and any(_mates(track, t, together_s) for t in block)
        ]
        blocks = [block for block in blocks if not any(block is other for other in joined)]
        members = sorted((t for block in joined for t in block), key=lambda track: track.first)
        blocks.append([*members, track])
    return blocks


def _mates(a: _Track, b: _Track, together_s: float) -> bool:
    return (
        not (a.scrolls or b.scrolls or a.wanders or b.wanders)
        and abs(a.first - b.first) <= together_s
        and abs(a.last - b.last) <= together_s
        and max(a.first, b.first) <= min(a.last, b.last)
        and (
            _adjacent(a.box, b.box)
            if not (_is_column(a) and _is_column(b))
            else _adjacent(_turned(a.box), _turned(b.box))
        )
    )


def _adjacent(a: Box, b: Box) -> bool:
    """Whether two lines of similar height belong to one paragraph, below or beside each other."""
    low, high = sorted((_height(a), _height(b)))
    if high > 1.7 * low:
        return False
    if _same_row(a, b):
        return -0.3 * low <= max(a.x0, b.x0) - min(a.x1, b.x1) <= low
    gap = max(a.y0, b.y0) - min(a.y1, b.y1)
    aligned = (a.x0 - b.x0, a.x1 - b.x1, (a.x0 + a.x1 - b.x0 - b.x1) / 2)
    return -0.5 * low <= gap <= 0.7 * low and any(abs(offset) <= 0.6 * low for offset in aligned)


def _screen_text(block: list[_Track], engine: str) -> ScreenText:
    """One text of a block. Its frame is the one that shows most of the block at its best."""
    ordered = _in_reading_order(block)
    shown: dict[float, float] = {}
    for track in block:
        for seen in track.sightings():
            shown[seen.time] = shown.get(seen.time, 0.0) + len(seen.text) * seen.confidence
    frame_time = max(shown, key=lambda time: (round(shown[time], 3), -time))
    boxes = [_box_at(track, frame_time) for track in block]
    chars = sum(len(track.text) for track in block)
    return ScreenText(
        text="\n".join(" ".join(track.text for track in row) for row in ordered),
        start=min(track.first for track in block),
        end=max(track.last for track in block),
        box=Box(
            min(box.x0 for box in boxes),
            min(box.y0 for box in boxes),
            max(box.x1 for box in boxes),
            max(box.y1 for box in boxes),
        ),
        frame_time=frame_time,
        confidence=sum(track.confidence * len(track.text) for track in block) / chars,
        engine=engine,
        sightings=max(track.count for track in block),
    )


def _box_at(track: _Track, time: float) -> Box:
    sightings = track.sightings()
    return next((seen.box for seen in sightings if seen.time == time), sightings[0].box)


def _in_reading_order(block: list[_Track]) -> list[list[_Track]]:
    if len(block) > 1 and all(_is_column(track) for track in block):
        return [[track] for track in sorted(block, key=lambda track: -track.box.x0)]
    rows: list[list[_Track]] = []
    for track in sorted(block, key=lambda track: (track.box.y0 + track.box.y1, track.box.x0)):
        if rows and _same_row(rows[-1][0].box, track.box):
            rows[-1].append(track)
        else:
            rows.append([track])
    return [sorted(row, key=lambda track: track.box.x0) for row in rows]


def _is_column(track: _Track) -> bool:
    return len(track.key) >= 2 and _height(track.box) > 1.5 * _width(track.box)


_FICKLE = re.compile(r"[^\w%¥.:]|_")
_CHINESE_SPACE = re.compile(r"(?<=[\u2e80-\uffef])\s+|\s+(?=[\u2e80-\uffef])")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")
_CLOCK = re.compile(
    r"\d{1,3}(?::\d{2}){1,2}(?:\.\d+)?|\d+天?\d*(?:小时|时)\d+分(?:钟|\d+秒)?|\d+分(?:钟)?\d+秒"
)


def _squeezed(text: str) -> str:
    """Without the spaces around Chinese characters, which are read now and not then."""
    return _CHINESE_SPACE.sub("", text)


def _key(text: str) -> str:
    return _FICKLE.sub("", unicodedata.normalize("NFKC", text).casefold())


def _says_something(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _numbers(key: str) -> list[str]:
    return _NUMBER.findall(key)


def _skeleton(key: str) -> str:
    return _NUMBER.sub("#", key) if _NUMBER.search(key) else ""


def _clockless(key: str) -> str:
    """The key with running clocks masked: 距结束00:12:33 is the same line a second later."""
    return _CLOCK.sub("#", key)


def _cuts_number(long: str, short: str) -> bool:
    """Whether every place of `short` in `long` begins or ends inside a number (¥9 in ¥99)."""
    at = long.find(short)
    while at >= 0:
        end = at + len(short)
        cut_before = at > 0 and _numeric(long[at - 1]) and _numeric(long[at])
        cut_after = end < len(long) and _numeric(long[end - 1]) and _numeric(long[end])
        if not (cut_before or cut_after):
            return False
        at = long.find(short, at + 1)
    return True


def _numeric(char: str) -> bool:
    return char.isdigit() or char == "."


def _width(box: Box) -> int:
    return box.x1 - box.x0


def _height(box: Box) -> int:
    return box.y1 - box.y0


def _turned(box: Box) -> Box:
    return Box(box.y0, box.x0, box.y1, box.x1)


def _overlap(a: Box, b: Box) -> float:
    """Shared area as a fraction of the smaller box, 0 when less than a third of it is shared."""
    shared = a.shared(b) / min(a.area, b.area)
    return shared if shared >= 1 / 3 else 0.0


def _same_row(a: Box, b: Box) -> bool:
    shared = min(a.y1, b.y1) - max(a.y0, b.y0)
    return _similar_height(a, b) and shared >= 0.5 * min(_height(a), _height(b))


def _similar_height(a: Box, b: Box) -> bool:
    low, high = sorted((_height(a), _height(b)))
    return high <= 1.7 * low


def _distance(a: Box, b: Box) -> float:
    """Distance of the middles, squashed to 0–1 so that nearer fits better."""
    pixels = (abs(a.x0 + a.x1 - b.x0 - b.x1) + abs(a.y0 + a.y1 - b.y0 - b.y1)) / 2
    return pixels / (pixels + 100)
