from pathlib import Path

import pytest

from moderator.config import Settings, load_settings
from moderator.errors import ModeratorError


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MODERATOR_{name.upper()}", raising=False)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_config_file_is_overridden_by_environment_and_that_by_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "asr_beam: 2\nasr_batch: 2\nclip_pre_s: 2\n")
    monkeypatch.setenv("MODERATOR_ASR_BATCH", "3")
    monkeypatch.setenv("MODERATOR_CLIP_PRE_S", "3")
    settings = load_settings(path, clip_pre_s=4.0, clip_post_s=None)
    assert (settings.asr_beam, settings.asr_batch, settings.clip_pre_s) == (2, 3, 4.0)
    assert settings.clip_post_s == Settings().clip_post_s


def test_config_environment_restates_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = Settings().asr_beam
    monkeypatch.setenv("MODERATOR_ASR_BEAM", str(default))
    assert load_settings(write(tmp_path, "asr_beam: 1\n")).asr_beam == default


@pytest.mark.parametrize("text", ["", "\ufeffasr_beam: 5\n", "# nothing yet\n"])
def test_config_file_may_say_little(tmp_path: Path, text: str) -> None:
    assert load_settings(write(tmp_path, text)) == Settings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("asr_beams: 5", "asr_beams"),
        ("asr_beam: many", "asr_beam"),
        ("asr_beam: 0", "asr_beam"),
        ("lang: fr", "lang"),
        ("frame_every_s: .nan", "frame_every_s"),
        ("- asr_beam", "mapping"),
        ("asr_beam: [", "settings.yaml"),
        ("1: 2", "1"),
    ],
)
def test_config_fault_names_the_file_and_the_setting(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ModeratorError) as error:
        load_settings(path)
    assert error.value.code == "LM-303"
    assert str(path) in str(error.value)
    assert named in str(error.value)


def test_config_fault_of_the_environment_names_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODERATOR_ASR_BEAM", "99")
    with pytest.raises(ModeratorError, match=r"LM-303 settings: asr_beam: .*10"):
        load_settings()


def test_config_file_that_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-101"):
        load_settings(tmp_path / "gone.yaml")
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModeratorError, match="LM-303"):
        load_settings(path)


def test_config_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
