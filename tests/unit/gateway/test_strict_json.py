"""B1, B4-B7: what is JSON to us, and which rule was broken where it is not."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail_gateway.application.faults import Refusal
from handrail_gateway.entrypoints.http.strict_json import parse
from handrail_runtime.strict_json import MAX_ITEMS


def refused(body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [
        (b"", 1, 1),
        (b"{", 1, 2),
        (b'{"a":1}x', 1, 8),
        (b'{"a":\n  tru}', 2, 3),
        (b"[1,2", 1, 5),
        (b"{'a':1}", 1, 2),
        (b"\xef\xbb\xbf{}", 1, 1),
        (b"01", 1, 2),
        (b'"\t"', 1, 2),
    ],
)
def test_what_is_not_json_is_refused_with_line_and_column(body: bytes, line: int, column: int) -> None:
    refusal = refused(body)
    assert refusal.code == "malformed-json"
    assert (refusal.members["line"], refusal.members["column"]) == (line, column)
    assert f"line {line}, column {column}" in refusal.detail


@pytest.mark.parametrize("body", [b'{"a":1,}', b"[1,]", b'{"a":1', b"nul", b"{]"])
def test_trailing_commas_and_torn_bodies_are_malformed(body: bytes) -> None:
    assert refused(body).code == "malformed-json"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("levels", [65, 500, 5_000, 200_000])
def test_deep_nesting_is_refused_without_a_recursion_error(opening: bytes, levels: int) -> None:
    closing = b"]" if opening == b"[" else b"}"
    assert refused(opening * levels + b"1" + closing * levels).code == "too-deep"


def test_sixty_four_levels_are_read() -> None:
    assert parse(b"[" * 64 + b"]" * 64) is not None


def test_a_million_items_are_refused_and_the_limit_is_named() -> None:
    refusal = refused(b'{"a":[' + b",".join([b"0"] * 1_000_000) + b"]}")
    assert refusal.code == "too-many-items"
    assert refusal.members["limit"] == MAX_ITEMS


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a":1,"a":1}', "/a"),
        (b'{"a":{"b":1,"b":2}}', "/a/b"),
        (b'{"x": [ {"a/b~c": 1, "a/b~c": 2} ] }', "/x/0/a~1b~0c"),
        (b'{"a":1,"\\u0061":2}', "/a"),
        (b'{"a":"1e99999999999","a":1e5}', "/a"),
        (b'{"a": 1, "a": 1}', "/a"),
        (b'{\n\t"a": [1],\n\t"a": [1]\n}', "/a"),
        (b'{"x, y": {"a": 1, "b": ", ", "a": 1}}', "/x, y/a"),
        (b'{"a, b": 1, "a,b": 1, "a, b": 1}', "/a, b"),
    ],
)
def test_a_key_that_stands_twice_is_pointed_at(body: bytes, pointer: str) -> None:
    refusal = refused(body)
    assert refusal.code == "duplicate-key"
    assert refusal.errors is not None
    assert refusal.errors[0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"a":NaN}', "/a"),
        (b"[1,Infinity]", "/1"),
        (b"-Infinity", ""),
        (b"[1e400]", "/0"),
        (b"[-1e400]", "/0"),
        (b'{"a":[9007199254740993]}', "/a/0"),
        (b"-9007199254740993", ""),
        (b"18446744073709551616", ""),
        (b"1" + b"0" * 400, ""),
        (b"1" + b"0" * 100_000, ""),
    ],
)
def test_numbers_that_others_would_read_differently_are_refused(body: bytes, pointer: str) -> None:
    refusal = refused(body)
    assert refusal.code == "number-out-of-range"
    assert refusal.errors is not None
    assert refusal.errors[0]["pointer"] == pointer
    assert len(refusal.detail) < 400


@pytest.mark.parametrize(
    "body", [b"9007199254740992", b"-9007199254740992", b"1e300", b'"12345678901234567890"', b"-0"]
)
def test_numbers_within_range_are_read(body: bytes) -> None:
    assert parse(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'{"a":["\\udc00 \\ud800"]}',
        b'{"\\ud800":1}',
        b'"a\\u0000b"',
        b'{"a\\u0000":1}',
        b'"a\x00b"',
    ],
)
def test_text_that_cannot_be_stored_is_refused(body: bytes) -> None:
    assert refused(body).code == "invalid-text"


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert parse(b'"\\\\u0000"') == "\\u0000"
    assert parse(b'"\\ud83d\\ude00"') == "😀"


_json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), inner, max_size=5
        )
    ),
    max_leaves=20,
)


@given(_json_values, st.booleans(), st.booleans())
def test_every_json_value_is_read_as_it_was_written(value: Any, ascii_only: bool, compact: bool) -> None:
    separators = (",", ":") if compact else None
    body = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    assert parse(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b'{"a, b": 1, "a,b": 2, "a: b": [1, {"c": ", "}], "a:b": ":  "}',
        b'{"a" : 1 ,  "b":\t[ 1,2 ]}\n',
        b'{"a": 1E2, "b": 1.50, "\\u0061, ": "\\u002c "}',
    ],
)
def test_spaces_between_and_within_texts_are_told_apart(body: bytes) -> None:
    assert parse(body) == json.loads(body)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_refusal(body: bytes) -> None:
    try:
        parse(body)
    except Refusal as refusal:
        assert refusal.status in (400, 422)


LONG = "k" * 100_000


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fault", ['"\\u0000"', '"\\ud800"', "1e999", '{"a": 1, "a": 2}'])
def test_a_long_name_is_quoted_short_and_not_once_for_all_that_it_holds(fault: str) -> None:
    inside = ",".join(f'"{i}": {{}}' for i in range(1_000))
    body = f'{{"{LONG}": {{"z": {fault}, {inside}}}}}'.encode()

    def reading() -> None:
        with pytest.raises(Refusal) as caught:
            parse(body)
        for error in caught.value.errors or ():
            assert error["pointer"].startswith(f"/{'k' * 80}…/")
            assert len(error["pointer"]) < 100

    assert peak_bytes(reading) < 20 * len(body)
