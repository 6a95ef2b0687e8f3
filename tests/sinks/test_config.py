from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from moderator.errors import ModeratorError
from moderator.sinks.config import (
    DEFAULT_SINKS,
    SINKS,
    SinkOptions,
    SinkPlace,
    build_deliveries,
    build_sink,
    read_options,
)
from moderator.sinks.envelope import Envelope
from moderator.sinks.journal import Journal


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "LM-805 sinks.type"),
        ({"type": "carrier-pigeon"}, "LM-806"),
        ({"type": "jsonl", "rotate_mb": 3}, "did you mean 'rotate_mib'"),
        ({"type": "jsonl", "attemps": 3}, "did you mean 'attempts'"),
        ({"type": "jsonl", "types": ["violations"]}, "did you mean 'violation'"),
        ({"type": "jsonl", "name": "../../etc"}, "LM-805 sinks.name"),
        ({"type": "jsonl", "attempts": 0}, "LM-805 sinks.attempts"),
        ({"type": "database"}, "either url or url_env"),
        ({"type": "database", "url": "no url"}, "not a database URL"),
        ({"type": "database", "url": "mango://x/y"}, "not a database URL"),
        ({"type": "kafka", "topic": "t"}, "LM-805 sinks.bootstrap"),
    ],
)
def test_config_faults_are_named_with_their_place(
    config: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODERATOR_LANG", "en")
    with pytest.raises(ModeratorError) as caught:
        build_sink(config, out=tmp_path)
    assert message in str(caught.value)


def test_config_two_sinks_of_one_name_are_refused(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.sqlite3") as journal:
        twice = [*DEFAULT_SINKS, {"type": "jsonl", "dir": "other"}]
        with pytest.raises(ModeratorError, match=r"LM-805 sinks\.1\.name"):
            build_deliveries(journal, twice, out=tmp_path)
        twice[1] = {**twice[1], "name": "other"}
        built = build_deliveries(journal, twice, out=tmp_path)
        assert [delivery.sink.name for delivery in built.all] == ["jsonl", "other"]


def test_config_a_package_may_bring_its_own_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Options(SinkOptions):
        volume: int

    class Loud:
        batch_size = 1
        types = frozenset({"alert"})

        def __init__(self, place: SinkPlace, options: Options) -> None:
            self.name = place.name
            self.volume = options.volume

        def send(self, batch: Sequence[Envelope]) -> None: ...

        def close(self) -> None: ...

    def make(*, place: SinkPlace, options: Any) -> Loud:
        return Loud(place, read_options(Options, options, place.where))

    monkeypatch.setitem(SINKS._factories, "loudspeaker", make)
    sink = build_sink({"type": "loudspeaker", "volume": 11}, out=tmp_path)
    assert (sink.name, sink.volume) == ("loudspeaker", 11)
    with pytest.raises(ModeratorError, match="LM-805"):
        build_sink({"type": "loudspeaker", "volume": "x"}, out=tmp_path)
