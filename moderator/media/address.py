"""Stream addresses: which may be opened, and how they are shown.

A checker that fetches whatever it is told to can be made to read its own network (server-side
request forgery), so an address is judged by where its name leads before ffmpeg sees it. ffmpeg
looks the name up again and follows redirects itself: for live rooms `egress` judges every
connection; for one recording by URL, where hostile addresses are expected, the network must
refuse them too.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit, urlunsplit

from moderator.errors import STREAM_UNREACHABLE, URL_REFUSED, ModeratorError, in_ui_language

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROTOCOLS = {
    "http": "http,tcp,tls,https,httpproxy,crypto,data",
    "https": "https,tls,tcp,http,httpproxy,crypto,data",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "srt": "srt",
    "rtsp": "rtsp,rtp,udp,tcp",
}
"""Schemes that may be opened, each with the ffmpeg protocols it needs and no others."""


def is_url(source: str) -> bool:
    """Whether `source` names a stream: `scheme://…`. Anything else is a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.\-]*://", source) is not None


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses may be connected to: public ones, and besides `networks`, or any."""

    allow_private: bool = False
    networks: tuple[Network, ...] = ()

    def allows(self, address: Address) -> bool:
        inside = any(address in network for network in self.networks)
        return self.allow_private or inside or _is_public(address)


def check_address(url: str, *, allow_private: bool = False) -> str:
    """Returns `url` when it may be opened.

    Raises LM-111 for a scheme we do not open, for control characters and spaces (some protocols
    read options after them), and, unless `allow_private`, when any address its name leads to is
    not on the public internet: private, loopback, link-local, carrier-grade NAT, multicast,
    reserved or a cloud's metadata service. Raises LM-112 when the name leads nowhere.
    """
    parts = split_address(url)
    if not allow_private:
        look_up(url, parts.hostname or "", parts.port or 80, AddressPolicy())
    return url


def split_address(url: str) -> SplitResult:
    """The parts of a URL that is in order. Raises LM-111 as `check_address`, without looking up."""
    parts = _split(url)
    if parts.scheme not in PROTOCOLS:
        _refuse(url, f"scheme '{parts.scheme}' is not opened", f"不支持 {parts.scheme} 协议")
    if not parts.hostname:
        _refuse(url, "it names no host", "没有主机名")
    return parts


def look_up(url: str, host: str, port: int, policy: AddressPolicy) -> list[str]:
    """The addresses of `host`, all of which `policy` allows; `url` is named in errors.

    Raises LM-111 (one is not allowed) and LM-112 (it leads nowhere).
    """
    found = _resolve(url, host, port)
    for address in found:
        if not policy.allows(address):
            _refuse(url, f"{address} is not a public address", f"{address} 不是公网地址")
    return [str(address) for address in found]


def redact(url: str) -> str:
    """`url` as it may be shown and logged: user, password and secrets in the query are `***`."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return re.sub(r"//[^/@]*@", "//***@", url.partition("?")[0])
    netloc = f"***@{host}" if "@" in parts.netloc else host
    query = _PAIR.sub(_hide_secret, parts.query)
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def redact_text(text: str) -> str:
    """`text` with every stream address in it redacted."""
    return _URL_IN_TEXT.sub(lambda found: redact(found[0]), text)


_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>]+")
_PAIR = re.compile(r"([^&;=]*)=([^&;]*)")
_SECRET = re.compile(r"key|secret|token|sign|auth|pass|pwd|cred|session|ticket|hash", re.IGNORECASE)


def _hide_secret(pair: re.Match[str]) -> str:
    name, value = pair.groups()
    # Tencent's txSecret, Alibaba's auth_key and the like; a long value is a signature by itself.
    hidden = _SECRET.search(name) or len(value) >= 24
    return f"{name}=***" if hidden and value else pair[0]


def _split(url: str) -> SplitResult:
    if re.search(r"[\x00-\x20\x7f\\]", url):
        _refuse(
            url, "it holds spaces, backslashes or control characters", "含有空格、反斜杠或控制字符"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        _refuse(url, str(error), f"地址格式有误：{error}")
    return parts


def _resolve(url: str, host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host.rstrip("."), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModeratorError(STREAM_UNREACHABLE, url=redact(url), reason=reason) from None
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


_CARRIES_V4 = {
    ipaddress.ip_network("64:ff9b::/96"): 0,
    ipaddress.ip_network("2002::/16"): 80,
}
"""NAT64 (RFC 6052) and 6to4 (RFC 3056): the IPv4 address inside, by bits below it."""


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        for network, below in _CARRIES_V4.items():
            if address in network:
                inner = ipaddress.IPv4Address((int(address) >> below) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _refuse(url: str, en: str, zh: str) -> NoReturn:
    raise ModeratorError(URL_REFUSED, url=redact(url), reason=in_ui_language(en, zh))
