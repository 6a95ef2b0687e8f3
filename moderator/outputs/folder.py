"""The `--out` folder: records, transcript, report, clips and frames, all or nothing.

Everything is built in a hidden folder beside the target and renamed at the end, so a full
disk or an interrupt leaves what was there before. `manifest.json` names every file with
its size and SHA-256; it is written last and marks the folder as ours.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moderator.errors import OUT_NOT_EMPTY, OUT_WRITE, ModeratorError
from moderator.outputs.html import render_html
from moderator.outputs.json_lines import json_text
from moderator.outputs.labels import clock
from moderator.outputs.report import Report, observation_json, summary, tool_version
from moderator.records import Code, Evidence, ScreenText, Violation

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = "moderator/manifest@1"

SHARED_CLIP_GAP_S = 1.0
"""Clips show a few seconds on each side, so words this much outside an earlier clip's are in it."""

SHARED_CLIP_LONGEST_S = 30.0

Maker = Callable[[Violation, Path], None]
"""Writes the evidence of a violation to the path, or nothing where there is none to show."""

Progress = Callable[[int, int], None]
"""Called with the number of pieces of evidence made and the number there are in all."""


def write_folder(
    out_dir: Path,
    report: Report,
    clip_maker: Maker | None = None,
    frame_maker: Maker | None = None,
    progress: Progress | None = None,
    *,
    clip_suffix: str = ".mp4",
    frame_suffix: str = ".jpg",
) -> Report:
    """Write the result folder of one report; returns the report with its evidence filled in.

    A maker that raises ModeratorError costs its violation that piece of evidence and the
    report gains a note; OSError (disk full) fails the whole folder. An earlier result in
    `out_dir` is replaced once the new one is complete.

    Raises LM-501 (`out_dir` holds anything but an earlier result of ours) and LM-502
    (cannot be written); then, and on any interrupt, nothing of the new result is left.
    """
    out_dir = out_dir.resolve()
    _refuse_foreign(out_dir)
    try:
        with _staging(out_dir) as stage:
            built = _build(
                stage, report, clip_maker, frame_maker, progress, clip_suffix, frame_suffix
            )
            _publish(stage, out_dir)
    except OSError as error:
        reason = error.strerror or error
        raise ModeratorError(OUT_WRITE, path=out_dir, reason=reason) from error
    return built


def check_out_dir(out_dir: Path) -> None:
    """Raise what `write_folder` would raise at once, before hours of decoding. LM-501, LM-502."""
    out_dir = out_dir.resolve()
    _refuse_foreign(out_dir)
    try:
        with _staging(out_dir):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ModeratorError(OUT_WRITE, path=out_dir, reason=reason) from error


# --- what may be replaced -----------------------------------------------------------

_DESKTOP_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def _refuse_foreign(out_dir: Path) -> None:
    """Whatever we did not write is somebody's work and is never removed."""
    try:
        if out_dir.exists() and not (out_dir.is_dir() and _only_ours(out_dir)):
            raise ModeratorError(OUT_NOT_EMPTY, path=out_dir)
    except OSError as error:
        reason = error.strerror or error
        raise ModeratorError(OUT_WRITE, path=out_dir, reason=reason) from None


def _only_ours(folder: Path) -> bool:
    files = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if (not path.is_dir() or path.is_symlink()) and path.name not in _DESKTOP_FILES
    }
    return files <= _listed(folder)


