"""The `moderator` command in a process of its own, and a rule pack small enough to read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.claims.conftest import LAW, rule

REPOSITORY = Path(__file__).parents[1]

SUSPECT, NEEDS_PROOF, VIOLATION = "这是顶呱呱的面霜", "这款面霜销量领先", "这是国家级品质"
"""Sentences that the small pack finds, each with the disposition of its name."""

LAWFUL = "这款面霜很好用"


@dataclass(frozen=True)
class Result:
    """What one call left behind; `out` and `err` are what it wrote."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without its moderator settings, speaking English."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MODERATOR_") or name == "MODERATOR_CACHE"
    }
    return kept | {"PYTHONPATH": str(REPOSITORY), "MODERATOR_LANG": "en"} | changes


def moderator(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    limit_s: float = 120,
    before: Callable[[], None] | None = None,
) -> Result:
    """Run the command to its end; `before` runs in the child, `limit_s` is its time."""
    done = subprocess.run(
        [sys.executable, "-m", "moderator", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        env=env or environment(),
        timeout=limit_s,
        preexec_fn=before,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def small_rules() -> list[dict[str, Any]]:
    """One rule of each disposition; the second is lawful with a sales report."""
    return [
        rule(),
        rule(
            id="cn.data.sales",
            category="fake_data_or_citation",
            match=[{"terms": ["销量领先"]}],
            needs=["sales_report"],
            tests={"violation": [NEEDS_PROOF], "compliant": [LAWFUL]},
        ),
        rule(
            id="cn.absolute.hint",
            disposition="suspect",
            severity="low",
            match=[{"terms": ["顶呱呱"]}],
            tests={"violation": [SUSPECT], "compliant": [LAWFUL]},
        ),
    ]


def write_pack(home: Path, rules: list[dict[str, Any]] | None = None) -> Path:
    """Write `rules` as a pack of jurisdiction `cn`; returns the folder for `--rules`."""
    (home / "cn").mkdir(parents=True)
    (home / "law").mkdir()
    write_yaml(home / "law" / "ad_law.yaml", LAW)
    for number, body in enumerate(small_rules() if rules is None else rules):
        write_yaml(home / "cn" / f"rule{number}.yaml", body)
    return home


def write_yaml(path: Path, body: Any) -> Path:
    path.write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    return path
