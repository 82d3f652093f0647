"""Nodes that an agent hands in: the planner's plan, and what a node may append, go through the door like any plan."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_contracts.tasks import Outcome, Result, TaskKind
from handrail_engine.admission import admit
from unit.engine.saga import AnyAgent, Saga, node

RAW = {"agent": "bot", "action": "act"}


def answer(s: Saga, node_id: str, nodes: Any, output: Any = None) -> Result:
    key = s.state.do_key(s[node_id])
    return Result(
        trace_id="w", node_id=node_id, attempt=1, effect_key=key, outcome=Outcome.OK, nodes=nodes, output=output
    )


def test_the_planners_plan_is_compiled_and_dispatched() -> None:
    s = Saga(intent="do it")
    plan = [{"id": "b", "depends_on": ["a"], **RAW}, {"id": "a", **RAW}]
    r = admit(s.state, answer(s, "plan", plan, {"output": {"x": {"$from": "nodes.b.output"}}}), AnyAgent())
    assert [n["id"] for n in r.nodes or ()] == ["a", "b"]
    s.do(r)
    assert s.told() == ["plan COMPLETE", "WORKFLOW_PLANNED", "a SCHEDULED"]


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ([{"id": "a", "depends_on": ["a"], **RAW}], "dag-cycle"),
        ([{"id": "a", "depends_on": ["nobody"], **RAW}], "unknown-dependency"),
        ([{"id": "plan", **RAW}], "duplicate-node"),
        ([{"id": "a", "agent": "bot"}], "validation"),
        ([{"id": "a", "rm": "-rf", **RAW}], "validation"),
        (["a"], "validation"),
        ([{"id": "a", "inputs": {"x": {"$from": "nodes.z.output"}}, **RAW}], "invalid-reference"),
    ],
)
def test_a_bad_plan_is_a_failed_attempt_that_says_what_is_wrong(nodes: Any, code: str) -> None:
    s = Saga(intent="do it")
    r = answer(s, "plan", None).model_copy(update={"nodes": nodes})
    r = admit(s.state, r, AnyAgent())
    assert r.outcome is Outcome.FAILED and r.error is not None
    assert [p["code"] for p in r.error.evidence] == [code]
    s.do(r)
    assert s.states == {"plan": "RETRYING"}


def test_an_unknown_agent_is_refused() -> None:
    s = Saga(intent="do it")
    r = admit(s.state, answer(s, "plan", [{"id": "a", **RAW}]), {})
    assert r.error is not None and r.error.evidence[0]["code"] == "unknown-agent"


def test_appended_nodes_come_after_the_one_that_made_them_and_may_read_it() -> None:
    s = Saga(node("a", may_add_nodes=3), node("b", "a"))
    reads = {"x": {"$from": "nodes.a.output.x"}}
    r = admit(s.state, answer(s, "a", [{"id": "c", "inputs": reads, **RAW}], {"x": 7}), AnyAgent())
    assert (r.nodes or [])[0]["depends_on"] == ["a"]
    s.do(r)
    assert s.sent(node_id="c")[0].inputs == {"x": 7}


def test_what_they_read_of_the_old_plan_they_must_depend_on() -> None:
    s = Saga(node("x"), node("a", may_add_nodes=3))
    bad = [{"id": "c", "depends_on": ["a"], "inputs": {"x": {"$from": "nodes.x.output"}}, **RAW}]
    r = admit(s.state, answer(s, "a", bad), AnyAgent())
    assert r.error is not None and r.error.evidence[0]["code"] == "invalid-reference"
    good = [{"id": "c", "depends_on": ["a", "x"], "inputs": {"x": {"$from": "nodes.x.output"}}, **RAW}]
    s.do(admit(s.state, answer(s, "a", good), AnyAgent()))
    assert s.states["c"] == "PENDING"
    s.ok("x", output=1)
    assert s.sent(node_id="c")[0].inputs == {"x": 1}


def test_a_bad_addition_by_a_node_with_side_effects_leaves_it_in_doubt() -> None:
    s = Saga(node("a", may_add_nodes=1, effect_class="idempotent"))
    r = admit(s.state, answer(s, "a", [{"id": "a", **RAW}]), AnyAgent())
    assert r.outcome is Outcome.IN_DOUBT


def test_answers_without_nodes_pass_as_they_are() -> None:
    s = Saga(node("a"))
    r = answer(s, "a", None)
    assert admit(s.state, r, AnyAgent()) is r
    unasked = answer(s, "a", [{"id": "c", **RAW}])
    assert admit(s.state, unasked, AnyAgent()) is unasked
    s.do(unasked)
    assert s["a"].error and s["a"].error["code"] == "too-many-nodes"


ADDS = node("a", may_add_nodes=1, effect_class="idempotent")


def through(s: Saga, r: Result) -> None:
    s.do(admit(s.state, r, AnyAgent()))


@pytest.mark.parametrize("undo", [True, False])
def test_an_answer_with_nodes_while_its_node_is_wound_down_is_a_success_like_any_other(undo: bool) -> None:
    s = Saga(ADDS).started("a").cancel(undo=undo)
    through(s, answer(s, "a", [{"id": "c", **RAW}], 7))
    assert (s.told()[0], s["a"].output) == ("a COMPLETE", 7)
    assert s.told()[1:] == (["a COMPENSATING"] if undo else ["WORKFLOW_CANCELLED"])


def test_a_success_with_nodes_that_arrives_after_its_undo_orders_another() -> None:
    s = Saga(ADDS, node("z", effect_class="idempotent", timeouts={"lease_s": 60.0})).started("a", "z").cancel()
    r = answer(s, "a", [{"id": "c", **RAW}])
    s.wait(5)
    assert s.states["a"] == "COMPENSATING", "it fell silent"
    s.ok("a", undo=True)
    through(s, r)
    assert s.told() == ["RESULT_IGNORED a late", "a COMPENSATING"]
    s.ok("a", undo=True).ok("z", undo=False).ok("z", undo=True)
    assert s.status == "COMPENSATED"
    keys = [t.effect_key for t in s.sent(TaskKind.COMPENSATE, "a")]
    assert len(keys) == len(set(keys)) == 2


def test_a_success_with_nodes_of_an_attempt_before_is_late_whatever_its_nodes_are() -> None:
    s = Saga(ADDS).started("a")
    r = answer(s, "a", [{"id": "a", **RAW}])
    s.wait(5).wait(1)
    assert (s.states["a"], s["a"].attempt) == ("SCHEDULED", 2)
    through(s, r)
    assert s.told() == ["RESULT_IGNORED a superseded"]
    assert (s.last[-1].meta or {})["outcome"] == "ok"
