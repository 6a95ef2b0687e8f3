"""The HTTP server, uvicorn, ended in the order that lets everybody go."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI


class ConsoleServer(uvicorn.Server):
    """Serves one application. `proxy` is the address of the reverse proxy to be believed."""

    def __init__(self, app: FastAPI, *, port: int = 0, proxy: str = "") -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                port=port,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=bool(proxy),
                forwarded_allow_ips=proxy or None,
                timeout_graceful_shutdown=10,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Event streams first: they never end by themselves, and would hold all up."""
        await self._app.state.house.hub.stop()
        await super().shutdown(sockets)
