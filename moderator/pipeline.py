"""One room from source to report; reads top to bottom like the data flows.

    source ─┬─ audio ─ segmenter ─ asr ── guards ─┐
            └─ frames ─ sampler ─ ocr / codes ────┴─ observations ─ claims ─ episodes ─ report

A script enters at "observations"; everything after is the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, ClassVar

from moderator import devices
from moderator.claims.classifier import keen_channels, semantic_matchers
from moderator.claims.engine import ClaimEngine, ClaimSession
from moderator.claims.passports import Passport, load_passports, passport_from
from moderator.claims.rules import RulePack, load_rules
from moderator.config import Settings, load_settings
from moderator.episodes import Provenance, new_session, to_violations
from moderator.errors import CONFIG_INVALID, ENGINE_MISSING, ModeratorError, in_ui_language
from moderator.outputs.report import Report, articles_of
from moderator.records import Code, Observation, Room, ScreenText, Utterance, Violation
from moderator.rooms import load_room
from moderator.script import (
    SCRIPT_SUFFIXES,
    STDIN,
    Script,
    read_batch,
    read_script,
    script_from_text,
)
from moderator.stages import StageThread, check_wiring

if TYPE_CHECKING:
    from moderator.asr.engine import AsrEngine, SpeechSegment
    from moderator.asr.second_listen import Heard, Likenesses
    from moderator.media.source import AudioBlock, MediaInfo, VideoFrame
    from moderator.vision.reader import ScreenReader

Progress = Callable[[float, float], None]
"""Called with media seconds done and media seconds in all (0 when not known)."""


def check(
    source: str | Path,
    *,
    rules: Path | str | RulePack | CompiledRules | None = None,
    jurisdiction: str = "cn",
    room: Room | Path | str | None = None,
    passports: Sequence[Passport] | Path | str = (),
    min_confidence: float = 0.0,
    out: Path | str | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check one recording, stream or script, and return the report.

    `source` is anything ffmpeg reads, a stream URL, or a script (`.txt .md .srt .vtt
    .docx`); a `room` and `passports` that are paths are read from there. With `out`, clips,
    frames, transcript and records are written to that folder as one step, all or nothing. Raises
    ModeratorError (see `moderator.errors`).
    """
    settings = settings or load_settings()
    room = _room(room)
    if is_script(source):
        script = read_script(source, limit_mib=settings.script_limit_mib)
        report = _check_lines(
            script,
            _compiled(rules, jurisdiction).engine(settings),
            room,
            _passports(passports, room),
            min_confidence,
            settings,
        )
    else:
        report = _check_media(
            source,
            _compiled(rules, jurisdiction),
            room or Room(),
            _passports(passports, room),
            min_confidence,
            settings,
            progress,
        )
    if out is not None:
        from moderator.evidence import write_evidence

        report = write_evidence(report, source, Path(out), settings)
    return report


def check_script(
    text: str | Path | Script,
    *,
    rules: Path | str | RulePack | CompiledRules | None = None,
    jurisdiction: str = "cn",
    room: Room | Path | str | None = None,
    passports: Sequence[Passport] | Path | str = (),
    min_confidence: float = 0.0,
    settings: Settings | None = None,
) -> Report:
    """Check a script: a Path to a file, the text itself as a str, or a Script that was read."""
    settings = settings or load_settings()
    room = _room(room)
    if isinstance(text, Path):
        script = read_script(text, limit_mib=settings.script_limit_mib)
    elif isinstance(text, str):
        script = script_from_text(text)
    else:
        script = text
    return _check_lines(
        script,
        _compiled(rules, jurisdiction).engine(settings),
        room,
        _passports(passports, room),
        min_confidence,
        settings,
    )


def check_batch(
    source: Path | str,
    *,
    rules: Path | str | RulePack | CompiledRules | None = None,
    jurisdiction: str = "cn",
    room: Room | Path | str | None = None,
    passports: Sequence[Passport] | Path | str = (),
    min_confidence: float = 0.0,
    settings: Settings | None = None,
) -> Iterator[Report]:
    """Check a `.jsonl` batch lazily: one report for each line, `source` being its id.

    A line's own `product` passport goes before `passports`.
    """
    settings = settings or load_settings()
    room = _room(room)
    engine = _compiled(rules, jurisdiction).engine(settings)
    shared = _passports(passports, room)
    for item in read_batch(source, limit_mib=settings.script_limit_mib):
        own = [passport_from(item.product, f"{source}:{item.line}")] if item.product else shared
        script = script_from_text(item.text, source=item.id)
        yield _check_lines(script, engine, room, own, min_confidence, settings)


def is_script(source: str | Path) -> bool:
    """Whether `source` is read as a script: by its extension, or `-` for standard input."""
    name = str(source)
    return name == STDIN or ("://" not in name and Path(name).suffix.lower() in SCRIPT_SUFFIXES)


