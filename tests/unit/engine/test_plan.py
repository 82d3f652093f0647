"""What a plan may be (B10-B18 of the bad inputs), what it is compiled to, and what an agent may add to it."""

from __future__ import annotations

import tracemalloc
from random import Random
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handrail_contracts.plan import Plan
from handrail_engine.plan import MOST_PROBLEMS, compile_plan, topological, validate
from unit.engine.plans import random_plan
from unit.engine.saga import AnyAgent, node

REGISTRY = {
    ("bot", "act"): {
        "effect_class": "idempotent",
        "compensatable": True,
        "retry": {"max_attempts": 7, "initial_delay_s": 2.0},
        "timeouts": {"lease_s": 9.0},
        "resolutions": [{"action_id": "RES_X", "display_text": "X", "kind": "retry"}],
        "context": {"a": "input.a"},
    },
    ("bot", "mail"): {"effect_class": "unsafe"},
}


def problems(*nodes: dict[str, Any], registry: Any = None, output: Any = None, **more: Any) -> list[tuple[str, str]]:
    plan = Plan.model_validate({"nodes": list(nodes), "output": output})
    return [(p.code, p.pointer) for p in validate(plan, AnyAgent() if registry is None else registry, **more)]


def test_a_plan_needs_a_node() -> None:
    assert problems() == [("empty-dag", "/nodes")]


def test_a_cycle_is_refused_with_its_path() -> None:
    plan = Plan.model_validate({"nodes": [node("a", "c"), node("b", "a"), node("c", "b"), node("d")]})
    found = validate(plan, AnyAgent())
    assert [(p.code) for p in found] == ["dag-cycle"]
    assert (
        "a → b → c → a" in found[0].message
        or "b → c → a → b" in found[0].message
        or "c → a → b → c" in found[0].message
    )


def test_a_node_that_depends_on_itself_is_a_cycle() -> None:
    assert problems(node("a", "a")) == [("dag-cycle", "/nodes/0/depends_on/0")]


def test_an_unknown_dependency_and_a_duplicate_id_are_refused_also_by_case_and_normal_form() -> None:
    assert problems(node("a", "b")) == [("unknown-dependency", "/nodes/0/depends_on/0")]
    assert problems(node("a"), node("A")) == [("duplicate-node", "/nodes/1/id")]
    assert problems(node("\u00e9"), node("e\u0301")) == [("duplicate-node", "/nodes/1/id")]


def test_too_many_edges_and_too_long_a_fan_in_are_refused() -> None:
    many = [node(f"n{i}") for i in range(1_001)]
    wide = [node(f"w{i}", *(n["id"] for n in many)) for i in range(100)]
    assert problems(*many, *wide) == [("dag-too-large", "/nodes")]
    long = [node(f"{'x' * 120}{i}") for i in range(2_000)]
    assert problems(*long, node("z", *(n["id"] for n in long))) == [("dag-too-large", "/nodes/2000/depends_on")]


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_cycles_are_found_exactly_where_a_reference_implementation_finds_them(seed: int) -> None:
    rng = Random(seed)
    ids = [f"n{i}" for i in range(rng.randint(1, 12))]
    edges = {(rng.choice(ids), rng.choice(ids)) for _ in range(rng.randint(0, 16))}
    edges = {(a, b) for a, b in edges if a != b}
    nodes = [node(k, *sorted(a for a, b in edges if b == k)) for k in ids]
    graph = nx.DiGraph(sorted(edges))
    found = [c for c, _ in problems(*nodes)]
    assert found == ([] if nx.is_directed_acyclic_graph(graph) else ["dag-cycle"])


def test_agents_must_have_been_seen_and_effects_need_an_undo_or_a_word() -> None:
    assert problems(node("a", agent="nobody"), registry=REGISTRY) == [("unknown-agent", "/nodes/0/agent")]
    lowered = node("a", effect_class="pure")
    assert problems(lowered, registry=REGISTRY) == [("effect-class-lowered", "/nodes/0/effect_class")]
    mail = {"id": "m", "agent": "bot", "action": "mail"}
    assert problems(mail, registry=REGISTRY) == [("compensation-missing", "/nodes/0/compensation")]
    assert problems({**mail, "compensation": "none"}, registry=REGISTRY) == []
    assert problems({**mail, "irreversible": True}, registry=REGISTRY) == []


