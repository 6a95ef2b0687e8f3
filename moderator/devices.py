"""Which device a stage runs on, and why not on the GPU.

A device is `auto`, `cpu`, `cuda` or `cuda:N`. `auto` takes a GPU where one can be used; asking for
one that is not there falls back to the CPU with one warning a process and library.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

import structlog

from moderator.errors import DEVICE_UNKNOWN, ModeratorError, in_ui_language

log = structlog.get_logger()

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device as torch reports it; memory in GiB."""

    index: int
    name: str
    memory_gib: float
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """How many CUDA devices a library can use, and if none, why (in the reader's language)."""

    devices: int
    why_not: str = ""


QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A container's share of the processor: microseconds allowed, or `max`, and of how many (Linux's
control groups, version 2)."""


def cores(quota: Path = QUOTA) -> int:
    """How many cores this process may keep busy: those that it may run on, and no more than its
    container is allowed."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        allowed, period = quota.read_text().split()
        return min(there or 1, max(1, ceil(int(allowed) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return there or 1


def checked(device: str) -> str:
    """`device` itself. Raises LM-408 when it is no name of a device."""
    if not _DEVICE.fullmatch(device):
        raise ModeratorError(DEVICE_UNKNOWN, device=device)
    return device


def devices_of(setting: str) -> tuple[str, ...]:
    """The devices that a setting names: one, or several after commas, none twice.

    Raises LM-408 as `checked` does, and for an empty list.
    """
    names = tuple(dict.fromkeys(name.strip() for name in setting.split(",") if name.strip()))
    if not names:
        raise ModeratorError(DEVICE_UNKNOWN, device=setting)
    return tuple(checked(name) for name in names)


def spread(setting: str, offer: Offer) -> tuple[str, ...]:
    """One device a worker: `auto` and `cuda` mean every GPU that `offer` has, else the CPU."""
    names = devices_of(setting)
    if names == ("auto",) and offer.devices:
        names = ("cuda",)
    if names == ("cuda",) and offer.devices > 1:
        return tuple(f"cuda:{index}" for index in range(offer.devices))
    return names


def settle(device: str, offer: Offer, library: str) -> str:
    """`cpu` or `cuda:N`: the device that `library` will use.

    Falls back to `cpu`, and warns when a GPU was asked for. Raises LM-408 as `checked` does.
    """
    checked(device)
    if device == "cpu" or (device == "auto" and not offer.devices):
        return "cpu"
    index = int(device.partition(":")[2] or 0)
    if index < offer.devices:
        return f"cuda:{index}"
    why = offer.why_not or in_ui_language(
        f"there are only {offer.devices} CUDA devices", f"只有 {offer.devices} 个 CUDA 设备"
    )
    _warn_once(library, device, why)
    return "cpu"


@cache
def torch_offer() -> Offer:
    """What torch can use."""
    if not find_spec("torch"):
        return Offer(0, in_ui_language("torch is not installed", "未安装 torch"))
    import torch

    if torch.cuda.is_available():
        return Offer(torch.cuda.device_count())
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is a build without CUDA"
        return Offer(0, in_ui_language(why, f"torch {torch.__version__} 是不含 CUDA 的版本"))
    return Offer(
        0, in_ui_language("no NVIDIA driver or device is visible", "看不到 NVIDIA 驱动或设备")
    )


@cache
def ctranslate2_offer() -> Offer:
    """What CTranslate2, the library below faster-whisper, can use."""
    if not find_spec("ctranslate2"):
        return Offer(0, in_ui_language("ctranslate2 is not installed", "未安装 ctranslate2"))
    import ctranslate2

    count = ctranslate2.get_cuda_device_count()
    why = in_ui_language("no CUDA device is visible to ctranslate2", "ctranslate2 看不到 CUDA 设备")
    return Offer(count, "" if count else why)


@cache
def onnxruntime_offer() -> Offer:
    """What onnxruntime can use: its GPU build, and a driver and device below it."""
    if not find_spec("onnxruntime"):
        return Offer(0, in_ui_language("onnxruntime is not installed", "未安装 onnxruntime"))
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        why = "this onnxruntime has no CUDA provider (pip install onnxruntime-gpu in its place)"
        zh = "这个 onnxruntime 不带 CUDA（请改装 onnxruntime-gpu）"
        return Offer(0, in_ui_language(why, zh))
    # The build has it; whether there is a device is known to the libraries that asked the driver.
    counts = [torch_offer().devices, ctranslate2_offer().devices]
    if any(counts):
        return Offer(max(counts))
    return Offer(0, in_ui_language("no CUDA device is visible", "看不到 CUDA 设备"))


def classifier_offer() -> Offer:
    """What the sentence classifier can use: it needs `onnx` to be rewritten for a GPU."""
    offer = onnxruntime_offer()
    if offer.devices and not find_spec("onnx"):
        why = "onnx is not installed (pip install 'live-stream-moderator[gpu]')"
        zh = "未安装 onnx（pip install 'live-stream-moderator[gpu]'）"
        return Offer(0, in_ui_language(why, zh))
    return offer


@cache
def sherpa_offer() -> Offer:
    """What sherpa-onnx can use: it brings an onnxruntime of its own, which has CUDA or has not."""
    if not find_spec("sherpa_onnx"):
        return Offer(0, in_ui_language("sherpa-onnx is not installed", "未安装 sherpa-onnx"))
    if "cuda" not in version("sherpa-onnx"):
        why = "this sherpa-onnx is the CPU build (its CUDA wheels have +cuda in the version)"
        return Offer(
            0, in_ui_language(why, "这个 sherpa-onnx 是 CPU 版（CUDA 版的版本号带 +cuda）")
        )
    return Offer(torch_offer().devices or ctranslate2_offer().devices)


SPEECH_OFFERS = {
    "faster-whisper": ctranslate2_offer,
    "openai-whisper": torch_offer,
    "transformers": torch_offer,
    "qwen3-asr": torch_offer,
    "sense-voice": sherpa_offer,
}
"""By engine, whom to ask for devices."""


def speech_offer(engine: str) -> Offer:
    """What the library below a speech engine can use; an unknown engine decides by itself."""
    ask = SPEECH_OFFERS.get(engine)
    return ask() if ask else Offer(0, in_ui_language("not known", "未知"))


def onnx_providers(device: str) -> list[Any]:
    """The `providers` of an onnxruntime session for a settled device, the CPU last."""
    if device == "cpu":
        return ["CPUExecutionProvider"]
    index = int(device.partition(":")[2] or 0)
    # Widths and numbers of lines differ from call to call: an exhaustive search of convolution
    # algorithms for each new shape would cost more than it gains.
    cuda = {"device_id": index, "cudnn_conv_algo_search": "HEURISTIC"}
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]


def gpus() -> list[Gpu]:
    """The CUDA devices that torch sees; none without torch."""
    if not torch_offer().devices:
        return []
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        memory_gib = round(about.total_memory / 2**30, 1)
        found.append(Gpu(index, about.name, memory_gib, (about.major, about.minor)))
    return found


@cache
def _warn_once(library: str, device: str, why: str) -> None:
    log.warning("device.fallback", library=library, wanted=device, used="cpu", reason=why)
