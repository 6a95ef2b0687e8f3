"""The review console: envelopes over its API, and the clips and frames that they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import structlog
from pydantic import Field

from moderator.errors import SINK_CONFIG, ModeratorError, in_ui_language
from moderator.sinks.config import SinkOptions, SinkPlace, read_options, secret
from moderator.sinks.envelope import Envelope
from moderator.sinks.sink import Rejected, SinkError, Unavailable

log = structlog.get_logger()

DEFAULT_TYPES = frozenset(
    {
        "session.started",
        "session.state",
        "session.gap",
        "observation",
        "violation",
        "violation.updated",
        "evidence",
        "session.ended",
    }
)
"""What the console shows."""

ABOUT_THIS_ONE = frozenset({400, 413, 415, 422})
"""Answers that speak about the message; any other may be another one tomorrow."""

PIECE_BYTES = 1 << 20


class ConsoleOptions(SinkOptions):
    url: str = Field(title="URL", description="Where `moderator serve` is reached.")
    token_env: str = Field(
        title="Token", description="Environment variable with an API token, scope ingest:write."
    )
    files: bool = Field(
        True, title="Evidence", description="Send clips and frames; false where the console's own."
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, title="Patience", description="Seconds without an answer."
    )


class ConsoleSink:
    """POSTs envelopes in order; after an `evidence` envelope it sends the files that this names.

    The console knows envelopes by what they are about and files by their hash, so what comes
    twice changes nothing. The address is the operator's own and may be private; proxies of the
    environment are not used, redirects not followed.
    """

    batch_size = 100

    def __init__(
        self, name: str, types: frozenset[str], out: Path, options: ConsoleOptions, token: str
    ) -> None:
        self.name = name
        self.types = types
        self._out = out
        self._files = options.files
        self._client = httpx.Client(
            base_url=f"{options.url.rstrip('/')}/api/v1/ingest/",
            headers={"Authorization": f"Bearer {token}", "User-Agent": "live-stream-moderator"},
            timeout=options.timeout_s,
            trust_env=False,
        )

    def send(self, batch: Sequence[Envelope]) -> None:
        for envelopes in _until_evidence(batch):
            body = {"envelopes": [envelope.to_json() for envelope in envelopes]}
            self._request("POST", "envelopes", json=body)
            if self._files and envelopes[-1].type == "evidence":
                self._send_files(envelopes[-1])

    def close(self) -> None:
        self._client.close()

    def _send_files(self, envelope: Envelope) -> None:
        names = (envelope.body or {}).get("sha256") or {}
        for name in names:
            path = self._out / name
            if not path.is_file():
                # Retention, or a person, was quicker; the console says that it is not there.
                log.warning("evidence_gone", sink=self.name, path=name)
                continue
            where = f"violations/{quote(envelope.record or '', safe='')}/evidence/{quote(name)}"
            self._request("PUT", where, content=_pieces(path))

    def _request(self, method: str, where: str, **options: Any) -> None:
        try:
            response = self._client.request(method, where, **options)
        except httpx.TimeoutException:
            raise Unavailable("no answer in time") from None
        except httpx.HTTPError as error:
            raise Unavailable(type(error).__name__) from None
        except OSError as error:
            raise Unavailable(error.strerror or type(error).__name__) from None
        if not response.is_success:
            raise _failure(response)


def make(*, place: SinkPlace, options: Mapping[str, Any]) -> ConsoleSink:
    known = read_options(ConsoleOptions, options, place.where)
    try:
        url = httpx.URL(known.url)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query:
        reason = in_ui_language("an http or https address", "应为 http 或 https 地址")
        raise ModeratorError(SINK_CONFIG, place=f"{place.where}.url", reason=reason)
    token = secret(known.token_env, f"{place.where}.token_env")
    if not token.isascii() or not token.isprintable():
        reason = in_ui_language("not an API token", "不是 API 令牌")
        raise ModeratorError(SINK_CONFIG, place=f"{place.where}.token_env", reason=reason)
    types = DEFAULT_TYPES if place.types is None else place.types
    return ConsoleSink(place.name, types, place.out, known, token)


def _until_evidence(batch: Sequence[Envelope]) -> Iterator[list[Envelope]]:
    """`batch` in runs that end with an `evidence` envelope: its files come before what follows."""
    run: list[Envelope] = []
    for envelope in batch:
        run.append(envelope)
        if envelope.type == "evidence":
            yield run
            run = []
    if run:
        yield run


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _failure(response: httpx.Response) -> SinkError:
    """The console's own words where it has any: a code and what is wrong."""
    reason = f"HTTP {response.status_code}"
    try:
        problem = response.json()
        reason = f"{reason} {problem['code']} {problem['detail']}"[:300]
    except (ValueError, KeyError, TypeError):
        pass
    if response.status_code in ABOUT_THIS_ONE:
        return Rejected(reason)
    after = response.headers.get("retry-after", "")
    return Unavailable(reason, retry_after_s=float(after) if after.isdecimal() else None)
