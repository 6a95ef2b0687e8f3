from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from moderator.media.address import AddressPolicy
from moderator.media.egress import EgressLimits, Gate, open_gate

OURS = AddressPolicy(networks=(ipaddress.IPv4Network("127.0.0.1/32"),))


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()


class Origin:
    """Answers each request with `answer` and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self.asked.append(client.recv(65536))
                client.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def gate() -> Iterator[Callable[..., Gate]]:
    opened: list[Gate] = []

    def make(
        policy: AddressPolicy = OURS, limits: EgressLimits | None = None, **more: object
    ) -> Gate:
        opened.append(open_gate(policy, limits, **more))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(request)
        answer = b""
        with suppress(ConnectionResetError):
            while data := client.recv(65536):
                answer += data
        return answer


def get(port: int, url: str, *headers: str) -> bytes:
    lines = [f"GET {url} HTTP/1.1", *headers, "", ""]
    return ask(port, "\r\n".join(lines).encode())


def test_egress_passes_a_request_on_as_the_origin_sees_it(
    gate: Callable[..., Gate], origin: Origin
) -> None:
    opened = gate(origin=("127.0.0.1", origin.port), headers={"Authorization": "Bearer x"})
    url = f"http://127.0.0.1:{origin.port}/a.flv?b=1"
    answer = get(opened.port, url, "Host: h", "Proxy-Connection: keep-alive", "Connection: x")
    assert answer.endswith(b"\r\n\r\nhi")
    assert b"Connection: close" in answer
    assert b"keep-alive" not in answer
    asked = origin.asked[0].decode()
    assert asked.startswith("GET /a.flv?b=1 HTTP/1.1\r\nHost: h\r\n")
    assert "Authorization: Bearer x" in asked
    assert "Proxy" not in asked
    assert opened.bytes_in > 0


def test_egress_headers_go_to_the_origin_alone(gate: Callable[..., Gate], origin: Origin) -> None:
    opened = gate(origin=("other.example", 80), headers={"Authorization": "Bearer x"})
    get(opened.port, f"http://127.0.0.1:{origin.port}/", "Host: h")
    assert b"Bearer" not in origin.asked[0]


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_egress_refuses_addresses(gate: Callable[..., Gate], method: str) -> None:
    opened = gate()
    target = "http://127.0.0.2:80/" if method == "GET" else "127.0.0.2:80"
    answer = ask(opened.port, f"{method} {target} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403")
    assert "127.0.0.2" in opened.take_refusals()[0]
    assert opened.take_refusals() == []


def test_egress_name_that_leads_elsewhere_the_second_time(
    gate: Callable[..., Gate], origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    numeric = socket.getaddrinfo
    leads_to = ["127.0.0.1", "169.254.169.254"]

    def look_up(host: str, *where: object, **more: object) -> object:
        return numeric(leads_to.pop(0) if host == "rebind.example" else host, *where, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    opened = gate()
    url = f"http://rebind.example:{origin.port}/"
    assert get(opened.port, url, "Host: h").startswith(b"HTTP/1.1 200")
    assert get(opened.port, url, "Host: h").startswith(b"HTTP/1.1 403")
    assert len(origin.asked) == 1


def test_egress_tunnel(gate: Callable[..., Gate], origin: Origin) -> None:
    opened = gate()
    with socket.create_connection(("127.0.0.1", opened.port), 5) as client:
        client.sendall(f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        client.sendall(b"hello")
        assert client.recv(4096) == origin.answer
    assert origin.asked == [b"hello"]


def test_egress_forwarded_port_leads_to_one_host(gate: Callable[..., Gate], origin: Origin) -> None:
    opened = gate()
    assert ask(opened.forward("127.0.0.1", origin.port), b"C0") == origin.answer
    assert ask(opened.forward("127.0.0.2", origin.port), b"C0") == b""
    assert opened.take_refusals()


def test_egress_port_that_nobody_listens_on(gate: Callable[..., Gate], origin: Origin) -> None:
    opened = gate()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        assert get(opened.port, url).startswith(b"HTTP/1.1 502")
    assert opened.take_refusals() == []
    assert opened.take_trouble()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("live.m3u8", b"\r\n\r\n"),
        ("live", b"Content-Type: application/x-mpegURL\r\n\r\n"),
        ("live", b"\r\n\r\n#EXTM3U\n"),
    ],
)
def test_egress_playlist_is_bounded_however_it_is_told(
    gate: Callable[..., Gate], origin: Origin, path: str, answer: bytes
) -> None:
    origin.answer = b"HTTP/1.1 200 OK\r\nX: y\r\n" + answer.removeprefix(b"\r\n") + b"#" * 100_000
    if answer.startswith(b"\r\n"):
        origin.answer = b"HTTP/1.1 200 OK" + answer + b"#" * 100_000
    opened = gate(limits=EgressLimits(playlist_bytes=10_000))
    assert len(get(opened.port, f"http://127.0.0.1:{origin.port}/{path}")) < 100_000
    assert "playlist" in opened.take_refusals()[0]


def test_egress_headers_without_end(gate: Callable[..., Gate], origin: Origin) -> None:
    origin.answer = b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000
    opened = gate(limits=EgressLimits(header_bytes=10_000))
    assert get(opened.port, f"http://127.0.0.1:{origin.port}/") == b""
    assert "headers" in opened.take_refusals()[0]


@pytest.mark.parametrize(
    "request_line",
    ["GET /path HTTP/1.1", "nonsense", "CONNECT a:b HTTP/1.1", "GET http://[ HTTP/1.1"],
)
def test_egress_requests_that_are_none(gate: Callable[..., Gate], request_line: str) -> None:
    answer = ask(gate().port, f"{request_line}\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 502"))


def test_egress_connections_in_a_minute_are_bounded(
    gate: Callable[..., Gate], origin: Origin
) -> None:
    opened = gate(limits=EgressLimits(connections_per_minute=3))
    url = f"http://127.0.0.1:{origin.port}/"
    assert [bool(get(opened.port, url)) for _ in range(5)] == [True, True, True, False, False]


def test_egress_leaves_nothing_behind(origin: Origin, leaks_nothing: None) -> None:
    gates = [open_gate(OURS) for _ in range(3)]
    for opened in gates:
        get(opened.port, f"http://127.0.0.1:{origin.port}/")
    hanging = socket.create_connection(("127.0.0.1", gates[0].port))
    for opened in gates:
        opened.close()
        opened.close()
    hanging.close()
