"""The wheel holds everything that runs, and runs outside the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import REPOSITORY, environment

SHIPPED = {
    "rules": "moderator/rulepacks",
    "models": "moderator/modelfiles",
    "moderator": "moderator",
}
"""Folder of the repository → its place in the wheel."""


def tracked(*folders: str) -> list[Path]:
    """Files under `folders` that a clone would have, or all where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    listed = subprocess.run([*command, *folders], cwd=REPOSITORY, capture_output=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
        return [Path(name) for name in names if (REPOSITORY / name).is_file()]
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*")]
    return [
        p.relative_to(REPOSITORY) for p in found if p.is_file() and "__pycache__" not in p.parts
    ]


def ships(path: Path) -> bool:
    """Whether the program needs the file; what made the rules and the weights stays behind."""
    if path.parts[0] == "moderator":
        return path.suffix in {".py", ".json", ".html", ".css", ".js"}
    made_with = {"tools", "data"} & set(path.parts)
    return path.suffix in {".yaml", ".json", ".onnx"} and not made_with


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a copy, so that what an earlier build left behind is not in it."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode:
        pytest.skip("no pip")
    home = tmp_path_factory.mktemp("build")
    source = home / "source"
    files = [
        *tracked(*SHIPPED),
        *map(Path, ("pyproject.toml", "setup.cfg", "README.md", "LICENSE")),
    ]
    for path in files:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, source / path)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
            *("--no-build-isolation", "--no-index", "-w", str(home), str(source)),
        ],
        check=True,
        capture_output=True,
        env=environment(PIP_DISABLE_PIP_VERSION_CHECK="1"),
    )
    (built,) = home.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked; nothing of the checkout is on the way to it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    env = environment(PYTHONPATH=str(installed), PYTHONSAFEPATH="1")
    return subprocess.run(
        [sys.executable, *arguments], cwd=installed.parent, env=env, capture_output=True
    )


@pytest.mark.slow
def test_packaging_wheel_holds_rules_law_schemas_models_and_pages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {
        "moderator/py.typed",
        "moderator/schemas/violation.schema.json",
        "moderator/outputs/report.html",
        "moderator/outputs/report.css",
        "moderator/outputs/report.js",
        "moderator/modelfiles/manifest.yaml",
        "moderator/rulepacks/schema/rule.schema.json",
        "moderator/rulepacks/cn/absolute_term/best.yaml",
    }
    assert wanted <= names
    assert any(re.fullmatch(r"moderator/rulepacks/law/\w+\.yaml", name) for name in names)
    assert any(name.endswith("licenses/LICENSE") or name.endswith("/LICENSE") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("folder", SHIPPED)
def test_packaging_wheel_leaves_no_code_or_data_behind(wheel: Path, folder: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = [
        str(path)
        for path in tracked(folder)
        if ships(path) and f"{SHIPPED[folder]}/{path.relative_to(folder).as_posix()}" not in names
    ]
    assert missing == []


@pytest.mark.slow
def test_packaging_wheel_has_nothing_of_the_tests_and_samples(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"moderator"}


@pytest.mark.slow
def test_packaging_installed_rules_are_sound(installed: Path) -> None:
    where = run(installed, "-c", "import moderator; print(moderator.__file__)")
    assert where.stdout.decode().strip() == str(installed / "moderator" / "__init__.py")
    lint = run(installed, "-m", "moderator", "rules", "lint")
    assert lint.returncode == 0, lint.stderr.decode()
    assert b"no faults" in lint.stderr


@pytest.mark.slow
def test_packaging_installed_command_checks_a_script(installed: Path, tmp_path: Path) -> None:
    script = tmp_path / "talk.txt"
    script.write_text("这是国家级品质\n", encoding="utf-8")
    out = tmp_path / "out"
    program = "import sys; from moderator.cli import main; sys.argv[0] = 'moderator'; main()"
    done = run(
        installed, "-c", program, "check", str(script), "--format", "jsonl", "--out", str(out)
    )
    assert done.returncode == 1, done.stderr.decode()
    assert "国家级" in done.stdout.decode()
    assert {entry.name for entry in out.iterdir()} >= {"report.html", "manifest.json"}


@pytest.mark.slow
def test_packaging_installed_models_are_listed(installed: Path) -> None:
    done = run(installed, "-m", "moderator", "models", "list")
    assert done.returncode == 0, done.stderr.decode()
    assert b"whisper-base" in done.stdout


@pytest.mark.slow
def test_packaging_wheel_names_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        text = archive.read(entry_points).decode()
    assert re.search(r"^moderator\s*=\s*moderator\.cli:main$", text, re.MULTILINE)
    assert wheel.name.startswith("live_stream_moderator-")
