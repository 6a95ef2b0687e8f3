"""How the whole suite runs: the longest files first, and no more threads than processors."""

from __future__ import annotations

import os

import pytest

# As the command does: numpy sums in another order on more threads, and a doubtful syllable is then
# heard otherwise in this process than in the command's.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

LONGEST = (
    "claims/test_clean_speech.py",
    "test_pipeline.py",
    "sinks/test_kill.py",
    "live/test_watch.py",
    "review/test_live.py",
    "asr/test_same_weights.py",
    "asr/test_faster_whisper_engine.py",
    "review/test_matrix.py",
    "test_cli.py",
    "test_api.py",
    "live/test_faults.py",
)
"""A file runs on one worker: one of these that began last would run alone at the end."""


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Read by torch and CTranslate2 when they start, in the children too: each worker is busy
        # with a test of its own.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((n for n, name in enumerate(LONGEST) if path.endswith(name)), len(LONGEST))

    items.sort(key=place)
