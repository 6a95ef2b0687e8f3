"""The pruned Whisper spells everything, numbers its tokens anew and keeps every weight it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moderator.asr.ctranslate2_file import CTranslate2Model, read_ctranslate2, write_ctranslate2
from moderator.asr.embedded import embedded_folder
from moderator.asr.prune import PRUNED, is_needed, pruned_folder
from moderator.asr.tokens import WhisperTokens


@pytest.fixture(scope="module", params=sorted(PRUNED))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(name: str) -> Path:
    return embedded_folder(PRUNED[name])


@pytest.fixture(scope="module")
def pruned(name: str) -> Path:
    return pruned_folder(name)


@pytest.mark.parametrize(
    ("piece", "needed"),
    [
        ("祛".encode(), True),
        ("祛".encode()[:2], True),
        ("，".encode(), True),
        (b"\xff", True),
        (b" SPF", True),
        (b" wonderful", False),
        ("ий".encode(), False),
        ("안".encode(), False),
    ],
)
def test_prune_keeps_what_a_chinese_sentence_can_hold(piece: bytes, needed: bool) -> None:
    assert is_needed(piece) is needed


@pytest.mark.parametrize(
    "text",
    ["家人们这款面膜祛斑美白三天见效", "SK-II 和 Olay 谁更 moisturizing", "¥39.9 👍", "Привет"],
)
def test_prune_spells_everything_still(pruned: Path, text: str) -> None:
    tokens = WhisperTokens(pruned / "tokenizer.json")
    assert b"".join(tokens.data(token) for token in tokens.encode(text)).decode() == text


def test_prune_chinese_is_cut_as_before(whole: Path, pruned: Path) -> None:
    text = "全网最低价，买一送一，只有今天！"
    before, after = (WhisperTokens(folder / "tokenizer.json") for folder in (whole, pruned))
    assert [before.data(t) for t in before.encode(text)] == [
        after.data(t) for t in after.encode(text)
    ]


def test_prune_every_kept_token_has_its_own_row(whole: Path, pruned: Path) -> None:
    before, after = (read_ctranslate2(folder / "model.bin") for folder in (whole, pruned))
    old, new = (WhisperTokens(folder / "tokenizer.json") for folder in (whole, pruned))
    name = "decoder/embeddings/weight"
    assert len(after.variables[name]) < len(before.variables[name]) / 3
    for piece in (*new.encode("美白"), *new.encode("x")):
        (same,) = [t for t in range(len(before.variables[name])) if old.data(t) == new.data(piece)]
        assert (before.variables[name][same] == after.variables[name][piece]).all()
    for special in ("<|zh|>", "<|notimestamps|>", "<|endoftext|>"):
        rows = (
            before.variables[name][old.special(special)],
            after.variables[name][new.special(special)],
        )
        assert (rows[0] == rows[1]).all()
    untouched = [n for n, array in before.variables.items() if len(array.shape) != 2]
    assert all((before.variables[n] == after.variables[n]).all() for n in untouched)


def test_prune_names_in_the_configuration_are_those_of_the_vocabulary(
    whole: Path, pruned: Path
) -> None:
    def named(folder: Path, key: str) -> list[str]:
        names = (folder / "vocabulary.txt").read_text(encoding="utf-8").split("\n")
        return [names[i] for i in json.loads((folder / "config.json").read_bytes())[key]]

    for key in ("lang_ids", "suppress_ids_begin"):
        assert named(whole, key) == named(pruned, key)
    assert set(named(pruned, "suppress_ids")) <= set(named(whole, "suppress_ids"))


def test_prune_file_is_written_as_it_was_read(tmp_path: Path) -> None:
    weight = np.arange(6, dtype=np.float16).reshape(3, 2)
    model = CTranslate2Model(
        "WhisperSpec", 3, {"a": weight, "number": np.array(2, np.int16), "again": weight}
    )
    write_ctranslate2(model, tmp_path / "model.bin")
    read = read_ctranslate2(tmp_path / "model.bin")
    assert (read.spec, read.revision) == ("WhisperSpec", 3)
    assert read.variables["again"] is read.variables["a"]
    assert (read.variables["a"] == weight).all()
    assert read.variables["number"].shape == ()
    assert read.variables["number"] == 2
