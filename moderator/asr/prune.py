"""Whisper with the part of its vocabulary that Mandarin rooms need.

Whisper knows 50,258 pieces of text in a hundred languages, and each step of the decoder weighs
every one of them. For base that weighing is about half of what a step costs on a CPU: its embedding
holds 26.6 of the decoder's 52 million parameters. Four pieces in five are words or parts of words
that no Chinese sentence holds, so they are left out. What is left still spells everything: all
single bytes stay, and Latin words come out of shorter pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from moderator import models
from moderator.asr.ctranslate2_file import CTranslate2Model, read_ctranslate2, write_ctranslate2
from moderator.asr.embedded import EMBEDDED, embedded_folder
from moderator.asr.tokens import WhisperTokens

PRUNED = {f"{model}-chinese": model for model in EMBEDDED}
"""The names of the pruned models, as models of faster-whisper, and what each is made of."""
LONGEST_LATIN = 3
"""Letters of the longest piece of a Latin word that is kept; a token more for some brand names."""

_KIND = f"chinese-{LONGEST_LATIN}"
# General punctuation; CJK radicals, symbols, kana and ideographs; full-width forms.
_CHINESE = ((0x2000, 0x206F), (0x2E80, 0x9FFF), (0xFF00, 0xFFEF))


def pruned_folder(name: str) -> Path:
    """A model of PRUNED, a folder in CTranslate2's format; made on first use.

    Raises as `embedded_folder` does.
    """
    return models.made_once(embedded_folder(PRUNED[name]), _KIND, write_pruned)


def write_pruned(source: Path, target: Path) -> None:
    """Write the model of folder `source` to the new folder `target` without the tokens that
    `is_needed` does not need.

    Special tokens stay and so does the order of all tokens; only their numbers change. Raises
    OSError or ValueError when the source is not a Whisper in CTranslate2's format.
    """
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    names = (source / "vocabulary.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    tokens = WhisperTokens(source / "tokenizer.json")
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    merges = [
        tuple(m.split(" ") if isinstance(m, str) else m) for m in tokenizer["model"]["merges"]
    ]
    added = {token["content"] for token in tokenizer["added_tokens"]}
    needed = {
        name for name, token in vocabulary.items() if name in added or is_needed(tokens.data(token))
    }
    needed = _with_parts(needed, merges)
    kept = [
        token
        for token, _ in enumerate(names)
        if token >= len(vocabulary) or tokens.symbols(token) in needed
    ]
    number = {old: new for new, old in enumerate(kept)}

    tokenizer["model"]["vocab"] = {n: number[t] for n, t in vocabulary.items() if n in needed}
    tokenizer["model"]["merges"] = [pair for pair in merges if "".join(pair) in needed]
    for token in tokenizer["added_tokens"]:
        token["id"] = number[token["id"]]
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for key in ("lang_ids", "suppress_ids", "suppress_ids_begin"):
        config[key] = [number[token] for token in config[key] if token in number]

    target.mkdir()
    _write_json(target / "tokenizer.json", tokenizer)
    _write_json(target / "config.json", config)
    (target / "vocabulary.txt").write_text(
        "".join(names[token] + "\n" for token in kept), encoding="utf-8"
    )
    model = read_ctranslate2(source / "model.bin")
    write_ctranslate2(_with_rows(model, len(names), kept), target / "model.bin")


def is_needed(data: bytes) -> bool:
    """Whether a piece of text with these bytes of UTF-8 is of use in a Chinese sentence."""
    if len(data) <= 1:
        return True
    try:
        text = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        return True  # part of a character, which may be Chinese
    if text.isascii():
        return len(text) <= LONGEST_LATIN
    return all(c.isascii() or any(a <= ord(c) <= b for a, b in _CHINESE) for c in text)


def _with_parts(names: set[str], merges: Iterable[Sequence[str]]) -> set[str]:
    """The names and those that they are merged from, down to single bytes."""
    parts = {"".join(pair): pair for pair in merges}
    whole, left = set(names), list(names)
    while left:
        new = [part for part in parts.get(left.pop(), ()) if part not in whole]
        whole.update(new)
        left += new
    return whole


def _with_rows(model: CTranslate2Model, size: int, kept: list[int]) -> CTranslate2Model:
    """Every array with one row a token with the rows of the kept ones."""
    made: dict[int, Any] = {}
    for array in model.variables.values():
        if id(array) not in made:
            by_token = array.ndim > 0 and array.shape[0] == size
            made[id(array)] = array[kept] if by_token else array
    variables = {name: made[id(array)] for name, array in model.variables.items()}
    return CTranslate2Model(model.spec, model.revision, variables)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
