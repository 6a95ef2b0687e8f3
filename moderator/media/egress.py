"""The way out for ffmpeg: a small proxy on the loopback that judges every connection.

ffmpeg looks names up by itself and follows redirects and playlists wherever they lead. So it is
told to go through a proxy: for each connection the name is looked up here, every address it leads
to is judged, and the connection goes to the very address that was judged. What comes back is
bounded as well: headers in size and time, playlists in size, connections in number and rate.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urlsplit

from moderator.errors import URL_REFUSED, ModeratorError
from moderator.media.address import AddressPolicy, look_up

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """What one room may draw through its gate."""

    header_bytes: int = 64 << 10
    header_timeout_s: float = 10.0
    connect_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    connections: int = 24
    """At one time."""
    connections_per_minute: int = 600
    """Live playlists of one-second segments with sound apart need about 240."""
    playlist_bytes: int = 2 << 20
    bytes_per_s: int = 25_000_000
    """Mean over ten seconds; 200 Mbit/s is above any live bit rate."""


class Gate:
    """One room's way out. Made by `open_gate`; `close` it."""

    def __init__(
        self,
        policy: AddressPolicy,
        limits: EgressLimits,
        origin: tuple[str, int],
        headers: Mapping[str, str],
    ) -> None:
        self.bytes_in = 0
        self.port = 0
        self.told_length = False
        """Whether the last answer by plain HTTP, playlists apart, said how long it is."""
        self._policy = policy
        self._limits = limits
        self._origin = origin
        self._headers = headers
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._recent: deque[float] = deque()
        self._trouble: deque[str] = deque(maxlen=8)
        self._refusals: deque[str] = deque(maxlen=8)
        self._closed = False

    @property
    def proxy_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take_refusals(self) -> list[str]:
        """What was not allowed since the last call, as messages: addresses, and limits met."""
        return _drain(self._refusals)

    def take_trouble(self) -> list[str]:
        """Connections that could not be made since the last call, as messages."""
        return _drain(self._trouble)

    def forward(self, host: str, port: int, *, rtsp: bool = False) -> int:
        """A port on the loopback that leads to `host` and nowhere else.

        With `rtsp`, answers that would redirect are not let through.
        """

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(_NoWayError):
                upstream = await self._connect(host, port)
                body = _rtsp_messages if rtsp else _pieces
                await self._splice(reader, writer, *upstream, body)

        return _shared.run(self._listen(serve))

    def close(self) -> None:
        """Close every connection; may be called again."""
        if not self._closed:
            self._closed = True
            _shared.run(self._shut())
            _shared.release()

    async def _listen(self, serve: _Serve) -> int:
        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.add(task)
            self._writers.add(writer)
            try:
                # One may still be taken from the queue of a port that has just been closed.
                if not self._closed and self._admits():
                    await serve(reader, writer)
                writer.close()
                await writer.wait_closed()
            except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            except _OverLimitError as error:
                self._refusals.append(str(error))
            except asyncio.LimitOverrunError:
                self._refusals.append(f"headers of more than {self._limits.header_bytes} bytes")
            finally:
                if task is not None:
                    self._tasks.discard(task)
                self._writers.discard(writer)
                writer.transport.abort()

        server = await asyncio.start_server(
            guarded, "127.0.0.1", 0, limit=self._limits.header_bytes
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _shut(self) -> None:
        loop = asyncio.get_running_loop()
        for server in self._servers:
            for listener in server.sockets:
                loop.remove_reader(listener.fileno())
        # asyncio leaves a connection open that it has accepted when its server closes meanwhile.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _admits(self) -> bool:
        now = monotonic()
        while self._recent and self._recent[0] < now - 60:
            self._recent.popleft()
        if len(self._tasks) > self._limits.connections:
            self._refusals.append(f"more than {self._limits.connections} connections at one time")
            return False
        if len(self._recent) >= self._limits.connections_per_minute:
            self._refusals.append(
                f"more than {self._limits.connections_per_minute} connections in a minute"
            )
            return False
        self._recent.append(now)
        return True

    async def _serve_proxy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async with asyncio.timeout(self._limits.header_timeout_s):
            head = await reader.readuntil(b"\r\n\r\n")
        request = _REQUEST.match(head)
        if request is None:
            await _say(writer, 400)
            return
        method, target = request[1].decode("latin-1"), request[2].decode("latin-1")
        try:
            if method == "CONNECT":
                host, _, port = target.rpartition(":")
                upstream = await self._connect(host.strip("[]"), int(port))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._splice(reader, writer, *upstream, _pieces)
                return
            parts = urlsplit(target)
            place = parts.hostname or "", parts.port or 80
            upstream = await self._connect(*place)
        except _NoWayError as error:
            await _say(writer, error.status)
            return
        except ValueError:
            await _say(writer, 400)
            return
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        extra = self._headers if place == self._origin else {}
        upstream[1].write(_forwarded(method, path, head, extra))
        await self._splice(reader, writer, *upstream, _Response(path, self._limits, self._see_head))

    def _see_head(self, head: bytes) -> None:
        self.told_length = _LENGTH.search(head) is not None

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises _NoWayError, having noted why."""
        url = f"//{host}:{port}"
        loop = asyncio.get_running_loop()
        error: Exception | None = None
        try:
            async with asyncio.timeout(self._limits.connect_timeout_s):
                found = await loop.run_in_executor(None, look_up, url, host, port, self._policy)
        except ModeratorError as refused:
            not_allowed = refused.code == URL_REFUSED.code
            (self._refusals if not_allowed else self._trouble).append(refused.text())
            raise _NoWayError(403 if not_allowed else 502) from None
        except TimeoutError:
            self._trouble.append(f"{url}: the name is not answered for")
            raise _NoWayError(504) from None
        for address in dict.fromkeys(found):
            try:
                async with asyncio.timeout(self._limits.connect_timeout_s):
                    return await asyncio.open_connection(
                        address, port, limit=self._limits.header_bytes
                    )
            except (OSError, TimeoutError) as failed:
                error = failed
        self._trouble.append(f"{url}: {error or 'no address'}")
        raise _NoWayError(502)

    async def _splice(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_there: asyncio.StreamReader,
        to_there: asyncio.StreamWriter,
        body: _Body,
    ) -> None:
        async def send() -> None:
            with suppress(OSError):
                while data := await reader.read(_PIECE_BYTES):
                    to_there.write(data)
                    await to_there.drain()
            # The reader of the answers is gone: so is the sense in fetching them.
            to_there.transport.abort()

        sending = asyncio.create_task(send())
        window_began, window_bytes = monotonic(), 0
        try:
            while True:
                async with asyncio.timeout(self._limits.idle_timeout_s):
                    data = await body(from_there)
                if not data:
                    break
                self.bytes_in += len(data)
                window_bytes += len(data)
                writer.write(data)
                await writer.drain()
                now = monotonic()
                if window_bytes > self._limits.bytes_per_s * 10:
                    raise _OverLimitError(f"more than {self._limits.bytes_per_s} bytes a second")
                if now - window_began > 10:
                    window_began, window_bytes = now, 0
        finally:
            sending.cancel()
            to_there.transport.abort()
            await asyncio.gather(sending, return_exceptions=True)


def open_gate(
    policy: AddressPolicy,
    limits: EgressLimits | None = None,
    *,
    origin: tuple[str, int] = ("", 0),
    headers: Mapping[str, str] | None = None,
) -> Gate:
    """A gate that listens on the loopback. `headers` are added to plain HTTP requests to the
    `origin` (host, port) and to no other."""
    _shared.take()
    gate = Gate(policy, limits or EgressLimits(), origin, headers or {})
    try:
        gate.port = _shared.run(gate._listen(gate._serve_proxy))
    except BaseException:
        _shared.release()
        raise
    return gate


_PIECE_BYTES = 1 << 16
_TURNS = 4
"""Of the loop: from a connection that is accepted to the task that serves it."""
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r\n")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_HOP_BY_HOP = re.compile(rb"(?i)(connection|keep-alive|proxy-[\w-]+|te|upgrade)\s*:")
_PLAYLIST_TYPE = re.compile(rb"(?im)^content-type:.*(mpegurl|dash\+xml)")
_PLAYLIST_PATH = re.compile(r"\.(m3u8?|mpd)(\?|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")
_RTSP_REDIRECT = re.compile(rb"RTSP/1\.\d 3\d\d")

_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_Body = Callable[[asyncio.StreamReader], Awaitable[bytes]]


class _OverLimitError(Exception):
    """More came than one room may draw."""


class _NoWayError(Exception):
    """There is no connection to be had; `status` is what a proxy says then."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Response:
    """Reads one HTTP answer piece by piece; playlists are bounded."""

    def __init__(self, path: str, limits: EgressLimits, see_head: Callable[[bytes], None]) -> None:
        self._limits = limits
        self._see_head = see_head
        self._is_playlist = _PLAYLIST_PATH.search(path) is not None
        self._body_bytes = -1

    async def __call__(self, reader: asyncio.StreamReader) -> bytes:
        if self._body_bytes < 0:
            async with asyncio.timeout(self._limits.header_timeout_s):
                head = await reader.readuntil(b"\r\n\r\n")
            self._body_bytes = 0
            self._is_playlist |= _PLAYLIST_TYPE.search(head) is not None
            if not self._is_playlist:
                self._see_head(head)
            return _without_hops(head) + b"Connection: close\r\n\r\n"
        data = await reader.read(_PIECE_BYTES)
        if self._body_bytes == 0:
            self._is_playlist |= data.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U")
        self._body_bytes += len(data)
        if self._is_playlist and self._body_bytes > self._limits.playlist_bytes:
            raise _OverLimitError(f"a playlist of more than {self._limits.playlist_bytes} bytes")
        return data


async def _pieces(reader: asyncio.StreamReader) -> bytes:
    return await reader.read(_PIECE_BYTES)


async def _rtsp_messages(reader: asyncio.StreamReader) -> bytes:
    """The next message or interleaved packet (RFC 2326, 10.12)."""
    first = await reader.read(1)
    if not first:
        return b""
    if first == b"$":
        head = await reader.readexactly(3)
        return first + head + await reader.readexactly(int.from_bytes(head[1:], "big"))
    head = first + await reader.readuntil(b"\r\n\r\n")
    if _RTSP_REDIRECT.match(head):
        raise _OverLimitError("an RTSP redirect, which is not followed")
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(min(int(length[1]), 1 << 20)) if length else b"")


