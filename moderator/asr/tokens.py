"""Whisper's tokens as bytes, and bytes with times as characters with times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from moderator.records import TimedChar


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of UTF-8 text (a token), media-clock seconds, and its probability in 0–1.

    A token can hold several characters, and a rare character takes several tokens.
    """

    data: bytes
    start: float
    end: float
    probability: float


class WhisperTokens:
    """The byte-level vocabulary in a `tokenizer.json`.

    Raises OSError or ValueError when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError:
            raise
        except Exception as error:
            # The Rust binding raises bare Exception on a file that is not a tokenizer.
            raise ValueError(f"{path}: {error}") from error
        self._bytes_of_symbol = {symbol: byte for byte, symbol in _byte_symbols().items()}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def special(self, content: str) -> int:
        """The id of a special token such as `<|zh|>`. Raises ValueError when there is none."""
        found: int | None = self._tokenizer.token_to_id(content)
        if found is None:
            raise ValueError(f"the vocabulary has no {content}")
        return found

    def data(self, token: int) -> bytes:
        """The UTF-8 bytes of a text token, possibly only part of a character."""
        symbols = self.symbols(token)
        return bytes(self._bytes_of_symbol[s] for s in symbols if s in self._bytes_of_symbol)

    def symbols(self, token: int) -> str:
        """The token as its vocabulary writes it, empty when there is none of this number."""
        return self._tokenizer.id_to_token(token) or ""


def timed_chars(pieces: Sequence[Piece]) -> tuple[TimedChar, ...]:
    """The characters of the pieces, simplified, without white space at either end.

    A piece of several characters shares its time among them by bytes; a character of several
    pieces has the product of their probabilities. Bytes that are not UTF-8 are left out.
    """
    data = b"".join(piece.data for piece in pieces)
    owner = [index for index, piece in enumerate(pieces) for _ in piece.data]
    first = [0] * len(pieces)
    for index in range(1, len(pieces)):
        first[index] = first[index - 1] + len(pieces[index - 1].data)

    def time_at(byte: int, piece: Piece, begin: int) -> float:
        return piece.start + (piece.end - piece.start) * (byte - begin) / len(piece.data)

    chars: list[TimedChar] = []
    at = 0
    while at < len(data):
        size = _utf8_size(data[at])
        try:
            text = data[at : at + size].decode("utf-8")
        except UnicodeDecodeError:
            at += 1
            continue
        head, tail = owner[at], owner[at + size - 1]
        confidence = 1.0
        for piece in pieces[head : tail + 1]:
            confidence *= min(max(piece.probability, 0.0), 1.0)
        chars.append(
            TimedChar(
                text,
                time_at(at, pieces[head], first[head]),
                time_at(at + size, pieces[tail], first[tail]),
                confidence,
            )
        )
        at += size
    return _simplified(_stripped(chars))


def simplify(text: str) -> str:
    """Traditional characters → simplified, one for one: the length never changes."""
    converter = _opencc()
    whole: str = converter.convert(text)
    if len(whole) == len(text):
        return whole
    single = [converter.convert(char) for char in text]
    return "".join(new if len(new) == 1 else old for old, new in zip(text, single, strict=True))


def _stripped(chars: list[TimedChar]) -> list[TimedChar]:
    begin, end = 0, len(chars)
    while begin < end and chars[begin].text.isspace():
        begin += 1
    while end > begin and chars[end - 1].text.isspace():
        end -= 1
    return chars[begin:end]


def _simplified(chars: list[TimedChar]) -> tuple[TimedChar, ...]:
    text = simplify("".join(char.text for char in chars))
    return tuple(
        TimedChar(new, char.start, char.end, char.confidence)
        for new, char in zip(text, chars, strict=True)
    )


def _utf8_size(lead: int) -> int:
    if lead >= 0xF0:
        return 4
    if lead >= 0xE0:
        return 3
    return 2 if lead >= 0xC0 else 1


@lru_cache(maxsize=1)
def _opencc() -> Any:
    from opencc import OpenCC

    return OpenCC("t2s")


def _byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where visible, else from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {byte: chr(byte) for byte in visible}
    hidden = (byte for byte in range(256) if byte not in symbols)
    return symbols | {byte: chr(0x100 + n) for n, byte in enumerate(hidden)}
