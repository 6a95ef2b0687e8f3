"""Phone numbers, identity numbers and WeChat names, masked for roles that need not see them.

A masked text is as long as the text, so that offsets into it still hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from moderator.review.permissions import Permission, Principal

MASK = "*"

_DIGIT = "[0-9０-９]"
_SPOKEN = "[零〇一二三四五六七八九幺壹贰叁肆伍陆柒捌玖两0-9０-９]"
_APART = r"[ \-‐–.·　]?"

_NUMBERS = re.compile(
    # 身份证: six digits of place, eight of birth, three of order, a check digit.
    rf"(?<!{_DIGIT})(?P<identity>[1-9１-９](?:{_APART}{_DIGIT}){{16}}{_APART}[0-9０-９XxＸｘ])(?!{_DIGIT})"
    # A mobile number, with or without its country, however it is grouped.
    rf"|(?<!{_DIGIT})(?P<mobile>(?:[+＋]?86{_APART})?[1１](?:{_APART}{_DIGIT}){{10}})(?!{_DIGIT})"
    # The same as it is said.
    rf"|(?<!{_SPOKEN})(?P<spoken>[一幺1１](?:[、，, \-]?{_SPOKEN}){{10}})(?!{_SPOKEN})"
    # 0755-12345678
    rf"|(?<!{_DIGIT})(?P<landline>[0０]{_DIGIT}{{2,3}}[\-－ ]?{_DIGIT}{{7,8}})(?!{_DIGIT})"
)

_NAMES = re.compile(
    r"(?:微\s*信|薇\s*信|威\s*信|维\s*信|卫星号|wechat|weixin|(?<![a-z])wx|(?<![a-z])v\s*x"
    r"|加\s*[vV薇微]|[vV]\s*信|(?<![a-z])qq|扣扣)"
    r"\s*(?:号|名|id|账号|帐号|群)?\s*(?:码)?\s*(?:是|为|叫|搜|加|找我)?\s*[:：=＝,，]?\s*[“\"'「]?"
    r"(?P<name>[A-Za-z0-9Ａ-Ｚａ-ｚ０-９][A-Za-z0-9_\-Ａ-Ｚａ-ｚ０-９＿－]{4,19})",
    re.IGNORECASE,
)

_KEEP = {"identity": (3, 2), "mobile": (3, 2), "spoken": (2, 1), "landline": (3, 1), "name": (1, 1)}
"""Characters left at the beginning and the end, for people to tell two numbers apart."""


def mask_text(text: str) -> str:
    """`text` with private numbers and names masked; the same length."""
    if not text:
        return text
    # Names first: a WeChat name may be a phone number, and is then no less private.
    masked = _NAMES.sub(_masked, text)
    return _NUMBERS.sub(_masked, masked)


def mask(value: Any) -> Any:
    """Every text in JSON-like `value` masked; an utterance's `chars` follow its text."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        body = {key: _mask_field(key, item) for key, item in value.items()}
        chars, text = value.get("chars"), value.get("text")
        if isinstance(chars, list) and isinstance(text, str):
            body["chars"] = _mask_chars(chars, text, mask_text(text))
        return body
    if isinstance(value, list | tuple):
        return [mask(item) for item in value]
    return value


def shown_to(who: Principal, value: Any) -> Any:
    """`value` as `who` may see it."""
    return value if who.may(Permission.PRIVATE_DATA) else mask(value)


_NOT_TEXT = frozenset({"id", "sha256", "hash", "prev", "session", "at", "wall_time", "cursor"})
"""Fields whose digits are ours: an id with a run of digits is no phone number."""


def _mask_field(key: object, value: Any) -> Any:
    if isinstance(key, str) and (key in _NOT_TEXT or key.endswith(("_id", "_at", "_url"))):
        return value
    return mask(value)


def _mask_chars(chars: list[Any], text: str, masked: str) -> list[Any]:
    """Per-character lists spell the number too."""
    if text == masked:
        return chars
    out, offset = [], 0
    for char in chars:
        size = len(char[0]) if isinstance(char, list) and char else 1
        piece = masked[offset : offset + size]
        out.append([piece, *char[1:]] if isinstance(char, list) else char)
        offset += size
    return out


def _masked(found: re.Match[str]) -> str:
    kind = next(name for name, value in found.groupdict().items() if value is not None)
    whole, secret = found.group(0), found.group(kind)
    begin = found.start(kind) - found.start(0)
    head, tail = _KEEP[kind]
    if kind == "name" and len(secret) < 6:
        tail = 0
    hidden = secret[:head] + MASK * (len(secret) - head - tail) + secret[len(secret) - tail :]
    return whole[:begin] + hidden + whole[begin + len(secret) :]
