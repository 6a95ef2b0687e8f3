"""One connection to a live source: what ffmpeg is told, and why it ended."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Literal
from urllib.parse import parse_qs, urlunsplit

import ffmpeg

from moderator.errors import URL_REFUSED, ModeratorError, in_ui_language
from moderator.media.address import (
    PROTOCOLS,
    AddressPolicy,
    is_url,
    look_up,
    redact,
    split_address,
)
from moderator.media.clock import REWIND_S, Jump, TrackClock
from moderator.media.command import (
    SOURCE,
    Input,
    command_line,
    find_ffmpeg,
    open_input,
    passthrough_options,
    reason_in,
)
from moderator.media.egress import EgressLimits, Gate, open_gate
from moderator.media.filters import audio_filters, in_corner, sampling
from moderator.media.interleave import Interleaver
from moderator.media.probe import MediaInfo
from moderator.media.ring import RingWriter
from moderator.media.room_state import Reason
from moderator.media.running import Confinement, Item, Reading, RunningFfmpeg, times

Decode = Literal["all", "reference", "key"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to decode of a live source; `FeedOptions` explains the fields."""

    tracks: frozenset[str]
    frame_every_s: float
    scene_change: float | None
    max_frame_side: int
    max_frame_pixels: int
    block_s: float
    threads: int
    decode: Decode
    hwaccel: str
    audio_backlog_s: float
    frame_backlog: int
    memory_bytes: int
    segment_bytes: int


@dataclass(frozen=True, slots=True)
class Way:
    """How a source is reached: the input for ffmpeg, and the gate it goes through."""

    input: Input
    gate: Gate | None = None
    environment: Mapping[str, str] | None = None

    def leads_to_a_recording(self, info: MediaInfo | None) -> bool:
        """Whether what is there ends where its header says.

        Who plays a file into a live room by FLV or RTMP announces the length of the file in the
        stream; so there only the length of the HTTP answer counts.
        """
        if info is None or not (info.duration_s or 0.0) > 0.0:
            return False
        if not self.input.is_stream:
            return True
        if not self.input.address.lower().startswith("http"):
            return False
        return info.container != "flv" or (self.gate is not None and self.gate.told_length)

    def close(self) -> None:
        if self.gate is not None:
            self.gate.close()


def open_way(
    url: str,
    *,
    realtime: bool,
    headers: Mapping[str, str],
    policy: AddressPolicy,
    limits: EgressLimits,
    stall_s: float,
) -> Way:
    """The way to a URL or a file; close it after use.

    HTTP and TLS go through a gate as a proxy, RTMP and RTSP through a port of it that leads to
    the one host, SRT straight to the address that was judged. Raises LM-101 to LM-104 for a file,
    LM-111 for an address that is refused, LM-112 for a name that leads nowhere.
    """
    pace: dict[str, str | None] = {"re": None} if realtime else {}
    if not is_url(url):
        file = open_input(Path(url).absolute() if url else url)
        return Way(replace(file, options={**file.options, **pace}))
    parts = split_address(url)
    scheme, host = parts.scheme, parts.hostname or ""
    port = parts.port or _PORTS[scheme]
    found = look_up(url, host, port, policy)
    whitelist = PROTOCOLS[scheme]
    options: dict[str, str | None] = {
        "protocol_whitelist": whitelist,
        "analyzeduration": "3000000",
        "probesize": "5000000",
        # Frames keep their own times; the frame rate would take seconds to tell.
        "fpsprobesize": "0",
        "fflags": "+discardcorrupt",
        **pace,
    }
    if scheme == "srt":
        _refuse_listening(url, parts.query)
        address = urlunsplit(parts._replace(netloc=f"{_bracketed(found[0])}:{port}"))
        return Way(Input(address, redact(url), True, options), None, _environment(None))
    options["rw_timeout"] = str(int(stall_s * 2_000_000))
    extra = {**headers} if scheme == "http" else {}
    gate = open_gate(policy, limits, origin=(host, port), headers=extra)
    try:
        address = url
        if scheme in ("rtmp", "rtsp"):
            local = gate.forward(host, port, rtsp=scheme == "rtsp")
            user, at, _ = parts.netloc.rpartition("@")
            address = urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{local}"))
        if scheme == "rtmp":
            options["rtmp_tcurl"] = f"rtmp://{_bracketed(host)}:{port}/{_rtmp_app(parts.path)}"
        if scheme == "rtsp":
            options["rtsp_transport"] = "tcp"
            del options["rw_timeout"]
        if scheme == "https" and headers:
            options["headers"] = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        if scheme == "rtmps":
            options["protocol_whitelist"] = f"{whitelist},httpproxy,http"
        if re.search(r"\.m3u8?$", parts.path, re.IGNORECASE):
            # The newest segment: what came before it is older than a live room needs.
            options |= {"live_start_index": "-1", "http_persistent": "0"}
        shown = redact(url)
        return Way(Input(address, shown, True, options), gate, _environment(gate.proxy_url))
    except BaseException:
        gate.close()
        raise


