"""The benchmark suite fails on lost accuracy, and on speed only by ratios."""

from __future__ import annotations

from typing import Any

from benchmarks.suite import compare, markdown

KNOWN = {
    "accuracy": {"exam_recall": 0.9, "speech_cer": 0.2},
    "speed": {"frames_per_reference": 0.01},
}


def found(recall: float = 0.9, cer: float = 0.2, speed: float = 0.01) -> dict[str, Any]:
    return {
        "accuracy": {"exam_recall": recall, "speech_cer": cer},
        "speed": {"frames_per_reference": speed},
        "parts": {"gpu_rooms": {"steps": [{"rooms": 2, "p95_s": 99.0}]}},
    }


def verdicts(run: dict[str, Any], known: dict[str, Any]) -> list[str]:
    return [row["verdict"] for row in compare(run, known)]


def test_suite_passes_what_is_as_good_and_shows_latency() -> None:
    assert verdicts(found(0.895, 0.205, 0.006), KNOWN) == ["ok", "ok", "ok", "shown"]
    assert verdicts(found(), {}) == ["new", "new", "new", "shown"]


def test_suite_fails_on_lost_accuracy_and_halved_speed() -> None:
    assert verdicts(found(recall=0.88), KNOWN)[0] == "lost"
    assert verdicts(found(cer=0.22), KNOWN)[1] == "lost"
    assert verdicts(found(speed=0.0049), KNOWN)[2] == "lost"
    assert verdicts(found(cer=0.1, speed=1.0), KNOWN)[:3] == ["ok", "ok", "ok"]


def test_suite_prints_a_table() -> None:
    lines = markdown(compare(found(), KNOWN), "quick-cpu").splitlines()
    assert lines[0] == "### quick-cpu"
    assert lines[4] == "| exam_recall | 0.9 | 0.9 | ok |"
