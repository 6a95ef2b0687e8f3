"""What the adapter holds is added to the published weights, to the rows it names and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moderator import models
from moderator.asr.ctranslate2_file import CTranslate2Model, read_ctranslate2
from moderator.asr.embedded import ROOMS, adapted, embedded_folder, factor_names

ARRAY = "decoder/layer_0/self_attention/linear_0/weight"


def tiny() -> CTranslate2Model:
    whole = np.arange(24, dtype=np.float16).reshape(6, 4)
    other = np.ones((2, 2), np.float16)
    return CTranslate2Model("WhisperSpec", 3, {ARRAY: whole, "encoder/conv1/weight": other})


def factors(rows: slice, columns: int = 4) -> dict[str, NDArray[np.float16]]:
    up, down = factor_names(ARRAY, rows)
    height = rows.stop - rows.start
    return {
        up: np.full((height, 1), 2, np.float16),
        down: np.full((1, columns), 0.5, np.float16),
    }


def test_embedded_adds_the_product_to_the_rows_that_are_named() -> None:
    model = tiny()
    found = adapted(model, {**factors(slice(0, 2)), **factors(slice(4, 6))})
    expected = model.variables[ARRAY].copy()
    expected[[0, 1, 4, 5]] += 1
    np.testing.assert_array_equal(found.variables[ARRAY], expected)
    assert found.variables[ARRAY].dtype == np.float16
    assert found.variables["encoder/conv1/weight"] is model.variables["encoder/conv1/weight"]
    assert model.variables[ARRAY][0, 0] == 0, "the model given is left as it was"


@pytest.mark.parametrize(
    "broken",
    [
        {f"{ARRAY}[0:2].up": np.ones((2, 1), np.float16)},
        factors(slice(0, 2), columns=3),
        factors(slice(4, 8)),
        {"decoder.weight": np.ones((2, 1), np.float16)},
    ],
    ids=["no fellow", "too narrow", "too tall", "no name of a factor"],
)
def test_embedded_refuses_what_does_not_fit(broken: dict[str, NDArray[np.float16]]) -> None:
    with pytest.raises(ValueError, match=r"fit|factor"):
        adapted(tiny(), broken)


def test_embedded_refuses_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="base-rooms"):
        embedded_folder("large")


@pytest.mark.usefixtures("embedded_weights")
def test_embedded_rooms_differs_from_the_published_weights_in_the_decoder_alone() -> None:
    base = read_ctranslate2(models.locate("whisper-base") / "model.bin").variables
    folder = embedded_folder(ROOMS)
    rooms = read_ctranslate2(folder / "model.bin").variables
    assert set(base) == set(rooms)
    changed = {name for name in base if not np.array_equal(base[name], rooms[name])}
    assert changed
    assert all(name.startswith("decoder/layer_") and name.endswith("/weight") for name in changed)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.bin",
        "tokenizer.json",
        "vocabulary.txt",
    ]
    assert embedded_folder(ROOMS) == folder


def test_embedded_adapter_is_told_of_in_the_manifest() -> None:
    listed = {model.name: model for model in models.models_list()}
    assert listed["speech-adapter"].in_place
    assert isinstance(models.locate("speech-adapter"), Path)
