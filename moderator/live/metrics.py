"""What Prometheus scrapes. Lag of each room is the metric to alert on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from moderator.records import Violation

LATENCY_BUCKETS_S = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 20, 60)


@dataclass(slots=True)
class RoomSample:
    """One room at the moment of a scrape."""

    room: str
    state: str
    lag_s: float
    reconnects: int = 0
    stalls: int = 0
    gap_s: float = 0.0
    drops: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Sample:
    """Everything that is read at the moment of a scrape; counters since the start."""

    rooms: list[RoomSample] = field(default_factory=list)
    queues: dict[str, float] = field(default_factory=dict)
    dropped: dict[tuple[str, str], float] = field(default_factory=dict)
    """By stage and reason."""
    busy_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    heard_s: float = 0.0
    speech_s: float = 0.0
    frames_read: float = 0.0
    degraded: dict[str, bool] = field(default_factory=dict)
    sinks: dict[str, dict[str, float]] = field(default_factory=dict)
    """By sink: `delivered`, `failed`, `dead`, `behind`."""
    evidence: dict[str, float] = field(default_factory=dict)
    memory_bytes: dict[str, float] = field(default_factory=dict)
    """By part, as `moderator.memory.memory_bytes` tells."""
    python_objects: int = 0
    rules_version: str = ""


class Metrics:
    """The registry of one running program."""

    def __init__(self, sample: SampleSource) -> None:
        self.registry = CollectorRegistry()
        self.records = Counter(
            "moderator_records",
            "Records written, by category, disposition and channel.",
            ("category", "disposition", "channel"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "moderator_record_latency_seconds",
            "End of the words to record written, by channel.",
            ("channel",),
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.alerts = Counter(
            "moderator_alerts", "Alerts sent, by event.", ("event",), registry=self.registry
        )
        self.crashes = Counter(
            "moderator_room_crashes",
            "Rooms that crashed and were started again.",
            ("room",),
            registry=self.registry,
        )
        self.advice = Counter(
            "moderator_advice",
            "Records for which a language model was asked, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.registry.register(_Scrape(sample))

    def on_record(self, record: Violation, latency_s: float | None) -> None:
        labels = (record.category, str(record.disposition), record.channel)
        self.records.labels(*labels).inc()
        if latency_s is not None:
            self.latency.labels(record.channel).observe(latency_s)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class SampleSource:
    """Whoever can say how things stand; the supervisor does."""

    def sample(self) -> Sample:
        raise NotImplementedError


class _Scrape(Collector):
    def __init__(self, source: SampleSource) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        return _families(self._source.sample())

    def describe(self) -> Iterable[Metric]:
        return _families(Sample())


def _families(sample: Sample) -> Iterator[Metric]:
    states = GaugeMetricFamily("moderator_rooms", "Rooms by state.", labels=["state"])
    for state in sorted({room.state for room in sample.rooms}):
        states.add_metric([state], sum(room.state == state for room in sample.rooms))
    yield states
    yield _by_room(sample, "moderator_room_lag_seconds", "How far behind live.", "lag_s")
    yield _by_room(
        sample, "moderator_room_reconnects", "Reconnections.", "reconnects", counter=True
    )
    yield _by_room(
        sample, "moderator_room_stalls", "Times without packets.", "stalls", counter=True
    )
    yield _by_room(
        sample, "moderator_room_gap_seconds", "Media that was missed.", "gap_s", counter=True
    )
    drops = CounterMetricFamily(
        "moderator_room_input_drops",
        "Frames, or seconds of sound, dropped at the input.",
        labels=["room", "reason"],
    )
    for room in sample.rooms:
        for reason, count in room.drops.items():
            drops.add_metric([room.room, str(reason)], count)
    yield drops
    yield _gauge("moderator_queue_depth", "What waits, by stage.", "stage", sample.queues)
    lost = CounterMetricFamily(
        "moderator_dropped", "What was dropped, by stage and reason.", labels=["stage", "reason"]
    )
    for (stage, reason), count in sample.dropped.items():
        lost.add_metric([stage, reason], count)
    yield lost
    yield _counter("moderator_stage_busy_seconds", "Wall time at work.", "stage", sample.busy_s)
    yield _counter("moderator_stage_cpu_seconds", "CPU time of threads.", "stage", sample.cpu_s)
    yield CounterMetricFamily(
        "moderator_sound_seconds", "Sound listened to, all rooms.", value=sample.heard_s
    )
    yield CounterMetricFamily(
        "moderator_speech_seconds", "Speech decoded, all rooms.", value=sample.speech_s
    )
    yield CounterMetricFamily(
        "moderator_frames_read", "Frames whose text was read.", value=sample.frames_read
    )
    busy = sample.busy_s.get("decode", 0.0)
    yield GaugeMetricFamily(
        "moderator_real_time_factor",
        "Decoding time a second of speech, since the start.",
        value=busy / sample.speech_s if sample.speech_s else 0.0,
    )
    degraded = GaugeMetricFamily("moderator_degraded", "Given up for now.", labels=["step"])
    for step, active in sample.degraded.items():
        degraded.add_metric([step], active)
    yield degraded
    for name, what in (
        ("delivered", "Events delivered"),
        ("failed", "Attempts that failed"),
        ("dead", "Events in the dead-letter file"),
    ):
        values = {sink: stats.get(name, 0.0) for sink, stats in sample.sinks.items()}
        yield _counter(f"moderator_sink_{name}", f"{what}, by sink.", "sink", values)
    behind = {sink: stats.get("behind", 0.0) for sink, stats in sample.sinks.items()}
    yield _gauge("moderator_sink_behind", "Events not delivered yet.", "sink", behind)
    yield _counter("moderator_evidence", "Clips, frames and failures.", "what", sample.evidence)
    yield _gauge("moderator_memory_bytes", "Memory, by part.", "part", sample.memory_bytes)
    yield GaugeMetricFamily(
        "moderator_python_objects",
        "Small objects of Python's that are in use.",
        value=sample.python_objects,
    )
    rules = GaugeMetricFamily("moderator_rules", "The rule pack in force.", labels=["version"])
    if sample.rules_version:
        rules.add_metric([sample.rules_version], 1)
    yield rules


def _by_room(sample: Sample, name: str, what: str, of: str, *, counter: bool = False) -> Metric:
    kind: Any = CounterMetricFamily if counter else GaugeMetricFamily
    family = kind(name, what, labels=["room"])
    for room in sample.rooms:
        family.add_metric([room.room], getattr(room, of))
    return family  # type: ignore[no-any-return]


def _gauge(name: str, what: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, what: str, label: str, values: dict[str, float]) -> Metric:
    family = CounterMetricFamily(name, what, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
