"""The first life of a node: dispatch, skips, retries, what an answer means, when an attempt is given up."""

from __future__ import annotations

import pytest

from handrail_contracts.events import EventType
from handrail_contracts.model import iso
from handrail_contracts.plan import RetryPolicy
from handrail_contracts.tasks import Outcome, Result, TaskKind
from handrail_engine.given import given
from handrail_engine.inputs import Rejection, Start
from handrail_engine.retry import delay_s, jitter_fraction
from unit.engine.saga import DIAMOND, T0, Saga, node


def test_a_start_announces_the_plan_and_dispatches_what_depends_on_nothing() -> None:
    s = Saga(*DIAMOND)
    assert s.told() == ["WORKFLOW_ACCEPTED", "WORKFLOW_PLANNED", "a SCHEDULED"]
    assert [(m.node_id, m.attempt, m.max_attempts, m.effect_key) for m in s.sent()] == [("a", 1, 3, "t/w/a/1")]
    assert s.status == "RUNNING"


def test_a_second_start_is_a_duplicate() -> None:
    s = Saga(*DIAMOND)
    assert s.do(Start(None, None, {}, {}, [])) == Rejection("duplicate", "the workflow exists")


def test_a_diamond_joins_before_its_last_node_and_ends_with_the_outputs_of_its_sinks() -> None:
    s = Saga(*DIAMOND).ok("a")
    assert s.told() == ["a COMPLETE", "b SCHEDULED", "c SCHEDULED"]
    s.ok("c")
    assert s.told() == ["c COMPLETE"]
    s.ok("b")
    assert s.told() == ["b COMPLETE", "d SCHEDULED"]
    s.ok("d", output={"x": 1})
    assert s.told() == ["d COMPLETE", "WORKFLOW_COMPLETED"]
    assert s.last[-1].data["output"] == {"d": {"x": 1}}
    assert s.last[-1].data["totals"] == {"nodes": 4, "complete": 4}


def test_an_intent_without_a_plan_is_planned_by_the_planner_agent() -> None:
    s = Saga(intent="do it", input={"x": 1})
    assert s.status == "PLANNING"
    task = s.sent()[0]
    assert (task.agent, task.action, task.inputs) == ("planner", "plan", {"intent": "do it", "input": {"x": 1}})
    plan = [
        {"id": "a", "agent": "bot", "action": "act"},
        {"id": "b", "agent": "bot", "action": "act", "depends_on": ["a"]},
    ]
    s.ok("plan", nodes=plan, output={"output": {"said": {"$from": "nodes.b.output"}}})
    assert s.told() == ["plan COMPLETE", "WORKFLOW_PLANNED", "a SCHEDULED"]
    s.ok("a").ok("b", output="yes")
    assert s.status == "COMPLETED"
    assert s.last[-1].data["output"] == {"said": "yes"}


def test_the_planners_own_node_is_no_sink_of_the_plan() -> None:
    s = Saga(intent="do it").ok("plan", nodes=[{"id": "a", "agent": "bot", "action": "act"}], output={"cost": 3})
    s.ok("a", output=1)
    assert s.last[-1].data["output"] == {"a": 1}


def test_a_planner_without_a_plan_has_failed_and_is_asked_again() -> None:
    s = Saga(intent="do it").ok("plan")
    assert s.told() == ["plan RETRYING"]
    assert s["plan"].error and s["plan"].error["code"] == "no-plan"


@pytest.mark.parametrize(
    "nodes",
    [
        [{"id": "plan", "agent": "bot", "action": "act"}],
        [{"id": "a", "agent": "bot", "action": "act", "depends_on": ["nobody"]}],
        [{"id": "a", "agent": "bot", "action": "act", "inputs": {"x": {"$from": "nodes.nobody.output"}}}],
        [{"id": "a"}],
    ],
)
def test_a_plan_that_would_not_fold_is_a_failed_attempt(nodes: list[dict[str, object]]) -> None:
    s = Saga(intent="do it").ok("plan", nodes=nodes)
    assert s.told() == ["plan RETRYING"]


