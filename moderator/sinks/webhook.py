"""Webhooks: CloudEvents bodies, signed as Standard Webhooks, to addresses that are allowed."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import Field, field_validator
from standardwebhooks.webhooks import Webhook

from moderator.errors import SINK_ADDRESS, SINK_CONFIG, SINK_SECRET, ModeratorError, in_ui_language
from moderator.media.address import AddressPolicy, Network, look_up, redact
from moderator.sinks.cloud_event import CONTENT_TYPE, structured
from moderator.sinks.config import (
    SinkOptions,
    SinkPlace,
    filled_headers,
    read_options,
    secret,
)
from moderator.sinks.envelope import Envelope
from moderator.sinks.sink import Rejected, SinkError, Unavailable

DEFAULT_TYPES = frozenset(
    {
        "session.started",
        "session.gap",
        "session.ended",
        "violation",
        "violation.updated",
        "evidence",
        "alert",
        "degraded",
    }
)

ABOUT_THIS_ONE = frozenset({400, 413, 415, 422})
"""Answers that speak about the message and not the receiver: trying again would not help."""

SECRET_BYTES = 24
"""The least that Standard Webhooks asks of a secret."""

ANSWER_BYTES = 16 << 10
"""What is read of an answer; only its status matters."""


class WebhookOptions(SinkOptions):
    url: str = Field(
        "", repr=False, title="URL", description="http or https; may hold a token, is never logged."
    )
    url_env: str = Field("", title="URL variable", description="Environment variable with the URL.")
    secret_env: str | tuple[str, ...] = Field(
        (),
        title="Secret",
        description="Environment variable with the signing secret (whsec_…); several while a "
        "secret is replaced.",
    )
    headers: dict[str, str] = Field(
        default={},
        repr=False,
        title="Headers",
        description="Sent along; `env:NAME` takes the value from the environment.",
    )
    timeout_s: float = Field(
        10.0, gt=0, le=120, title="Patience", description="Seconds for one delivery."
    )
    allow_private: bool = Field(
        False, title="Private addresses", description="Allow a receiver on any address."
    )
    networks: tuple[str, ...] = Field(
        (), title="Networks", description="Private networks that are allowed, such as 10.1.0.0/16."
    )

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            ipaddress.ip_network(network)
        return networks

    def policy(self) -> AddressPolicy:
        networks: tuple[Network, ...] = tuple(map(ipaddress.ip_network, self.networks))
        return AddressPolicy(self.allow_private, networks)


class WebhookSink:
    """POSTs one envelope at a time; any 2xx is delivered.

    The name is looked up before each request and every address it leads to must be allowed; the
    connection then goes to that very address, so a name that changes in between gains nothing.
    Redirects are not followed, proxies of the environment not used.
    """

    batch_size = 1

    def __init__(
        self,
        name: str,
        types: frozenset[str],
        url: httpx.URL,
        signers: Sequence[Webhook],
        headers: Mapping[str, str],
        policy: AddressPolicy,
        timeout_s: float,
    ) -> None:
        self.name = name
        self.types = types
        self._url = url
        self._signers = signers
        self._headers = headers
        self._policy = policy
        self._timeout_s = timeout_s
        self._turn = 0
        # A transport and no client: httpx's client logs whole URLs, and theirs may hold tokens.
        self._transport = httpx.HTTPTransport(trust_env=False, retries=0)

    def send(self, batch: Sequence[Envelope]) -> None:
        for envelope in batch:
            self._post(envelope)

    def close(self) -> None:
        self._transport.close()

    def _post(self, envelope: Envelope) -> None:
        deadline = time.monotonic() + self._timeout_s
        request = self._request(envelope)
        try:
            response = self._transport.handle_request(request)
            try:
                _read_some(response, deadline)
            finally:
                response.close()
        except httpx.TimeoutException:
            raise Unavailable(f"no answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{type(error).__name__}: {_short(error)}") from None
        if not response.is_success:
            raise _failure(response)

    def _request(self, envelope: Envelope) -> httpx.Request:
        body = structured(envelope)
        now = datetime.now(UTC)
        headers = {
            **self._headers,
            "host": self._url.netloc.decode("ascii"),
            "content-type": CONTENT_TYPE,
            "user-agent": "live-stream-moderator",
            "webhook-id": envelope.id,
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self._signers:
            text = body.decode()
            headers["webhook-signature"] = " ".join(
                signer.sign(envelope.id, now, text) for signer in self._signers
            )
        timeout = httpx.Timeout(self._timeout_s).as_dict()
        return httpx.Request(
            "POST",
            self._url.copy_with(host=self._address()),
            headers=headers,
            content=body,
            # TLS still asks for, and checks, the certificate of the name.
            extensions={"timeout": timeout, "sni_hostname": self._url.host},
        )

    def _address(self) -> str:
        """The address to connect to; with several, the next one each time."""
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        try:
            found = look_up(str(self._url), self._url.host, port, self._policy)
        except ModeratorError as error:
            raise Unavailable(str(error.fields.get("reason", error.code))) from None
        self._turn += 1
        return found[self._turn % len(found)]


def make(*, place: SinkPlace, options: Mapping[str, Any]) -> WebhookSink:
    known = read_options(WebhookOptions, options, place.where)
    url = _url(known, place)
    policy = known.policy()
    _refuse_private(url, policy, place)
    return WebhookSink(
        place.name,
        DEFAULT_TYPES if place.types is None else place.types,
        url,
        _signers(known, place),
        filled_headers(known.headers, place.where),
        policy,
        known.timeout_s,
    )


def _url(options: WebhookOptions, place: SinkPlace) -> httpx.URL:
    if bool(options.url) == bool(options.url_env):
        _refuse(place, "url", "give either url or url_env", "请给出 url 或 url_env 之一")
    text = options.url or secret(options.url_env, f"{place.where}.url_env")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        _refuse(place, "url", f"not a URL ({error})", f"不是合法的地址（{error}）")
    if url.scheme not in {"http", "https"} or not url.host:
        _refuse(place, "url", "an http or https address", "应为 http 或 https 地址")
    if url.userinfo:
        en = "no user and password here; use headers: {Authorization: env:NAME}"
        zh = "此处不能含用户名和密码；请用 headers: {Authorization: env:NAME}"
        _refuse(place, "url", en, zh)
    return url


def _refuse(place: SinkPlace, field: str, en: str, zh: str) -> Any:
    raise ModeratorError(SINK_CONFIG, place=f"{place.where}.{field}", reason=in_ui_language(en, zh))


def _refuse_private(url: httpx.URL, policy: AddressPolicy, place: SinkPlace) -> None:
    """What can be known to be wrong at the start; a name that leads nowhere now may do so later."""
    try:
        look_up(str(url), url.host, url.port or 443, policy)
    except ModeratorError as error:
        if error.code == "LM-111":
            reason = error.fields["reason"]
            raise ModeratorError(
                SINK_ADDRESS, name=place.name, url=redact(str(url)), reason=reason
            ) from None


def _signers(options: WebhookOptions, place: SinkPlace) -> list[Webhook]:
    names = options.secret_env
    where = f"{place.where}.secret_env"
    signers = []
    for name in (names,) if isinstance(names, str) else names:
        text = secret(name, where).removeprefix("whsec_")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            key = b""
        if len(key) < SECRET_BYTES:
            reason = in_ui_language(
                f"{name} is not base64 of at least {SECRET_BYTES} bytes",
                f"{name} 不是至少 {SECRET_BYTES} 字节的 base64",
            )
            raise ModeratorError(SINK_SECRET, place=where, reason=reason)
        signers.append(Webhook(key))
    return signers


def _read_some(response: httpx.Response, deadline: float) -> None:
    """Read a short answer, so that the connection can serve again; leave a long or slow one."""
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > ANSWER_BYTES or time.monotonic() > deadline:
            return


def _failure(response: httpx.Response) -> SinkError:
    reason = f"HTTP {response.status_code}"
    if response.status_code in ABOUT_THIS_ONE:
        return Rejected(reason)
    return Unavailable(reason, retry_after_s=_retry_after_s(response.headers.get("retry-after")))


def _retry_after_s(value: str | None) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else "no details"
