"""Stations on the loopback that send live streams, well or badly, as a test tells them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from moderator.media.command import find_ffmpeg

Play = Callable[[BaseHTTPRequestHandler], None]
"""What a station does for one listener; returns when it hangs up."""


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Station:
    """A web server that does `play` for each GET. `requests` are the paths asked for, `headers`
    what came with the last."""

    def __init__(self, play: Play, host: str = "127.0.0.1", port: int = 0) -> None:
        self.play = play
        self.requests: list[str] = []
        self.headers: dict[str, str] = {}
        self.hung_up = threading.Event()
        station = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                station.requests.append(self.path)
                station.headers = dict(self.headers)
                with suppress(OSError):
                    station.play(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server((host, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"http://{host}:{self.port}"

    def close(self) -> None:
        """Close the port; listeners are hung up on."""
        self.hung_up.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def begin(handler: BaseHTTPRequestHandler, kind: str = "video/x-flv") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.end_headers()


def refuse(handler: BaseHTTPRequestHandler, status: int = 403) -> None:
    handler.send_error(status)


def bytes_of(
    path: Path,
    container: str,
    *more: str,
    seconds: float | None = None,
    announce: bool = False,
) -> bytes:
    """A file in another container, whole, packets as they are; unless it should `announce` it, an
    FLV does not say how long it is."""
    cut = ("-t", str(seconds)) if seconds is not None else ()
    if container == "flv" and not announce:
        more = (*more, "-flvflags", "no_duration_filesize")
    words = ["-i", str(path), *cut, "-c", "copy", *more, "-f", container, "pipe:1"]
    done = subprocess.run(
        [find_ffmpeg(), "-nostdin", "-loglevel", "error", *words], capture_output=True, check=True
    )
    return done.stdout


def without_flv_header(data: bytes) -> bytes:
    """What follows the file header and its back pointer: tags, which may follow other tags."""
    return data[13:]


@contextmanager
def sending(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg with these arguments, until left."""
    process = subprocess.Popen(
        [find_ffmpeg(), "-nostdin", "-loglevel", "error", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def at_live_speed(
    path: Path, container: str, *more: str, loop: bool = True, hung_up: threading.Event
) -> Iterator[bytes]:
    """The bytes of an endless live stream of the file, as they become due."""
    again = ("-stream_loop", "-1") if loop else ()
    words = ("-re", *again, "-i", str(path), "-c", "copy", *more, "-flush_packets", "1")
    with sending(*words, "-f", container, "pipe:1") as process:
        assert process.stdout is not None
        while not hung_up.is_set():
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                return
            yield data


class Broadcast:
    """Plays a file at live speed to every listener, each from its own beginning.

    `silent` holds the bytes back (they follow later), `refusing` answers with that status,
    `hang_up` closes every connection that is open. `began` is when (monotonic) each listener's
    stream began.
    """

    def __init__(self, path: Path, container: str = "flv", *more: str) -> None:
        self.path = path
        self.container = container
        self.more = more
        self.silent = threading.Event()
        self.refusing: int | None = None
        self.token: str | None = None
        self.offset_from: float | None = None
        self.began: list[float] = []
        self._open: list[threading.Event] = []

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        if self.refusing is not None or (self.token or "") not in handler.path:
            refuse(handler, self.refusing or 403)
            return
        begin(handler)
        self.began.append(time.monotonic())
        hung_up = threading.Event()
        self._open.append(hung_up)
        more = list(self.more)
        if self.offset_from is not None:
            more += ["-output_ts_offset", f"{time.monotonic() - self.offset_from:.3f}"]
        for data in at_live_speed(self.path, self.container, *more, hung_up=hung_up):
            while self.silent.is_set() and not hung_up.is_set():
                time.sleep(0.02)
            handler.wfile.write(data)

    def hang_up(self) -> None:
        for hung_up in self._open:
            hung_up.set()
        self._open.clear()


class Folder:
    """Serves the files of a folder, as a web server for HLS does."""

    def __init__(self, folder: Path) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                path = Path(self.translate_path(self.path))
                wanted = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
                first = int(wanted.partition("-")[0])
                if first == 0 or not path.is_file():
                    super().do_GET()
                    return
                data = path.read_bytes()
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - first))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(data[first:])

            def end_headers(self) -> None:
                self.send_header("Accept-Ranges", "bytes")
                super().end_headers()

            def copyfile(self, source: Any, outputfile: Any) -> None:
                with suppress(OSError):
                    super().copyfile(source, outputfile)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class RtspStation:
    """Serves one track of G.711 sound over RTSP with interleaved RTP (RFC 2326, RFC 3551).

    With `redirect_to` every DESCRIBE is answered by a redirect.
    """

    def __init__(self, redirect_to: str = "") -> None:
        self._redirect_to = redirect_to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self.url = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/room"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines, suppress(OSError):
            client.settimeout(5)
            request: list[str] = []
            while line := lines.readline().decode():
                if line.strip():
                    request.append(line.strip())
                    continue
                if not request:
                    continue
                method = request[0].split()[0]
                number = next(w.split(":")[1].strip() for w in request if w.startswith("CSeq"))
                client.sendall(self._answer(method, number))
                request = []
                if method == "PLAY":
                    self._play(client)
                    return

    def _answer(self, method: str, number: str) -> bytes:
        head = f"CSeq: {number}\r\nSession: 1\r\n"
        if method == "DESCRIBE" and self._redirect_to:
            return f"RTSP/1.0 302 Found\r\n{head}Location: {self._redirect_to}\r\n\r\n".encode()
        body = ""
        if method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=room\r\nt=0 0\r\n"
                "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track\r\n"
            )
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        if method == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        if method == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        return f"RTSP/1.0 200 OK\r\n{head}\r\n{body}".encode()

    def _play(self, client: socket.socket) -> None:
        samples = 400
        for number in range(2000):
            if self._stop.wait(samples / 8000):
                return
            header = bytes((0x80, 0)) + number.to_bytes(2, "big")
            header += (number * samples).to_bytes(4, "big") + b"room"
            loud = bytes((0x20 if at // 4 % 2 else 0xA0) for at in range(samples))
            packet = header + loud
            client.sendall(b"$\x00" + len(packet).to_bytes(2, "big") + packet)


@contextmanager
def rtmp_server(folder: Path) -> Iterator[int]:
    """nginx with its RTMP module on the loopback; the port. Skips the test where there is none."""
    module = next(Path("/usr/lib/nginx/modules").glob("ngx_rtmp_module.so"), None)
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if module is None or binary is None:
        pytest.skip("no nginx with its RTMP module (apt-get install libnginx-mod-rtmp)")
    port = free_port()
    folder.mkdir(exist_ok=True)
    (folder / "nginx.conf").write_text(
        f"load_module {module};\nworker_processes 1;\ndaemon off;\nmaster_process off;\n"
        f"pid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{ worker_connections 64; }}\n"
        f"rtmp {{ server {{ listen 127.0.0.1:{port}; chunk_size 4096;\n"
        "application live { live on; drop_idle_publisher 5s; } } }\n"
    )
    with subprocess.Popen(
        [binary, "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _wait_for_port(port, process)
            yield port
        finally:
            process.kill()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            pytest.skip("nginx did not start")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    raise AssertionError("nginx does not listen")


def hls_words(path: Path, folder: Path, *more: str) -> Sequence[str]:
    """Arguments of an ffmpeg that writes a live playlist of one-second segments."""
    return (
        "-re", "-stream_loop", "-1", "-i", str(path), "-c", "copy", *more,
        "-f", "hls", "-hls_time", "1", "-hls_list_size", "4", "-hls_flags", "delete_segments",
        "-hls_segment_filename", str(folder / "%05d.ts"), str(folder / "live.m3u8"),
    )  # fmt: skip
