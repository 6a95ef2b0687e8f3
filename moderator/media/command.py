"""Running ffmpeg: which binary, what it may open, when it is killed, what it says."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from moderator.errors import (
    EMPTY_FILE,
    FFMPEG_MISSING,
    IS_DIRECTORY,
    MEDIA_TIMEOUT,
    MISSING_FILE,
    UNREADABLE,
    ModeratorError,
    in_ui_language,
)
from moderator.media.address import PROTOCOLS, check_address, is_url, redact, redact_text

QUIET = ("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info")
"""Never read our terminal; every line of the log with its level, so that errors can be told."""


@dataclass(frozen=True, slots=True)
class Input:
    """Something ffmpeg may open.

    `address` is what follows `-i`, `shown` what people see, `options` the input options that
    keep it to the protocols it needs.
    """

    address: str
    shown: str
    is_stream: bool
    options: Mapping[str, str | None]

    @property
    def option_words(self) -> list[str]:
        """The options as words of a command line; one that is None is a word by itself."""
        pairs = ((f"-{name}", value) for name, value in self.options.items())
        return [word for pair in pairs for word in pair if word is not None]


def open_input(
    source: str | os.PathLike[str], *, allow_private: bool = False, stall_timeout_s: float = 60.0
) -> Input:
    """Checks `source`, a path or a stream URL, before ffmpeg sees it.

    Raises LM-101 (missing), LM-102 (directory), LM-103 (empty), LM-104 (unreadable, or not a
    regular file), LM-111 (address refused), LM-112 (no such host).
    """
    name = os.fspath(source)
    if is_url(name):
        check_address(name, allow_private=allow_private)
        scheme = name.partition("://")[0].lower()
        options = {"protocol_whitelist": PROTOCOLS[scheme]}
        if scheme in ("http", "https", "rtmp", "rtmps"):
            options["rw_timeout"] = str(int(stall_timeout_s * 1_000_000))
        return Input(name, redact(name), True, options)
    _check_file(name)
    # The prefix keeps names such as `-i.mp4` and `concat:a` from being read as something else,
    # and the long look finds a sound track that begins late in a container that announces none.
    return Input(
        f"file:{name}",
        _printable(name),
        False,
        {
            "protocol_whitelist": "file,pipe,crypto,data",
            "analyzeduration": "20000000",
            "probesize": "20000000",
        },
    )


def find_ffmpeg() -> str:
    """The binary on PATH, else the one that imageio-ffmpeg brings. Raises LM-108."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise ModeratorError(FFMPEG_MISSING) from None


@lru_cache(maxsize=1)
def find_quick_ffmpeg() -> str:
    """For many short runs on files of our own: the binary that imageio-ffmpeg brings, else as
    `find_ffmpeg`.

    It is linked statically and starts in 17 ms; Debian's, which loads 200 libraries, takes 75
    (2026-11-27).
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return find_ffmpeg()


def passthrough_options(binary: str) -> dict[str, str]:
    """The output option that keeps every frame with its own time, as this version names it."""
    return {"fps_mode" if _has_fps_mode(binary) else "vsync": "passthrough"}


SOURCE = "SOURCE"
TARGET = "TARGET"


def command_line(output: Any, binary: str, source: Input, target: str = "") -> list[str]:
    """The words of an ffmpeg-python graph that was built with SOURCE and TARGET for file names.

    The names go in last, because ffmpeg-python takes only those that are valid Unicode.
    """
    names = {SOURCE: source.address, TARGET: target}
    words = [str(word) for word in output.compile(cmd=[binary, *QUIET])]
    return [names.get(word, word) for word in words]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended: exit status (negative: the signal), its output and its log."""

    returncode: int
    stdout: bytes
    log: str


def run(arguments: list[str], shown: str, timeout_s: float) -> Finished:
    """Run to the end, without a shell or a terminal.

    Killed and reaped when `timeout_s` is over (LM-109) or anything else interrupts the wait.
    Raises LM-108 when the binary cannot be started.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ModeratorError(FFMPEG_MISSING) from error
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise ModeratorError(MEDIA_TIMEOUT, path=shown, seconds=f"{timeout_s:g}") from None
        finally:
            process.kill()
    return Finished(process.returncode, stdout, decode_log(stderr))


def decode_log(log: bytes) -> str:
    """The log as text in which a file name reads as Python spells it."""
    return log.decode("utf-8", "surrogateescape")


def without_address(log: str, source: Input) -> str:
    """The log with the address cut out, so that no file name can pass for a line of the log."""
    return log.replace(source.address.translate(_AS_LOGGED), "")


def reason_in(log: str, source: Input) -> str:
    """Why ffmpeg gave up: its last two distinct errors, without addresses and pointers."""
    found: list[str] = []
    for line in without_address(log, source).splitlines():
        if not is_error(line):
            continue
        message = _PREFIXES.sub("", line).strip(" :.")
        if message and message not in found and not _UNHELPFUL.match(message):
            found.append(message)
    return _printable(redact_text("; ".join(found[-2:]))) or "no reason given"


def is_error(line: str) -> bool:
    """Whether a line of the log reports damage or failure of the input."""
    # Time stamps that step back reach our raw outputs, which carry none; TrackClock sees to them.
    return _ERROR.search(line) is not None and "non monotonically increasing dts" not in line


_ERROR = re.compile(r"\[(?:error|fatal|panic)\] ")
_PREFIXES = re.compile(
    r"^(?:\[[^\]]*\] ?)+(?:Error opening input: |Error while decoding stream #\S+: )?"
)
_UNHELPFUL = re.compile(
    r"At least one output file|Error opening input|Error opening output|Error while decoding"
)
_AS_LOGGED = dict.fromkeys((*range(8), *range(14, 32)), "?")


def _check_file(name: str) -> None:
    shown = _printable(name)
    if not name:
        raise ModeratorError(MISSING_FILE, path="''")
    try:
        status = Path(name).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ModeratorError(MISSING_FILE, path=shown) from None
    except OSError as error:
        _unreadable(shown, error)
    if stat.S_ISDIR(status.st_mode):
        raise ModeratorError(IS_DIRECTORY, path=shown)
    if not stat.S_ISREG(status.st_mode):
        reason = in_ui_language("not a regular file", "不是普通文件")
        raise ModeratorError(UNREADABLE, path=shown, reason=reason)
    if status.st_size == 0:
        raise ModeratorError(EMPTY_FILE, path=shown)
    try:
        with Path(name).open("rb") as file:
            file.read(1)
    except OSError as error:
        _unreadable(shown, error)


def _unreadable(shown: str, error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    raise ModeratorError(UNREADABLE, path=shown, reason=reason) from None


def _printable(text: str) -> str:
    """`text` on one line that any terminal takes: undecodable bytes and controls are escaped."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


@lru_cache(maxsize=8)
def _has_fps_mode(binary: str) -> bool:
    log = run([binary, "-version"], binary, 30.0).stdout.decode("utf-8", "replace")
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", log)
    # Builds from git have no number there and are recent. The option came with 5.1.
    return version is None or (int(version[1]), int(version[2])) >= (5, 1)
