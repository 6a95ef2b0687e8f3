"""Clips and frames for each record, cut from the recording and written with the report."""

from __future__ import annotations

from pathlib import Path

from moderator.config import Settings
from moderator.media.clips import cut_clip, frame_at, save_frame
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

    def make_clip(violation: Violation, path: Path) -> None:
        start, end = _clip_range(violation)
        cut_clip(source, start, end, path, pre_s=settings.clip_pre_s, post_s=settings.clip_post_s)

    def make_frame(violation: Violation, path: Path) -> None:
        seen = _seen(report, violation)
        if seen is not None:
            save_frame(frame_at(source, seen.frame_time), [seen.box], path)

    return write_folder(out, report, make_clip, make_frame, progress)


LONGEST_CLIP_S = 60.0
"""A banner may stay for hours; its clip shows the first minute."""


def _clip_range(violation: Violation) -> tuple[float, float]:
    return violation.start, min(violation.end, violation.start + LONGEST_CLIP_S)


def _seen(report: Report, violation: Violation) -> ScreenText | Code | None:
    shown: tuple[ScreenText | Code, ...] = (*report.screen_texts, *report.codes)
    for seen in shown:
        if (
            seen.channel == violation.channel
            and seen.start == violation.start
            and violation.quote.replace("\n", "") in seen.text.replace("\n", "")
        ):
            return seen
    return next((seen for seen in shown if seen.start == violation.start), None)