def _forwarded(method: str, path: str, head: bytes, extra: Mapping[str, str]) -> bytes:
    """The request as the origin sees it: its own path, one request a connection."""
    names = {name.lower().encode("latin-1") for name in extra}
    lines = [f"{method} {path} HTTP/1.1".encode("latin-1")]
    for line in head.split(b"\r\n")[1:-2]:
        if not _HOP_BY_HOP.match(line) and line.partition(b":")[0].lower() not in names:
            lines.append(line)
    lines += [f"{name}: {value}".encode() for name, value in extra.items()]
    return b"\r\n".join((*lines, b"Connection: close", b"", b""))


def _without_hops(head: bytes) -> bytes:
    lines = head.split(b"\r\n")[:-2]
    return b"\r\n".join((*(line for line in lines if not _HOP_BY_HOP.match(line)), b""))


async def _say(writer: asyncio.StreamWriter, status: int) -> None:
    writer.write(
        f"HTTP/1.1 {status} Refused by the gate\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )
    await writer.drain()


def _drain(messages: deque[str]) -> list[str]:
    taken = []
    while messages:
        taken.append(messages.popleft())
    return taken


class _SharedLoop:
    """One event loop on one thread serves the gates of all rooms; it ends with the last gate."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_until_stopped, args=(self._loop,), name="egress", daemon=True
                )
                self._thread.start()

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._loop is None or self._thread is None:
                return
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._thread = None

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        loop = self._loop
        if loop is None:
            work.close()
            raise RuntimeError("the gate is closed")
        return asyncio.run_coroutine_threadsafe(work, loop).result()


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        # Transports close in callbacks of their own.
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


_shared = _SharedLoop()
