"""Cutting a clip from pieces of transport stream that lie on one media clock.

What browsers play as it came is copied packet by packet, which costs next to nothing and keeps the
evidence as it was: an edit list hides the pictures between the key frame before and the clip's
second 0. Everything else is encoded anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moderator.errors import CLIP_FAILED, ModeratorError
from moderator.media.clips import (
    AAC,
    H264,
    MP4,
    check_clip,
    copied,
    copy_words,
    plays_in_browsers,
    temporary_beside,
)
from moderator.media.command import QUIET, find_quick_ffmpeg, open_input, reason_in, run
from moderator.media.probe import MAX_FRAME_PIXELS, MediaInfo, probe_input


@dataclass(frozen=True, slots=True)
class Piece:
    """A file whose first time stamp is media-clock second `zero_s`, and that lasts until `end`."""

    path: Path
    zero_s: float
    end: float


def cut_pieces(
    pieces: Sequence[Piece],
    begin: float,
    finish: float,
    out_path: Path,
    max_side: int,
    timeout_s: float,
) -> Path:
    """Media-clock seconds `begin` to `finish` as an mp4 at `out_path`, whole or not there.

    Where no piece has anything the picture is black and the sound silent, except at the end,
    where the clip is shorter. A picture that is encoded anew is at most `max_side` pixels long.
    Raises LM-503 and LM-109.
    """
    shown = pieces[0].path.name
    with temporary_beside(out_path) as temporary:
        graph = _Graph(pieces, begin, finish, max_side, timeout_s)
        if not (graph.can_copy() and graph.copied(temporary, shown, timeout_s)):
            done = run(graph.arguments(temporary), shown, timeout_s)
            if done.returncode != 0:
                reason = reason_in(done.log, open_input(pieces[0].path))
                raise ModeratorError(CLIP_FAILED, start=f"{begin:.2f}", reason=reason)
            check_clip(temporary, begin)
        try:
            temporary.replace(out_path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ModeratorError(CLIP_FAILED, start=f"{begin:.2f}", reason=reason) from None
    return out_path


class _Graph:
    """The words for ffmpeg: each piece is trimmed and laid at its time on black and silence.

    One piece that is there from the beginning needs no ground under it and keeps its frame rate.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        begin: float,
        finish: float,
        max_side: int,
        timeout_s: float,
    ) -> None:
        self._inputs = [open_input(piece.path) for piece in pieces]
        self._pieces = pieces
        self._infos = [
            probe_input(
                source,
                max_frame_pixels=MAX_FRAME_PIXELS,
                timeout_s=timeout_s,
                binary=find_quick_ffmpeg(),
            )
            for source in self._inputs
        ]
        self._begin = begin
        self._length_s = min(finish, pieces[-1].end) - begin
        self._finish = finish
        self._alone = len(pieces) == 1 and pieces[0].zero_s <= begin + _AT_ONCE_S
        self.has_video = any(info.has_video for info in self._infos)
        self.has_audio = any(info.has_audio for info in self._infos)
        seen = next((info for info in self._infos if info.has_video), self._infos[0])
        self._size = _even_size(seen, max_side)

    def can_copy(self) -> bool:
        """Whether browsers play the packets as they are: one piece, H.264 4:2:0 of one size and
        AAC, or one of the two alone."""
        return (
            self._alone
            and plays_in_browsers(self._infos[0], _COPIED_SIDE)
            and _is_of_one_size(self._pieces[0].path)
        )

    def copied(self, to: Path, shown: str, timeout_s: float) -> bool:
        return copied(self.copy_arguments(to), self._infos[0], shown, to, timeout_s)

    def copy_arguments(self, to: Path) -> list[str]:
        source, info = self._inputs[0], self._infos[0]
        before_s = self._begin - self._pieces[0].zero_s
        words = [find_quick_ffmpeg(), *QUIET, "-y", "-copyts", *source.option_words]
        words += ["-t", f"{before_s + self._length_s:.6f}", "-i", source.address]
        return [*words, *copy_words(info, info.start_s + before_s), f"file:{to}"]

    def arguments(self, to: Path) -> list[str]:
        words = [find_quick_ffmpeg(), *QUIET, "-y"]
        for source in self._inputs:
            words += ["-copyts", *source.option_words, "-i", source.address]
        chains = [*self._video(), *self._audio()]
        words += ["-filter_complex", ";".join(chains)]
        words += ["-map_metadata", "-1", "-map_chapters", "-1"]
        encoding: dict[str, str | int] = {**MP4}
        if self.has_video:
            words += ["-map", "[video]"]
            encoding |= H264
        if self.has_audio:
            words += ["-map", "[audio]"]
            encoding |= AAC
        words += [word for key, value in encoding.items() for word in (f"-{key}", str(value))]
        return [*words, f"file:{to}"]

    def _video(self) -> list[str]:
        if not self.has_video:
            return []
        width, height = self._size
        fit = (
            f"scale={width}:{height}:force_original_aspect_ratio=decrease,"
            f"pad={width}:{height}:-1:-1,setsar=1,format=yuv420p"
        )
        parts = [
            (number, f"[{number}:V:0]{self._trim(number)},{fit}")
            for number, info in enumerate(self._infos)
            if info.has_video
        ]
        if self._alone:
            return [f"{parts[0][1]}[video]"]
        chains = [f"color=c=black:s={width}x{height}:r=25:d={self._length_s:.3f}[ground0]"]
        for order, (number, chain) in enumerate(parts):
            last = order + 1 == len(parts)
            to = "video" if last else f"ground{order + 1}"
            chains.append(f"{chain}[picture{number}]")
            chains.append(f"[ground{order}][picture{number}]overlay=eof_action=pass[{to}]")
        return chains

    def _audio(self) -> list[str]:
        if not self.has_audio:
            return []
        # Sound that begins inside the clip keeps its place without an edit list.
        shape = "aresample=48000:async=1:first_pts=0,aformat=channel_layouts=stereo"
        parts = [
            f"[{number}:a:0]{self._trim(number, 'a')},{shape}"
            for number, info in enumerate(self._infos)
            if info.has_audio
        ]
        if self._alone:
            return [f"{parts[0]}[audio]"]
        chains = [f"{chain}[sound{order}]" for order, chain in enumerate(parts)]
        labels = "".join(f"[sound{order}]" for order in range(len(parts)))
        silence = f"anullsrc=r=48000:cl=stereo,atrim=end={self._length_s:.3f}[silence]"
        mixed = f"[silence]{labels}amix=inputs={len(parts) + 1}:duration=first:normalize=0[audio]"
        return [silence, *chains, mixed]

    def _trim(self, number: int, kind: str = "") -> str:
        """Keeps what is wanted of a piece, and makes its times count from the clip's second 0."""
        offset_s = self._infos[number].start_s - self._pieces[number].zero_s
        begin, end = self._begin + offset_s, self._finish + offset_s
        return f"{kind}trim=start={begin:.6f}:end={end:.6f},{kind}setpts='PTS-({begin:.6f})/TB'"


_AT_ONCE_S = 0.1
_COPIED_SIDE = 1920
_SEQUENCE = re.compile(rb"\x00\x00\x01[\x27\x47\x67](.{4,64}?)\x00\x00[\x00\x01]", re.DOTALL)
"""An H.264 sequence parameter set in a byte stream (ITU-T H.264, annex B)."""


def _is_of_one_size(path: Path) -> bool:
    """Whether the parameters of the codec stay the same; an mp4 track has one set of them."""
    return len(set(_SEQUENCE.findall(path.read_bytes()))) <= 1


def _even_size(info: MediaInfo, max_side: int) -> tuple[int, int]:
    """What H.264 4:2:0 can hold of the picture with the longer side at most `max_side`."""
    shrink = min(1.0, max_side / max(info.width, info.height, 1))
    return (
        max(2, 2 * int(info.width * shrink / 2)),
        max(2, 2 * int(info.height * shrink / 2)),
    )
