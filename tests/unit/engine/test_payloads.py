"""Values beside the journal: what lies inside one is read as if it stood in the event."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_contracts.events import MAX_EVENT_BYTES
from handrail_contracts.ids import digest
from handrail_engine import payloads
from handrail_engine.decide import Decided, decide
from handrail_engine.inputs import Now, Start
from handrail_engine.references import MISSING, dig, resolve
from handrail_engine.state import WorkflowState
from unit.engine.saga import node

BIG = "y" * 100_000


def stored(value: Any) -> dict[str, Any]:
    return payloads.with_fields(payloads.reference("w", payloads.encoded(value))[1], value)


def test_small_members_of_a_stored_value_are_at_hand() -> None:
    ref = stored({"ok": True, "preview": 7, "deep": {"n": 5, "text": BIG}, "many": [1] * 9_000})
    assert dig(ref, ("ok",)) is True
    assert dig(ref, ("preview",)) == 7  # the member, not what the reference itself shows
    assert dig(ref, ("deep", "n")) == 5
    assert dig(ref, ("nothing",)) is MISSING
    assert dig(ref, ("deep", "nothing")) is MISSING


def test_large_members_are_references_to_their_part() -> None:
    ref = stored({"deep": {"text": BIG}, "many": [1] * 9_000})
    assert dig(ref, ("deep", "text")) == {"$ref": ref["$ref"], "path": ["deep", "text"]}
    assert dig(ref, ("many", "3")) == {"$ref": ref["$ref"], "path": ["many", "3"]}
    assert dig(stored([{"a": BIG}]), ("0", "a"))["path"] == ["0", "a"]


def test_an_object_with_too_many_members_is_read_by_reference_alone() -> None:
    ref = stored({f"k{i}": i for i in range(20_000)})
    assert "fields" not in ref
    assert dig(ref, ("k7",)) == {"$ref": ref["$ref"], "path": ["k7"]}


def test_the_default_of_a_reference_goes_along_with_the_part() -> None:
    ref = stored([BIG])
    found = resolve({"x": {"$from": "input.9", "default": 3}}, lambda _: dig(ref, ("9",)))
    assert found == {"x": {"$ref": ref["$ref"], "path": ["9"], "default": 3}}


def test_a_reference_stays_small() -> None:
    wide = stored({f"k{i}": "v" * 1_000 for i in range(200)} | {"big": BIG})
    assert len(payloads.encoded(wide)) < 10_000


def test_the_largest_start_that_carries_its_input_fits_into_its_event() -> None:
    labels = {f"{i:0128}": "é" * 128 for i in range(64)}
    given = {"x": "z" * (payloads.ALONE_BYTES - 10)}
    decided = decide(WorkflowState("t", "w"), Start("😀" * 20_000, None, given, labels, [node("a")]), Now(1))
    assert isinstance(decided, Decided)
    assert decided.rows[0].data["input"] == given
    assert all(len(payloads.encoded(r.data)) <= MAX_EVENT_BYTES for r in decided.rows)


def test_a_large_input_stands_beside_the_journal_and_is_read_all_the_same() -> None:
    plan = [node("a", inputs={"x": {"$from": "input.small"}, "y": {"$from": "input.big"}})]
    given = {"small": 7, "big": "z" * 300_000}
    s = WorkflowState("t", "w")
    labels = {f"{i:0128}": "é" * 128 for i in range(64)}
    decided = decide(s, Start("😀" * 20_000, None, given, labels, plan), Now(1))
    assert isinstance(decided, Decided)
    assert all(len(payloads.encoded(r.data)) <= MAX_EVENT_BYTES for r in decided.rows)
    [(mark, body)] = decided.blobs
    assert (mark, body) == (digest(body), payloads.encoded(given))
    [task] = decided.messages
    assert task.inputs["x"] == 7  # type: ignore[union-attr]
    assert task.inputs["y"] == {"$ref": f"/workflows/w/blobs/{mark}", "path": ["big"]}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "value",
    [False, None, -2_147_483_648, 2**64 - 1, -1.7976931348623157e308, "\x01", '"', "é", "\ud800", "😀", [], {}, [[]]],
)
def test_what_is_small_without_being_written_is_small_as_json(value: Any) -> None:
    for many in ([value] * n for n in (1, 1_000, 3_000, 8_000, 16_000)):
        for shape in (many, {str(i): v for i, v in enumerate(many)}, {f"{i}\x01": v for i, v in enumerate(many)}):
            if payloads.is_small(shape):
                assert len(payloads.encoded(shape)) <= payloads.ALONE_BYTES
    assert payloads.is_small([value] * 100)
    assert not payloads.is_small([value] * payloads.ALONE_BYTES)


def test_a_value_is_taken_over_with_references_to_copies_and_the_digests_to_copy() -> None:
    mark = stored({"deep": {"text": BIG}})["$ref"].rsplit("/", 1)[1]
    ref = stored({"deep": {"text": BIG}})
    foreign = {"$ref": f"/workflows/another/blobs/{mark}"}
    value = {"a": [ref, 1, foreign], "part": dig(ref, ("deep", "text")), "plain": {"$ref": "#/defs/x"}}
    taken, marks = payloads.taken_over(value, "w", "u")
    assert marks == {mark}
    assert taken["part"] == {"$ref": f"/workflows/u/blobs/{mark}", "path": ["deep", "text"]}
    assert dig(taken, ("a", "0", "deep", "text")) == taken["part"], "also where it stands inside of another reference"
    assert {**taken["a"][0], "$ref": ref["$ref"], "fields": ref["fields"]} == ref
    assert (taken["a"][1:], taken["plain"]) == ([1, foreign], {"$ref": "#/defs/x"})
    assert payloads.taken_over(value["plain"], "w", "u") == ({"$ref": "#/defs/x"}, set())
