"""Weight files: which there are, where they lie, and whether they are what they should be.

`models/manifest.yaml` names every file with its sha256. The weights arrive inside Python
packages and are read as data: those packages are never imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from moderator.errors import (
    CACHE_WRITE,
    MODEL_UNKNOWN,
    WEIGHTS_CORRUPT,
    WEIGHTS_MISSING,
    ModeratorError,
)

_BLOCK_BYTES = 1 << 20
_STALE_TEMPORARY_S = 3600.0
_OWN_PACKAGE = "live-stream-moderator"
"""Parts of this package lie beside the manifest, in a checkout as in an installation."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file inside an installed package; a weight file is its parts joined in order."""

    package: str
    version: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class WeightFile:
    name: str
    bytes: int
    sha256: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the manifest. `install` is what pip needs to bring the weights."""

    name: str
    task: str
    what: dict[str, str]
    licence: str
    upstream: str
    install: str
    files: tuple[WeightFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def in_place(self) -> bool:
        """One whole file needs no copy; several, or one in parts, are joined in the cache."""
        return len(self.files) == 1 and len(self.files[0].parts) == 1


def models_list() -> tuple[Model, ...]:
    """Every model of the manifest, in its order."""
    return _read_manifest(manifest_path())


def locate(name: str) -> Path:
    """The weights of `name`, ready to load.

    A model of several files gives a folder in the cache, put together on first use; a model of
    one file gives that file where its package keeps it. The sha256 is checked once and then
    remembered by size and modification time. Raises LM-407 (unknown name), LM-403 (package not
    installed), LM-404 (wrong sha256) or LM-406 (cache not writable).
    """
    model = _find(name)
    if model.in_place:
        return _checked_in_place(model, model.files[0].parts[0])
    folder = cache_dir() / f"{model.name}-{_fingerprint(model)}"
    for file in model.files:
        _join(model, file, folder / file.name)
    return folder


def verify(name: str) -> Path:
    """Like `locate`, but reads and hashes every byte again.

    A damaged copy in the cache is put together anew. Raises as `locate` does.
    """
    model = _find(name)
    for file in model.files:
        target = cache_dir() / f"{model.name}-{_fingerprint(model)}" / file.name
        _forget(target)
        for part in file.parts:
            _forget(_find_part(model, part))
    return locate(name)


def is_installed(name: str) -> bool:
    """Whether every package file of `name` is there; nothing is hashed."""
    model = _find(name)
    try:
        for file in model.files:
            for part in file.parts:
                _find_part(model, part)
    except ModeratorError:
        return False
    return True


def made_once(source: Path, kind: str, write: Callable[[Path, Path], None]) -> Path:
    """What `write(source, target)` makes of the weights `source`: from the cache, where nobody
    ever sees half of it, and made on first use. `kind` names what it is.

    Raises LM-406 when the cache cannot be written, and as `write` does.
    """
    target = cache_dir() / "converted" / f"{source.name}-{kind}"
    if target.exists():
        return target
    # Written beside and renamed, so that nobody ever loads half of it.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(source, temporary)
        _rename(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModeratorError(CACHE_WRITE, path=target, reason=reason) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary.exists():
            temporary.unlink()
    return target


def fingerprint(name: str) -> str:
    """Twelve hex digits that change with the weights of `name`. Raises LM-407 (unknown name)."""
    return _fingerprint(_find(name))


def cache_dir() -> Path:
    """The folder of joined weights: `$MODERATOR_CACHE/models`, else `~/.cache/moderator/models`."""
    chosen = os.environ.get("MODERATOR_CACHE")
    root = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "moderator"
    return root / "models"


def manifest_path() -> Path:
    """The manifest shipped with this code: inside the installed package, or in the checkout."""
    package = Path(__file__).parent
    installed = package / "modelfiles" / "manifest.yaml"
    return installed if installed.is_file() else package.parent / "models" / "manifest.yaml"


def _find(name: str) -> Model:
    known = models_list()
    for model in known:
        if model.name == name:
            return model
    raise ModeratorError(
        MODEL_UNKNOWN,
        name=name,
        manifest=manifest_path(),
        known=", ".join(model.name for model in known),
    )


@lru_cache(maxsize=4)
def _read_manifest(path: Path) -> tuple[Model, ...]:
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
    return tuple(_model(entry) for entry in entries)


def _model(entry: dict[str, Any]) -> Model:
    files = tuple(
        WeightFile(**{**file, "parts": tuple(Part(**part) for part in file["parts"])})
        for file in entry["files"]
    )
    return Model(**{**entry, "files": files})


def _fingerprint(model: Model) -> str:
    # Weights that change get a new folder, so an old process keeps what it has open.
    return hashlib.sha256("".join(file.sha256 for file in model.files).encode()).hexdigest()[:12]


def _find_part(model: Model, part: Part) -> Path:
    if part.package == _OWN_PACKAGE:
        path = manifest_path().parent / part.path
        if path.is_file():
            return path
        raise ModeratorError(
            WEIGHTS_MISSING, name=model.name, where=str(path), install=model.install
        )
    try:
        path = Path(str(distribution(part.package).locate_file(part.path)))
    except PackageNotFoundError:
        where = f"package {part.package} {part.version}"
    else:
        if path.is_file():
            return path
        where = str(path)
    raise ModeratorError(WEIGHTS_MISSING, name=model.name, where=where, install=model.install)


def _checked_in_place(model: Model, part: Part) -> Path:
    path = _find_part(model, part)
    if not _remembered(path, part.sha256):
        digest = hashlib.sha256()
        with path.open("rb") as source:
            for block in _blocks(source):
                digest.update(block)
        _require(path, digest.hexdigest(), part.sha256)
        _remember(path, part.sha256)
    return path


def _join(model: Model, file: WeightFile, target: Path) -> None:
    if _remembered(target, file.sha256):
        return
    sources = [(_find_part(model, part), part.sha256) for part in file.parts]
    # Two processes may join at once: each writes its own file, and the rename is atomic.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_temporaries(target)
        with temporary.open("xb") as out:
            whole = hashlib.sha256()
            for path, expected in sources:
                digest = hashlib.sha256()
                with path.open("rb") as source:
                    for block in _blocks(source):
                        digest.update(block)
                        whole.update(block)
                        out.write(block)
                _require(path, digest.hexdigest(), expected)
        _require(target, whole.hexdigest(), file.sha256)
        temporary.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModeratorError(CACHE_WRITE, path=target, reason=reason) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _remember(target, file.sha256)


def _rename(temporary: Path, target: Path) -> None:
    try:
        temporary.replace(target)
    except OSError:
        # A folder is never renamed over another: a second process was first, with the same.
        if not target.is_dir():
            raise


def _require(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise ModeratorError(WEIGHTS_CORRUPT, path=path, found=found, expected=expected)


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(_BLOCK_BYTES):
        yield block


def _remove_stale_temporaries(target: Path) -> None:
    # A process killed while joining leaves a file as large as the weights.
    for left in target.parent.glob(f".{target.name}.*"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _STALE_TEMPORARY_S:
                left.unlink()


def _stamp(path: Path) -> Path:
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]
    return cache_dir() / "verified" / f"{key}.json"


def _state(path: Path, sha256: str) -> dict[str, object]:
    stat = path.stat()
    return {
        "path": str(path.resolve()),
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": sha256,
    }


def _remembered(path: Path, sha256: str) -> bool:
    try:
        noted: object = json.loads(_stamp(path).read_text(encoding="utf-8"))
        return noted == _state(path, sha256)
    except (OSError, ValueError):
        return False


def _remember(path: Path, sha256: str) -> None:
    stamp = _stamp(path)
    temporary = stamp.with_name(f".{stamp.name}.{uuid.uuid4().hex}")
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(_state(path, sha256)), encoding="utf-8")
        temporary.replace(stamp)
    except OSError:
        # Without a note the file is only hashed again next time.
        return


def _forget(path: Path) -> None:
    with suppress(OSError):
        _stamp(path).unlink(missing_ok=True)