def test_an_output_mapping_that_leads_nowhere_is_a_failed_plan() -> None:
    s = Saga(intent="do it")
    said = {"output": {"x": {"$from": "nodes.nobody.output"}}}
    s.ok("plan", nodes=[{"id": "a", "agent": "bot", "action": "act"}], output=said)
    assert s.told() == ["plan RETRYING"]


def test_a_plan_that_comes_under_a_manual_pause_is_taken_up_when_it_closes() -> None:
    s = Saga(intent="do it").panic()
    s.ok("plan", nodes=[{"id": "a", "agent": "bot", "action": "act"}])
    assert s.told() == ["plan COMPLETE"]
    assert s.status == "PAUSED_HITL"
    s.owner_changes()
    s.press("RES_RESUME")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "WORKFLOW_PLANNED", "a SCHEDULED"]


def test_a_plan_that_cannot_be_made_offers_no_skip_and_a_discarded_planner_ends_the_workflow() -> None:
    s = Saga(intent="do it").exhaust("plan")
    assert s.buttons == ["RES_RETRY", "RES_ABORT_SAGA"]
    s.press("RES_ABORT_SAGA")
    assert s.status == "COMPENSATED"


def test_a_node_whose_condition_does_not_hold_is_skipped_and_what_only_waits_for_it_runs() -> None:
    s = Saga(node("a"), node("b", "a", when={"ref": "nodes.a.output.n", "gt": 3}), node("c", "b"))
    s.ok("a", output={"n": 3})
    assert s.told() == ["a COMPLETE", "b SKIPPED", "c SCHEDULED"]
    s.ok("c")
    assert s.status == "COMPLETED_WITH_SKIPS"


@pytest.mark.parametrize(
    ("when", "runs"),
    [
        ({"eq": 3}, True),
        ({"ne": 3}, False),
        ({"ge": 3, "lt": 4}, True),
        ({"le": 2}, False),
        ({"in": [1, 3]}, True),
        ({"exists": True}, True),
        ({"exists": False}, False),
        ({"gt": "2"}, None),
    ],
)
def test_conditions(when: dict[str, object], runs: bool | None) -> None:
    if runs is None:
        with pytest.raises(ValueError, match="validation error"):
            Saga(node("a", when={"ref": "input.n", "gt": "two"}))
        return
    s = Saga(node("a", when={"ref": "input.n", **when}), input={"n": 3})
    assert s.states["a"] == ("SCHEDULED" if runs else "SKIPPED")


def test_an_empty_plan_of_skips_ends_at_once() -> None:
    s = Saga(node("a", when={"ref": "input.go", "eq": True}))
    assert s.told()[-2:] == ["a SKIPPED", "WORKFLOW_COMPLETED"]
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_references_bring_inputs_and_upstream_outputs_with_defaults_for_what_is_missing() -> None:
    wants = {
        "sku": {"$from": "input.sku"},
        "deep": [{"$from": "nodes.a.output.items.0.id"}],
        "miss": {"$from": "nodes.a.output.nothing", "default": 7},
        "null": {"$from": "nodes.a.output.nothing"},
        "word": "plain",
    }
    s = Saga(node("a"), node("b", "a", inputs=wants), input={"sku": "X"})
    s.ok("a", output={"items": [{"id": 9}]})
    assert s.sent(node_id="b")[0].inputs == {"sku": "X", "deep": [9], "miss": 7, "null": None, "word": "plain"}


def test_a_skip_takes_along_those_that_cannot_live_without_its_output_and_nobody_else() -> None:
    s = Saga(
        node("a", on_exhausted="skip"),
        node("needs", "a", inputs={"x": {"$from": "nodes.a.output.x"}}),
        node("lives", "a", inputs={"x": {"$from": "nodes.a.output.x", "default": 1}}),
        node("after", "needs"),
        node("needs_too", "needs", inputs={"x": {"$from": "nodes.needs.output"}}),
    )
    s.fails("a", retryable=False)
    assert s.state_of("a", "needs", "lives", "after", "needs_too") == [
        "SKIPPED",
        "SKIPPED",
        "SCHEDULED",
        "SCHEDULED",
        "SKIPPED",
    ]


