"""The ring buffer of a live room: copies of the stream on disk, and what is cut from them."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from moderator.errors import CLIP_FAILED, CLIP_GONE, CLIP_NOT_READY, OUT_WRITE, ModeratorError
from moderator.media.clips import frame_at
from moderator.media.mpegts import WRAP_S, first_pts, last_pts
from moderator.media.ring_cut import Piece, cut_pieces


@dataclass(frozen=True, slots=True)
class Span:
    """Media-clock seconds that are on disk without a hole."""

    start: float
    end: float


class ClipNotReady(ModeratorError):
    """LM-117: the end of the clip has not arrived yet."""

    def __init__(self, until_s: float, there_s: float) -> None:
        super().__init__(CLIP_NOT_READY, until_s=f"{until_s:.1f}", there_s=f"{there_s:.1f}")
        self.until_s = until_s


class RingBuffer:
    """Copies of a live stream on disk, bounded by time and bytes; readable after a restart.

    The ffmpeg that decodes a room also writes the packets as they came into short MPEG-TS files
    here, one folder a connection. A file beside them says where the connection stands on the
    session's media clock, so the buffer is found again by whoever opens the same folder later.
    One session has one folder and one writer; any number may read. Every method may be called from
    any thread.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_s: float = 3600.0,
        max_bytes: int = 4 << 30,
        segment_s: float = 4.0,
    ) -> None:
        if min(max_s, max_bytes, segment_s) <= 0:
            raise ValueError("max_s, max_bytes and segment_s must be positive")
        self.directory = Path(directory)
        self.max_s = max_s
        self.max_bytes = max_bytes
        self.segment_s = segment_s
        self._lock = threading.Lock()
        self._starts: dict[Path, float] = {}
        self._edge_s: float | None = None
        self._writing: RingWriter | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.directory, error) from None

    def clip(
        self,
        start: float,
        end: float,
        path: str | os.PathLike[str],
        *,
        pre_s: float = 3.0,
        post_s: float = 3.0,
        max_side: int = 1280,
        timeout_s: float = 120.0,
    ) -> Path:
        """Cut media-clock seconds `start - pre_s` to `end + post_s`; returns `path`.

        A browser-playable mp4 whose second 0 is `max(0, start - pre_s)`, within half a second:
        the packets as they came where browsers play them (H.264 and AAC, up to 1920 pixels), else
        encoded anew with the longer side at most `max_side`. A gap inside it is black and silent,
        never spliced. Raises LM-117 (ClipNotReady) until the
        post roll is there, LM-118 when none of it is in the buffer any more, LM-503 when it
        cannot be cut, LM-109 after `timeout_s`.
        """
        begin, finish = max(0.0, start - pre_s), end + post_s
        if not finish > begin:
            raise ModeratorError(
                CLIP_FAILED, start=f"{start:.2f}", reason=f"it would end at {finish:g} s"
            )
        self._refuse_unready(finish)
        with self._pieces(begin, finish) as pieces:
            return cut_pieces(pieces, begin, finish, Path(path), max_side, timeout_s)

    def frame(
        self, at: float, *, max_side: int = 1280, timeout_s: float = 60.0
    ) -> NDArray[np.uint8]:
        """The picture at media-clock second `at`: uint8 (height, width, 3), BGR.

        Raises as `clip`, and LM-110 where there is sound alone.
        """
        self._refuse_unready(at)
        with self._pieces(at, at) as pieces:
            return frame_at(
                pieces[-1].path, at - pieces[-1].zero_s, max_side=max_side, timeout_s=timeout_s
            )

    def spans(self) -> list[Span]:
        """What is on disk, in order; one for each connection."""
        with self._lock:
            connections = self._connections()
        found = []
        for segments in connections:
            if segments:
                found.append(Span(segments[0].start, segments[-1].end))
        return sorted(found, key=lambda span: span.start)

    @property
    def bytes_on_disk(self) -> int:
        return sum(size for _, size in self._files())

    def begin(self) -> RingWriter:
        """A folder for a new connection. Raises LM-502 when it cannot be made."""
        with self._lock:
            numbers = [int(p.name[:6]) for p in self._folders()]
            name = f"{max(numbers, default=0) + 1:06d}-{time.time_ns() // 1_000_000}"
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                if self._writing is None:
                    self._clear_leftovers()
                (self.directory / name).mkdir()
            except OSError as error:
                raise _unwritable(self.directory, error) from None
            self._writing = RingWriter(self.directory / name, self.segment_s)
            return self._writing

    def reached(self, media_s: float) -> None:
        """The session has come so far; clips up to there can be cut."""
        self._edge_s = media_s

    def finish(self) -> None:
        """Nothing more comes: a clip whose post roll never came is cut short."""
        self._edge_s = math.inf
        self._writing = None

    def trim(self) -> int:
        """Remove what is over the bounds, oldest first; returns bytes freed."""
        with self._lock:
            connections = self._connections()
            newest = self._writing.folder if self._writing else None
            files = self._files()
            total = sum(size for _, size in files)
            sizes = dict(files)
            ends = [segments[-1].end for segments in connections if segments]
            oldest_s = max(ends, default=0.0) - self.max_s
            freed = 0
            ordered = sorted(
                (segment for segments in connections for segment in segments),
                key=lambda segment: segment.path,
            )
            for segment in ordered[:-1]:
                if segment.end >= oldest_s and total - freed <= self.max_bytes:
                    break
                with suppress(OSError):
                    segment.path.unlink()
                    freed += sizes.get(segment.path, 0)
                self._starts.pop(segment.path, None)
            for folder in self._folders():
                if folder != newest and not any(folder.glob("*.ts")):
                    shutil.rmtree(folder, ignore_errors=True)
            return freed

    def _refuse_unready(self, until_s: float) -> None:
        if self._edge_s is not None and until_s > self._edge_s:
            raise ClipNotReady(until_s, self._edge_s)

    @contextmanager
    def _pieces(self, begin: float, finish: float) -> Iterator[list[Piece]]:
        """Copies of what overlaps `begin` to `finish`, one a connection, safe from trimming."""
        with self._lock:
            connections = self._connections()
        with TemporaryDirectory(prefix=_CUTTING, dir=self.directory) as folder:
            pieces: list[Piece] = []
            for segments in connections:
                wanted = [s for s in segments if s.end > begin and s.start <= finish]
                last = segments[-1:]
                if not wanted and last and last[0].start <= begin < last[0].end + _SLACK_S:
                    wanted = last
                if not wanted:
                    continue
                copy = Path(folder) / f"{len(pieces)}.ts"
                try:
                    with copy.open("wb") as out:
                        for segment in wanted:
                            with segment.path.open("rb") as file:
                                shutil.copyfileobj(file, out, 1 << 20)
                except FileNotFoundError:
                    continue
                pieces.append(Piece(copy, wanted[0].start, wanted[-1].end))
            if not any(piece.zero_s < finish + _SLACK_S for piece in pieces):
                raise ModeratorError(CLIP_GONE, begin_s=f"{begin:.1f}", end_s=f"{finish:.1f}")
            yield sorted(pieces, key=lambda piece: piece.zero_s)

    def _connections(self) -> list[list[_Segment]]:
        return [self._segments(folder) for folder in self._folders()]

    def _segments(self, folder: Path) -> list[_Segment]:
        try:
            base_s = float(json.loads((folder / _PLACE).read_text())["base_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return []
        starts: list[tuple[Path, float]] = []
        wraps = 0
        for path in sorted(folder.glob("*.ts")):
            pts = self._starts.get(path)
            if pts is None:
                with suppress(OSError):
                    pts = first_pts(path)
                if pts is None:
                    continue
                self._starts[path] = pts
            if starts and pts + wraps * WRAP_S < starts[-1][1] - WRAP_S / 2:
                wraps += 1
            starts.append((path, pts + wraps * WRAP_S))
        segments = []
        for number, (path, start) in enumerate(starts):
            if number + 1 < len(starts):
                end = starts[number + 1][1]
            else:
                end = start
                with suppress(OSError):
                    last = (last_pts(path) or 0.0) + wraps * WRAP_S
                    end = last + WRAP_S if last < start - WRAP_S / 2 else max(start, last)
            place = base_s - TS_OFFSET_S
            segments.append(_Segment(path, start + place, end + place))
        return segments

    def _files(self) -> list[tuple[Path, int]]:
        found = []
        for folder in self._folders():
            for path in folder.glob("*.ts"):
                with suppress(OSError):
                    found.append((path, path.stat().st_size))
        return found

    def _folders(self) -> list[Path]:
        with suppress(OSError):
            return sorted(p for p in self.directory.iterdir() if p.name[:6].isdigit())
        return []

    def _clear_leftovers(self) -> None:
        """What a killed process left: connections without a place, and copies for a cut."""
        for path in self.directory.iterdir():
            unplaced = path.name[:6].isdigit() and not (path / _PLACE).is_file()
            cutting = path.name.startswith(_CUTTING)
            if unplaced or (cutting and time.time() - path.stat().st_mtime > _LONGEST_CUT_S):
                shutil.rmtree(path, ignore_errors=True)


class RingWriter:
    """Where one connection's copy goes."""

    def __init__(self, folder: Path, segment_s: float) -> None:
        self.folder = folder
        self.segment_s = segment_s

    @property
    def pattern(self) -> str:
        """The output, relative to `folder`: a '%' in the path would be read as a pattern."""
        return "%06d.ts"

    @property
    def options(self) -> dict[str, str | int | float]:
        """Output options: packets as they are, a new file at the first key frame after
        `segment_s`, each on disk as soon as it has come."""
        return {
            "c": "copy",
            "f": "segment",
            "segment_time": self.segment_s,
            "segment_format": "mpegts",
            "segment_format_options": "mpegts_copyts=1:flush_packets=1",
            # Pictures that are decoded before zero would have a time that TS cannot hold.
            "output_ts_offset": TS_OFFSET_S,
            "muxdelay": 0,
            "muxpreload": 0,
            # Where one track is silent the other is not held back.
            "max_interleave_delta": 1_000_000,
        }

    def place(self, base_s: float) -> None:
        """Say where the connection's time zero is on the media clock. Raises LM-502."""
        temporary = self.folder / f".{_PLACE}"
        try:
            temporary.write_text(json.dumps({"base_s": base_s, "wall_s": time.time()}))
            temporary.replace(self.folder / _PLACE)
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    @property
    def is_placed(self) -> bool:
        return (self.folder / _PLACE).is_file()

    def bytes_written(self) -> int:
        """How large the copy is; what the oldest files held that were trimmed does not count."""
        total = 0
        with suppress(OSError):
            for path in self.folder.glob("*.ts"):
                total += path.stat().st_size
        return total

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


TS_OFFSET_S = 10.0
_PLACE = "place.json"
_CUTTING = ".cut-"
_SLACK_S = 0.5
_LONGEST_CUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    start: float
    end: float


def _unwritable(path: Path, error: OSError) -> ModeratorError:
    return ModeratorError(OUT_WRITE, path=path, reason=error.strerror or str(error))
