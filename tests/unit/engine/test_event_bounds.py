"""No event exceeds 256 KiB, whatever a plan declares, an agent answers or a person gives; what is larger stands beside it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from handrail_contracts.events import MAX_EVENT_BYTES, EventType
from handrail_contracts.ids import digest
from handrail_contracts.plan import Plan
from handrail_engine import payloads
from handrail_engine.decide import Decided, decide
from handrail_engine.inputs import Now, Rejection, Start
from handrail_engine.plan import validate
from handrail_engine.references import is_stored
from handrail_engine.state import WorkflowState
from handrail_engine.turn import EventTooLarge, Turn
from unit.engine.saga import AnyAgent, Saga, compiled, node

BIG = "w" * 2_000_000


def largest(s: Saga) -> int:
    return max(len(payloads.encoded(r.data)) for r in s.rows)


def test_a_pause_shows_a_large_context_by_reference_and_stores_it() -> None:
    context = {f"c{i}": "input.doc" for i in range(10)} | {"small": "input.n", "none": "input.nothing"}
    s = Saga(node("a", inputs={"doc": BIG, "n": 7}, context=context))
    s.fails("a", retryable=False).wait(2)
    assert largest(s) <= MAX_EVENT_BYTES
    shown = s.pause["context_snapshot"]
    assert (shown["small"], shown["none"]) == (7, None)
    mark = digest(payloads.encoded(BIG))
    assert {shown[f"c{i}"]["$ref"] for i in range(10)} == {f"/workflows/w/blobs/{mark}"}
    assert shown["c0"]["bytes"] == len(BIG) + 2 and shown["c0"]["preview"].startswith('"www')


def test_what_a_pause_refers_to_is_stored_with_its_row() -> None:
    plan = compiled(node("a", inputs={"doc": BIG}, context={"doc": "input.doc"}, gate={"decide": "always"}))
    decided = decide(WorkflowState("t", "w"), Start(None, None, {}, {}, plan), Now(1))
    assert isinstance(decided, Decided)
    assert dict(decided.blobs)[digest(payloads.encoded(BIG))] == payloads.encoded(BIG)


def test_both_sides_of_a_diff_fit_whoever_wrote_it() -> None:
    diff = {"before": {"x": {"$from": "input.doc"}, "n": 1}, "after": {"x": "new", "n": 2}}
    s = Saga(node("a", gate={"decide": "always", "diff": diff}), input={"doc": "w" * 90_000})
    shown = s.pause["proposed_action"]["diff"]
    assert is_stored(shown["before"]["x"]) and shown["before"]["n"] == 1 and shown["after"] == {"x": "new", "n": 2}
    s = Saga(node("bot"))
    s.proposes("bot", "refund", {"n": 1}, diff={"before": {"x": BIG}, "after": BIG}, requires_confirmation=True)
    shown = s.pause["proposed_action"]["diff"]
    assert is_stored(shown["before"]["x"]) and is_stored(shown["after"])
    assert largest(s) <= MAX_EVENT_BYTES


def test_arguments_whose_form_would_not_fit_are_not_edited() -> None:
    args = {f"{i:x}": 1 for i in range(3_500)}
    s = Saga(node("a", inputs=args, gate={"decide": "always"}))
    assert s.pause["proposed_action"]["args"] == args
    assert s.buttons == ["RES_APPROVE", "RES_REJECT"]
    assert largest(s) <= MAX_EVENT_BYTES


def test_usage_that_is_no_usage_is_cut_to_what_is_counted() -> None:
    s = Saga(node("a"), node("b", "a"))
    s.ok("a", usage={"input_tokens": 5, "cost_usd": 0.25, "trace": BIG, "output_tokens": "many"})
    said = next(r.data["usage"] for r in s.rows if r.data.get("to") == "COMPLETE")
    assert said == {"input_tokens": 5, "cost_usd": 0.25}
    assert s.state.spent == {"tokens": 5, "usd": 0.25}


def test_a_proposal_with_an_endless_name_has_failed() -> None:
    for more in ({"action": "r" * 100_000}, {"action": "refund", "domain": "d" * 100_000}):
        s = Saga(node("bot"))
        s.proposes("bot", more.pop("action"), {}, **more)
        assert s["bot"].error is not None and s["bot"].error["code"] == "invalid-result"
        assert largest(s) < 10_000


def test_a_person_who_gives_much_decides_all_the_same() -> None:
    kinds: dict[str, Any] = {"display_text": "x", "requires_input": True, "input_schema": "json"}
    s = Saga(node("a", resolutions=[{"action_id": "RES_ANSWER", "kind": "skip", **kinds}]))
    s.exhaust("a")
    assert not isinstance(s.press("RES_ANSWER", [BIG]), Rejection)
    assert s.status == "COMPLETED_WITH_SKIPS" and largest(s) <= MAX_EVENT_BYTES


BUTTON = {"action_id": "RES_X", "display_text": "x", "kind": "retry", "sets": "x", "requires_input": True}


@pytest.mark.parametrize(
    ("declared", "pointer"),
    [
        ({"resolutions": [{**BUTTON, "input_schema": {"type": "string", "description": "d" * 30_000}}]}, "resolutions"),
        ({"gate": {"decide": "always", "diff": {"before": {"x": "d" * 30_000}}}}, "gate"),
        ({"gate": {"decide": "always", "redact": ["args." + "d" * 1_000] * 50}}, "gate"),
        ({"context": {f"c{i}": "input.x" for i in range(5_000)}}, "context"),
    ],
)
def test_a_plan_that_declares_more_than_a_pause_can_show_is_refused(declared: dict[str, Any], pointer: str) -> None:
    found = validate(Plan.model_validate({"nodes": [node("a"), node("b", **declared)]}), AnyAgent())
    assert [(p.code, p.pointer) for p in found] == [("validation", f"/nodes/1/{pointer}")]
    assert "'b'" in found[0].message and "24576" in found[0].message


def test_nothing_that_was_forgotten_gets_past_the_wall() -> None:
    t = Turn(WorkflowState("t", "w"), Now(1))
    with pytest.raises(EventTooLarge, match="WORKFLOW_RESUMED"):
        t.emit(EventType.WORKFLOW_RESUMED, status="RUNNING", more=BIG)
    assert t.rows == [] and t.state.seq == 0


@pytest.mark.parametrize(
    "value",
    [
        {"$ref": "#/$defs/x"},
        {"$ref": "/blobs/"},
        {"$ref": "/workflows/w/blobs/../../x"},
        {"$ref": f"/workflows/w/blobs/{digest(b'1')}", "path": 5},
        {"$ref": f"/workflows/w/blobs/{digest(b'1')}", "path": [5]},
        {"$ref": f"/workflows/w/blobs/{digest(b'1')}", "path": None},
        {"$ref": f"/workflows/w/blobs/{digest(b'1')}", "fields": 1},
        {"$ref": f"see https://x/workflows/w/blobs/{digest(b'1')}"},
        {"$ref": 1},
    ],
)
def test_data_that_looks_like_a_reference_is_data(value: dict[str, Any]) -> None:
    assert not is_stored(value)
    s = Saga(node("a", inputs={"v": value}), node("b", "a", inputs={"x": {"$from": "nodes.a.output.v.path"}}))
    s.ok("a", output={"v": value})
    [task] = s.sent(node_id="b")
    assert task.inputs == {"x": value.get("path")}


def test_members_are_replaced_from_the_largest_on_until_they_fit() -> None:
    members = {"a": "x" * 3_000, "b": "x" * 5_000, "c": "x" * 9_000, "d": None}
    shown, kept = payloads.fitting("w", members, 10_000)
    assert [k for k, v in shown.items() if is_stored(v)] == ["c"] and len(kept) == 1
    assert list(shown) == list(members)
    assert len(orjson.dumps(shown)) <= 10_000
    assert payloads.fitting("w", members, 20_000) == (members, [])