def test_inputs_that_turn_out_to_be_no_object_are_never_sent() -> None:
    whole = {"$from": "nodes.a.output"}
    assert Saga(node("a"), node("b", "a", inputs=whole)).ok("a", output={"x": 1}).sent(node_id="b")[0].inputs == {
        "x": 1
    }
    s = Saga(node("a"), node("b", "a", inputs=whole)).ok("a", output=[1])
    assert s.told() == ["a COMPLETE", "b DEAD_LETTERED", "TASK_DEAD_LETTERED b"]
    s.wait(2)
    assert (s.states["b"], s.pause["kind"], s.buttons[0]) == ("AWAITING_HUMAN", "failure", "RES_RETRY")
    assert s.pause["failure_reason"] == "Expected an object as inputs of 'b', but nodes.a.output is an array."
    assert s.pause["raw_evidence"]["body"] == {"error": "invalid-inputs", "reference": "nodes.a.output", "found": [1]}
    assert s["b"].attempt == 0 and not s.sent(node_id="b")
    shown = given(s.state, s["b"])
    assert (shown["inputs"], shown["unresolved"]) == (whole, ["nodes.a.output"])


NO_OBJECTS = [(5, "a number"), ("x", "a string"), (True, "a boolean"), (None, "null"), ([], "an array")]


@pytest.mark.parametrize(("given", "said"), NO_OBJECTS)
def test_inputs_of_a_first_node_that_are_no_object_ask_a_person_at_once(given: object, said: str) -> None:
    s = Saga(node("a", inputs={"$from": "input.x"}), input={"x": given}).wait(2)
    assert s.pause["failure_reason"] == f"Expected an object as inputs of 'a', but input.x is {said}."
    s.press("RES_RETRY")
    assert s.told()[-2:] == ["a DEAD_LETTERED", "TASK_DEAD_LETTERED a"], "they are what they were"
    s.wait(2).press("RES_SKIP")
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_a_large_value_that_is_no_object_is_no_input_either() -> None:
    stored = {"$ref": f"/workflows/w/blobs/sha256:{64 * 'd'}", "bytes": 60_000, "preview": '["x","x"'}
    s = Saga(node("a"), node("b", "a", inputs={"$from": "nodes.a.output"})).ok("a", output=stored)
    assert s.states["b"] == "DEAD_LETTERED"
    s = Saga(node("a"), node("b", "a", inputs={"$from": "nodes.a.output"}))
    s.ok("a", output={**stored, "preview": '{"x":1'})
    assert s.states["b"] == "SCHEDULED"


def test_a_person_gives_the_input_that_makes_inputs_of_what_was_none() -> None:
    gives = {"action_id": "RES_SET", "display_text": "With", "kind": "retry", "sets": "sku", "requires_input": True}
    s = Saga(node("a"), node("b", "a", inputs={"$from": "nodes.a.output"}, resolutions=[gives])).ok("a", output=[1])
    s.wait(2).press("RES_SET", "X")
    assert [t.inputs for t in s.sent(node_id="b")] == [{"sku": "X"}]
    s.ok("b")
    assert s.status == "COMPLETED"


def test_a_node_whose_inputs_are_no_object_ends_as_its_plan_says() -> None:
    whole = {"$from": "nodes.a.output"}
    s = Saga(node("a"), node("b", "a", inputs=whole, on_exhausted="skip"), node("c", "b")).ok("a", output=1)
    assert s.state_of("b", "c") == ["SKIPPED", "SCHEDULED"]
    s = Saga(node("a"), node("b", "a", inputs=whole, on_exhausted="fail")).ok("a", output=1)
    assert s.status == "FAILED"
    s = Saga(node("a"), node("b", "a", inputs=whole, gate={"decide": "always"})).ok("a", output=1)
    assert s.states["b"] == "DEAD_LETTERED", "nobody is asked to approve what cannot be sent"


def test_one_reference_without_a_default_is_enough_to_need_the_output() -> None:
    both = {"x": {"$from": "nodes.a.output", "default": 1}, "y": {"$from": "nodes.a.output"}}
    s = Saga(node("a", on_exhausted="skip"), node("b", "a", inputs=both)).fails("a", retryable=False)
    assert s.state_of("b") == ["SKIPPED"]


