"""What a workflow may spend on models, and what happens when it is used up."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_contracts.plan import Budget, Plan
from handrail_contracts.policy import Policy
from handrail_contracts.tasks import Failure, Outcome, TaskKind
from handrail_engine.outgoing import Dispatch
from handrail_engine.plan import compile_plan
from handrail_engine.policies import Policies
from handrail_engine.spending import grant
from unit.engine.plans import BACK, SKIP
from unit.engine.saga import MANIFEST, AnyAgent, Saga, node

USED = {"input_tokens": 600, "output_tokens": 300, "cost_usd": 0.03, "calls": 2}


def tenant(blueprint: str | None = None, **budget: float) -> Policies:
    return Policies.of([Policy.model_validate({"rules": [], "budget": budget, "blueprint": blueprint})])


def thinks(s: Saga, node_id: str, usage: Any = USED, **more: Any) -> Saga:
    s.answer(node_id, Outcome.OK, output={}, usage=usage, **more)
    return s


def test_beyond_the_budget_of_its_plan_nothing_more_is_begun_and_a_person_is_asked() -> None:
    s = thinks(Saga(node("a"), node("b", "a"), node("c"), budget={"tokens": 800}), "a")
    assert s.states == {"a": "COMPLETE", "b": "PENDING", "c": "SCHEDULED"}
    assert (s.status, s.pause["kind"], s.pause["node_id"]) == ("PAUSED_HITL", "failure", None)
    assert s.pause["failure_reason"] == "The workflow has spent 900 tokens on models, and its budget is 800."
    assert s.pause["context_snapshot"] == {"spent_tokens": 900, "spent_usd": 0.03, "budget_tokens": 800}
    assert s.buttons == ["RES_RAISE_BUDGET", "RES_RESUME", "RES_SKIP", "RES_ABORT_SAGA"]
    s.ok("c").wait(3600)
    assert s.states["b"] == "PENDING" and not s.sent(node_id="b")


def test_a_raise_reaches_as_far_as_it_says() -> None:
    s = thinks(Saga(node("a"), node("b", "a"), node("c", "b"), budget={"tokens": 800}), "a")
    s.press("RES_RAISE_BUDGET", 500)
    assert s.states["b"] == "SCHEDULED" and s.status == "RUNNING"
    thinks(s, "b")
    assert s.pause["failure_reason"] == "The workflow has spent 1800 tokens on models, and its budget is 1300."
    s.press("RES_RESUME")
    thinks(s, "c")
    assert s.status == "COMPLETED"


def test_skip_leaves_out_what_is_not_begun_and_what_is_out_finishes() -> None:
    retry = {"max_attempts": 3, "initial_delay_s": 60}
    s = Saga(node("a"), node("b", "a"), node("c"), node("d", retry=retry), budget={"usd": 0.03})
    thinks(s.fails("d"), "a")
    assert s.states["d"] == "RETRYING"
    s.press("RES_SKIP")
    assert s.states == {"a": "COMPLETE", "b": "SKIPPED", "c": "SCHEDULED", "d": "SKIPPED"}
    assert thinks(s, "c").status == "COMPLETED_WITH_SKIPS"


def test_undo_undoes() -> None:
    s = thinks(Saga(node("a", effect_class="idempotent", compensation={}), node("b", "a"), budget={"usd": 0.01}), "a")
    s.press("RES_ABORT_SAGA")
    assert s.ok("a").status == "COMPENSATED"


def test_a_failed_attempt_that_used_it_up_is_not_tried_again_unasked() -> None:
    s = Saga(node("a", retry={"max_attempts": 3, "initial_delay_s": 0}), budget={"tokens": 900})
    s.answer("a", Outcome.FAILED, error={"code": "E", "message": "no"}, usage=USED)
    assert s.states["a"] == "RETRYING" and s.pause["node_id"] is None and len(s.sent()) == 1
    s.press("RES_RAISE_BUDGET", 1)
    assert [t.attempt for t in s.sent()] == [1, 2]


def test_the_last_step_may_use_it_up() -> None:
    assert thinks(Saga(node("a"), budget={"tokens": 1}), "a").status == "COMPLETED"


@pytest.mark.parametrize("usage", [{"input_tokens": True}, {"input_tokens": "900"}, {"cost_usd": float("nan")}, {}])
def test_what_is_no_number_is_not_counted(usage: dict[str, Any]) -> None:
    s = thinks(Saga(node("a"), node("b", "a"), budget={"tokens": 1, "usd": 0.01}), "a", usage)
    assert s.states["b"] == "SCHEDULED"


def test_the_narrowest_budget_counts_and_a_policy_holds_from_the_next_step_on() -> None:
    s = thinks(Saga(node("a"), node("b", "a"), node("c", "b"), budget={"tokens": 2000}), "a")
    s.policies = tenant(tokens=1000)
    thinks(s, "b")
    assert s.pause["context_snapshot"]["budget_tokens"] == 1000
    assert thinks(Saga(node("a"), node("b", "a"), policies=tenant("another", tokens=1)), "a").states["b"] == "SCHEDULED"


def test_another_owner_knows_what_was_spent_and_granted() -> None:
    s = thinks(Saga(node("a"), node("b", "a"), node("c", "b"), budget={"tokens": 800}), "a")
    s.press("RES_RAISE_BUDGET", 900)
    s.owner_changes()
    assert (s.state.spent, s.state.granted) == ({"tokens": 900, "usd": 0.03}, {"tokens": 900})
    thinks(s, "b")
    assert s.pause["context_snapshot"]["budget_tokens"] == 1700


def test_a_plan_keeps_its_budget_and_one_of_nothing_is_refused() -> None:
    plan = Plan.model_validate({"nodes": [node("a")], "budget": {"usd": 0.5}})
    assert compile_plan(plan, AnyAgent(MANIFEST))["budget"] == {"usd": 0.5}
    for wrong in ({}, {"tokens": 0}, {"usd": -1}, {"tokens": 1, "eur": 2}):
        with pytest.raises(ValueError, match=r"budget|tokens|usd|eur"):
            Budget.model_validate(wrong)


def test_a_policy_that_comes_while_a_retry_waits_asks_when_the_retry_is_due() -> None:
    """The retry is due, may not begin, and no pause holds it yet: the wake-up must end, and ask."""
    retry = {"max_attempts": 3, "initial_delay_s": 60}
    s = thinks(Saga(node("a"), node("b", retry=retry)).fails("b"), "a")
    s.policies = tenant(tokens=900)
    s.wait(3600)
    assert (s.states["b"], s.status, s.pause["node_id"], len(s.sent(node_id="b"))) == (
        "RETRYING",
        "PAUSED_HITL",
        None,
        1,
    )
    s.press("RES_RAISE_BUDGET", 1000)
    assert [t.attempt for t in s.sent(node_id="b")] == [1, 2]


def stopped(*nodes: dict[str, Any]) -> Saga:
    """`first` has used the budget up, and a person has said that what is not begun is skipped."""
    s = thinks(Saga(node("first"), node("next", "first"), *nodes, budget={"tokens": 800}), "first")
    s.press("RES_SKIP")
    assert s.states["next"] == "SKIPPED"
    return s


def test_after_a_skip_the_planners_plan_is_told_and_nothing_of_it_begins() -> None:
    s = Saga(intent="do it", policies=tenant(tokens=800))
    s.answer("plan", Outcome.OK, output={}, usage=USED, nodes=[node("a"), node("b", "a"), node("c")])
    assert s.status == "PAUSED_HITL"
    s.press("RES_SKIP")
    assert s.states == {"plan": "COMPLETE", "a": "SKIPPED", "b": "SKIPPED", "c": "SKIPPED"}
    assert (s.status, [t.node_id for t in s.sent()]) == ("COMPLETED_WITH_SKIPS", ["plan"])


def test_after_a_skip_what_a_node_appends_does_not_begin() -> None:
    s = stopped(node("adds", may_add_nodes=2), node("slow"))
    s.answer("adds", Outcome.OK, output={}, nodes=[node("x", "adds"), node("y", "adds", "slow")])
    assert s.state_of("adds", "x", "y") == ["COMPLETE", "SKIPPED", "PENDING"]
    assert s.ok("slow").states["y"] == "SKIPPED"
    assert s.status == "COMPLETED_WITH_SKIPS" and not s.sent(node_id="x") + s.sent(node_id="y")


def test_after_a_skip_what_was_out_and_fails_is_not_tried_again() -> None:
    s = stopped(node("d", retry={"max_attempts": 3, "initial_delay_s": 60}))
    assert s.fails("d").states["d"] == "SKIPPED"
    assert (s.status, len(s.sent(node_id="d"))) == ("COMPLETED_WITH_SKIPS", 1)


def test_after_a_skip_a_failure_under_another_pause_is_left_out_once_that_closes() -> None:
    s = stopped(node("d")).panic().fails("d").wait(60)
    assert s.states["d"] == "RETRYING"
    s.press("RES_RESUME")
    assert (s.states["d"], s.status, len(s.sent(node_id="d"))) == ("SKIPPED", "COMPLETED_WITH_SKIPS", 1)


def test_after_a_skip_what_is_rolled_back_to_a_savepoint_does_not_run_again() -> None:
    effect: dict[str, Any] = {"effect_class": "idempotent"}
    s = stopped(node("q", savepoint=True, **effect), node("last", resolutions=[BACK, SKIP]))
    s.ok("q").exhaust("last")
    s.press("RES_BACK")
    assert (s.states["last"], s.status, len(s.sent(node_id="last"))) == ("SKIPPED", "COMPLETED_WITH_SKIPS", 1)


def test_after_a_skip_what_a_person_orders_is_done_and_nobody_is_asked_about_the_budget() -> None:
    s = stopped(node("d"))
    s.exhaust("d")
    s.press("RES_RETRY")
    thinks(s, "d")
    assert (s.status, [t.attempt for t in s.sent(node_id="d")]) == ("COMPLETED_WITH_SKIPS", [1, 2])


def test_after_a_skip_a_look_up_that_a_person_ordered_waits_and_is_made() -> None:
    once = {"max_attempts": 1}
    s = stopped(node("d", effect_class="queryable", retry=once, timeouts={"start_to_close_s": 60, "lease_s": 30}))
    s.started("d").in_doubt("d").wait(3)
    s.press("RES_RETRY")
    assert s.states["d"] == "RETRYING"
    s.wait(100)
    assert [t.kind for t in s.messages if t.node_id == "d" and isinstance(t, Dispatch)][-1] is TaskKind.LOOK_UP
    s.fails("d", "NOT_FOUND")
    assert s.sent(node_id="d")[-1].attempt == 3, "it did not happen, and a person wants it"
    assert s.ok("d").status == "COMPLETED_WITH_SKIPS"


def test_a_skip_of_old_still_means_that_no_budget_counts() -> None:
    s = thinks(Saga(node("a"), node("b", "a"), budget={"tokens": 800}), "a")
    grant(s.state, {"off": True})
    assert s.state.unbounded and not s.state.no_more


def test_another_owner_knows_that_nothing_more_begins() -> None:
    s = stopped(node("adds", may_add_nodes=1))
    s.owner_changes()
    s.answer("adds", Outcome.OK, output={}, nodes=[node("x", "adds")])
    assert s.states["x"] == "SKIPPED"


def test_what_is_rolled_back_beyond_a_budget_runs_again_once_a_person_wants_it() -> None:
    s = Saga(
        node("q", savepoint=True, effect_class="idempotent"),
        node("last", "q", resolutions=[BACK, SKIP]),
    )
    s.ok("q")
    s.answer("last", Outcome.FAILED, usage=USED, error=Failure(code="E", message="no", retryable=False))
    s.wait(3).policies = tenant(tokens=800)
    s.press("RES_BACK")
    assert s.states == {"q": "COMPLETE", "last": "PENDING"}
    assert s.pause["failure_reason"].startswith("The workflow has spent 900 tokens")
    s.press("RES_RESUME")
    assert s.states["last"] == "SCHEDULED"
