"""Inputs against the schemas that people declared: shorthands expanded, nothing fetched, nothing run away."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_contracts.pauses import SHORTHANDS
from handrail_contracts.plan import INPUT_SHORTHANDS
from handrail_gateway.application import schemas


def test_every_shorthand_has_a_schema() -> None:
    assert set(SHORTHANDS) == set(INPUT_SHORTHANDS)


@pytest.mark.parametrize(
    ("shorthand", "good", "bad"),
    [
        (
            "url",
            ["https://vendor.example/mbp16", "http://x"],
            ["ftp://x", "x", "http://", "javascript:alert(1)", 5, None],
        ),
        ("email", ["ada@example.org"], ["ada", 5]),
        ("text", ["x"], ["", 5, None]),
        ("number", [1, 1.5], ["1", True, None]),
        ("integer", [1, -1], [1.5, "1", True]),
        ("boolean", [True, False], [0, "true"]),
        ("date", ["2026-02-28"], ["2026-02-30", "28.2.2026", 5]),
        ("json", [None, {}, [1], "x"], []),
    ],
)
def test_shorthands_take_the_bare_value(shorthand: str, good: list[Any], bad: list[Any]) -> None:
    schema = schemas.expanded(shorthand)
    assert [v for v in good if schemas.faults(schema, v)] == []
    assert [v for v in bad if not schemas.faults(schema, v)] == []


def test_faults_point_into_the_input_also_at_what_is_missing_or_too_much() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"b/c": {"maximum": 3}}, "additionalProperties": False}
    found = schemas.faults(schema, {"b/c": 5, "z": 1}, "/input")
    assert sorted((f["pointer"], f["code"]) for f in found) == [
        ("/input/a", "required"),
        ("/input/b~1c", "maximum"),
        ("/input/z", "additionalProperties"),
    ]


def test_messages_quote_little_and_escape_it() -> None:
    [fault] = schemas.faults({"enum": ["x"]}, "<script>\x1b" + "y" * 10_000)
    assert len(fault["message"]) < 400
    assert "\x1b" not in fault["message"]


@pytest.mark.parametrize(
    ("shorthand", "given", "said"),
    [
        ("url", "ftp://x", "Expected a URL that begins with http:// or https://, but found 'ftp://x'."),
        ("url", "not a link", "Expected a URL that begins with http:// or https://, but found 'not a link'."),
        ("url", "https://a b", "Expected a URL such as https://example.org/a, but found 'https://a b'."),
        ("email", "ada", "Expected an e-mail address such as ada@example.org, but found 'ada'."),
        ("date", "28.2.2026", "Expected a date such as 2026-01-31, but found '28.2.2026'."),
    ],
)
def test_what_a_shorthand_asks_for_is_said_in_words(shorthand: str, given: str, said: str) -> None:
    faults = schemas.faults(schemas.expanded(shorthand), given)
    assert faults[0]["message"] == said
    assert not [f for f in faults if "^" in f["message"]]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/$defs/nope"},
        {"pattern": "["},
        {"pattern": "(?=a)b"},
        {"minLength": -1},
    ],
)
def test_schemas_that_cannot_be_used_are_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(schemas.BadSchema):
        schemas.check(schema)


def test_a_pattern_that_would_backtrack_for_ever_is_linear() -> None:
    assert len(schemas.faults({"pattern": "^(a+)+$"}, "a" * 100_000 + "b")) == 1


def test_declared_defaults_are_found() -> None:
    assert schemas.defaults({"properties": {"a": {"default": 1}, "b": {}}}) == {"a": 1}
    assert schemas.defaults({}) == {}