def test_an_optional_node_that_fails_is_skipped_and_read_as_null() -> None:
    s = Saga(node("a", optional=True), node("b", "a", inputs={"x": {"$from": "nodes.a.output.x"}}))
    s.fails("a", retryable=False)
    assert s.told() == ["a DEAD_LETTERED", "TASK_DEAD_LETTERED a", "a SKIPPED", "b SCHEDULED"]
    assert s.sent(node_id="b")[0].inputs == {"x": None}


def test_a_skip_never_hangs_a_join() -> None:
    s = Saga(node("a", on_exhausted="skip"), node("b"), node("join", "a", "b")).ok("b").fails("a", retryable=False)
    assert s.state_of("join") == ["SCHEDULED"]


# retries


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("fixed", [2, 2, 2, 2]), ("linear", [2, 4, 6, 8]), ("exponential", [2, 6, 18, 20])],
)
def test_backoff(backoff: str, waits: list[float]) -> None:
    policy = RetryPolicy(backoff=backoff, initial_delay_s=2, multiplier=3, max_delay_s=20, jitter="none")  # type: ignore[arg-type]
    assert [delay_s(policy, k, "t", "n", k) for k in (1, 2, 3, 4)] == waits


def test_jitter_is_below_the_delay_and_the_same_whenever_it_is_asked_for() -> None:
    policy = RetryPolicy(initial_delay_s=10, jitter="full")
    drawn = [delay_s(policy, 1, "t", f"n{i}", 1) for i in range(200)]
    assert drawn == [delay_s(policy, 1, "t", f"n{i}", 1) for i in range(200)]
    assert all(0 <= d < 10 for d in drawn)
    assert min(drawn) < 2 and max(drawn) > 8
    assert jitter_fraction("t", "n", 1) != jitter_fraction("t", "n", 2)


def test_a_thousand_attempts_do_not_overflow() -> None:
    assert delay_s(RetryPolicy(jitter="none", multiplier=100, max_delay_s=60), 999, "t", "n", 999) == 60


def test_a_failed_attempt_is_retried_under_the_next_number_and_the_same_key_when_its_wait_is_over() -> None:
    s = Saga(node("a")).fails("a")
    assert s.told() == ["a RETRYING"]
    assert s.state.next_wake() == T0 + 1000
    s.wait(0.9)
    assert s.told() == []
    s.wait(0.1)
    assert s.told() == ["a SCHEDULED"]
    assert [(m.attempt, m.effect_key) for m in s.sent()] == [(1, "t/w/a/1"), (2, "t/w/a/1")]


def test_attempts_are_used_up_after_max_attempts() -> None:
    s = Saga(node("a"))
    s.fails("a").wait(1).fails("a").wait(1).fails("a")
    assert s.told() == ["a DEAD_LETTERED", "TASK_DEAD_LETTERED a"]
    assert [a["error"]["code"] for a in s.last[-1].data["attempts"]] == ["E", "E", "E"]


def test_an_error_that_is_not_retryable_ends_the_attempts() -> None:
    assert Saga(node("a")).fails("a", retryable=False).states["a"] == "DEAD_LETTERED"
    s = Saga(node("a", retry={"non_retryable_errors": ["FATAL"]}))
    assert s.fails("a", "FATAL").states["a"] == "DEAD_LETTERED"


def test_the_total_budget_ends_the_attempts() -> None:
    s = Saga(node("a", retry={"max_attempts": 100, "total_timeout_s": 2.5}))
    s.fails("a").wait(1).fails("a").wait(1).fails("a")
    assert s.states["a"] == "DEAD_LETTERED"


@pytest.mark.parametrize(
    ("asked", "waits_s"), [(7.5, 7.5), (0, 0), (-5, 1), (float("nan"), 1), (float("inf"), 1), (1e12, 7 * 86_400)]
)
def test_an_agent_may_say_when_to_come_again_and_nonsense_is_not_heard(asked: float, waits_s: float) -> None:
    s = Saga(node("a")).fails("a", retry_after_s=asked)
    if waits_s == 0:
        assert s.told() == ["a RETRYING", "a SCHEDULED"]
    else:
        assert s["a"].retry_ms == T0 + round(waits_s * 1000)


