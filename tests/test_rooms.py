from pathlib import Path

import pytest
import yaml

from moderator.errors import ModeratorError
from moderator.records import Room
from moderator.rooms import load_room

DOCS = Path(__file__).parents[1] / "docs" / "rooms.md"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "room.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_rooms_of_the_documentation_can_be_read(tmp_path: Path) -> None:
    example = DOCS.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    room = load_room(write(tmp_path, example))
    assert room.id == "room-001"
    assert room.products == ("p-serum-01",)
    assert set(yaml.safe_load(example)) == set(Room.__dataclass_fields__)


def test_rooms_need_only_an_id(tmp_path: Path) -> None:
    assert load_room(write(tmp_path, "\ufeffid: a\n")) == Room(id="a")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("id: a\nplattform: x", "plattform"),
        ("title: 今晚", "id"),
        ("id: 7", "id"),
        ("id: a\nproducts: serum", "products"),
        ("id: a\nproducts: [a, {b: c}]", "products.1"),
        ("id: a\nai_host: perhaps", "ai_host"),
        ("- id: a", "mapping"),
        ("", "mapping"),
        ("id: [", "room.yaml"),
    ],
)
def test_rooms_fault_names_the_file_and_the_field(tmp_path: Path, text: str, named: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ModeratorError) as error:
        load_room(path)
    assert error.value.code == "LM-302"
    assert str(path) in str(error.value)
    assert named in str(error.value)


def test_rooms_file_that_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(ModeratorError, match="LM-101"):
        load_room(tmp_path / "gone.yaml")
    path = tmp_path / "room.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModeratorError, match="LM-302"):
        load_room(path)
