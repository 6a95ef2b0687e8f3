"""The sink against a producer of the same form; no broker runs here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from moderator.errors import ModeratorError
from moderator.sinks.config import build_sink
from moderator.sinks.journal import Journal
from moderator.sinks.kafka import KafkaSink
from moderator.sinks.sink import Rejected, Unavailable
from tests.sinks.builders import tell, violation


class FakeProducer:
    def __init__(self, log: list[Any], fault: Exception | None = None) -> None:
        self.log = log
        self.fault = fault

    async def start(self) -> None:
        self.log.append("start")

    async def stop(self) -> None:
        self.log.append("stop")

    async def send(self, topic: str, value: bytes, key: bytes, headers: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        if self.fault:
            future.set_exception(self.fault)
        else:
            self.log.append((topic, key.decode(), json.loads(value)["id"]))
            future.set_result(None)
        return future


def sink(producers: list[FakeProducer]) -> KafkaSink:
    return KafkaSink("kafka", frozenset({"violation"}), "records", 5.0, lambda: producers.pop(0))


def test_kafka_keys_by_room_and_waits_for_all(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        said = [tell(journal, violation(room, f"s-{room}")) for room in ("a", "b")]
    log: list[Any] = []
    kafka = sink([FakeProducer(log)])
    kafka.send(said)
    kafka.send(said[:1])
    kafka.close()
    assert log == [
        "start",
        ("records", "a", said[0].id),
        ("records", "b", said[1].id),
        ("records", "a", said[0].id),
        "stop",
    ]


def test_kafka_a_broken_connection_gets_a_new_producer(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        said = tell(journal, violation())
    log: list[Any] = []
    kafka = sink(
        [
            FakeProducer(log, KafkaConnectionError("lost")),
            FakeProducer(log, MessageSizeTooLargeError()),
        ]
    )
    with pytest.raises(Unavailable, match="lost"):
        kafka.send([said])
    with pytest.raises(Rejected):
        kafka.send([said])
    kafka.close()
    assert log == ["start", "stop", "start", "stop"]


def test_kafka_brokers_that_are_not_there(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        said = tell(journal, violation())
    config = {"type": "kafka", "bootstrap": ["127.0.0.1:1"], "topic": "records", "timeout_s": 2}
    kafka = build_sink(config, out=tmp_path)
    with pytest.raises(Unavailable):
        kafka.send([said])
    kafka.close()


def test_kafka_a_password_comes_from_the_environment(tmp_path: Path) -> None:
    config = {"type": "kafka", "bootstrap": ["x:1"], "topic": "t", "security": "SASL_SSL"}
    with pytest.raises(ModeratorError, match="LM-813"):
        build_sink(config, out=tmp_path)
