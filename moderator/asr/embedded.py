"""The embedded Whisper base: as it was published, and as it has learned how live rooms talk.

The published weights stay what they are. `models/speech_adapter` holds low-rank additions to the
matrices of the decoder; they are added once and the sum is kept in the cache. Encoder, vocabulary
and the cost of a step are the same for both.
"""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator import models
from moderator.asr.ctranslate2_file import CTranslate2Model, read_ctranslate2, write_ctranslate2

PUBLISHED, ROOMS = "base", "base-rooms"
EMBEDDED = (PUBLISHED, ROOMS)
"""What the embedded models are called where a model is chosen."""

Array = NDArray[Any]


def embedded_folder(model: str) -> Path:
    """The embedded `model`, a folder in CTranslate2's format.

    Raises as `models.locate` does, LM-406 when the cache cannot be written, and ValueError for
    another name.
    """
    if model not in EMBEDDED:
        raise ValueError(f"no embedded model {model!r}; there are: {', '.join(EMBEDDED)}")
    base = models.locate("whisper-base")
    if model == PUBLISHED:
        return base
    adapter = models.locate("speech-adapter")
    kind = f"rooms-{models.fingerprint('speech-adapter')}"
    return models.made_once(base, kind, partial(write_adapted, adapter=adapter))


def write_adapted(source: Path, target: Path, adapter: Path) -> None:
    """Write the Whisper of folder `source` with what `adapter` adds as the new folder `target`.

    Raises OSError or ValueError when either is not what it should be.
    """
    from safetensors.numpy import load_file

    model = read_ctranslate2(source / "model.bin")
    target.mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copyfile(source / name, target / name)
    write_ctranslate2(adapted(model, load_file(adapter)), target / "model.bin")


def factor_names(array: str, rows: slice) -> tuple[str, str]:
    """The names in the adapter of the factors of what is added to `rows` of an array."""
    return f"{array}[{rows.start}:{rows.stop}].up", f"{array}[{rows.start}:{rows.stop}].down"


def adapted(model: CTranslate2Model, factors: dict[str, Array]) -> CTranslate2Model:
    """The model with `up @ down` added to the rows of the arrays that the factors name.

    Raises ValueError for a factor without its fellow, or one that fits no array.
    """
    variables = dict(model.variables)
    for name, up in factors.items():
        array, begin, end, which = _named(name)
        if which == "down":
            continue
        rows = slice(begin, end)
        whole = variables[array].astype(np.float32)
        down = factors.get(factor_names(array, rows)[1])
        if down is None or (len(up), down.shape[1]) != whole[rows].shape or end > len(whole):
            raise ValueError(f"{name} does not fit")
        whole[rows] += up.astype(np.float32) @ down.astype(np.float32)
        variables[array] = whole.astype(model.variables[array].dtype)
    return CTranslate2Model(model.spec, model.revision, variables)


def _named(name: str) -> tuple[str, int, int, str]:
    parts = re.fullmatch(r"(.+)\[(\d+):(\d+)\]\.(up|down)", name)
    if parts is None:
        raise ValueError(f"{name!r} names no factor")
    array, begin, end, which = parts.groups()
    return array, int(begin), int(end), which