# --- recordings ---------------------------------------------------------------------


_BATCHES_WAITING = 6


@dataclass
class _Speech:
    """Audio blocks in, utterances out. Segments wait until a batch is full."""

    name: ClassVar[str] = "speech"
    requires: ClassVar[frozenset[str]] = frozenset({"audio"})
    assigns: ClassVar[frozenset[str]] = frozenset({"utterances"})

    settings: Settings
    engine: AsrEngine
    likenesses: Likenesses | None = None
    utterances: list[Utterance] = field(default_factory=list)
    speech_s: float = 0.0
    _waiting: list[SpeechSegment] = field(default_factory=list)

    def __post_init__(self) -> None:
        from moderator.asr.second_listen import Scores, SecondListen
        from moderator.asr.segmenter import SegmenterOptions, SpeechSegmenter

        self._second: SecondListen | None = None
        if self.likenesses is not None and isinstance(self.engine, Scores):
            self._second = SecondListen(self.engine, self.likenesses, self.settings.asr_batch)

        # Whisper reads a whole breath far better than the phrases between its commas.
        self._segmenter = SpeechSegmenter(
            SegmenterOptions(
                min_silence_s=self.settings.min_silence_s,
                max_segment_s=self.settings.max_segment_s,
            )
        )

    def feed(self, item: AudioBlock) -> None:
        self._take(self._segmenter.feed(item.start, item.samples))

    def finish(self) -> list[Observation]:
        self._take(self._segmenter.flush())
        self._transcribe()
        return sorted(self.utterances, key=lambda u: u.start)

    def _take(self, segments: Iterable[SpeechSegment]) -> None:
        for segment in segments:
            self.speech_s += segment.duration_s
            self._waiting.append(segment)
            # Several batches at once, so that each can be made of segments of like length.
            if len(self._waiting) >= _BATCHES_WAITING * self.settings.asr_batch:
                self._transcribe()

    def _transcribe(self) -> None:
        from moderator.asr.guards import guard

        segments, self._waiting = self._waiting, []
        for segment, heard in zip(segments, self._listen(segments), strict=True):
            if heard.transcript.text:
                utterance = guard(heard.transcript, segment, self.engine.name)
                self.utterances.append(replace(utterance, relistened=heard.relistened))

    def _listen(self, segments: Sequence[SpeechSegment]) -> list[Heard]:
        from moderator.asr.second_listen import Heard

        if self._second is not None:
            return self._second.transcribe(segments)
        return [Heard(transcript) for transcript in self.engine.transcribe(segments)]


@dataclass
class _Screen:
    """Frames in, screen texts and codes out."""

    name: ClassVar[str] = "screen"
    requires: ClassVar[frozenset[str]] = frozenset({"frames"})
    assigns: ClassVar[frozenset[str]] = frozenset({"screen_texts", "codes"})

    reader: ScreenReader
    engine_name: str

    def feed(self, item: VideoFrame) -> None:
        self.reader.feed(item.time, item.image)

    def finish(self) -> list[Observation]:
        texts, codes = self.reader.finish()
        return [*texts, *codes]


@dataclass(frozen=True)
class _Claims:
    name: str = "claims"
    requires: frozenset[str] = frozenset()
    assigns: frozenset[str] = frozenset({"violations"})


@dataclass(frozen=True)
class _Observed:
    """What one recording gave: its observations, and what getting them took."""

    observations: list[Observation]
    duration_s: float
    engines: dict[str, str]
    counts: dict[str, int]
    timings: dict[str, float]
    notes: tuple[str, ...]


def _check_media(
    source: str | Path,
    rules: CompiledRules,
    room: Room,
    passports: Sequence[Passport],
    min_confidence: float,
    settings: Settings,
    progress: Progress | None,
) -> Report:
    began = perf_counter()
    observed = _observe(source, settings, progress, rules)
    engine = rules.engine(settings)
    engines = {**engine.versions, **observed.engines}
    provenance = Provenance(room, new_session(), _shown(source), engines, settings.lang)
    began_claims = perf_counter()
    violations = judge(
        observed.observations, engine, passports, provenance, observed.duration_s, min_confidence
    )
    violations = _advised(violations, engine, passports, settings)
    timings = {
        **observed.timings,
        "claims_s": perf_counter() - began_claims,
        "total_s": perf_counter() - began,
    }
    found = observed.observations
    return Report(
        source=provenance.source,
        room=room,
        session=provenance.session,
        duration_s=observed.duration_s,
        kind="media",
        utterances=tuple(o for o in found if isinstance(o, Utterance)),
        screen_texts=tuple(o for o in found if isinstance(o, ScreenText)),
        codes=tuple(o for o in found if isinstance(o, Code)),
        violations=tuple(violations),
        articles=articles_of(engine.pack, violations),
        engines=engines,
        counts=observed.counts,
        timings={name: round(value, 3) for name, value in timings.items()},
        notes=observed.notes,
    )


