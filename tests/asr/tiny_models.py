"""Models of real architectures with a few random weights, saved as a hub keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moderator.asr.tokens import _byte_symbols


def tiny_whisper(folder: Path, *, mels: int = 128) -> Path:
    """The layout of large-v3-turbo: 128 mel bands, more encoder than decoder layers, 粤语 as a
    language, no list of alignment heads."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    names = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|yue|>"]
    names += ["<|translate|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>"]
    names += ["<|notimestamps|>", "<|0.00|>", "<|0.02|>"]
    ids = _tokenizer(folder, names)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    common = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(3)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=256 + len(names),
            num_mel_bins=mels,
            d_model=32,
            encoder_layers=3,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_target_positions=64,
            init_std=0.3,
            decoder_start_token_id=start,
            **common,
        )
    )
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        is_multilingual=True,
        lang_to_id={name: ids[name] for name in ("<|en|>", "<|zh|>", "<|yue|>")},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        begin_suppress_tokens=[end],
        suppress_tokens=[ids["<|0.00|>"], ids["<|0.02|>"]],
        max_length=64,
        **common,
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
    return folder


def tiny_qwen3_asr(folder: Path) -> Path:
    """Qwen3-ASR with two encoder and two decoder layers, its processor and a byte vocabulary."""
    import torch
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen3ASRConfig,
        Qwen3ASRFeatureExtractor,
        Qwen3ASRForConditionalGeneration,
        Qwen3ASRProcessor,
    )

    names = ["<|im_end|>", "<|im_start|>", "<|audio_start|>", "<|audio_end|>", "<|audio_pad|>"]
    ids = _tokenizer(folder, [*names, "<asr_text>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens={
            "audio_token": "<|audio_pad|>",
            "audio_bos_token": "<|audio_start|>",
            "audio_eos_token": "<|audio_end|>",
        },
    )
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n"
        "{% for part in message.content %}{% if part.type == 'audio' %}"
        "<|audio_start|><|audio_pad|><|audio_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
        "<|im_end|>\n{% endfor %}"
    )
    Qwen3ASRProcessor(
        Qwen3ASRFeatureExtractor(feature_size=128), tokenizer, chat_template=template
    ).save_pretrained(folder)
    torch.manual_seed(3)
    Qwen3ASRForConditionalGeneration(
        Qwen3ASRConfig(
            audio_config={
                "encoder_layers": 2,
                "encoder_attention_heads": 4,
                "encoder_ffn_dim": 64,
                "d_model": 32,
                "output_dim": 32,
                "downsample_hidden_size": 16,
            },
            text_config={
                "vocab_size": 256 + len(names) + 1,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 8,
            },
            audio_token_id=ids["<|audio_pad|>"],
            pad_token_id=ids["<|im_end|>"],
            eos_token_id=[ids["<|im_end|>"]],
        )
    ).save_pretrained(folder)
    return folder


def tiny_sense_voice(folder: Path) -> Path:
    """SenseVoice's inputs, outputs and metadata around one matrix: spikes of three tokens."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<unk>", "<s>", "</s>", "国", "家", "级"]
    tokens += ["<|zh|>", "<|NEUTRAL|>", "<|Speech|>", "<|woitn|>", "<blk>"]
    lines = "".join(f"{token} {number}\n" for number, token in enumerate(tokens))
    (folder / "tokens.txt").write_text(lines, encoding="utf-8")
    width = 560
    rng = np.random.default_rng(3)
    weights = (rng.standard_normal((width, len(tokens))) * 0.1).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "weights"], ["projected"]),
        # The four frames of language, event, emotion and style that precede those of the sound.
        helper.make_node("Slice", ["projected", "zero", "four", "axis"], ["head"]),
        helper.make_node("Concat", ["head", "projected"], ["logits"], axis=1),
    ]
    values = {"zero": [0], "four": [4], "axis": [1]}
    integer = TensorProto.INT32
    graph = helper.make_graph(
        nodes,
        "sense_voice",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", width]),
            helper.make_tensor_value_info("x_length", integer, ["N"]),
            helper.make_tensor_value_info("language", integer, ["N"]),
            helper.make_tensor_value_info("text_norm", integer, ["N"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "L", len(tokens)])],
        [numpy_helper.from_array(weights, "weights")]
        + [numpy_helper.from_array(np.array(v, np.int64), name) for name, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    about = {
        "model_type": "sense_voice_ctc",
        "vocab_size": len(tokens),
        "lfr_window_size": 7,
        "lfr_window_shift": 6,
        "normalize_samples": 0,
        **{f"lang_{name}": n for n, name in enumerate(("auto", "zh", "en", "yue", "ja", "ko"))},
        "with_itn": 14,
        "without_itn": 15,
        "neg_mean": ",".join(["0"] * width),
        "inv_stddev": ",".join(["1"] * width),
    }
    helper.set_model_props(model, {name: str(value) for name, value in about.items()})
    onnx.save(model, str(folder / "model.onnx"))
    return folder


def _tokenizer(folder: Path, special: list[str]) -> dict[str, int]:
    """A byte vocabulary and the special tokens after it; their ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {symbol: byte for byte, symbol in _byte_symbols().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    return {name: tokenizer.token_to_id(name) for name in special}