def _listed(folder: Path) -> set[str]:
    """The files an earlier manifest names; none where there is no manifest of ours."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] == MANIFEST_SCHEMA:
            return {MANIFEST, *manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return set()


# --- building -----------------------------------------------------------------------


def _build(
    stage: Path,
    report: Report,
    clip_maker: Maker | None,
    frame_maker: Maker | None,
    progress: Progress | None,
    clip_suffix: str,
    frame_suffix: str,
) -> Report:
    sums: dict[str, str] = {}
    for name, lines in _observation_files(report).items():
        sums[name] = _write(stage / name, "".join(json_text(line) + "\n" for line in lines))
    tasks = [task for maker, task in ((clip_maker, "clip"), (frame_maker, "frame")) if maker]
    tally = _Tally(progress, len(report.violations) * len(tasks))
    clips = _Pieces(stage, "clips", clip_suffix, clip_maker, tally, _clip_shows)
    frames = _Pieces(stage, "frames", frame_suffix, frame_maker, tally, _frame_shows)
    transcript = "transcript.jsonl" if "transcript.jsonl" in sums else None
    violations: list[Violation] = []
    notes: list[str] = list(report.notes)
    for violation in report.violations:
        clip, frame = clips.of(violation, notes), frames.of(violation, notes)
        files = {name: digest for name, digest in (clip, frame) if name}
        if transcript and violation.channel == "speech":
            files[transcript] = sums[transcript]
        evidence = Evidence(
            clip=clip[0] or None,
            frames=(frame[0],) if frame[0] else (),
            transcript=transcript if transcript in files else None,
            sha256=files,
        )
        sums.update(files)
        violations.append(violation.with_evidence(evidence))
    report = replace(report, violations=tuple(violations), notes=tuple(notes))
    records = "".join(json_text(violation.to_json()) + "\n" for violation in violations)
    sums["violations.jsonl"] = _write(stage / "violations.jsonl", records)
    sums["report.html"] = _write(stage / "report.html", render_html([report]))
    _write(stage / MANIFEST, json_text(_manifest(stage, report, sums), indent=2) + "\n")
    return report


def _observation_files(report: Report) -> dict[str, Iterator[dict[str, Any]]]:
    if report.kind == "script":
        return {"script.jsonl": map(observation_json, report.script_lines)}
    seen: list[ScreenText | Code] = sorted(
        (*report.screen_texts, *report.codes), key=lambda item: item.start
    )
    return {
        "transcript.jsonl": map(observation_json, report.utterances),
        "screen.jsonl": map(observation_json, seen),
    }


def _manifest(stage: Path, report: Report, sums: dict[str, str]) -> dict[str, Any]:
    return {
        "schema": MANIFEST_SCHEMA,
        "tool": {"name": "moderator", "version": tool_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": report.source,
        "session": report.session,
        "engines": report.engines,
        "summary": summary([report]),
        "notes": list(report.notes),
        "files": {
            name: {"bytes": (stage / name).stat().st_size, "sha256": digest}
            for name, digest in sorted(sums.items())
        },
    }


class _Tally:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)


@dataclass(frozen=True, slots=True)
class _Piece:
    made_for: Violation
    name: str
    digest: str


class _Pieces:
    """Evidence of one kind; one file serves every violation that it shows."""

    def __init__(
        self,
        stage: Path,
        folder: str,
        suffix: str,
        maker: Maker | None,
        tally: _Tally,
        shows: Callable[[Violation, Violation], bool],
    ) -> None:
        self._stage = stage
        self._folder = folder
        self._suffix = suffix
        self._maker = maker
        self._tally = tally
        self._shows = shows
        self._made: list[_Piece] = []

    def of(self, violation: Violation, notes: list[str]) -> tuple[str, str]:
        """Path in the folder and SHA-256 of the piece, empty where there is none."""
        if self._maker is None:
            return "", ""
        # What is missing from the session as a whole cannot be shown by a piece of it.
        if violation.channel == "stream":
            self._tally.step()
            return "", ""
        try:
            piece = self._shared(violation) or self._make(self._maker, violation, notes)
        finally:
            self._tally.step()
        return (piece.name, piece.digest) if piece else ("", "")

    def _shared(self, violation: Violation) -> _Piece | None:
        near = reversed(self._made[-8:])
        return next((piece for piece in near if self._shows(piece.made_for, violation)), None)

    def _make(self, maker: Maker, violation: Violation, notes: list[str]) -> _Piece | None:
        at = clock(violation.start).replace(":", "-")
        name = f"{self._folder}/{len(self._made) + 1:03}_{at}{self._suffix}"
        path = self._stage / name
        path.parent.mkdir(exist_ok=True)
        try:
            maker(violation, path)
        except ModeratorError as error:
            notes.append(error.text().splitlines()[0])
            path.unlink(missing_ok=True)
            return None
        if not path.is_file() or not path.stat().st_size:
            path.unlink(missing_ok=True)
            return None
        self._made.append(_Piece(violation, name, _digest(path)))
        return self._made[-1]


def _clip_shows(made_for: Violation, other: Violation) -> bool:
    # What stays for long is cut short by the maker, so only its beginning is in the clip.
    short = made_for.end - made_for.start <= SHARED_CLIP_LONGEST_S
    same = (made_for.start, made_for.end) == (other.start, other.end)
    return same or (
        short
        and made_for.start - SHARED_CLIP_GAP_S <= other.start
        and other.end <= made_for.end + SHARED_CLIP_GAP_S
    )


def _frame_shows(made_for: Violation, other: Violation) -> bool:
    return (made_for.channel, made_for.start, made_for.end, made_for.context) == (
        other.channel,
        other.start,
        other.end,
        other.context,
    )


def _write(path: Path, text: str) -> str:
    """Write UTF-8 and return the SHA-256 of what was written."""
    data = text.encode("utf-8")
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- publishing ---------------------------------------------------------------------


@contextlib.contextmanager
def _staging(out_dir: Path) -> Iterator[Path]:
    """A hidden folder on the same disk, gone when the block ends, however it ends."""
    home = out_dir if _fixed(out_dir) else out_dir.parent
    created = _make_parents(home)
    stage = home / f".{out_dir.name[:64]}.partial-{secrets.token_hex(4)}"
    try:
        stage.mkdir()
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for folder in created:
            # Refused by the system, and rightly, where something was published.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make_parents(folder: Path) -> list[Path]:
    """Create `folder`; returns what was created, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir()
    return missing


def _fixed(out_dir: Path) -> bool:
    """Whether the folder itself must stay: a mounted volume, a parent not ours."""
    return out_dir.is_dir() and (out_dir.is_mount() or not os.access(out_dir.parent, os.W_OK))


def _publish(stage: Path, out_dir: Path) -> None:
    if _fixed(out_dir):
        _publish_inside(stage, out_dir)
        return
    if not out_dir.exists():
        stage.rename(out_dir)
        return
    retired = stage.with_name(stage.name.replace(".partial-", ".old-"))
    try:
        out_dir.rename(retired)
        stage.rename(out_dir)
    except BaseException:
        if retired.exists() and not out_dir.exists():
            retired.rename(out_dir)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _publish_inside(stage: Path, out_dir: Path) -> None:
    """Replace the contents; the manifest goes first and comes last, so a torn folder has none."""
    (out_dir / MANIFEST).unlink(missing_ok=True)
    for entry in out_dir.iterdir():
        if entry == stage:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    entries = sorted(stage.iterdir(), key=lambda entry: entry.name == MANIFEST)
    for entry in entries:
        entry.rename(out_dir / entry.name)