def test_the_action_that_undoes_must_have_been_seen() -> None:
    undone = node("a", compensation={"action": "nope"})
    assert problems(undone, registry=REGISTRY) == [("unknown-agent", "/nodes/0/compensation/action")]
    assert problems({**undone, "compensation": {"action": "mail"}}, registry=REGISTRY) == []
    assert problems({**undone, "compensation": {}}, registry=REGISTRY) == []


def test_policies_that_make_no_sense_are_refused() -> None:
    slow = node("a", retry={"initial_delay_s": 10, "total_timeout_s": 5})
    assert problems(slow) == [("invalid-retry-policy", "/nodes/0/retry/initial_delay_s")]
    lease = node("a", timeouts={"lease_s": 10, "start_to_close_s": 5})
    assert problems(lease) == [("invalid-retry-policy", "/nodes/0/timeouts/lease_s")]
    twice = [{"action_id": "RES_X", "display_text": "X", "kind": "skip"}] * 2
    assert problems(node("a", resolutions=twice)) == [("validation", "/nodes/0/resolutions")]
    nowhere = node("a", resolutions=twice[:1], expiry={"after_s": 1, "action_id": "RES_Y"})
    assert problems(nowhere) == [("validation", "/nodes/0/expiry/action_id")]
    usual = node("a", expiry={"after_s": 1, "action_id": "RES_Y"})
    assert problems(usual) == [("validation", "/nodes/0/expiry/action_id")]
    for action_id in ("RES_SKIP", "RES_REJECT", "RES_CLOSE", "RES_DID_NOT_HAPPEN", "RES_ABORT_SAGA"):
        assert problems(node("a", expiry={"after_s": 1, "action_id": action_id})) == []
    agents_own = node("a", expiry={"after_s": 1, "action_id": "RES_X"})
    assert problems(agents_own, registry=REGISTRY) == []
    assert problems({**agents_own, "expiry": {"after_s": 1, "action_id": "RES_RETRY"}}, registry=REGISTRY) == [
        ("validation", "/nodes/0/expiry/action_id")
    ]
    for retry in ({"max_attempts": 0}, {"max_attempts": 10**6}, {"initial_delay_s": -1}, {"multiplier": 0}):
        with pytest.raises(ValueError, match="retry"):
            problems(node("a", retry=retry))


BUTTON = {"action_id": "RES_X", "display_text": "X"}


@pytest.mark.parametrize("kind", ["approve", "edit", "hand_back", "accept", "stop", "resume"])
def test_a_button_that_answers_no_failure_is_refused(kind: str) -> None:
    skip = {"action_id": "RES_SKIP", "display_text": "Skip", "kind": "skip"}
    found = problems(node("a", resolutions=[skip, {**BUTTON, "kind": kind}]))
    assert found == [("validation", "/nodes/0/resolutions/1/kind")]


@pytest.mark.parametrize("outcome", [{}, {"outcome": "undone"}])
def test_a_mark_that_does_not_say_whether_it_happened_is_refused(outcome: dict[str, str]) -> None:
    found = problems(node("a", resolutions=[{**BUTTON, "kind": "mark", **outcome}]))
    assert found == [("validation", "/nodes/0/resolutions/0/outcome")]


def test_every_button_that_answers_a_failure_is_allowed() -> None:
    kinds = ("retry", "skip", "compensate", "reject", "respond", "close")
    for button in (
        *({"kind": k} for k in kinds),
        *({"kind": "mark", "outcome": o} for o in ("happened", "not_happened")),
    ):
        assert problems(node("a", resolutions=[{**BUTTON, **button}])) == []


@pytest.mark.parametrize(
    "text", ["nodes.nobody.output", "nodes.b.output", "nodes.a", "outputs.a", "", "nodes..output", 7, None]
)
def test_references_that_lead_nowhere_are_refused(text: Any) -> None:
    found = problems(node("a", inputs={"deep": [{"x": {"$from": text}}]}), node("b", "a"))
    assert found == [("invalid-reference", "/nodes/0/inputs/deep/0/x")]


def test_references_may_reach_any_ancestor_but_no_sibling() -> None:
    plan = [node("a"), node("b", "a"), node("c", "b", inputs={"x": {"$from": "nodes.a.output.y"}}), node("d")]
    assert problems(*plan) == []
    plan[3]["inputs"] = {"x": {"$from": "nodes.a.output"}}
    assert problems(*plan) == [("invalid-reference", "/nodes/3/inputs/x")]
    plan[3] = node("d", when={"ref": "nodes.c.output", "exists": True})
    assert problems(*plan) == [("invalid-reference", "/nodes/3/when/ref")]


