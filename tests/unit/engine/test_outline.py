"""Workflows of one plan share what was read of it; a plan that differs in anything is read for itself."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from handrail_contracts.events import NODES_PER_EVENT
from handrail_engine.outline import outline
from handrail_engine.spec import node_spec
from unit.engine.saga import DIAMOND, Saga, compiled, node

READS = compiled(
    node("a", inputs={"value": {"$from": "input.x", "default": {"deep": [1]}}}, context={"shown": "input.value"}),
    node("b", "a", inputs={"value": {"$from": "nodes.a.output"}, "note": {"lines": [1, 2]}}),
)


def test_workflows_of_one_plan_share_its_nodes() -> None:
    one, other = Saga(*deepcopy(DIAMOND)), Saga(*deepcopy(DIAMOND))
    assert [n.spec for n in one.state.nodes.values()] == [n.spec for n in other.state.nodes.values()]
    assert all(one.state.nodes[k].spec is n.spec for k, n in other.state.nodes.items())


def test_an_outline_says_what_reading_node_by_node_says() -> None:
    known = outline(READS)
    assert known is not None
    assert known.specs == tuple(node_spec(n, {"a": None, "b": None}) for n in READS)
    assert (known.edges, [n["id"] for n in known.summaries]) == (1, ["a", "b"])


def test_plans_that_differ_in_the_kind_of_a_number_are_different() -> None:
    values: list[Any] = [1, 1.0, True, "1", None, [1], {"1": 1}]
    found = [outline([node("a", inputs={"value": v})]) for v in values]
    assert [repr(o.specs[0].inputs["value"]) for o in found if o is not None] == [repr(v) for v in values]


def test_a_pause_and_a_changed_input_leave_what_is_shared_as_it_was() -> None:
    before = repr(outline(READS))
    s = Saga(*READS, input={"x": 2}).exhaust("a").wait(3)
    assert s.pause["context_snapshot"] == {"shown": 2}
    s.press("RES_RETRY", {"value": {"deep": [2]}})
    s.ok("a", output=1).ok("b").wait(60)
    assert s.status == "COMPLETED"
    assert repr(outline(READS)) == before


def test_a_large_plan_is_not_kept() -> None:
    assert outline([node("a", inputs={"value": "x" * 20_000})]) is None
    assert outline([node(f"n{i}") for i in range(NODES_PER_EVENT + 1)]) is None
    assert outline([]) is None


def test_a_plan_of_many_small_nodes_is_told_in_one_event_where_it_is_kept() -> None:
    nodes = [node(f"n{i}") for i in range(NODES_PER_EVENT)]
    s = Saga(*nodes)
    assert s.told()[1] == "WORKFLOW_PLANNED"
    assert len(s.rows[1].data["nodes"]) == NODES_PER_EVENT
