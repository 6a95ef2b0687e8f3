"""From configuration to running rooms: loads the models once and wires everything up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import structlog

from moderator import devices
from moderator.asr.engine import AsrEngine
from moderator.config import Settings
from moderator.errors import OUT_WRITE, ModeratorError
from moderator.live.advice import AdviceWorker
from moderator.live.config import WatchConfig
from moderator.live.evidence import EvidenceWorker
from moderator.live.feeds import StreamFeeds
from moderator.live.health import Health, HealthServer
from moderator.live.rulebook import Rulebook
from moderator.live.runner import Shared
from moderator.live.screen import ScreenWorker
from moderator.live.speech import SpeechWorker
from moderator.live.speech_team import Speech, SpeechTeam
from moderator.live.supervisor import Supervisor
from moderator.live.unfinished import take_up
from moderator.media.hwaccel import settled
from moderator.records import Violation
from moderator.retention import Janitor, load_retention
from moderator.sinks.config import DEFAULT_SINKS, build_deliveries
from moderator.sinks.delivery import Deliveries
from moderator.sinks.journal import FILE_NAME, Journal

log = structlog.get_logger()


@contextmanager
def watching(
    config: WatchConfig,
    settings: Settings,
    out: Path,
    *,
    realtime: bool = False,
    reload_config: Callable[[], WatchConfig] | None = None,
    on_record: Callable[[Violation], None] | None = None,
    on_tick: Callable[[Supervisor], None] | None = None,
) -> Iterator[Supervisor]:
    """Everything ready to `run`; on leaving, sinks are drained and the journal is closed.

    Raises what is wrong with the configuration, the models or `out` before any room is opened.
    """
    with ExitStack() as stack:
        rulebook = Rulebook.load(
            config.rules,
            config.jurisdiction,
            classifier=settings.classifier,
            classifier_device=settings.classifier_device,
            sensitivity=settings.sensitivity,
        )
        speech, screen, engines = _workers(config, settings, rulebook)
        _make_folder(out)
        journal = stack.enter_context(Journal.open(out / FILE_NAME, owner=True))
        deliveries = build_deliveries(journal, config.sinks or DEFAULT_SINKS, out=out)
        deliveries.start()
        stack.callback(_end_deliveries, deliveries, config.limits.drain_s)
        janitor = Janitor(journal, out, load_retention(config.retention))
        janitor.start()
        stack.callback(janitor.stop)
        evidence = EvidenceWorker(out, config.evidence, most=config.limits.evidence_queue)
        shared = Shared(
            config=config,
            rulebook=rulebook,
            journal=journal,
            feeds=StreamFeeds(
                config,
                out / "rings",
                realtime=realtime,
                allow_private=settings.allow_private,
                max_frame_pixels=settings.max_frame_pixels,
                hwaccel=settled(settings.hwaccel),
            ),
            speech=speech,
            screen=screen,
            evidence=evidence,
            engines=engines,
            lang=settings.lang,
            advice=_advice(stack, settings, rulebook),
        )
        supervisor = Supervisor(
            shared,
            reload_config=reload_config,
            deliveries=deliveries.all,
            unfinished=take_up(journal, config.rooms),
            on_record=on_record,
            teleprompter=config.teleprompter,
            on_tick=on_tick,
        )
        health = HealthServer(
            Health(
                supervisor.metrics.text,
                supervisor.faults,
                supervisor.not_ready,
                supervisor.rooms,
            ),
            config.metrics.host,
            config.metrics.port,
        )
        health.start()
        stack.callback(health.stop)
        supervisor.port = health.port
        yield supervisor


def _advice(stack: ExitStack, settings: Settings, rulebook: Rulebook) -> AdviceWorker | None:
    """Who asks a language model, where one is set up; ended with `stack`."""
    if not settings.adjudicator_url:
        return None
    from moderator.claims.adjudicator import Adjudicator

    adjudicator = stack.enter_context(Adjudicator.set_up(settings))
    worker = AdviceWorker(adjudicator, rulebook.articles, settings.lang)
    stack.callback(worker.stop)
    return worker


def _workers(
    config: WatchConfig, settings: Settings, rulebook: Rulebook
) -> tuple[Speech | None, ScreenWorker | None, dict[str, str]]:
    speech: Speech | None = None
    screen: ScreenWorker | None = None
    engines: dict[str, str] = {}
    if settings.audio and any(room.audio for room in config.rooms):
        speech = _speech(config, settings, rulebook)
        engines["asr"] = speech.engine.name
    if settings.video and any(room.video for room in config.rooms):
        screen = _screen(settings, len(config.rooms))
        engines["ocr"] = screen.ocr.name
    return speech, screen, engines


def _speech(config: WatchConfig, settings: Settings, rulebook: Rulebook) -> Speech:
    """One worker, or one for each GPU. An engine on a GPU has a process of its own.

    Many rooms wait for each step of the decoder, so an embedded model comes pruned.
    """
    from moderator.asr.prune import PRUNED
    from moderator.asr.shared_vad import SharedSileroVad

    pruned = f"{settings.asr_model}-chinese"
    prunes = settings.asr_engine == "faster-whisper" and pruned in PRUNED
    options: dict[str, Any] = {
        "model": pruned if prunes else settings.asr_model,
        "beam_size": config.speech.beam,
        "batch_size": config.speech.batch,
    }
    if config.speech.threads:
        options["threads"] = config.speech.threads
    workers = [
        SpeechWorker(
            engine,
            SharedSileroVad(),
            config.speech,
            likenesses=rulebook.likenesses,
            max_lag_s=config.limits.max_lag_s,
        )
        for engine in speech_engines(settings.asr_engine, options, settings.asr_device)
    ]
    return workers[0] if len(workers) == 1 else SpeechTeam(workers)


def speech_engines(name: str, options: dict[str, Any], setting: str) -> list[AsrEngine]:
    """The engine once for each device that `setting` names and that is there, at least once.

    Raises LM-408 for what is no device, and whatever the engine raises.
    """
    from moderator.asr import ENGINES
    from moderator.asr.engine_process import engine_process

    if setting == "auto" and name not in devices.SPEECH_OFFERS:
        # An engine of somebody else's chooses for itself.
        return [ENGINES.create(name, **options)]
    offer = devices.speech_offer(name)
    found = [devices.settle(one, offer, name) for one in devices.spread(setting, offer)]
    return [
        ENGINES.create(name, **options, device="cpu")
        if device == "cpu"
        else engine_process(name, {**options, "device": device}, device=device)
        for device in dict.fromkeys(found)
    ]


def _screen(settings: Settings, rooms: int) -> ScreenWorker:
    from moderator.vision import screen_engine
    from moderator.vision.codes import ZxingCodes

    return ScreenWorker(screen_engine(settings, rooms), ZxingCodes(), batch=settings.ocr_batch)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModeratorError(OUT_WRITE, path=out, reason=error.strerror or error) from None


def _end_deliveries(deliveries: Deliveries, drain_s: float) -> None:
    """What does not arrive in time stays in the journal for the next run."""
    if not deliveries.drain(drain_s):
        log.warning("sinks.not_drained", pending=sum(one.pending for one in deliveries.stats()))
    deliveries.close()
