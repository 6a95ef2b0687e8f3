"""`/metrics`, `/healthz`, `/readyz` and `/rooms` on a port of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moderator.errors import PORT_TAKEN, ModeratorError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Health:
    """What can be asked. The faults are sentences; none means well."""

    metrics: Callable[[], bytes]
    faults: Callable[[], list[str]]
    """Why the program should be killed and started again."""
    not_ready: Callable[[], list[str]]
    """Why it does not watch yet, or any more."""
    rooms: Callable[[], list[dict[str, Any]]]


class HealthServer:
    """Answers GET on `host:port`; port 0 takes a free one, which `port` tells.

    Nothing that is asked changes anything. Raises LM-704 when the port cannot be had.
    """

    def __init__(self, health: Health, host: str = "127.0.0.1", port: int = 0) -> None:
        handler = type("Handler", (_Handler,), {"health": health})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise ModeratorError(
                PORT_TAKEN, place=f"{host}:{port}", reason=error.strerror or error
            ) from None
        self._server.daemon_threads = True
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="health", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    health: Health
    timeout = 10
    server_version = "moderator"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, METRICS_TYPE, self.health.metrics())
        elif path == "/healthz":
            self._judge(self.health.faults())
        elif path == "/readyz":
            self._judge(self.health.not_ready())
        elif path == "/rooms":
            self._json(200, self.health.rooms())
        else:
            self._json(404, {"error": "there are /metrics /healthz /readyz /rooms"})

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes every few seconds are no news."""

    def _judge(self, faults: list[str]) -> None:
        self._json(503 if faults else 200, {"ok": not faults, "faults": faults})

    def _json(self, status: int, body: Any) -> None:
        data = json.dumps(body, ensure_ascii=False).encode()
        self._answer(status, "application/json; charset=utf-8", data)

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)
