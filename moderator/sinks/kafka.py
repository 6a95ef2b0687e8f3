"""Kafka through aiokafka: CloudEvents, keyed by room so that a room's order is kept."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordTooLargeError
from pydantic import Field

from moderator.sinks.cloud_event import CONTENT_TYPE, structured
from moderator.sinks.config import SinkOptions, SinkPlace, read_options, secret
from moderator.sinks.envelope import EVENT_TYPES, Envelope
from moderator.sinks.sink import Rejected, Unavailable


class KafkaOptions(SinkOptions):
    bootstrap: tuple[str, ...] = Field(
        min_length=1, title="Brokers", description="host:port of some brokers."
    )
    topic: str = Field(
        pattern=r"^[A-Za-z0-9._-]+$",
        max_length=249,
        title="Topic",
        description="Where everything goes.",
    )
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", title="Security", description="Kafka's security.protocol."
    )
    sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", title="SASL", description="Mechanism, where security is SASL_…"
    )
    user: str = Field("", title="User", description="Name for SASL.")
    password_env: str = Field(
        "", title="Password variable", description="Environment variable with the password."
    )
    ca_file: str = Field(
        "", title="CA", description="Certificates to trust; default: the system's."
    )
    timeout_s: float = Field(
        15.0, gt=0, le=120, title="Patience", description="Seconds for one batch."
    )


class Producer(Protocol):
    """What is used of AIOKafkaProducer."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def send(
        self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[Any]: ...


class KafkaSink:
    """Sends a batch and waits until all in-sync replicas have it.

    The producer is idempotent, so its own retries make no duplicates. Everything of a room has the
    same key and so one partition, where order holds.
    """

    batch_size = 200

    def __init__(
        self,
        name: str,
        types: frozenset[str],
        topic: str,
        timeout_s: float,
        producer: Callable[[], Producer],
    ) -> None:
        self.name = name
        self.types = types
        self._topic = topic
        self._timeout_s = timeout_s
        self._make_producer = producer
        self._producer: Producer | None = None
        self._runner = asyncio.Runner()

    def send(self, batch: Sequence[Envelope]) -> None:
        try:
            self._runner.run(asyncio.wait_for(self._send(batch), self._timeout_s))
        except (MessageSizeTooLargeError, RecordTooLargeError) as error:
            raise Rejected(type(error).__name__) from None
        except (KafkaError, OSError, TimeoutError) as error:
            # A producer whose batch failed in part would send the rest later, out of order.
            self._runner.run(self._drop_producer())
            raise Unavailable(f"{type(error).__name__}: {error}"[:200]) from None

    def close(self) -> None:
        try:
            self._runner.run(self._drop_producer())
        finally:
            self._runner.close()

    async def _send(self, batch: Sequence[Envelope]) -> None:
        if self._producer is None:
            producer = self._make_producer()
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        waiting = [
            await self._producer.send(
                self._topic,
                value=structured(envelope),
                key=envelope.room.encode(),
                headers=[("content-type", CONTENT_TYPE.encode())],
            )
            for envelope in batch
        ]
        await asyncio.gather(*waiting)

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(producer.stop(), self._timeout_s)


def make(*, place: SinkPlace, options: Mapping[str, Any]) -> KafkaSink:
    known = read_options(KafkaOptions, options, place.where)
    settings: dict[str, Any] = {
        "bootstrap_servers": list(known.bootstrap),
        "acks": "all",
        "enable_idempotence": True,
        "security_protocol": known.security,
        "request_timeout_ms": int(1000 * known.timeout_s),
        "client_id": "live-stream-moderator",
    }
    if known.security.startswith("SASL"):
        settings |= {
            "sasl_mechanism": known.sasl,
            "sasl_plain_username": known.user,
            "sasl_plain_password": secret(known.password_env, f"{place.where}.password_env"),
        }
    if known.security.endswith("SSL"):
        settings["ssl_context"] = ssl.create_default_context(cafile=known.ca_file or None)
    types = frozenset(EVENT_TYPES) - {"observation"} if place.types is None else place.types
    # Made where it is used: the producer takes hold of the running event loop.
    return KafkaSink(
        place.name,
        types,
        known.topic,
        known.timeout_s,
        lambda: AIOKafkaProducer(**settings),
    )