def _observe(
    source: str | Path,
    settings: Settings,
    progress: Progress | None,
    rules: CompiledRules,
) -> _Observed:
    """Listen and look: the stages run side by side while ffmpeg decodes.

    The source is opened before rules and models are loaded: one that cannot be read is told at
    once.
    """
    from moderator.media.hwaccel import settled
    from moderator.media.source import AudioBlock, MediaSource

    began = perf_counter()
    with MediaSource(
        source,
        frame_every_s=settings.frame_every_s,
        audio=settings.audio,
        video=settings.video,
        max_frame_pixels=settings.max_frame_pixels,
        stall_timeout_s=settings.stall_timeout_s,
        allow_private=settings.allow_private,
        hwaccel=settled(settings.hwaccel),
    ) as media:
        speech = None
        if media.info.has_audio and settings.audio:
            speech = _speech_stage(settings, rules.engine(settings).likenesses)
        screen = _screen_stage(settings) if media.info.has_video and settings.video else None
        stages = [stage for stage in (speech, screen) if stage is not None]
        if not stages:
            raise ModeratorError(
                CONFIG_INVALID, place="settings: audio, video", reason=_none_left()
            )
        _check_tracks(media.info, stages)
        timings = {"load_s": perf_counter() - began}
        threads = {stage.name: StageThread(stage) for stage in stages}
        try:
            for item in media:
                name = "speech" if isinstance(item, AudioBlock) else "screen"
                if name in threads:
                    threads[name].put(item)
                if progress is not None:
                    progress(media.position_s, media.info.duration_s or 0.0)
            found: list[Observation] = []
            for name, thread in threads.items():
                found += thread.result()
                timings[f"{name}_busy_s"] = thread.busy_s
        except BaseException:
            for thread in threads.values():
                thread.stop()
            raise
        return _Observed(
            observations=found,
            duration_s=media.position_s,
            engines=_engine_names(speech, screen),
            counts=_counts(speech, screen),
            timings=timings,
            notes=(*_unchecked(media.info), *(warning.text() for warning in media.warnings)),
        )


def _speech_stage(settings: Settings, likenesses: Likenesses | None) -> _Speech:
    from moderator.asr import ENGINES

    # One recording needs one device: the first that is named.
    device = devices.devices_of(settings.asr_device)[0]
    engine = ENGINES.create(
        settings.asr_engine,
        model=settings.asr_model,
        beam_size=settings.asr_beam,
        batch_size=settings.asr_batch,
        **({} if device == "auto" else {"device": device}),
    )
    return _Speech(settings, engine, likenesses)


def _screen_stage(settings: Settings) -> _Screen:
    from moderator.vision import screen_engine
    from moderator.vision.codes import ZxingCodes

    ocr = screen_engine(settings)
    try:
        from moderator.vision.reader import ScreenReader
    except ImportError as error:
        raise ModeratorError(
            ENGINE_MISSING,
            name=settings.ocr_engine,
            package=error.name,
            install="live-stream-moderator[embedded]",
        ) from None
    return _Screen(ScreenReader(ocr, ZxingCodes()), ocr.name)


def _engine_names(speech: _Speech | None, screen: _Screen | None) -> dict[str, str]:
    names = {}
    if speech is not None:
        names["asr"] = speech.engine.name
    if screen is not None:
        names["ocr"] = screen.engine_name
    return names


def _counts(speech: _Speech | None, screen: _Screen | None) -> dict[str, int]:
    counts = {}
    if speech is not None:
        counts["utterances"] = len(speech.utterances)
        counts["utterances_distrusted"] = sum(bool(u.distrust) for u in speech.utterances)
        counts["speech_s"] = round(speech.speech_s)
    if screen is not None:
        counts["frames_seen"] = screen.reader.stats.frames_seen
        counts["frames_read"] = screen.reader.stats.frames_read
    return counts


def _none_left() -> str:
    return in_ui_language(
        "what is switched on is not in this recording, so nothing would be checked",
        "打开的音轨或视频轨在这段录像中不存在，没有任何内容可检查",
    )


def _unchecked(info: MediaInfo) -> Iterator[str]:
    """What a reader would otherwise take for checked and clean."""
    if not info.has_audio:
        yield in_ui_language("no audio track: no speech was checked", "没有音轨：未检查语音")
    if not info.has_video:
        yield in_ui_language("no video track: no screen was checked", "没有视频轨：未检查画面")


def _check_tracks(info: MediaInfo, stages: Sequence[_Speech | _Screen]) -> None:
    tracks = {"audio"} if info.has_audio else set()
    if info.has_video:
        tracks.add("frames")
    observations = frozenset[str]().union(*(stage.assigns for stage in stages))
    check_wiring(frozenset(tracks), [*stages, _Claims(requires=observations)])


