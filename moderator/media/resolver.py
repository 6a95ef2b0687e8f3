"""Where a room is now: hooks that platforms with expiring stream URLs are asked through."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moderator.errors import RESOLVER_FAILED, ModeratorError, in_ui_language
from moderator.media.address import is_url, redact_text

MAX_ANSWER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class FreshUrl:
    """What a resolver answers: where the room is now, and headers that go with it."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Resolver(Protocol):
    """Asked for a fresh URL when there is none yet, or the one there was no longer works."""

    def fresh_url(self, room_id: str, reason: str) -> FreshUrl:
        """Blocks until there is an answer. Raises LM-116 when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class CommandResolver:
    """Runs a program, without a shell; the room and the reason follow its arguments.

    It prints a URL on a line, or JSON: `{"url": "...", "headers": {"Referer": "..."}}`.
    """

    argv: Sequence[str]
    timeout_s: float = 20.0

    def fresh_url(self, room_id: str, reason: str) -> FreshUrl:
        name = str(self.argv[0])
        try:
            done = subprocess.run(
                [*self.argv, room_id, reason],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self.timeout_s,
                check=False,
            )
        except OSError as error:
            raise _failed(name, error.strerror or str(error)) from None
        except subprocess.TimeoutExpired:
            raise _failed(name, _late(self.timeout_s)) from None
        if done.returncode != 0:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise _failed(name, f"exit {done.returncode}: {' '.join(last)}")
        return _parse(name, done.stdout)


@dataclass(frozen=True, slots=True)
class HttpResolver:
    """Posts `{"room": ..., "reason": ...}` as JSON; the answer is as a command prints it.

    The address is the operator's own: it may be private, and redirects are not followed.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 20.0

    def fresh_url(self, room_id: str, reason: str) -> FreshUrl:
        import httpx

        name = redact_text(self.url)
        try:
            with (
                httpx.Client(timeout=self.timeout_s, trust_env=False) as client,
                client.stream(
                    "POST",
                    self.url,
                    json={"room": room_id, "reason": reason},
                    headers=dict(self.headers),
                ) as answer,
            ):
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        break
                if answer.status_code != 200:
                    raise _failed(name, f"HTTP {answer.status_code}")
        except httpx.TimeoutException:
            raise _failed(name, _late(self.timeout_s)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _failed(name, str(error)) from None
        return _parse(name, body)


def _parse(name: str, answer: bytes) -> FreshUrl:
    text = answer[: MAX_ANSWER_BYTES + 1].decode("utf-8", "replace").strip()
    if len(text) <= MAX_ANSWER_BYTES:
        url: object = text
        headers: dict[str, str] = {}
        if text.startswith("{"):
            try:
                said = json.loads(text)
                url, headers = said.get("url"), said.get("headers") or {}
            except ValueError:
                url = ""
        strings = isinstance(headers, dict) and all(
            isinstance(word, str) for pair in headers.items() for word in pair
        )
        if isinstance(url, str) and is_url(url) and "\n" not in url and strings:
            return FreshUrl(url, headers)
    raise _failed(
        name, in_ui_language("the answer holds no stream URL", "返回内容中没有直播流地址")
    )


def _failed(name: str, reason: str) -> ModeratorError:
    return ModeratorError(RESOLVER_FAILED, name=name, reason=redact_text(reason))


def _late(seconds: float) -> str:
    return in_ui_language(f"no answer within {seconds:g} s", f"{seconds:g} 秒内没有应答")
