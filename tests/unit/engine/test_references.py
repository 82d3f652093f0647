"""What a path leads to: a lookup answers for every path and every value, and never raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail_engine.references import MISSING, dig, holds
from unit.engine.test_any_input import json_values

parts = st.sampled_from(
    ["0", "1", "01", "²", "٠", "-1", "+1", "1_0", " 1", "1.0", "9" * 5_000, "a", "", "$ref", "path"]
)


@pytest.mark.parametrize("index", ["²", "٠", "①", "-1", "+0", "1_0", " 0", "0 ", "", "9" * 20, "9" * 5_000])
def test_only_plain_digits_are_the_place_of_an_item(index: str) -> None:
    assert dig([7, 8], (index,)) is MISSING
    assert dig({index: 5}, (index,)) == 5


def test_an_item_is_found_by_its_place() -> None:
    assert dig({"l": [7, {"x": 8}]}, ("l", "1", "x")) == 8
    assert dig([7], ("1",)) is MISSING


@pytest.mark.parametrize("path", [5, None, "a", {"a": 1}, ["a", 1], [[]]])
def test_what_only_looks_like_a_stored_value_is_read_as_it_stands(path: Any) -> None:
    looks = {"$ref": "/workflows/w/blobs/x", "path": path}
    assert dig(looks, ("path",)) == path
    assert dig({"x": looks}, ("x", "nothing")) is MISSING


@pytest.mark.parametrize(
    ("condition", "found", "expected"),
    [
        ({"eq": True}, 1, False),
        ({"eq": True}, True, True),
        ({"eq": 0}, False, False),
        ({"eq": 1}, 1.0, True),
        ({"ne": True}, 1, True),
        ({"in": [0]}, False, False),
        ({"in": [0, False]}, False, True),
        ({"eq": {"x": [1]}}, {"x": [True]}, False),
        ({"eq": {"x": [1]}}, {"x": [1.0]}, True),
        ({"eq": None}, MISSING, True),
    ],
)
def test_true_is_not_one_and_one_is_one_point_nought(condition: dict[str, Any], found: Any, expected: bool) -> None:
    assert holds({"ref": "input.q", **condition}, found) is expected


@given(json_values, st.lists(parts, max_size=4))
def test_a_lookup_answers_whatever_it_is_asked(value: Any, path: list[str]) -> None:
    dig(value, tuple(path))
    dig({"$ref": "/blobs/", "path": value, "fields": value}, tuple(path))
    dig([value, value], tuple(path))