# claims, leases, answers


def test_started_is_the_claim_and_its_repeat_changes_nothing() -> None:
    s = Saga(node("a")).started("a")
    assert s.told() == ["a IN_PROGRESS"]
    assert isinstance(s.answer("a", Outcome.STARTED), Rejection)


def test_a_short_attempt_goes_from_scheduled_to_its_end() -> None:
    assert Saga(node("a")).ok("a").told() == ["a COMPLETE", "WORKFLOW_COMPLETED"]


def test_a_claimed_attempt_that_falls_silent_counts_and_is_in_doubt() -> None:
    s = Saga(node("a", effect_class="idempotent")).started("a").wait(4.9)
    assert s.states["a"] == "IN_PROGRESS"
    s.wait(0.1)
    assert s.told() == ["a RETRYING"]
    assert s["a"].error and s["a"].error["code"] == "lease-expired"
    assert s["a"].in_doubt


def test_heartbeats_keep_the_lease() -> None:
    s = Saga(node("a")).started("a")
    for _ in range(5):
        s.wait(4)
        assert s.heartbeat("a")
    assert s.states["a"] == "IN_PROGRESS"


def test_a_poison_task_that_kills_its_worker_every_time_reaches_a_person() -> None:
    s = Saga(node("a", effect_class="idempotent"))
    for _ in range(3):
        s.started("a").wait(6)
    s.wait(2)
    assert s.pause["kind"] == "failure"
    assert [a["error"]["code"] for a in s.pause["attempts"]] == ["lease-expired"] * 3


def test_an_attempt_that_runs_too_long_is_lost_though_it_still_shows_life() -> None:
    s = Saga(node("a", timeouts={"start_to_close_s": 10})).started("a")
    for _ in range(5):
        s.wait(2.5)
        s.heartbeat("a")
    assert s["a"].error and s["a"].error["code"] == "start-to-close"
    assert s.heartbeat("a") is False


def test_times_that_an_agent_made_up_set_no_lease() -> None:
    for text in ("yesterday", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00"):
        s = Saga(node("a"))
        s.answer("a", Outcome.STARTED, started_at=text)
        assert s["a"].started_ms == T0
        s.ok("a", finished_at=text)
        assert s.status == "COMPLETED"


def test_an_unclaimed_attempt_is_sent_again_under_the_same_number_and_never_counts() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 3600}))
    s.wait(800)
    sends = s.sent()
    assert [m.attempt for m in sends] == [1] * len(sends)
    assert len(sends) == 7  # at 0, 10, 30, 70, 150, 310, 610 s
    assert s["a"].attempts == []


def test_each_send_carries_a_window_that_reaches_past_the_next_send() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 3600})).wait(700)
    windows = [m.start_before for m in s.sent()]
    assert windows == sorted(windows) and len(set(windows)) == len(windows)


def test_without_any_agent_the_node_asks_a_person_and_nothing_has_happened() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).wait(59)
    assert s.states["a"] == "SCHEDULED"
    s.wait(5)
    assert s.pause["failure_reason"] == "no agent of type bot for 60 s"
    assert not s["a"].in_doubt
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL"]
    last_window = max(m.start_before for m in s.sent())
    assert s.last[0].data["at"] > last_window, "given up only after the last send can no longer be claimed"


def test_a_backlog_is_no_missing_agent() -> None:
    s = Saga(node("a"))
    for _ in range(30):
        s.last_claim["bot"] = s.now_ms  # it claims, only not this one
        s.wait(10)
    assert s.states["a"] == "SCHEDULED"


def test_a_retry_after_no_agent_goes_on_counting() -> None:
    s = Saga(node("a")).wait(64)
    s.press("RES_RETRY")
    assert (s["a"].attempt, s["a"].max_attempts) == (2, 4)