class Connection:
    """ffmpeg at work on a live source; `items` brings what it decodes, `close` in any case."""

    def __init__(self, way: Way, wanted: Wanted, writer: RingWriter | None, *, wait: bool) -> None:
        """With `wait`, ffmpeg is held up rather than anything dropped."""
        self.way = way
        self.wanted = wanted
        self.writer = writer
        self.began = monotonic()
        self._clocks = {
            track: TrackClock(note_step_s=LONG_STEP_S) for track in sorted(wanted.tracks)
        }
        bounds = {
            "audio": max(2, round(wanted.audio_backlog_s / wanted.block_s)),
            "video": wanted.frame_backlog,
        }
        self.items: Interleaver[Item] = Interleaver(
            {track: bounds[track] for track in self._clocks},
            patience_s=_PATIENCE_S,
            when_full="wait" if wait else "drop",
        )
        self._held_if_finite = not wait and "re" not in way.input.options
        side = wanted.max_frame_side
        self.running = RunningFfmpeg(
            way.input,
            self._arguments,
            self._clocks,
            self.items,
            # Without -copyts ffmpeg counts from the start of the input, in the copy as well.
            Reading(wanted.block_s, (side, side), zero_s=0.0, in_corner=True),
            Confinement(
                memory_bytes=wanted.memory_bytes,
                file_bytes=wanted.segment_bytes if writer is not None else None,
                open_files=_OPEN_FILES,
                environment=way.environment,
                folder=writer.folder if writer is not None else None,
            ),
            on_open=self._opened,
        )

    @property
    def start_pts_s(self) -> float | None:
        """The PTS at which the times of this connection are zero."""
        return self.running.info.start_s if self.running.info else None

    @property
    def is_finite(self) -> bool:
        """Whether it is a recording, and no live stream."""
        return self.way.leads_to_a_recording(self.running.info)

    @property
    def is_hls(self) -> bool:
        return self.running.info is not None and self.running.info.container == "hls"

    @property
    def is_transport(self) -> bool:
        """Whether the source is MPEG-TS, in which the codec's parameters come again and again."""
        return self.is_hls or (
            self.running.info is not None and self.running.info.container == "mpegts"
        )

    def dropped(self, track: str) -> int:
        """Blocks or frames that were lost because nobody took them in time."""
        return self.items.dropped(track) if track in self.wanted.tracks else 0

    @property
    def missing(self) -> frozenset[str]:
        """Tracks that were to be decoded and are not there."""
        info = self.running.info
        if info is None:
            return frozenset()
        there = {"audio": info.has_audio, "video": info.has_video}
        return frozenset(track for track in self.wanted.tracks if not there[track])

    def jumps(self) -> list[Jump]:
        """Where time stamps did not continue: all that go back, and long steps forward."""
        return [
            jump
            for clock in self._clocks.values()
            for jump in clock.jumps
            if not 0 < jump.step_s < LONG_STEP_S and abs(jump.step_s) > REWIND_S
        ]

    def why_it_ended(self, delivered: bool) -> tuple[Reason, str]:
        """Once ffmpeg has ended: the reason and a sentence, with secrets removed."""
        returncode = self.running.returncode
        log = "\n".join(self.running.errors)
        said = reason_in(log, self.way.input)
        refused = self.refused()
        if refused:
            return Reason.REFUSED, refused
        if self.way.gate is not None:
            trouble = self.way.gate.take_trouble()
            if trouble:
                said = f"{said}; {trouble[-1]}"
        if returncode is not None and returncode < 0:
            return Reason.PROCESS_DIED, f"ffmpeg was ended by signal {-returncode}"
        if returncode == 0 or (_OVER.search(log) and delivered):
            if delivered:
                return Reason.END_OF_STREAM, "the stream ended"
            return Reason.NOT_MEDIA, f"it ended before anything could be decoded ({said})"
        for pattern, reason in _TOLD_BY:
            if pattern.search(log):
                return reason, said
        return Reason.PROCESS_DIED if delivered else Reason.UNREACHABLE, said

    def refused(self) -> str:
        """What the gate did not allow last, as a sentence; empty when it allowed everything."""
        refusals = self.way.gate.take_refusals() if self.way.gate is not None else []
        return refusals[-1].partition("\n")[0] if refusals else ""

    def close(self) -> None:
        self.running.close()
        self.way.close()

    def _opened(self, info: MediaInfo | None) -> None:
        # A recording comes as fast as it is read: there is no need to lose any of it.
        if self._held_if_finite and self.way.leads_to_a_recording(info):
            self.items.wait_when_full()

    def _arguments(self, write_to: Mapping[str, int]) -> list[str]:
        binary = find_ffmpeg()
        wanted = self.wanted
        options: dict[str, str | int | None] = {
            **self.way.input.options,
            "threads": wanted.threads,
        }
        if "video" in write_to:
            options["max_pixels"] = wanted.max_frame_pixels
            options["skip_frame"] = _SKIP[wanted.decode]
            if wanted.hwaccel != "none":
                options["hwaccel"] = wanted.hwaccel
        source = ffmpeg.input(SOURCE, **options)
        outputs = []
        if "audio" in write_to:
            outputs.append(
                source["a:0?"].output(
                    f"pipe:{write_to['audio']}",
                    f="s16le",
                    af=audio_filters(write_to[times("audio")]),
                    flush_packets=1,
                )
            )
        if "video" in write_to:
            picked = sampling(
                write_to[times("video")], wanted.frame_every_s, wanted.scene_change, 0.0
            )
            outputs.append(
                source["V:0?"].output(
                    f"pipe:{write_to['video']}",
                    f="rawvideo",
                    pix_fmt="bgr24",
                    vf=",".join((*picked, *in_corner(wanted.max_frame_side))),
                    flush_packets=1,
                    # An encoder with several threads holds a frame back until the next one.
                    threads=1,
                    **passthrough_options(binary),
                )
            )
        if self.writer is not None:
            tracks = (source["V:0?"], source["a:0?"])
            outputs.append(ffmpeg.output(*tracks, self.writer.pattern, **self.writer.options))
        return command_line(ffmpeg.merge_outputs(*outputs), binary, self.way.input)


