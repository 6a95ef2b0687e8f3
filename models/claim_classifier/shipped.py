"""The shipped network as a torch module again, so that it can go on learning.

`model.onnx` holds every weight: in eight bits with a scale, and where a layer's inputs are evened
(`train.Evened`) multiplied by what the inputs are divided by. Both are undone here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

_LAYER = re.compile(r"/(layers\.\d+)/(\w+)/linear/MatMul_quant")


def shipped_state(path: Path) -> dict[str, Tensor]:
    """Parameter name → values, as `train.ClaimModel` names them, of the file `train.export` wrote.

    What is asked alone in training is not shipped: those heads begin as their part of the head.
    """
    graph = onnx.load(path).graph
    kept = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    found: dict[str, NDArray[Any]] = {
        name.replace(".linear.bias", ".bias"): values
        for name, values in kept.items()
        if name.startswith(("encoder.", "ear.", "head."))
        and not name.endswith(("_quantized", "_scale", "_zero_point", ".share"))
    }
    for name in ("encoder.words.weight", "ear.syllables.weight"):
        found[name] = _unpacked(kept, name)
    found["head.weight"] = _unpacked(kept, "head.weight_Transposed").T
    for node in graph.node:
        part = _LAYER.fullmatch(node.name)
        if part is not None:
            name = f"encoder.{part[1]}.{part[2]}"
            packed = node.input[1].removesuffix("_quantized")
            found[f"{name}.weight"] = _unpacked(kept, packed).T * kept[f"{name}.share"]
    letters = 2 * found["encoder.words.weight"].shape[1]
    for name, part_of_head in (
        ("letters_alone", found["head.weight"][:, :letters]),
        ("sounds_alone", found["head.weight"][:, letters:]),
    ):
        found[f"{name}.weight"], found[f"{name}.bias"] = part_of_head, found["head.bias"]
    return {name: torch.from_numpy(np.array(values)) for name, values in found.items()}


def _unpacked(kept: dict[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    """Eight-bit numbers times their scale, one for all or one a column."""
    steps = kept[f"{name}_quantized"].astype(np.float32) - kept[f"{name}_zero_point"]
    out: NDArray[np.float32] = (steps * kept[f"{name}_scale"]).astype(np.float32)
    return out