def test_a_heartbeat_of_an_attempt_whose_claim_was_lost_is_a_claim() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={}, timeouts={"schedule_to_start_s": 5}))
    s.wait(3)
    assert s.heartbeat("a")
    s.wait(5)
    assert s.pause["kind"] == "ambiguous", "it was alive, so it is in doubt, not unstarted"


@pytest.mark.parametrize("doing", ["a", "undo of a"])
def test_a_claim_that_only_a_heartbeat_told_of_is_known_to_the_next_owner(doing: str) -> None:
    s = Saga(node("a", effect_class="idempotent", compensation={}, timeouts={"schedule_to_start_s": 12}), node("z"))
    if doing == "undo of a":
        s.ok("a").cancel()
    s.wait(3)
    assert s.heartbeat("a")
    rows = len(s.rows)
    assert s.heartbeat("a") and len(s.rows) == rows, "it is told once"
    s.owner_changes()
    assert s.heartbeat("a") and len(s.rows) == rows
    s.wait(9).wait(4)
    assert s.states["a"] in ("RETRYING", "SCHEDULED", "COMPENSATING") and not s.state.pauses, (
        "it fell silent; it was begun"
    )
    assert (s["a"].undo if doing == "undo of a" else s["a"]).attempts[-1]["error"]["code"] == "lease-expired"


def test_a_heartbeat_of_an_attempt_that_was_given_up_is_a_sign_of_life() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={}, timeouts={"schedule_to_start_s": 5}))
    s.wait(5).wait(2)
    assert s.pause["kind"] == "failure" and not s["a"].in_doubt
    s.heartbeat("a")
    assert s["a"].in_doubt and s.told() == ["RESULT_IGNORED a late"]
    rows = len(s.rows)
    s.heartbeat("a")
    assert len(s.rows) == rows


def test_an_attempt_that_its_agent_stopped_is_a_definite_failure() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).started("a")
    s.answer("a", Outcome.CANCELLED)
    assert s.told() == ["a RETRYING"]
    assert s["a"].error and s["a"].error["code"] == "CANCELLED"
    assert not s["a"].in_doubt


def test_clocks_may_differ_by_a_second_and_no_more() -> None:
    for off_ms, heard in ((-1_000, True), (1_000, True), (1_001, False), (-1_001, False)):
        s = Saga(node("a"))
        s.answer("a", Outcome.STARTED, started_at=iso(T0 + off_ms))
        assert (s["a"].started_ms == T0 + off_ms) == heard


# what is not current


def result(attempt: int, outcome: Outcome = Outcome.OK, key: str = "t/w/a/1", **more: object) -> Result:
    return Result(trace_id="w", node_id="a", attempt=attempt, effect_key=key, outcome=outcome, **more)  # type: ignore[arg-type]


def test_a_late_result_of_a_superseded_attempt_is_journaled_once_and_not_applied() -> None:
    s = Saga(node("a", effect_class="idempotent")).started("a").wait(5).wait(1)
    assert s["a"].attempt == 2
    s.do(result(1, output="late"))
    assert s.told() == ["RESULT_IGNORED a superseded"]
    assert isinstance(s.do(result(1, output="late")), Rejection)
    s.ok("a", output="second")
    assert s["a"].output == "second"


def test_a_result_after_the_lease_ended_is_late() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).started("a").wait(5)
    s.do(result(1))
    assert s.told() == ["RESULT_IGNORED a late"]


def test_a_repeated_answer_is_a_duplicate_and_a_different_one_a_conflict() -> None:
    s = Saga(node("a"), node("b", "a")).ok("a", output=1)
    assert isinstance(s.do(result(1, output=1)), Rejection)
    s.do(result(1, output=2))
    assert s.told() == ["RESULT_IGNORED a conflict"]
    s.do(result(1, Outcome.FAILED))
    assert s.told() == ["RESULT_IGNORED a conflict"]
    assert s["a"].output == 1


def test_a_failure_told_with_another_reason_is_a_conflict() -> None:
    s = Saga(node("a")).fails("a", "ONE")
    assert isinstance(s.answer("a", Outcome.FAILED, error={"code": "ONE", "message": "ONE happened"}), Rejection)
    s.answer("a", Outcome.FAILED, error={"code": "TWO", "message": "TWO happened"})
    assert s.told() == ["RESULT_IGNORED a conflict"]


