"""What every benchmark shares: which machine it ran on, and where its result goes."""

from __future__ import annotations

import json
import os
import platform
import re
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"

_VERSIONS_THAT_MATTER = (
    "ctranslate2",
    "faster-whisper",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pyahocorasick",
    "rapidocr",
    "torch",
    "transformers",
    "openai-whisper",
)


def machine() -> dict[str, Any]:
    """The machine as a result file names it.

    `name` is short and safe in a file name (processor model and usable cores), `memory_gib`
    is what the kernel reports, `packages` are the versions of the libraries that carry the load.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor = _processor()
    return {
        "name": f"{_slug(processor)}-{cores}c",
        "processor": processor,
        "cores": cores,
        "memory_gib": _memory_gib(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": _packages(),
    }


def write_result(name: str, payload: dict[str, Any]) -> Path:
    """Write `results/<name>-<machine>-<date>.json` and return its path.

    The file holds `benchmark`, `date` (UTC), `machine`, `load_1m` (processes that ran or wanted to
    over the last minute: far above what the benchmark itself uses, others were in its way),
    `reference_per_s` (how fast the machine was just then: a virtual one may be half as fast an hour
    later) and then `payload`. A second run on the same day replaces the first.
    """
    here = machine()
    now = datetime.now(UTC)
    body = {
        "benchmark": name,
        "date": now.isoformat(timespec="seconds"),
        "machine": here,
        "load_1m": _load(),
        "reference_per_s": round(reference_per_s(), 1),
        **payload,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{here['name']}-{now:%Y%m%d}.json"
    path.write_text(json.dumps(body, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return path


def reference_per_s(seconds: float = 1.0) -> float:
    """How often a second this machine's CPU multiplies two 256 × 256 float32 matrices on numpy.

    A yardstick that no change of ours moves: speeds are compared as multiples of it.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    count, until = 0, time.perf_counter() + seconds
    began = time.perf_counter()
    while time.perf_counter() < until:
        a = np.tanh(a @ b * 0.01)
        count += 1
    return count / (time.perf_counter() - began)


def _processor() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _memory_gib() -> float | None:
    try:
        pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    return round(pages * page_bytes / 2**30, 1)


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 1)
    except (OSError, AttributeError):
        return None


def _gpu() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _packages() -> dict[str, str]:
    found = {}
    for package in _VERSIONS_THAT_MATTER:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _slug(text: str) -> str:
    words = re.sub(r"\((r|tm)\)|processor|cpu|@.*$", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:32].strip("-") or "unknown"
