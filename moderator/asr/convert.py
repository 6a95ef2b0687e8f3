"""Whisper weights in CTranslate2's format as other libraries want them.

CTranslate2 keeps one binary file of named arrays, with the query, key and value projections of
an attention fused into one. Its layers map one to one on OpenAI's checkpoint and on a
transformers folder, so the three engines can be compared on the very same weights.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moderator import models
from moderator.asr.ctranslate2_file import read_ctranslate2
from moderator.asr.embedded import PUBLISHED, embedded_folder
from moderator.errors import ENGINE_MISSING, OUT_NOT_EMPTY, OUT_WRITE, ModeratorError

Array = NDArray[Any]


def openai_weights(model: str = PUBLISHED) -> Path:
    """An embedded model as a checkpoint for `whisper.load_model`, made on first use.

    Raises as `embedded_folder` does.
    """
    return models.made_once(embedded_folder(model), "openai.pt", write_openai)


def transformers_folder(model: str = PUBLISHED) -> Path:
    """An embedded model as a folder for `from_pretrained`, made on first use.

    Raises as `embedded_folder` does.
    """
    return models.made_once(embedded_folder(model), "transformers", write_transformers)


FORMATS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {}
"""Formats that the embedded weights can be had in: the name in the cache, and who writes it."""


def convert(kind: str, target: Path | None = None, model: str = PUBLISHED) -> Path:
    """An embedded model in a format of FORMATS: where it is in the cache, or written as `target`,
    which must not exist.

    Raises LM-402 without the libraries of the extra `torch`, LM-501 when `target` exists, LM-502
    when it cannot be written, and as `openai_weights` does.
    """
    name, write = FORMATS[kind]
    try:
        import safetensors
        import torch  # noqa: F401
    except ImportError as error:
        raise ModeratorError(
            ENGINE_MISSING, name=kind, package=error.name, install="live-stream-moderator[torch]"
        ) from error
    del safetensors
    if target is None:
        return models.made_once(embedded_folder(model), name, write)
    if target.exists():
        raise ModeratorError(OUT_NOT_EMPTY, path=target)
    source = embedded_folder(model)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(source, temporary)
        temporary.replace(target)
    except OSError as error:
        raise ModeratorError(OUT_WRITE, path=target, reason=error.strerror or error) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        temporary.unlink(missing_ok=True)
    return target


def write_openai(source: Path, target: Path) -> None:
    """Write the CTranslate2 Whisper folder `source` as the checkpoint file `target`."""
    import torch

    model = read_ctranslate2(source / "model.bin")
    state = {
        name: torch.from_numpy(array.copy())
        for name, array in renamed(model.variables, OPENAI)
        # OpenAI's keys have no bias; CTranslate2 fills the fused one with zeros.
        if not name.endswith(".key.bias")
    }
    torch.save({"dims": _dimensions(model.variables), "model_state_dict": state}, target)


def write_transformers(source: Path, target: Path) -> None:
    """Write the CTranslate2 Whisper folder `source` as the transformers folder `target`."""
    from safetensors.numpy import save_file

    model = read_ctranslate2(source / "model.bin")
    state = {
        name: np.ascontiguousarray(array)
        for name, array in renamed(model.variables, TRANSFORMERS)
        if not name.endswith(".k_proj.bias")
    }
    target.mkdir(parents=True)
    weights = target / "model.safetensors"
    save_file(state, weights, metadata={"format": "pt"})
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    tokens = _special_tokens(source / "tokenizer.json")
    decoding = json.loads((source / "config.json").read_text(encoding="utf-8"))
    dimensions = _dimensions(model.variables)
    for name, body in (
        ("config.json", _config(dimensions, tokens)),
        ("generation_config.json", _generation_config(dimensions, tokens, decoding)),
        ("preprocessor_config.json", _preprocessor_config(dimensions)),
        ("tokenizer_config.json", _tokenizer_config()),
    ):
        text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
        (target / name).write_text(text, encoding="utf-8")
    # safetensors writes for the owner alone; whoever may read the rest may read the weights.
    weights.chmod((target / "config.json").stat().st_mode)


FORMATS["openai"] = ("openai.pt", write_openai)
FORMATS["transformers"] = ("transformers", write_transformers)


@dataclass(frozen=True, slots=True)
class Naming:
    """What a library calls the parts of a Whisper layer. `{side}` is encoder or decoder."""

    block: str
    self_attention: str
    cross_attention: str
    query: str
    key: str
    value: str
    out: str
    self_norm: str
    cross_norm: str
    feed_in: str
    feed_out: str
    feed_norm: str
    others: dict[str, str]


OPENAI = Naming(
    block="{side}.blocks.{index}",
    self_attention="attn",
    cross_attention="cross_attn",
    query="query",
    key="key",
    value="value",
    out="out",
    self_norm="attn_ln",
    cross_norm="cross_attn_ln",
    feed_in="mlp.0",
    feed_out="mlp.2",
    feed_norm="mlp_ln",
    others={
        "encoder/conv1": "encoder.conv1",
        "encoder/conv2": "encoder.conv2",
        "encoder/position_encodings/encodings": "encoder.positional_embedding",
        "encoder/layer_norm": "encoder.ln_post",
        "decoder/embeddings": "decoder.token_embedding",
        "decoder/position_encodings/encodings": "decoder.positional_embedding",
        "decoder/layer_norm": "decoder.ln",
    },
)

TRANSFORMERS = Naming(
    block="model.{side}.layers.{index}",
    self_attention="self_attn",
    cross_attention="encoder_attn",
    query="q_proj",
    key="k_proj",
    value="v_proj",
    out="out_proj",
    self_norm="self_attn_layer_norm",
    cross_norm="encoder_attn_layer_norm",
    feed_in="fc1",
    feed_out="fc2",
    feed_norm="final_layer_norm",
    others={
        "encoder/conv1": "model.encoder.conv1",
        "encoder/conv2": "model.encoder.conv2",
        "encoder/position_encodings/encodings": "model.encoder.embed_positions.weight",
        "encoder/layer_norm": "model.encoder.layer_norm",
        "decoder/embeddings": "model.decoder.embed_tokens",
        "decoder/position_encodings/encodings": "model.decoder.embed_positions.weight",
        "decoder/layer_norm": "model.decoder.layer_norm",
    },
)

_LEAVES = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def renamed(variables: dict[str, Array], naming: Naming) -> Iterator[tuple[str, Array]]:
    """The arrays of a CTranslate2 Whisper under another library's names, projections split."""
    for source, target in naming.others.items():
        if source in variables:
            yield target, variables[source]
        else:
            yield from _leaves(variables, source, target)
    for side in ("encoder", "decoder"):
        for index in range(_layers(variables, side)):
            yield from _layer(variables, f"{side}/layer_{index}", naming, side, index)