def test_answers_to_what_was_never_sent_change_nothing() -> None:
    s = Saga(node("a"))
    for r in (result(2), result(0), result(-1), result(1, key="t/w/a/2"), result(1, key="t/other/a/1")):
        assert isinstance(s.do(r), Rejection)
    assert isinstance(s.do(result(1).model_copy(update={"node_id": "nobody"})), Rejection)
    assert isinstance(s.do(result(1).model_copy(update={"kind": TaskKind.COMPENSATE})), Rejection)


def test_an_answer_that_comes_late_but_shows_an_effect_puts_the_node_in_doubt() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).wait(64)
    s.answer("a", Outcome.STARTED)
    assert s.told() == ["RESULT_IGNORED a late"]
    assert s["a"].in_doubt
    s.press("RES_RETRY")
    assert s.pause["kind"] == "ambiguous", "an unsafe effect that may stand is never repeated without a person's word"


# effect classes


@pytest.mark.parametrize("effect", ["pure", "idempotent"])
def test_a_doubtful_attempt_of_a_harmless_class_is_simply_repeated(effect: str) -> None:
    s = Saga(node("a", effect_class=effect)).started("a").in_doubt("a")
    assert s.told() == ["a RETRYING"]
    assert s["a"].in_doubt == (effect != "pure")


def test_a_doubtful_attempt_that_can_be_queried_is_looked_up_after_its_time_to_close() -> None:
    s = Saga(node("a", effect_class="queryable", timeouts={"start_to_close_s": 30})).started("a").wait(2).in_doubt("a")
    s.wait(27)
    assert s.sent(TaskKind.LOOK_UP) == []
    s.wait(1)
    asked = s.sent(TaskKind.LOOK_UP)
    assert [(m.attempt, m.effect_key) for m in asked] == [(2, "t/w/a/1")]
    s.ok("a", output="found")
    assert (s.status, s["a"].output) == ("COMPLETED", "found")


def test_a_look_up_that_finds_nothing_lets_the_next_attempt_act_and_costs_none() -> None:
    s = Saga(node("a", effect_class="queryable", timeouts={"start_to_close_s": 30})).started("a").in_doubt("a").wait(30)
    s.fails("a", "NOT_FOUND")
    assert s.told() == ["a RETRYING", "a SCHEDULED"]
    assert not s["a"].in_doubt
    assert s.sent()[-1].attempt == 3
    assert s["a"].max_attempts == 4
    s.fails("a").wait(1).fails("a")
    assert s.states["a"] == "DEAD_LETTERED"


def test_a_look_up_that_fails_is_a_look_up_again_until_attempts_are_used_up() -> None:
    s = Saga(node("a", effect_class="queryable", timeouts={"start_to_close_s": 10})).started("a").in_doubt("a").wait(10)
    s.fails("a", "TIMEOUT").wait(1)
    assert [m.attempt for m in s.sent(TaskKind.LOOK_UP)] == [2, 3]
    s.fails("a", "TIMEOUT").wait(2)
    s.press("RES_RETRY")
    assert s["a"].look_up, "it is still in doubt"


def test_a_person_who_retries_what_can_be_queried_waits_for_the_old_attempt_to_have_ended() -> None:
    retry = {"max_attempts": 1}
    s = Saga(node("a", effect_class="queryable", timeouts={"start_to_close_s": 60}, retry=retry)).started("a")
    s.in_doubt("a").wait(2)
    s.press("RES_RETRY")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "a RETRYING"]
    s.wait(57)
    assert s.sent(TaskKind.LOOK_UP) == []
    s.wait(1)
    assert [(m.attempt, m.max_attempts) for m in s.sent(TaskKind.LOOK_UP)] == [(2, 2)]


def test_a_doubtful_unsafe_attempt_is_never_repeated_by_itself() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).started("a").wait(5)
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL"]
    assert (s.pause["kind"], s.buttons) == ("ambiguous", ["RES_HAPPENED", "RES_DID_NOT_HAPPEN", "RES_ABORT_SAGA"])
    s.wait(10_000)
    assert len(s.sent()) == 1


