"""CTranslate2's `model.bin`: one binary file of named arrays, read and written."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SUPPORTED_VERSION = 6
# By type id; 5 is bfloat16, which numpy lacks, and 1 occurs quantised with a scale beside it.
_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
_TYPE_IDS = {np.dtype(name).newbyteorder("<").str: type_id for type_id, name in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class CTranslate2Model:
    """A `model.bin`: its specification, and its arrays by name (aliases resolved)."""

    spec: str
    revision: int
    variables: dict[str, Array]


def read_ctranslate2(path: Path) -> CTranslate2Model:
    """Read a CTranslate2 `model.bin` of binary version 6.

    Layout, little-endian: version u32, specification name, revision u32, count u32, then for
    each variable its name, rank u8, dimensions u32 each, type u8, size u32 and data; at the end
    a count u32 of aliases, each two names. A name is a u16 length that counts a closing zero
    byte, and its bytes. Raises ValueError on anything else.
    """
    with path.open("rb") as source:
        version = _number(source, "I")
        if version != _SUPPORTED_VERSION:
            raise ValueError(f"{path}: binary version {version}, not {_SUPPORTED_VERSION}")
        spec, revision = _name(source), _number(source, "I")
        variables = dict(_variable(source) for _ in range(_number(source, "I")))
        for _ in range(_number(source, "I")):
            alias, name = _name(source), _name(source)
            variables[alias] = variables[name]
        if source.read(1):
            raise ValueError(f"{path}: bytes left over after the last alias")
    return CTranslate2Model(spec, revision, variables)


def write_ctranslate2(model: CTranslate2Model, path: Path) -> None:
    """Write what `read_ctranslate2` reads. Names of one and the same array become aliases."""
    names: dict[int, str] = {}
    aliases = {}
    for name, array in model.variables.items():
        owner = names.setdefault(id(array), name)
        if owner != name:
            aliases[name] = owner
    with path.open("wb") as target:
        target.write(struct.pack("<I", _SUPPORTED_VERSION) + _name_bytes(model.spec))
        target.write(struct.pack("<II", model.revision, len(names)))
        for name in names.values():
            array = model.variables[name]
            type_id = _TYPE_IDS[array.dtype.newbyteorder("<").str]
            target.write(_name_bytes(name) + struct.pack("<B", array.ndim))
            target.write(struct.pack(f"<{array.ndim}I", *array.shape))
            target.write(struct.pack("<BI", type_id, array.nbytes))
            target.write(np.ascontiguousarray(array).tobytes())
        target.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases.items():
            target.write(_name_bytes(alias) + _name_bytes(name))


def _variable(source: BinaryIO) -> tuple[str, Array]:
    name = _name(source)
    shape = tuple(_number(source, "I") for _ in range(_number(source, "B")))
    type_id, size = _number(source, "B"), _number(source, "I")
    if type_id not in _DTYPES:
        raise ValueError(f"{name}: element type {type_id} is not supported")
    dtype = np.dtype(_DTYPES[type_id])
    if size != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{name}: {size} bytes do not fill shape {shape}")
    return name, np.frombuffer(_bytes(source, size), dtype).reshape(shape)


def _name(source: BinaryIO) -> str:
    data = _bytes(source, _number(source, "H"))
    if not data.endswith(b"\0"):
        raise ValueError("a name does not end in a zero byte")
    return data[:-1].decode("utf-8")


def _number(source: BinaryIO, kind: str) -> int:
    value: int = struct.unpack(f"<{kind}", _bytes(source, struct.calcsize(kind)))[0]
    return value


def _bytes(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise ValueError("the file ends too early")
    return data


def _name_bytes(name: str) -> bytes:
    data = name.encode("utf-8") + b"\0"
    return struct.pack("<H", len(data)) + data