def _layer(
    variables: dict[str, Array], source: str, naming: Naming, side: str, index: int
) -> Iterator[tuple[str, Array]]:
    block = naming.block.format(side=side, index=index)
    attention = f"{block}.{naming.self_attention}"
    fused = (naming.query, naming.key, naming.value)
    own = f"{source}/self_attention"
    yield from _split(variables, f"{own}/linear_0", [f"{attention}.{name}" for name in fused])
    yield from _leaves(variables, f"{own}/linear_1", f"{attention}.{naming.out}")
    yield from _leaves(variables, f"{own}/layer_norm", f"{block}.{naming.self_norm}")
    if side == "decoder":
        attention = f"{block}.{naming.cross_attention}"
        other = f"{source}/attention"
        yield from _leaves(variables, f"{other}/linear_0", f"{attention}.{naming.query}")
        pair = [f"{attention}.{naming.key}", f"{attention}.{naming.value}"]
        yield from _split(variables, f"{other}/linear_1", pair)
        yield from _leaves(variables, f"{other}/linear_2", f"{attention}.{naming.out}")
        yield from _leaves(variables, f"{other}/layer_norm", f"{block}.{naming.cross_norm}")
    yield from _leaves(variables, f"{source}/ffn/linear_0", f"{block}.{naming.feed_in}")
    yield from _leaves(variables, f"{source}/ffn/linear_1", f"{block}.{naming.feed_out}")
    yield from _leaves(variables, f"{source}/ffn/layer_norm", f"{block}.{naming.feed_norm}")


