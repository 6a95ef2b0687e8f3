"""Links that carry their own permission: an id, a time it ends, and a signature over both."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import UTC, datetime
from typing import Self

from sqlalchemy.exc import IntegrityError

from moderator.errors import APPEAL_LINK, ModeratorError
from moderator.review.database import Database
from moderator.review.models import Setting, utcnow
from moderator.review.settings import ReviewSettings

_KEY = "signing_key"


class Signer:
    """Signs and reads links. HMAC-SHA-256 (RFC 2104), compared in constant time."""

    def __init__(self, key: str) -> None:
        self._key = hashlib.sha256(b"moderator/appeal-link@1\0" + key.encode()).digest()

    @classmethod
    def of(cls, database: Database, settings: ReviewSettings) -> Self:
        """With the key of the settings, or the one that the database keeps."""
        if settings.secret_key:
            return cls(settings.secret_key)
        with database.read() as db:
            kept = db.get(Setting, _KEY)
        if kept is None:
            try:
                with database.write() as db:
                    db.add(Setting(key=_KEY, value=secrets.token_hex(32)))
            except IntegrityError:
                pass
            with database.read() as db:
                kept = db.get_one(Setting, _KEY)
        return cls(kept.value)

    def sign(self, subject: str, until: datetime) -> str:
        """A token for `subject`, good `until` then; letters, digits, `-` and `_` only."""
        payload = f"{subject}.{int(until.timestamp())}".encode()
        return _encode(payload + b"." + self._signature(payload))

    def read(self, token: str) -> str:
        """The subject. Raises LM-915 for a token that is forged, mangled or over."""
        try:
            decoded = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            raise ModeratorError(APPEAL_LINK) from None
        # Two spellings of the same bytes would make two links of one.
        if _encode(decoded) != token or len(decoded) < 34:
            raise ModeratorError(APPEAL_LINK)
        payload, signature = decoded[:-33], decoded[-32:]
        if not hmac.compare_digest(signature, self._signature(payload)):
            raise ModeratorError(APPEAL_LINK)
        subject, _, until = payload.decode().rpartition(".")
        if utcnow() >= datetime.fromtimestamp(int(until), UTC):
            raise ModeratorError(APPEAL_LINK)
        return subject

    def _signature(self, payload: bytes) -> bytes:
        return hmac.new(self._key, payload, hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
