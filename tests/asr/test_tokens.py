"""Bytes with times become characters with times."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator import models
from moderator.asr.tokens import Piece, WhisperTokens, simplify, timed_chars


def test_tokens_timed_chars_shares_a_piece_among_its_characters() -> None:
    first, second = timed_chars([Piece("你好".encode(), 1.0, 2.0, 0.8)])
    assert (first.text, first.start, first.end, first.confidence) == ("你", 1.0, 1.5, 0.8)
    assert (second.text, second.start, second.end) == ("好", 1.5, 2.0)


def test_tokens_timed_chars_joins_the_pieces_of_a_character() -> None:
    data = "祛".encode()
    pieces = [Piece(data[:2], 1.0, 1.4, 0.5), Piece(data[2:], 1.4, 2.0, 0.5)]
    (char,) = timed_chars(pieces)
    assert (char.text, char.start, char.end, char.confidence) == ("祛", 1.0, 2.0, 0.25)


def test_tokens_timed_chars_leaves_out_broken_bytes_and_outer_space() -> None:
    data = b" \xe4\xbd" + "好".encode() + b"\xff \n"
    assert "".join(char.text for char in timed_chars([Piece(data, 0.0, 1.0, 1.0)])) == "好"


def test_tokens_timed_chars_of_nothing() -> None:
    assert timed_chars([]) == ()
    assert timed_chars([Piece(b"", 0.0, 1.0, 1.0)]) == ()


@given(st.text(max_size=30), st.lists(st.integers(1, 5), min_size=1, max_size=40))
def test_tokens_timed_chars_keep_text_order_and_bounds(text: str, sizes: list[int]) -> None:
    data = text.encode("utf-8", errors="ignore")
    pieces, at = [], 0
    for index in range(len(data)):
        size = sizes[index % len(sizes)]
        if at >= len(data):
            break
        pieces.append(Piece(data[at : at + size], index * 0.1, index * 0.1 + 0.1, 0.5))
        at += size
    chars = timed_chars(pieces)
    assert "".join(char.text for char in chars) == simplify(data.decode().strip())
    for char in chars:
        assert char.start <= char.end
        assert 0.0 <= char.confidence <= 1.0
    for earlier, later in pairwise(chars):
        assert earlier.start <= later.start + 1e-9


@given(st.text(max_size=20))
def test_tokens_simplify_keeps_the_length(text: str) -> None:
    assert len(simplify(text)) == len(text)


def test_tokens_simplify_traditional() -> None:
    assert simplify("國家級的臺灣面膜") == "国家级的台湾面膜"


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_weights")
def test_tokens_of_the_embedded_vocabulary_give_back_the_text() -> None:
    tokens = WhisperTokens(models.locate("whisper-base") / "tokenizer.json")
    text = "祛斑面霜 100% 有效😀 buy now"
    assert b"".join(tokens.data(id_) for id_ in tokens.encode(text)).decode() == text
    assert tokens.special("<|zh|>") == 50260
    with pytest.raises(ValueError, match="no <"):
        tokens.special("<|klingon|>")


def test_tokens_refuse_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        WhisperTokens(path)
