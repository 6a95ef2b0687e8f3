"""Clips and frames for each record, cut from the recording and written with the report."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from moderator.config import Settings
from moderator.errors import ModeratorError
from moderator.media.clips import cut_clip, frame_at, save_frame
from moderator.media.probe import MediaInfo, probe
from moderator.outputs.folder import Progress, write_folder
from moderator.outputs.report import Report
from moderator.records import Code, ScreenText, Violation


def write_evidence(
    report: Report,
    source: str | Path,
    out: Path,
    settings: Settings,
    progress: Progress | None = None,
) -> Report:
    """Write the `--out` folder for `report`, all or nothing; returns it with its evidence.

    Speech gets a clip with a few seconds around the words, screen text and codes also the
    frame with the text boxed. Raises LM-501, LM-502 or LM-503.
    """
    if report.kind != "media":
        return write_folder(out, report, None, None, progress)

    @cache
    def info() -> MediaInfo:
        return probe(
            source,
            allow_private=settings.allow_private,
            max_frame_pixels=settings.max_frame_pixels,
        )

    def make_clip(violation: Violation, path: Path) -> None:
        start, end = _clip_range(violation)
        with _full_disk_is_fatal(path.parent):
            cut_clip(
                source,
                start,
                end,
                path,
                pre_s=settings.clip_pre_s,
                post_s=settings.clip_post_s,
                max_frame_pixels=settings.max_frame_pixels,
                allow_private=settings.allow_private,
                info=info(),
            )

    def make_frame(violation: Violation, path: Path) -> None:
        seen = _seen(report, violation)
        if seen is None:
            return
        image = frame_at(
            source,
            seen.frame_time,
            max_frame_pixels=settings.max_frame_pixels,
            allow_private=settings.allow_private,
            info=info(),
        )
        with _full_disk_is_fatal(path.parent):
            save_frame(image, [seen.box], path)

    return write_folder(out, report, make_clip, make_frame, progress)


LONGEST_CLIP_S = 60.0
"""A banner may stay for hours; its clip shows the first minute."""


CLIP_ROOM_BYTES = 32 << 20
"""More than the longest clip takes."""


def _clip_range(violation: Violation) -> tuple[float, float]:
    return violation.start, min(violation.end, violation.start + LONGEST_CLIP_S)


@contextmanager
def _full_disk_is_fatal(folder: Path) -> Iterator[None]:
    """A clip that cannot be cut costs one record its evidence; a full disk fails the folder."""
    try:
        yield
    except ModeratorError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from error
        # ffmpeg may end in peace with a file that is cut short.
        if shutil.disk_usage(folder).free < CLIP_ROOM_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _seen(report: Report, violation: Violation) -> ScreenText | Code | None:
    every: tuple[ScreenText | Code, ...] = (*report.screen_texts, *report.codes)
    when = (violation.channel, violation.start)
    shown = [seen for seen in every if (seen.channel, seen.start) == when]
    quote = violation.quote.replace("\n", "")
    exact = (seen for seen in shown if quote in seen.text.replace("\n", ""))
    return next(exact, shown[0] if shown else None)
