from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderator.sinks.envelope import GENESIS, canonical, clean, parse_line, seal


def envelope(body: dict[str, Any]) -> Any:
    return seal(session="s", room="r", seq=0, type="violation", body=clean(body), prev=GENESIS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_envelope_any_body_survives_writing_and_reading(body: dict[str, Any]) -> None:
    sealed = envelope(body)
    read = parse_line(sealed.line().encode())
    assert read == sealed
    assert read.hash == read.expected_hash()


def test_envelope_numbers_print_as_in_every_language() -> None:
    assert canonical(clean({"b": 2.0, "a": [0.00005, 1e-7, 12.34567, 5.0e15]})) == (
        '{"a":[0.0001,0,12.3457,5000000000000000],"b":2}'
    )


def test_envelope_what_is_no_json_is_made_json_and_not_lost() -> None:
    assert clean({"x": math.nan, "y": "a\ud800b", "z": (1, 2)}) == {
        "x": None,
        "y": "a\ufffdb",
        "z": [1, 2],
    }
    with pytest.raises(TypeError):
        clean({"x": object()})


def test_envelope_id_hash_and_order_of_fields_do_not_depend_on_the_writer() -> None:
    sealed = envelope({"x": "国家级"})
    document = json.loads(sealed.line())
    shuffled = dict(sorted(document.items(), reverse=True))
    assert parse_line(json.dumps(shuffled)) == sealed


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "moderator/event@2"},
        {"more": 1},
        {"seq": True},
        {"seq": "0"},
        {"room": None},
        {"body": []},
    ],
)
def test_envelope_foreign_documents_are_refused(change: dict[str, Any]) -> None:
    document = {**envelope({}).to_json(), **change}
    with pytest.raises(ValueError, match=r".+"):
        parse_line(json.dumps(document))


def test_envelope_a_name_that_stands_twice_is_refused() -> None:
    line = envelope({"quote": "好用"}).line()
    twice = line.replace('"quote":"好用"', '"quote":"国家级","quote":"好用"')
    with pytest.raises(ValueError, match="twice"):
        parse_line(twice)
