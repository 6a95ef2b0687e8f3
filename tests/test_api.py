from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import moderator
from moderator import ModeratorError, Room, Violation, check, check_script, load_rules
from moderator.media.command import find_ffmpeg
from tests.command import NEEDS_PROOF, REPOSITORY, VIOLATION, environment, write_pack

MARK = "<!-- python-example -->"


def readme_example() -> str:
    """The fenced Python block that follows the mark in the README."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"{re.escape(MARK)}\s*```python\n(.*?)```", text, re.DOTALL)
    if found is None:
        pytest.skip("the README has no Python example")
    return found.group(1)


def test_api_example_of_the_readme_is_ten_lines() -> None:
    lines = [line for line in readme_example().splitlines() if line.strip()]
    assert len(lines) <= 10
    assert lines[0] == "from moderator import check, check_script"


@pytest.mark.slow
def test_api_example_of_the_readme_runs(tmp_path: Path) -> None:
    """As a reader runs it, on twenty seconds of the room that it names."""
    samples = tmp_path / "samples"
    (samples / "rooms").mkdir(parents=True)
    shutil.copy(REPOSITORY / "samples" / "passports.yaml", samples)
    (name,) = re.findall(r"samples/rooms/\S+\.mp4", readme_example())
    cut = ["-v", "error", "-ss", "144", "-i", str(REPOSITORY / name), "-t", "20", "-c", "copy"]
    subprocess.run([find_ffmpeg(), *cut, str(tmp_path / name)], check=True)
    path = tmp_path / "example.py"
    path.write_text(readme_example(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", str(path)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode().splitlines()
    assert any("国家级" in line for line in said)
    assert any(" → " in line for line in said)


def test_api_import_is_light() -> None:
    heavy = ("numpy", "cv2", "torch", "onnxruntime", "faster_whisper", "yaml", "pydantic")
    program = f"import sys, moderator; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "[]"


def test_api_scripts_need_no_speech_screen_or_media_packages(tmp_path: Path) -> None:
    """The core checks scripts with none of the extras installed."""
    program = """
import sys
for name in ("cv2", "faster_whisper", "ctranslate2", "onnxruntime", "rapidocr", "torch",
             "transformers", "whisper", "zxingcpp", "imageio_ffmpeg"):
    sys.modules[name] = None
from moderator import check_script
print([v.quote for v in check_script("这是国家级品质").violations])
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True)
    assert done.stderr.decode() == ""
    assert done.stdout.decode().strip() == "['国家级']"


def test_api_offers_what_it_names() -> None:
    assert {"check", "check_script", "load_rules", "Room", "Violation"} <= set(moderator.__all__)
    for name in moderator.__all__:
        assert getattr(moderator, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        _ = moderator.chekc  # type: ignore[attr-defined]


def test_api_version_is_that_of_the_package() -> None:
    declared = re.search(r"^version = (\S+)$", (REPOSITORY / "setup.cfg").read_text(), re.MULTILINE)
    assert declared is not None
    assert moderator.__version__ == declared.group(1)


def test_api_check_script_returns_violations(tmp_path: Path) -> None:
    pack = load_rules(write_pack(tmp_path / "pack"))
    report = check_script(f"{VIOLATION}\n{NEEDS_PROOF}", rules=pack, room=Room(id="r-1"))
    first, second = report.violations
    assert isinstance(first, Violation)
    assert (first.room, first.quote, str(first.disposition)) == ("r-1", "国家级", "violation")
    assert (second.place.line if second.place else None) == 2
    assert report.at_or_above(first.disposition) == (first,)


def test_api_a_room_may_be_given_by_its_file(tmp_path: Path) -> None:
    pack = load_rules(write_pack(tmp_path / "pack"))
    file = tmp_path / "room.yaml"
    file.write_text("id: r-2\nmerchant: 徽味周记\n", encoding="utf-8")
    for given in (file, str(file)):
        report = check_script(VIOLATION, rules=pack, room=given)
        assert [violation.room for violation in report.violations] == ["r-2"]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: check("gone.mp4"), "LM-101"),
        (lambda: check("gone.txt"), "LM-101"),
        (lambda: check_script(Path("gone.txt")), "LM-101"),
        (lambda: check_script("x", rules="gone"), "LM-209"),
        (lambda: check_script("x", passports="gone.yaml"), "LM-101"),
        (lambda: check_script("x", room="gone.yaml"), "LM-101"),
    ],
)
def test_api_errors_have_a_code_a_place_and_a_mend(
    call: Any, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lang in ("zh", "en"):
        monkeypatch.setenv("MODERATOR_LANG", lang)
        with pytest.raises(ModeratorError) as error:
            call()
        assert error.value.code == code
        assert str(error.value).startswith(f"{code} ")
        assert "gone" in str(error.value)
        assert "\n  → " in str(error.value)