def _leaves(variables: dict[str, Array], source: str, target: str) -> Iterator[tuple[str, Array]]:
    for leaf, name in _LEAVES.items():
        if f"{source}/{leaf}" in variables:
            yield f"{target}.{name}", variables[f"{source}/{leaf}"]


def _split(
    variables: dict[str, Array], source: str, targets: list[str]
) -> Iterator[tuple[str, Array]]:
    for leaf in ("weight", "bias"):
        parts = np.split(variables[f"{source}/{leaf}"], len(targets))
        for target, part in zip(targets, parts, strict=True):
            yield f"{target}.{leaf}", part


def _layers(variables: dict[str, Array], side: str) -> int:
    layer = re.compile(rf"{side}/(layer_\d+)/")
    return len({found.group(1) for name in variables if (found := layer.match(name))})


def _dimensions(variables: dict[str, Array]) -> dict[str, int]:
    """OpenAI's `ModelDimensions`, read off the arrays."""
    vocabulary, text_state = variables["decoder/embeddings/weight"].shape
    audio_context, audio_state = variables["encoder/position_encodings/encodings"].shape
    return {
        "n_mels": variables["encoder/conv1/weight"].shape[1],
        "n_audio_ctx": audio_context,
        "n_audio_state": audio_state,
        "n_audio_head": int(variables["encoder/num_heads"]),
        "n_audio_layer": _layers(variables, "encoder"),
        "n_vocab": vocabulary,
        "n_text_ctx": variables["decoder/position_encodings/encodings"].shape[0],
        "n_text_state": text_state,
        "n_text_head": int(variables["decoder/num_heads"]),
        "n_text_layer": _layers(variables, "decoder"),
    }


def _config(dimensions: dict[str, int], tokens: dict[str, int]) -> dict[str, Any]:
    end = tokens["<|endoftext|>"]
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "vocab_size": dimensions["n_vocab"],
        "num_mel_bins": dimensions["n_mels"],
        "d_model": dimensions["n_audio_state"],
        "encoder_layers": dimensions["n_audio_layer"],
        "encoder_attention_heads": dimensions["n_audio_head"],
        "encoder_ffn_dim": 4 * dimensions["n_audio_state"],
        "decoder_layers": dimensions["n_text_layer"],
        "decoder_attention_heads": dimensions["n_text_head"],
        "decoder_ffn_dim": 4 * dimensions["n_text_state"],
        "max_source_positions": dimensions["n_audio_ctx"],
        "max_target_positions": dimensions["n_text_ctx"],
        "activation_function": "gelu",
        "tie_word_embeddings": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
    }


def _generation_config(
    dimensions: dict[str, int], tokens: dict[str, int], decoding: dict[str, Any]
) -> dict[str, Any]:
    end = tokens["<|endoftext|>"]
    languages = set(decoding["lang_ids"])
    return {
        "alignment_heads": decoding["alignment_heads"],
        "begin_suppress_tokens": decoding["suppress_ids_begin"],
        "suppress_tokens": decoding["suppress_ids"],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
        "is_multilingual": True,
        "lang_to_id": {name: id_ for name, id_ in tokens.items() if id_ in languages},
        "task_to_id": {
            "transcribe": tokens["<|transcribe|>"],
            "translate": tokens["<|translate|>"],
        },
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "max_length": dimensions["n_text_ctx"],
        "return_timestamps": False,
    }


def _preprocessor_config(dimensions: dict[str, int]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": dimensions["n_mels"],
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "padding_value": 0.0,
    }


def _tokenizer_config() -> dict[str, Any]:
    end = "<|endoftext|>"
    return {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": end,
        "model_max_length": 448,
    }


def _special_tokens(path: Path) -> dict[str, int]:
    added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    return {token["content"]: token["id"] for token in added}
