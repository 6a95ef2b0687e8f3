"""The sample rooms, for a first look: loaded as recordings, and one played as if it were live."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from moderator.claims.passports import load_passports
from moderator.errors import SAMPLES_MISSING, ModeratorError
from moderator.media.clips import frame_at, save_frame
from moderator.outputs.report import Report, observation_json
from moderator.records import Room, Utterance, Violation
from moderator.review import ingest
from moderator.review.database import Database
from moderator.review.models import Broadcast, PassportRow, RoomRow, new_id
from moderator.review.settings import ReviewSettings
from moderator.rooms import load_room

log = structlog.get_logger("moderator.review.demo")

SAMPLES = Path(__file__).parents[2] / "samples"

LIVE_ROOM = "skincare_and_health"

ENGINE = "sample-script"
"""What stands for the recogniser: the words are those that the sample's voice was given."""


def room_ids() -> list[str]:
    """The sample rooms that lie beside the program."""
    return sorted(
        path.name.removesuffix(".room.yaml") for path in (SAMPLES / "rooms").glob("*.room.yaml")
    )


class Demo:
    """Loads the samples, once, on a thread; states: none, loading, loaded, failed."""

    def __init__(self, database: Database, settings: ReviewSettings) -> None:
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self.state = "none"

    def start(self, *, live: bool = False, speed: float = 1.0) -> None:
        """Load in the background. Raises LM-929 where there are no samples."""
        if not room_ids():
            raise ModeratorError(SAMPLES_MISSING, path=SAMPLES)
        with self._lock:
            if self.state == "loading":
                return
            self.state = "loading"
        thread = threading.Thread(target=self._work, args=(live, speed), name="demo", daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(10)

    def _work(self, live: bool, speed: float) -> None:
        try:
            load_passport_samples(self._database)
            for room_id in room_ids():
                if self._stopped.is_set():
                    return
                load(self._database, self._settings, room_id)
            self.state = "loaded"
            if live:
                play(self._database, self._settings, LIVE_ROOM, self._stopped, speed=speed)
        except (ModeratorError, SQLAlchemyError, OSError) as error:
            log.error("samples not loaded", reason=str(error)[:300])
            self.state = "failed"


def load_passport_samples(database: Database) -> int:
    """The samples' product passports, for everybody; returns how many."""
    found = load_passports(SAMPLES / "passports.yaml")
    with database.write() as db:
        for passport in found:
            if db.get(PassportRow, passport.id) is None:
                db.add(
                    PassportRow(
                        id=passport.id,
                        name=passport.name,
                        category=passport.category,
                        body=passport.model_dump(mode="json", exclude_defaults=True),
                    )
                )
    return len(found)


def load(database: Database, settings: ReviewSettings, room_id: str) -> str:
    """Load one sample room as a recording; again does nothing. Returns its broadcast's id."""
    session = f"demo-{room_id}"
    with database.read() as db:
        kept = db.get(Broadcast, session)
        if kept is not None and kept.media:
            return session
    report = sample_report(room_id, session)
    recording = SAMPLES / "rooms" / f"{room_id}.mp4"
    media = recording if recording.is_file() else None
    out = settings.data_dir / "demo" / room_id
    out.parent.mkdir(parents=True, exist_ok=True)
    # The records first, for people to see; cutting their clips takes a while.
    for source in (None, media) if media is not None else (None,):
        _write(report, source, out)
        ingest.put_folder(database, out, settings.data_dir, room=report.room, media=source)
    return session


def sample_report(room_id: str, session: str) -> Report:
    """What checking the sample finds, from the words that its voice was given.

    The same judging as for a recording, without the recogniser: a first look needs no
    speech model, and takes seconds.
    """
    from moderator.episodes import Provenance
    from moderator.pipeline import judge, shipped_engine

    base = SAMPLES / "rooms" / room_id
    room = load_room(base.with_name(f"{room_id}.room.yaml"))
    truth = json.loads(base.with_name(f"{room_id}.truth.json").read_text(encoding="utf-8"))
    passports = [p for p in load_passports(SAMPLES / "passports.yaml") if p.id in room.products]
    utterances = [_utterance(line) for line in truth["lines"]]
    engine = shipped_engine()
    engines = {**engine.versions, "asr": ENGINE}
    source = f"samples/rooms/{room_id}.mp4"
    found = judge(
        utterances,
        engine,
        passports,
        Provenance(room, session, source, engines, "zh"),
        truth["duration_s"],
        0.0,
    )
    return Report(
        source=source,
        kind="media",
        room=room,
        session=session,
        duration_s=truth["duration_s"],
        utterances=tuple(utterances),
        violations=tuple(found),
        engines=engines,
    )


def _utterance(line: dict[str, Any]) -> Utterance:
    from moderator.records import TimedChar

    text, start, end = line["text"], line["start"], line["end"]
    step = (end - start) / max(1, len(text))
    chars = tuple(
        TimedChar(char, round(start + n * step, 3), round(start + (n + 1) * step, 3), 0.95)
        for n, char in enumerate(text)
    )
    return Utterance(text, start, end, chars, 0.95, ENGINE)


def _write(report: Report, media: Path | None, out: Path) -> None:
    """The folder as `check --out` writes it; from the recording, with clips and frames too."""
    from moderator.config import load_settings
    from moderator.media.clips import cut_clip
    from moderator.outputs.folder import write_folder

    if media is None:
        write_folder(out, report)
        return
    settings = load_settings()

    def clip(violation: Violation, path: Path) -> None:
        end = min(violation.end, violation.start + 20)
        cut_clip(
            media,
            violation.start,
            end,
            path,
            pre_s=settings.clip_pre_s,
            post_s=settings.clip_post_s,
            max_frame_pixels=settings.max_frame_pixels,
            allow_private=False,
        )

    def frame(violation: Violation, path: Path) -> None:
        at = (violation.start + violation.end) / 2
        image = frame_at(media, at, max_frame_pixels=settings.max_frame_pixels, allow_private=False)
        save_frame(image, [], path)

    write_folder(out, report, clip, frame)


def play(
    database: Database,
    settings: ReviewSettings,
    room_id: str,
    stopped: threading.Event,
    *,
    speed: float = 1.0,
) -> str:
    """Play a sample as a live room: words and records come when they were said.

    Returns the broadcast's id once it ended, or was stopped.
    """
    session = f"live-{new_id()}"
    recorded = sample_report(room_id, session)
    folder = settings.data_dir / "evidence" / session
    folder.mkdir(parents=True, exist_ok=True)
    room = replace(recorded.room, id=f"{room_id}_live", title=f"{recorded.room.title}（示例直播）")
    with database.write() as db:
        row = ingest.put_room(db, room, source=recorded.source)
        ingest.put_broadcast(
            db, row, session, source=recorded.source, folder=folder, owned=True, state="live"
        )
    _say(database, room, session, "session.started", {"source": recorded.source}, folder)
    clock = 0.0
    for utterance in recorded.utterances:
        if stopped.wait(max(0.0, utterance.end - clock) / speed):
            break
        clock = utterance.end
        _say(database, room, session, "observation", observation_json(utterance), folder)
        for violation in _due(recorded.violations, utterance):
            record = {**violation.to_json(), "room": room.id, "latency_ms": 900.0}
            _say(database, room, session, "violation", record, folder)
        _picture(database, room, room_id, session, folder, clock)
    _say(database, room, session, "session.ended", {}, folder)
    return session


def _due(violations: Sequence[Violation], utterance: Utterance) -> Iterable[Violation]:
    return (v for v in violations if utterance.start <= v.start < utterance.end)


def _picture(
    database: Database, room: Room, sample: str, session: str, folder: Path, at: float
) -> None:
    """The last frame, where ffmpeg is there to take it."""
    media = SAMPLES / "rooms" / f"{sample}.mp4"
    name = f"frames/last_{int(at)}.jpg"
    (folder / "frames").mkdir(exist_ok=True)
    with suppress(ModeratorError, OSError):
        image = frame_at(media, max(0.0, at - 1), max_frame_pixels=9_200_000, allow_private=False)
        save_frame(image, [], folder / name)
        with database.write() as db:
            row = db.get(RoomRow, room.id)
            if row is not None:
                row.last_frame, row.broadcast_id, row.lag_s = name, session, 0.9


def _say(
    database: Database, room: Room, session: str, kind: str, body: dict[str, Any], folder: Path
) -> None:
    envelope = {"type": kind, "room": room.id, "session": session, "body": body}
    ingest.put_envelopes(database, [envelope], folder=folder)