def test_a_closed_input_schema_refuses_references_to_what_it_does_not_know() -> None:
    schema = {"properties": {"a": {}}, "additionalProperties": False}
    bad = node("a", inputs={"x": {"$from": "input.b"}})
    assert problems(bad, input_schema=schema) == [("invalid-reference", "/nodes/0/inputs/x")]
    assert problems(bad) == []


def test_the_output_mapping_is_checked_too() -> None:
    assert problems(node("a"), output={"x": {"$from": "nodes.b.output"}}) == [("invalid-reference", "/output/x")]


def test_ids_may_hold_dots() -> None:
    plan = [node("a.output.x"), node("b", "a.output.x", inputs={"x": {"$from": "nodes.a.output.x.output.y"}})]
    assert problems(*plan) == []


def test_a_short_limit_alone_takes_the_lease_along() -> None:
    brief = node("a", timeouts={"start_to_close_s": 1}, retry={"total_timeout_s": 0.5})
    assert problems(brief) == []
    by_manifest = node("b", timeouts={"start_to_close_s": 7})
    instant = node("c", timeouts={"start_to_close_s": 0.05})
    bare = {**node("d", timeouts={"start_to_close_s": 1}), "action": "mail", "compensation": "none"}
    compiled = compile_plan(Plan.model_validate({"nodes": [brief, by_manifest, instant, bare]}), REGISTRY)["nodes"]
    assert [n["timeouts"] for n in compiled] == [
        {"start_to_close_s": 1.0, "lease_s": 1.0},
        {"start_to_close_s": 7.0, "lease_s": 7.0},
        {"start_to_close_s": 0.05, "lease_s": 0.2},
        {"start_to_close_s": 1.0, "lease_s": 1.0},
    ]


def test_the_manifest_fills_what_the_node_leaves_out_and_the_node_wins() -> None:
    own = node("b", "a", retry={"max_attempts": 2}, resolutions=[], timeouts={"start_to_close_s": 20})
    plan = Plan.model_validate({"nodes": [node("a"), own]})
    a, b = compile_plan(plan, REGISTRY)["nodes"]
    assert a["retry"] == {"max_attempts": 7, "initial_delay_s": 2.0}
    assert b["retry"] == {"max_attempts": 2, "initial_delay_s": 2.0}
    assert b["timeouts"] == {"lease_s": 9.0, "start_to_close_s": 20.0}
    assert (a["effect_class"], a["compensation"], a["context"]) == ("idempotent", {}, {"a": "input.a"})
    assert [r["action_id"] for r in a["resolutions"]] == ["RES_X"]
    assert b["resolutions"] == []


def test_nodes_are_put_into_an_order_in_which_each_comes_after_what_it_depends_on() -> None:
    plan = Plan.model_validate({"nodes": [node("c", "b"), node("b", "a"), node("a")]})
    assert [n["id"] for n in compile_plan(plan, AnyAgent())["nodes"]] == ["a", "b", "c"]


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_every_compiled_plan_is_in_topological_order(seed: int) -> None:
    rng = Random(seed)
    raw = random_plan(rng, size=8)
    rng.shuffle(raw["nodes"])
    plan = Plan.model_validate(raw)
    seen: set[str] = set()
    for n in compile_plan(plan, AnyAgent())["nodes"]:
        assert seen.issuperset(n.get("depends_on", ()))
        seen.add(n["id"])
    assert len(topological(plan.nodes)) == len(plan.nodes)


def test_a_long_name_is_quoted_short_and_not_once_for_all_that_it_holds() -> None:
    """The pointers of one plan of a few megabytes took more memory than a machine has."""
    inside: dict[str, Any] = {str(i): {"$from": "nodes.zz.output"} for i in range(5_000)}
    plan = Plan.model_validate({"nodes": [node("a", inputs={"k" * 100_000: {**inside, "good": [1, {"x": 2}]}})]})
    tracemalloc.start()
    found = validate(plan, AnyAgent())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    wrong = [p for p in found if p.code == "invalid-reference"]
    assert 0 < len(wrong) <= MOST_PROBLEMS
    assert wrong[0].pointer.startswith(f"/nodes/0/inputs/{'k' * 80}…/")
    assert peak < 20_000_000