_PORTS = {"http": 80, "https": 443, "rtmp": 1935, "rtmps": 443, "rtsp": 554, "srt": 9000}
_SKIP = {"all": "default", "reference": "noref", "key": "nokey"}
_PATIENCE_S = 0.05
LONG_STEP_S = 5.0
"""A step forward of the time stamps that is looked at: is it a gap, or a clock that was set?"""
_OPEN_FILES = 256
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_OVER = re.compile(r"ends prematurely at \d+, should be 18446744073709551615")
"""What an HTTP answer without a length looks like when it is over."""
_TOLD_BY = (
    (re.compile(r"No space left|Error writing|Disk quota|File too large"), Reason.RECORDING_FAILED),
    (re.compile(r"40[134] |410 |access denied|StreamNotFound", re.I), Reason.URL_EXPIRED),
    (
        re.compile(
            r"refused|timed out|unreachable|reset by peer|I/O error|Input/output|resolve|"
            r"Server returned 5|Broken pipe|End of file|Unknown error",
            re.I,
        ),
        Reason.UNREACHABLE,
    ),
    (re.compile(r"Invalid data|moov atom|codec parameters", re.I), Reason.NOT_MEDIA),
)


def _environment(proxy: str | None) -> dict[str, str]:
    """Nothing of ours that is secret, and no proxy but the gate."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed, "http_proxy": proxy} if proxy else passed


def _rtmp_app(path: str) -> str:
    """The application in a path, as ffmpeg's rtmpproto.c splits it."""
    words = path.lstrip("/").split("/")
    if len(words) > 2 and ":" not in words[1]:
        return "/".join(words[:2])
    return words[0] if len(words) > 1 else ""


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _refuse_listening(url: str, query: str) -> None:
    options = {key.lower(): values[-1].lower() for key, values in parse_qs(query).items()}
    if options.get("mode", "caller") != "caller" or options.keys() & {"localaddr", "localport"}:
        reason = in_ui_language("SRT is opened as a caller only", "SRT 只能以 caller 模式打开")
        raise ModeratorError(URL_REFUSED, url=redact(url), reason=reason)