def judge(
    observations: Iterable[Observation],
    engine: ClaimEngine,
    passports: Sequence[Passport],
    provenance: Provenance,
    duration_s: float,
    min_confidence: float = 0.0,
) -> list[Violation]:
    """Observations, in order of time, through the claim engine to records."""
    session = ClaimSession(engine, provenance.room, passports)
    sightings = []
    for observation in sorted(observations, key=lambda o: (o.start, o.end)):
        sightings += session.observe(observation)
    records = to_violations(sightings, session.finish(), provenance, duration_s)
    return [record for record in records if record.confidence >= min_confidence]


# --- scripts ------------------------------------------------------------------------


def _check_lines(
    script: Script,
    engine: ClaimEngine,
    room: Room | None,
    passports: Sequence[Passport],
    min_confidence: float,
    settings: Settings,
) -> Report:
    began = perf_counter()
    engines = engine.versions
    provenance = Provenance(room or Room(), new_session(), script.source, engines, settings.lang)
    session = ClaimSession(engine, provenance.room, passports)
    sightings = [sighting for line in script.lines for sighting in session.observe(line)]
    duration_s = max((line.end for line in script.lines), default=0.0)
    records = to_violations(sightings, session.finish(), provenance, duration_s)
    kept = [record for record in records if record.confidence >= min_confidence]
    violations = tuple(_advised(kept, engine, passports, settings))
    return Report(
        source=script.source,
        room=provenance.room,
        session=provenance.session,
        duration_s=duration_s,
        kind="script",
        script_lines=script.lines,
        script_text=script.text,
        articles=articles_of(engine.pack, violations),
        violations=violations,
        engines=engines,
        timings={"total_s": round(perf_counter() - began, 4)},
    )


def _advised(
    records: list[Violation],
    engine: ClaimEngine,
    passports: Sequence[Passport],
    settings: Settings,
) -> list[Violation]:
    """The records with the advice of a language model, where one is set up."""
    if not settings.adjudicator_url or not records:
        return records
    from moderator.claims.adjudicator import Adjudicator

    with Adjudicator.set_up(settings) as adjudicator:
        return adjudicator.review(
            records, lambda record: articles_of(engine.pack, [record]), passports, settings.lang
        )


# --- small things -------------------------------------------------------------------


class CompiledRules:
    """A rule pack for many calls of `check`: loaded and compiled once, when first needed.

    `rules` and `jurisdiction` are those of `moderator.claims.rules.load_rules`.
    """

    def __init__(
        self, rules: Path | str | RulePack | None = None, jurisdiction: str = "cn"
    ) -> None:
        self._rules = rules
        self._jurisdiction = jurisdiction
        self._engines: dict[tuple[bool, str, str], ClaimEngine] = {}

    def engine(self, settings: Settings) -> ClaimEngine:
        """The engine for the classifier's settings. Raises LM-2xx for the first bad rule."""
        key = (settings.classifier, settings.sensitivity, settings.classifier_device)
        if key not in self._engines:
            if not isinstance(self._rules, RulePack):
                self._rules = load_rules(self._rules, self._jurisdiction)
            self._engines[key] = self._compile(self._rules, settings)
        return self._engines[key]

    @staticmethod
    def _compile(pack: RulePack, settings: Settings) -> ClaimEngine:
        if not settings.classifier:
            return ClaimEngine(pack)
        keen, device = keen_channels(settings.sensitivity), settings.classifier_device
        return ClaimEngine(pack, semantic_matchers(pack, keen, device))


def shipped_engine(jurisdiction: str = "cn") -> ClaimEngine:
    """The shipped rules, compiled once for the whole process."""
    return _compiled(None, jurisdiction).engine(load_settings())


def _compiled(
    rules: Path | str | RulePack | CompiledRules | None, jurisdiction: str
) -> CompiledRules:
    if isinstance(rules, CompiledRules):
        return rules
    if rules is None:
        return _SHIPPED.setdefault(jurisdiction, CompiledRules(None, jurisdiction))
    return CompiledRules(rules, jurisdiction)


_SHIPPED: dict[str, CompiledRules] = {}


def _room(given: Room | Path | str | None) -> Room | None:
    return load_room(Path(given)) if isinstance(given, str | Path) else given


def _passports(given: Sequence[Passport] | Path | str, room: Room | None) -> list[Passport]:
    """Those on sale in `room` where it says which; a catalogue may hold far more."""
    known = load_passports(Path(given)) if isinstance(given, str | Path) else list(given)
    on_sale = room.products if room is not None else ()
    return [passport for passport in known if passport.id in on_sale] or known


def _shown(source: str | Path) -> str:
    from moderator.media.address import redact

    return redact(str(source)) if "://" in str(source) else str(source)