def test_a_definite_failure_of_an_unsafe_node_is_retried() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).started("a").fails("a").wait(1)
    assert len(s.sent()) == 2


# what follows exhaustion


def test_on_exhausted_pause_waits_for_the_dead_letter_to_return() -> None:
    s = Saga(node("a"), node("b")).fails("a", retryable=False)
    letter = s.last[-1].data["dead_letter_id"]
    assert s.status == "RUNNING"
    s.letter("a", letter)
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL"]
    s.wait(5)
    assert s.told() == [], "the wake-up finds the pause open"
    assert isinstance(s.letter("a", letter), Rejection)


def test_the_wake_up_opens_the_pause_when_the_dead_letter_does_not_return() -> None:
    s = Saga(node("a")).fails("a", retryable=False)
    letter = s.last[-1].data["dead_letter_id"]
    s.wait(1.9)
    assert s.told() == []
    s.wait(0.1)
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL"]
    assert isinstance(s.letter("a", letter), Rejection)


def test_on_exhausted_skip_compensate_and_fail_act_at_once() -> None:
    s = Saga(node("a", on_exhausted="skip")).fails("a", retryable=False)
    assert s.status == "COMPLETED_WITH_SKIPS"
    s = Saga(node("x"), node("a", "x", on_exhausted="compensate")).ok("x").fails("a", retryable=False)
    assert s.told() == [
        "a DEAD_LETTERED",
        "TASK_DEAD_LETTERED a",
        "WORKFLOW_COMPENSATING",
        "a CANCELLED",
        "x COMPENSATING",
    ]
    s = Saga(node("x"), node("a", "x", on_exhausted="fail")).ok("x").fails("a", retryable=False)
    assert (s.status, s.states["x"]) == ("FAILED", "COMPLETE")
    assert s.last[-1].data["reason"] == "a failed: E happened"


def test_a_failing_workflow_waits_for_what_is_out() -> None:
    s = Saga(node("a", on_exhausted="fail"), node("b", effect_class="idempotent")).started("b")
    s.fails("a", retryable=False)
    assert s.status == "COMPENSATING"
    assert [m.node_id for m in s.sent(TaskKind.CANCEL)] == ["b"]
    s.ok("b")
    assert (s.status, s.states["b"]) == ("FAILED", "COMPLETE")


# nodes that an agent appends


def test_an_agent_appends_nodes_where_its_node_says_so() -> None:
    s = Saga(node("a", may_add_nodes=2), node("b", "a"))
    more = [
        {"id": "x", "agent": "bot", "action": "act"},
        {"id": "y", "agent": "bot", "action": "act", "depends_on": ["x"]},
    ]
    s.ok("a", nodes=more)
    assert s.told() == ["a COMPLETE", "NODES_ADDED", "x SCHEDULED", "b SCHEDULED"]
    assert s.last[1].data["by"] == "a"
    assert s["x"].spec.depends_on == ("a",)
    s.ok("b", "x")
    assert s.status == "RUNNING"
    s.ok("y")
    assert s.status == "COMPLETED"


def test_more_nodes_than_the_quota_are_refused() -> None:
    s = Saga(node("a", may_add_nodes=1), node("b"))
    s.ok("a", nodes=[{"id": k, "agent": "bot", "action": "act"} for k in ("x", "y")])
    assert s.states == {"a": "DEAD_LETTERED", "b": "SCHEDULED"}
    assert s["a"].error and s["a"].error["code"] == "too-many-nodes"


def test_a_node_without_a_quota_appends_nothing() -> None:
    s = Saga(node("a"), node("b")).ok("a", nodes=[{"id": "x", "agent": "bot", "action": "act"}])
    assert s["a"].error and s["a"].error["code"] == "too-many-nodes"


def test_every_row_of_a_dispatch_registers_its_undo() -> None:
    s = Saga(node("a", compensation={"action": "unact"}))
    row = next(r for r in s.rows if r.type == EventType.NODE_STATE_CHANGED)
    assert row.meta == {"key": "t/w/a/1", "undo": "unact"}
