from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from moderator.errors import ModeratorError
from moderator.sinks.config import build_deliveries, build_sink
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import Journal
from moderator.sinks.sink import Rejected, Sink, Unavailable
from tests.sinks.builders import SECRET, Receiver, tell, violation


@pytest.fixture
def told(tmp_path: Path) -> Envelope:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        return tell(journal, violation(room="直播间/1"), "violation/1")


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("HOOK_OLD", "whsec_b2xkIHNlY3JldCBvZiAzMiBieXRlcywgcmVhbGx5IQ==")
    monkeypatch.setenv("HOOK_TOKEN", "Bearer swordfish")


def webhook(url: str, out: Path, **options: Any) -> Sink:
    config = {"type": "webhook", "url": url, "allow_private": True, **options}
    return build_sink(config, out=out)


@pytest.mark.usefixtures("secrets")
def test_webhook_body_is_a_cloud_event_and_its_signature_holds(
    told: Envelope, tmp_path: Path
) -> None:
    with Receiver().running() as receiver:
        sink = webhook(
            receiver.url,
            tmp_path,
            secret_env=["HOOK_SECRET", "HOOK_OLD"],
            headers={"Authorization": "env:HOOK_TOKEN"},
        )
        sink.send([told])
        sink.close()
    (call,) = receiver.calls
    for name in (SECRET, "whsec_b2xkIHNlY3JldCBvZiAzMiBieXRlcywgcmVhbGx5IQ=="):
        Webhook(name).verify(call.body, call.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(call.body.replace(b"cn.", b"xx."), call.headers)
    assert call.headers["authorization"] == "Bearer swordfish"
    assert call.headers["webhook-id"] == told.id
    event = from_structured_event(HTTPMessage(call.headers, call.body))
    assert event.get_id() == told.id
    assert event.get_type() == "moderator.violation"
    assert event.get_subject() == "violation/1"
    assert event.get_extension("partitionkey") == "直播间/1"
    assert Envelope.from_json(event.get_data()) == told
    assert call.envelope.expected_hash() == told.hash


def test_webhook_an_alert_is_called_by_its_event(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        alert = journal.append("s", "r", "alert", {"event": "room.warn", "text": "⚠"})
    with Receiver().running() as receiver:
        sink = webhook(receiver.url, tmp_path)
        sink.send([alert])
        sink.close()
    assert receiver.calls[0].event["type"] == "moderator.room.warn"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_webhook_what_the_receiver_understood_and_refuses(
    told: Envelope, tmp_path: Path, status: int
) -> None:
    with Receiver(lambda n: status).running() as receiver:
        sink = webhook(receiver.url, tmp_path)
        with pytest.raises(Rejected, match=str(status)):
            sink.send([told])
        sink.close()


@pytest.mark.parametrize("status", [0, -1, 301, 307, 401, 403, 404, 408, 410, 429, 500, 503])
def test_webhook_what_may_be_taken_later(told: Envelope, tmp_path: Path, status: int) -> None:
    """A redirect is among them: it is not followed, wherever it leads."""
    with Receiver(lambda n: status, location="http://169.254.169.254/").running() as receiver:
        sink = webhook(receiver.url, tmp_path)
        with pytest.raises(Unavailable):
            sink.send([told])
        sink.close()
    assert receiver.requests == 1


def test_webhook_reads_when_to_come_again(told: Envelope, tmp_path: Path) -> None:
    with Receiver(lambda n: 503, retry_after="17").running() as receiver:
        sink = webhook(receiver.url, tmp_path)
        with pytest.raises(Unavailable) as caught:
            sink.send([told])
        sink.close()
    assert caught.value.retry_after_s == 17


@pytest.fixture
def silent() -> Iterator[str]:
    """A receiver that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_webhook_a_silent_receiver_is_left(told: Envelope, tmp_path: Path, silent: str) -> None:
    sink = webhook(silent, tmp_path, timeout_s=0.2)
    with pytest.raises(Unavailable, match=r"0\.2 s"):
        sink.send([told])
    sink.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/hook",
        "http://localhost/hook",
        "http://[::1]/hook",
        "http://[::ffff:127.0.0.1]/hook",
        "http://10.1.2.3/hook",
        "http://192.168.0.1/hook",
        "http://100.64.0.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://100.100.100.200/latest/meta-data",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://0x7f.1/",
    ],
)
def test_webhook_private_addresses_are_refused_unless_allowed(url: str, tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-807"):
        webhook(url, tmp_path, allow_private=False)
    webhook(url, tmp_path).close()


def test_webhook_networks_allow_what_lies_in_them(told: Envelope, tmp_path: Path) -> None:
    with Receiver().running() as receiver:
        options = {"allow_private": False, "networks": ["127.0.0.0/8"]}
        sink = webhook(receiver.url, tmp_path, **options)
        sink.send([told])
        sink.close()
        with pytest.raises(ModeratorError, match="LM-807"):
            webhook(receiver.url, tmp_path, allow_private=False, networks=["10.0.0.0/8"])
    assert len(receiver.calls) == 1


def test_webhook_a_name_that_turns_private_later_is_not_connected_to(
    told: Envelope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: public when the sink was made, loopback when it sends."""
    real = socket.getaddrinfo
    address = "93.184.215.14"

    def lookup(host: Any, *rest: Any, **more: Any) -> Any:
        return real(address if host == "hooks.example.com" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with Receiver().running() as receiver:
        url = receiver.url.replace("127.0.0.1", "hooks.example.com")
        sink = webhook(url, tmp_path, allow_private=False)
        address = "127.0.0.1"
        with pytest.raises(Unavailable, match="127"):
            sink.send([told])
        sink.close()
    assert receiver.requests == 0


def test_webhook_connects_to_the_very_address_that_was_judged(
    told: Envelope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look-up a delivery, and the receiver is still called by its name."""
    real = socket.getaddrinfo
    asked = []

    def lookup(host: Any, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host == "hooks.example.com" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with Receiver().running() as receiver:
        url = receiver.url.replace("127.0.0.1", "hooks.example.com")
        sink = webhook(url, tmp_path)
        asked.clear()
        sink.send([told])
        sink.close()
    assert asked.count("hooks.example.com") == 1
    assert receiver.calls[0].headers["host"].startswith("hooks.example.com:")


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"url": ""}, "LM-805"),
        ({"url": "ftp://example.com/"}, "LM-805"),
        ({"url": "http://user:hunter2@127.0.0.1/"}, "LM-805"),
        ({"secret_env": "NO_SUCH_VARIABLE"}, "LM-813"),
        ({"secret_env": "HOOK_TOKEN"}, "LM-813"),
        ({"headers": {"X-Token": "env:NO_SUCH_VARIABLE"}}, "LM-813"),
        ({"headers": {"X-Token": "hunter2\r\nX-Other: 1"}}, "LM-805"),
        ({"networks": ["10.1.2.3/8"]}, "LM-805"),
        ({"timeout_s": 0}, "LM-805"),
        ({"secret": "hunter2"}, "LM-805"),
    ],
)
def test_webhook_a_faulty_configuration_is_named_without_its_secrets(
    options: dict[str, Any], code: str, tmp_path: Path
) -> None:
    with pytest.raises(ModeratorError, match=code) as caught:
        webhook(options.pop("url", "http://127.0.0.1:9/hook?token=hunter2"), tmp_path, **options)
    assert "hunter2" not in str(caught.value)
    assert "swordfish" not in str(caught.value)


@pytest.mark.usefixtures("secrets")
def test_webhook_secrets_are_never_in_logs_statistics_or_dead_letters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    answers = {0: 500, 1: 0, 2: 400, 3: 204}
    with (
        structlog.testing.capture_logs() as logs,
        Receiver(lambda n: answers.get(n, 204)).running() as receiver,
        Journal.open(tmp_path / "journal.sqlite3") as journal,
    ):
        config = {
            "type": "webhook",
            "url": receiver.url + "?access_token=hunter2",
            "allow_private": True,
            "secret_env": "HOOK_SECRET",
            "headers": {"Authorization": "env:HOOK_TOKEN"},
            "backoff_s": 0.001,
        }
        deliveries = build_deliveries(journal, [config], out=tmp_path)
        tell(journal, violation())
        tell(journal, violation(start=9))
        deliveries.start()
        assert deliveries.drain(20)
        stats = deliveries.stats()
        deliveries.close()
        letters = (tmp_path / "dead-letter" / "webhook.jsonl").read_text("utf-8")
    assert stats[0].dead == 1
    assert any(log["event"] == "sink_failing" for log in logs)
    seen = f"{logs} {stats} {letters} {caplog.text} {deliveries.all[0].sink!r}"
    for secret in ("hunter2", "swordfish", SECRET.removeprefix("whsec_"), "c2VjcmV0"):
        assert secret not in seen
