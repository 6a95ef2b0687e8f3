from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
import yaml

from moderator.errors import ModeratorError
from moderator.live.config import WatchConfig, load_watch_config, rooms_of
from moderator.live.feeds import StreamFeeds
from moderator.media.feed import StreamFeed
from tests.command import REPOSITORY, write_yaml


@pytest.fixture(autouse=True)
def _in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "en")


ROOM = {"id": "r1", "source": "https://example.com/live.flv"}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"colour": "red"}, "colour: no such field"),
        ({"ruels": "x"}, "did you mean 'rules'?"),
        ({"rooms": []}, "rooms"),
        ({"rooms": [{"id": "r1"}]}, "rooms.0: Value error, give a source or a resolver"),
        ({"rooms": [ROOM | {"risc": 1}]}, "rooms.0.risc: no such field; did you mean 'risk'?"),
        ({"rooms": [ROOM | {"risk": 3}]}, "rooms.0.risk"),
        ({"rooms": [ROOM | {"id": "../x"}]}, "rooms.0.id"),
        ({"rooms": [ROOM, ROOM | {"id": "R1"}]}, "two rooms have the id R1"),
        ({"rooms": [ROOM | {"audio": False, "video": False}]}, "nothing would be checked"),
        ({"rooms": [ROOM | {"resolver": {}}]}, "give either command or http"),
        ({"rooms": [ROOM | {"headers": {"A": "b\r\nX: y"}}]}, "no line break"),
        ({"degradation": {"order": ["frames", "frames"]}}, "each step stands once"),
        ({"degradation": {"order": ["sleep"]}}, "degradation.order.0"),
        ({"degradation": {"recover_lag_s": 9}}, "recover_lag_s must be below lag_s"),
        ({"alerts": [{"event": "room.shout"}]}, "alerts.0.event"),
    ],
)
def test_config_refuses_what_it_does_not_know_with_its_place(
    tmp_path: Path, change: dict[str, object], place: str
) -> None:
    path = write_yaml(tmp_path / "rooms.yaml", {"rooms": [ROOM]} | change)
    with pytest.raises(ModeratorError) as caught:
        load_watch_config(path)
    assert caught.value.code == "LM-302"
    assert place in str(caught.value)


@pytest.mark.parametrize("text", ["rooms: [", "- a\n- b\n", "\x00\x01"])
def test_config_refuses_what_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rooms.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModeratorError, match="LM-302"):
        load_watch_config(path)
    with pytest.raises(ModeratorError, match="LM-101"):
        load_watch_config(tmp_path / "none.yaml")


def test_config_paths_are_beside_the_file(tmp_path: Path) -> None:
    body = {"rooms": [{"id": "a", "source": "a.mp4"}, ROOM], "passports": "p.yaml"}
    config = load_watch_config(write_yaml(tmp_path / "rooms.yaml", body))
    assert config.rooms[0].source == str(tmp_path / "a.mp4")
    assert config.rooms[1].source == ROOM["source"]
    assert config.passports == tmp_path / "p.yaml"


def test_config_headers_come_from_the_environment_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    headers = {"Authorization": "env:ROOM_TOKEN", "Referer": "https://example.com"}
    (room,) = WatchConfig.model_validate({"rooms": [ROOM | {"headers": headers}]}).rooms
    monkeypatch.setenv("ROOM_TOKEN", "Bearer 1234")
    assert room.sent_headers()["Authorization"] == "Bearer 1234"
    monkeypatch.delenv("ROOM_TOKEN")
    with pytest.raises(ModeratorError, match="the environment has no ROOM_TOKEN"):
        room.sent_headers()
    assert "Referer" not in repr(room)


def test_config_private_networks_and_patience_reach_the_feed(tmp_path: Path) -> None:
    entry = ROOM | {"networks": ["10.1.0.0/16"], "give_up_after_s": 120}
    config = WatchConfig.model_validate({"rooms": [entry]})
    feed = (
        StreamFeeds(config, tmp_path)
        .open(config.rooms[0], "s1", on_state=lambda _: None, on_notice=lambda _: None)
        .feed
    )
    assert isinstance(feed, StreamFeed)
    assert feed.source.networks == (ip_network("10.1.0.0/16"),)
    assert feed.options.give_up_after_s == 120
    body = {"rooms": [ROOM | {"networks": ["10.1.0.0/99"]}]}
    with pytest.raises(ModeratorError, match=r"LM-302.*networks"):
        load_watch_config(write_yaml(tmp_path / "rooms.yaml", body))


def test_config_riskier_rooms_are_looked_at_more_often_and_served_first() -> None:
    config = WatchConfig.model_validate(
        {
            "frame_every_s": 2.0,
            "rooms": [
                ROOM | {"id": "calm", "risk": 0.0},
                ROOM | {"id": "usual"},
                ROOM | {"id": "risky", "risk": 1.0},
                ROOM | {"id": "chosen", "frame_every_s": 5.0, "priority": 9},
            ],
        }
    )
    assert [config.frame_interval_s(room) for room in config.rooms] == [3.0, 2.0, 1.0, 5.0]
    assert [room.urgency for room in config.rooms] == [0, 4, 9, 9]


def test_config_sources_on_the_command_line_become_rooms_with_names_of_their_own() -> None:
    rooms = rooms_of(
        ["rtmp://a/live/room1", "https://b/room1.flv?token=secret", "/x/某 间.mp4", "?"]
    )
    assert [room.id for room in rooms] == ["room1", "room1-2", "某-间", "room"]
    assert [room.is_file for room in rooms] == [False, False, True, True]


def test_config_every_field_says_what_it_is() -> None:
    def fields(schema: dict[str, object]) -> list[tuple[str, dict[str, object]]]:
        properties = schema.get("properties", {})
        assert isinstance(properties, dict)
        return list(properties.items())

    schema = WatchConfig.model_json_schema()
    every = fields(schema)
    for part in schema["$defs"].values():
        every += fields(part)
    assert len(every) > 50
    for name, field in every:
        assert field.get("title"), name
        assert field.get("description") or "$ref" in field, name


def test_config_the_page_about_rooms_names_every_field() -> None:
    page = (REPOSITORY / "docs" / "rooms.md").read_text(encoding="utf-8")
    schema = WatchConfig.model_json_schema()
    names = set(schema["properties"])
    for part in schema["$defs"].values():
        names |= set(part["properties"])
    assert [
        name for name in sorted(names) if f"`{name}`" not in page and f"{name}:" not in page
    ] == []


def test_config_the_example_in_the_samples_holds() -> None:
    config = load_watch_config(REPOSITORY / "samples" / "rooms.yaml")
    assert all(Path(room.source).is_file() for room in config.rooms)
    assert config.passports is not None
    ids = {entry["id"] for entry in yaml.safe_load(config.passports.read_text("utf-8"))}
    for room in config.rooms:
        assert set(room.products) <= ids
