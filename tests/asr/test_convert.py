"""The converter reads CTranslate2's format and renames without touching a number."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moderator.asr.convert import (
    FORMATS,
    OPENAI,
    TRANSFORMERS,
    convert,
    renamed,
)
from moderator.asr.ctranslate2_file import read_ctranslate2
from moderator.errors import ModeratorError

STATE = 4
TYPE_IDS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def name_bytes(name: str) -> bytes:
    data = name.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def file_bytes(
    variables: dict[str, NDArray[np.generic]], aliases: dict[str, str], version: int = 6
) -> bytes:
    out = (
        struct.pack("<I", version)
        + name_bytes("WhisperSpec")
        + struct.pack("<II", 3, len(variables))
    )
    for name, array in variables.items():
        out += name_bytes(name) + struct.pack("<B", array.ndim)
        out += b"".join(struct.pack("<I", size) for size in array.shape)
        out += struct.pack("<BI", TYPE_IDS[str(array.dtype)], array.nbytes) + array.tobytes()
    out += struct.pack("<I", len(aliases))
    return out + b"".join(name_bytes(a) + name_bytes(n) for a, n in aliases.items())


def tiny_whisper() -> dict[str, NDArray[np.generic]]:
    """One encoder layer, one decoder layer, state of 4, random numbers, zero key biases."""
    rng = np.random.default_rng(1)

    def random(*shape: int) -> NDArray[np.float16]:
        return rng.standard_normal(shape).astype(np.float16)

    made: dict[str, NDArray[np.generic]] = {
        "encoder/conv1/weight": random(STATE, 8, 3),
        "encoder/conv1/bias": random(STATE),
        "encoder/conv2/weight": random(STATE, STATE, 3),
        "encoder/conv2/bias": random(STATE),
        "encoder/position_encodings/encodings": random(10, STATE),
        "encoder/num_heads": np.array(2, np.int16),
        "decoder/embeddings/weight": random(20, STATE),
        "decoder/position_encodings/encodings": random(6, STATE),
        "decoder/num_heads": np.array(2, np.int16),
        "decoder/pre_norm": np.array(1, np.int8),
    }
    norms = ["encoder", "decoder"]
    for side in ("encoder", "decoder"):
        layer = f"{side}/layer_0"
        norms += [f"{layer}/self_attention", f"{layer}/ffn"]
        fused = random(3 * STATE)
        fused[STATE : 2 * STATE] = 0
        made[f"{layer}/self_attention/linear_0/weight"] = random(3 * STATE, STATE)
        made[f"{layer}/self_attention/linear_0/bias"] = fused
        made[f"{layer}/self_attention/linear_1/weight"] = random(STATE, STATE)
        made[f"{layer}/self_attention/linear_1/bias"] = random(STATE)
        made[f"{layer}/ffn/linear_0/weight"] = random(4 * STATE, STATE)
        made[f"{layer}/ffn/linear_0/bias"] = random(4 * STATE)
        made[f"{layer}/ffn/linear_1/weight"] = random(STATE, 4 * STATE)
        made[f"{layer}/ffn/linear_1/bias"] = random(STATE)
    cross = "decoder/layer_0/attention"
    norms.append(cross)
    made[f"{cross}/linear_0/weight"] = random(STATE, STATE)
    made[f"{cross}/linear_0/bias"] = random(STATE)
    made[f"{cross}/linear_1/weight"] = random(2 * STATE, STATE)
    made[f"{cross}/linear_1/bias"] = random(2 * STATE)
    made[f"{cross}/linear_2/weight"] = random(STATE, STATE)
    made[f"{cross}/linear_2/bias"] = random(STATE)
    for place in norms:
        made[f"{place}/layer_norm/gamma"] = random(STATE)
        made[f"{place}/layer_norm/beta"] = random(STATE)
    return made


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    alias = {"decoder/projection/weight": "decoder/embeddings/weight"}
    path.write_bytes(file_bytes(tiny_whisper(), alias))
    return path


def test_convert_reads_every_array_and_alias(written: Path) -> None:
    model = read_ctranslate2(written)
    assert (model.spec, model.revision) == ("WhisperSpec", 3)
    for name, array in tiny_whisper().items():
        np.testing.assert_array_equal(model.variables[name], array)
        assert model.variables[name].shape == array.shape
    projection = model.variables["decoder/projection/weight"]
    np.testing.assert_array_equal(projection, model.variables["decoder/embeddings/weight"])


@pytest.mark.parametrize("lost", [1, 3, 40, 400])
def test_convert_refuses_a_truncated_file(written: Path, lost: int) -> None:
    written.write_bytes(written.read_bytes()[:-lost])
    with pytest.raises(ValueError, match="ends too early"):
        read_ctranslate2(written)


def test_convert_refuses_another_version(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(file_bytes({}, {}, version=5))
    with pytest.raises(ValueError, match="binary version 5"):
        read_ctranslate2(path)


def test_convert_refuses_bytes_left_over(written: Path) -> None:
    written.write_bytes(written.read_bytes() + b"x")
    with pytest.raises(ValueError, match="left over"):
        read_ctranslate2(written)


def test_convert_splits_fused_projections() -> None:
    source = tiny_whisper()
    named = dict(renamed(source, OPENAI))
    fused = source["encoder/layer_0/self_attention/linear_0/weight"]
    for part, name in enumerate(("query", "key", "value")):
        np.testing.assert_array_equal(
            named[f"encoder.blocks.0.attn.{name}.weight"], fused[part * STATE : (part + 1) * STATE]
        )
    pair = source["decoder/layer_0/attention/linear_1/bias"]
    np.testing.assert_array_equal(named["decoder.blocks.0.cross_attn.value.bias"], pair[STATE:])
    assert not named["encoder.blocks.0.attn.key.bias"].any()


@pytest.mark.parametrize("naming", [OPENAI, TRANSFORMERS], ids=["openai", "transformers"])
def test_convert_loses_no_number(naming: object) -> None:
    source = tiny_whisper()
    weights = [array for array in source.values() if array.dtype == np.float16]
    named = dict(renamed(source, naming))
    assert sum(array.size for array in named.values()) == sum(array.size for array in weights)


@pytest.mark.torch
@pytest.mark.slow
def test_convert_openai_names_load_strictly(written: Path, tmp_path: Path) -> None:
    whisper = pytest.importorskip("whisper")
    from moderator.asr.convert import write_openai

    target = tmp_path / "tiny.pt"
    write_openai(written.parent, target)
    model = whisper.load_model(str(target), device="cpu")
    np.testing.assert_allclose(
        model.decoder.token_embedding.weight.detach().numpy(),
        tiny_whisper()["decoder/embeddings/weight"].astype(np.float32),
    )


def test_convert_of_the_command_writes_a_layout_once_and_never_over_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    source = tmp_path / "source"
    source.mkdir()
    monkeypatch.setattr("moderator.models.locate", lambda name: source)
    monkeypatch.setitem(
        FORMATS, "openai", ("openai.pt", lambda source, target: target.write_bytes(b"weights"))
    )
    target = tmp_path / "deep" / "base.pt"
    assert convert("openai", target) == target
    assert target.read_bytes() == b"weights"
    assert [path.name for path in target.parent.iterdir()] == ["base.pt"]
    with pytest.raises(ModeratorError, match="LM-501"):
        convert("openai", target)


def test_convert_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")

    def breaks(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("moderator.models.locate", lambda name: tmp_path)
    monkeypatch.setitem(FORMATS, "openai", ("openai.pt", breaks))
    with pytest.raises(ModeratorError, match=r"LM-502.*No space"):
        convert("openai", tmp_path / "out" / "base.pt")
    assert list((tmp_path / "out").iterdir()) == []
