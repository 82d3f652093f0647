"""Winding down: drain, undo in reverse, what a failed undo asks, and how it ends."""

from __future__ import annotations

import pytest

from handrail_contracts.tasks import Failure, Outcome, Result, TaskKind
from handrail_engine.inputs import Cancel, PanicPause, Rejection
from handrail_engine.outgoing import late_effect
from unit.engine.saga import DIAMOND, Saga, node

EFFECT = {"effect_class": "idempotent"}
UNDO_ONCE = {"compensation": {"retry": {"max_attempts": 1}}}


def chain(*ids: str, **fields: object) -> list[dict[str, object]]:
    return [node(k, *ids[max(0, i - 1) : i], **EFFECT, **fields) for i, k in enumerate(ids)]


def undone(s: Saga) -> list[str]:
    return [m.node_id for m in s.sent(TaskKind.COMPENSATE)]


# order


def test_an_abort_undoes_what_completed_in_reverse() -> None:
    s = Saga(*chain("a", "b", "c", "d")).ok("a").ok("b").ok("c").exhaust("d")
    s.press("RES_ABORT_SAGA")
    listed = next(r for r in s.last if r.type == "WORKFLOW_COMPENSATING").data["nodes"]
    assert listed == [
        {"node_id": "c", "depends_on": []},
        {"node_id": "b", "depends_on": ["c"]},
        {"node_id": "a", "depends_on": ["b"]},
    ]
    assert undone(s) == ["c"]
    s.ok("c")
    assert undone(s) == ["c", "b"]
    s.ok("b").ok("a")
    assert s.status == "COMPENSATED"
    assert s.state_of("a", "b", "c", "d") == ["COMPENSATED", "COMPENSATED", "COMPENSATED", "CANCELLED"]


def test_independent_undos_run_in_parallel_latest_completion_first() -> None:
    s = Saga(node("a", **EFFECT), node("b", "a", **EFFECT), node("c", "a", **EFFECT), node("z"))
    s.ok("a").ok("c").ok("b").cancel()
    assert undone(s) == ["b", "c"]
    s.ok("c")
    assert undone(s) == ["b", "c"]
    s.ok("b")
    assert undone(s) == ["b", "c", "a"]


def test_an_undo_gets_the_output_of_what_it_undoes_and_a_key_of_its_own() -> None:
    s = Saga(node("a", inputs={"x": 1}, compensation={"action": "unact"}, **EFFECT), node("b")).ok(
        "a", output={"po": 1}
    )
    s.cancel()
    task = s.sent(TaskKind.COMPENSATE)[0]
    assert (task.action, task.attempt, task.max_attempts) == ("unact", 1, 3)
    assert (task.effect_key, task.do_key, task.output, task.inputs) == (
        "t/w/a/1/undo/0",
        "t/w/a/1",
        {"po": 1},
        {"x": 1},
    )


def test_what_never_ran_or_was_skipped_is_not_undone_and_holds_nobody_up() -> None:
    s = Saga(
        node("a", **EFFECT),
        node("skipped", "a", when={"ref": "input.no", "eq": True}, **EFFECT),
        node("b", "skipped", **EFFECT),
        node("c", "b", **EFFECT),
    )
    s.ok("a").ok("b").cancel()
    s.answer("c", Outcome.CANCELLED)
    assert undone(s) == ["b"]
    s.ok("b")
    assert undone(s) == ["b", "a"]


def test_a_node_without_an_undo_has_nothing_to_undo_and_an_irreversible_one_stands() -> None:
    s = (
        Saga(node("a", **EFFECT), node("mail", "a", compensation="none", **EFFECT), node("z"))
        .ok("a")
        .ok("mail")
        .cancel()
    )
    s.ok("a")
    assert (s.states["mail"], s.status) == ("NOTHING_TO_UNDO", "COMPENSATED")
    s = Saga(node("a", **EFFECT), node("wire", "a", irreversible=True, **EFFECT), node("z")).ok("a").ok("wire").cancel()
    s.ok("a")
    assert (s.states["wire"], s.states["a"], s.status) == ("NOT_REVERSIBLE", "COMPENSATED", "COMPENSATION_INCOMPLETE")


def test_an_irreversible_effect_in_doubt_stands_too() -> None:
    s = Saga(node("wire", irreversible=True, effect_class="unsafe")).started("wire").in_doubt("wire")
    s.press("RES_ABORT_SAGA")
    assert (s.states["wire"], s.status) == ("NOT_REVERSIBLE", "COMPENSATION_INCOMPLETE")


def test_an_undo_that_found_nothing_says_so() -> None:
    s = Saga(node("a", **EFFECT), node("z")).ok("a").cancel()
    s.ok("a", output={"nothing_to_undo": True})
    assert (s.states["a"], s.status) == ("NOTHING_TO_UNDO", "COMPENSATED")


# drain


def test_an_abort_dispatches_nothing_more_and_asks_what_is_out_to_stop() -> None:
    s = Saga(node("a", **EFFECT), node("b", **EFFECT), node("c", "a"), node("p")).started("a")
    s.cancel()
    assert sorted(m.node_id for m in s.sent(TaskKind.CANCEL)) == ["a", "b", "p"]
    assert s.state_of("a", "b", "c", "p") == ["IN_PROGRESS", "SCHEDULED", "CANCELLED", "CANCELLED"]
    assert s.status == "COMPENSATING"


def test_cancelled_ok_and_in_doubt_drain_an_attempt_and_only_a_possible_effect_is_undone() -> None:
    for outcome, undo in (
        (Outcome.CANCELLED, False),
        (Outcome.OK, True),
        (Outcome.IN_DOUBT, True),
        (Outcome.FAILED, False),
    ):
        s = Saga(node("a", **EFFECT)).started("a").cancel()
        s.answer("a", outcome)
        assert (undone(s) == ["a"]) == undo, outcome
        if undo:
            s.ok("a")
        assert s.status == "COMPENSATED"


def test_a_parent_is_undone_when_its_last_open_child_turns_out_to_have_done_nothing() -> None:
    s = Saga(*chain("a", "b")).ok("a").started("b").cancel()
    assert undone(s) == []
    s.answer("b", Outcome.CANCELLED)
    assert undone(s) == ["a"]


def test_an_earlier_doubt_is_not_forgotten_when_the_last_attempt_did_nothing() -> None:
    s = Saga(node("a", **EFFECT)).started("a").wait(6).cancel()
    assert s["a"].attempt == 2
    s.answer("a", Outcome.CANCELLED)
    assert undone(s) == ["a"]


def test_an_escalation_while_winding_down_is_a_stop() -> None:
    s = Saga(node("a", **EFFECT)).cancel().escalates("a")
    assert (s.states["a"], s.status) == ("CANCELLED", "COMPENSATED")
    s = Saga(node("a", **EFFECT)).cancel()
    s.answer("a", Outcome.PROPOSED)
    assert s.status == "COMPENSATED"


def test_silence_until_the_lease_ends_is_in_doubt() -> None:
    s = Saga(node("a", **EFFECT)).started("a").cancel().wait(5)
    assert undone(s) == ["a"]


def test_an_attempt_that_nobody_claimed_is_given_up_only_after_it_can_no_longer_start() -> None:
    s = Saga(node("a", **EFFECT)).cancel().wait(31)
    assert s.status == "COMPENSATING"
    assert len(s.sent(TaskKind.CANCEL)) > 1
    s.wait(2)
    assert (s.states["a"], s.status) == ("CANCELLED", "COMPENSATED")


def test_a_new_owner_asks_again_before_it_gives_an_attempt_up() -> None:
    s = Saga(node("a", **EFFECT)).cancel()
    s.now_ms += 3_600_000
    s.owner_changes(bus_lost=True)
    assert s.sent()[-1].kind is TaskKind.EXECUTE and len(s.sent()) == 1, "nothing is dispatched again during an abort"
    asked = len(s.sent(TaskKind.CANCEL))
    assert asked >= 2
    s.wait(1)
    assert s.status == "COMPENSATING"
    s.ok("a")
    assert undone(s) == ["a"]


def test_what_a_skip_left_in_doubt_is_undone_by_a_later_abort() -> None:
    s = Saga(node("a", retry={"max_attempts": 1}, **EFFECT), node("b", "a", **EFFECT)).started("a").wait(7)
    s.press("RES_SKIP")
    s.cancel()
    s.answer("b", Outcome.CANCELLED)
    assert undone(s) == ["a"]
    s.ok("a")
    assert (s.states["a"], s.status) == ("COMPENSATED", "COMPENSATED")


# late effects


def test_a_success_that_arrives_after_its_undo_orders_another_under_a_new_key() -> None:
    s = Saga(node("a", **EFFECT), node("z", **EFFECT)).started("a", "z").cancel().wait(4)
    s.heartbeat("z")
    s.wait(1)
    s.ok("a")
    assert s.states["a"] == "COMPENSATED"
    s.answer("a", Outcome.OK, undo=False)
    assert s.told() == ["RESULT_IGNORED a late", "a COMPENSATING"]
    assert [m.effect_key for m in s.sent(TaskKind.COMPENSATE)] == ["t/w/a/1/undo/0", "t/w/a/1/undo/1"]
    s.ok("a")
    s.answer("z", Outcome.CANCELLED)
    assert s.status == "COMPENSATED"


def test_one_that_arrives_while_its_undo_runs_is_undone_again_afterwards() -> None:
    s = Saga(*chain("x", "a")).ok("x").started("a").cancel().wait(5)
    assert undone(s) == ["a"]
    s.answer("a", Outcome.OK, undo=False)
    assert s.told() == ["RESULT_IGNORED a late"]
    s.ok("a")
    assert s.told() == ["a COMPENSATED", "a COMPENSATING"]
    assert undone(s) == ["a", "a"], "x waits for the second one"
    s.ok("a")
    assert undone(s) == ["a", "a", "x"]


def test_a_repeated_success_of_the_first_undo_is_a_duplicate_while_the_second_runs() -> None:
    s = Saga(node("a", **EFFECT), node("z", **EFFECT)).started("a", "z").cancel().wait(4)
    s.heartbeat("z")
    s.wait(1).ok("a")
    s.answer("a", Outcome.OK, undo=False)
    assert s["a"].undo.attempt == 2
    again = s.answer("a", Outcome.OK, attempt=1, key="t/w/a/1/undo/0")
    assert isinstance(again, Rejection)


def test_one_of_an_attempt_that_was_given_up_is_undone() -> None:
    s = Saga(node("a", **EFFECT), node("z", **EFFECT)).started("z").cancel()
    for _ in range(10):
        s.heartbeat("z")
        s.wait(4)
    assert s.states["a"] == "CANCELLED"
    s.answer("a", Outcome.OK, undo=False)
    assert s.told() == ["RESULT_IGNORED a late", "a COMPENSATING"]
    s.ok("a")
    s.answer("z", Outcome.CANCELLED)
    assert s.status == "COMPENSATED"


def test_a_late_effect_waits_for_a_manual_pause_to_close() -> None:
    s = Saga(node("a", **EFFECT), node("z", **EFFECT)).started("a", "z").cancel().wait(4)
    s.heartbeat("z")
    s.wait(1).ok("a").panic()
    s.answer("a", Outcome.OK, undo=False)
    assert undone(s) == ["a"]
    s.press("RES_RESUME")
    assert undone(s) == ["a", "a"]


def test_an_effect_found_after_the_end_calls_for_a_dead_letter() -> None:
    s = Saga(node("a", inputs={"n": 1}, **EFFECT)).cancel().wait(60)
    assert s.status == "COMPENSATED"
    r = Result(trace_id="w", node_id="a", attempt=1, effect_key="t/w/a/1", outcome=Outcome.OK)
    assert s.do(r) == Rejection("ended", "the workflow is COMPENSATED")
    found = late_effect(s.state, r)
    assert found is not None
    assert (found.kind, found.node_id, found.task and found.task["effect_key"]) == ("late_effect", "a", "t/w/a/1")
    assert late_effect(s.state, r) == found
    for other in ({"outcome": Outcome.FAILED}, {"attempt": 2}, {"effect_key": "t/w/b/1"}, {"node_id": "b"}):
        assert late_effect(s.state, r.model_copy(update=other)) is None


def test_an_effect_that_was_kept_is_not_late() -> None:
    s = Saga(node("a", **EFFECT)).ok("a")
    r = Result(trace_id="w", node_id="a", attempt=1, effect_key="t/w/a/1", outcome=Outcome.OK)
    assert late_effect(s.state, r) is None


# an undo that fails


def failing_undo(**fields: object) -> Saga:
    s = Saga(node("x", **EFFECT), node("a", "x", **EFFECT, **(UNDO_ONCE | fields)), node("i", **EFFECT), node("z"))
    s.ok("x").ok("i").ok("a").cancel()
    return s.fails("a", "NO").wait(2)


def test_an_undo_has_retries_of_its_own() -> None:
    s = Saga(node("a", compensation={"retry": {"backoff": "fixed", "jitter": "none"}}, **EFFECT), node("z")).ok("a")
    s.cancel().fails("a").wait(0.5)
    assert undone(s) == ["a"]
    s.wait(0.5)
    assert [(m.attempt, m.effect_key) for m in s.sent(TaskKind.COMPENSATE)] == [
        (1, "t/w/a/1/undo/0"),
        (2, "t/w/a/1/undo/0"),
    ]
    s.started("a").wait(5)
    assert s["a"].undo.error and s["a"].undo.error["code"] == "lease-expired"
    s.wait(1).fails("a").wait(2)
    assert s.pause["kind"] == "compensation_failure"
    assert [a["attempt"] for a in s.pause["attempts"]] == [1, 2, 3]


def test_a_failed_undo_pauses_its_own_line_and_independent_ones_go_on() -> None:
    s = failing_undo()
    assert (s.pause["kind"], s.pause["node_id"]) == ("compensation_failure", "a")
    assert s.buttons == ["RES_RETRY", "RES_MARK_UNDONE", "RES_ACCEPT", "RES_STOP"]
    assert undone(s) == ["a", "i"], "x waits for a"
    s.ok("i")
    assert s.state_of("i", "x") == ["COMPENSATED", "COMPLETE"]
    assert s.status == "PAUSED_HITL"


def test_a_failed_undo_may_be_tried_again() -> None:
    s = failing_undo()
    s.press("RES_RETRY")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "a COMPENSATING"]
    s.ok("a").ok("x").ok("i")
    assert s.status == "COMPENSATED"


def test_a_person_may_have_undone_it_by_hand() -> None:
    s = failing_undo()
    s.press("RES_MARK_UNDONE", "called the vendor")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "a COMPENSATED", "x COMPENSATING"]
    s.ok("x").ok("i")
    assert s.status == "COMPENSATED"


def test_a_person_may_leave_the_effect_standing_and_go_on() -> None:
    s = failing_undo()
    s.press("RES_ACCEPT")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "x COMPENSATING"]
    s.ok("x").ok("i")
    assert (s.status, s.states["a"]) == ("COMPENSATION_INCOMPLETE", "COMPENSATION_FAILED")


def test_a_person_may_stop_and_what_is_out_still_answers() -> None:
    s = failing_undo()
    s.press("RES_STOP")
    assert s.status == "COMPENSATING", "the undo of i is out"
    s.ok("i")
    assert s.status == "COMPENSATION_INCOMPLETE"
    assert s.state_of("x", "a", "i") == ["COMPLETE", "COMPENSATION_FAILED", "COMPENSATED"]


def test_a_stop_ends_every_other_pause_and_retry() -> None:
    slow = {"compensation": {"retry": {"initial_delay_s": 50, "jitter": "none"}}}
    s = Saga(*(node(k, **EFFECT, **UNDO_ONCE) for k in "ab"), node("r", **EFFECT, **slow), node("z")).ok("a", "b", "r")
    s.cancel()
    s.fails("r").fails("a").fails("b").wait(2)
    s.do(PanicPause())
    s.press("RES_STOP", at="a")
    assert s.status == "COMPENSATION_INCOMPLETE"
    assert s.told()[:4] == [
        "HITL_RESOLVED decided",
        "HITL_RESOLVED superseded",
        "HITL_RESOLVED superseded",
        "WORKFLOW_RESUMED",
    ]
    assert s.state_of("a", "b", "r") == ["COMPENSATION_FAILED"] * 3


def test_an_undo_that_fails_after_a_stop_asks_nobody() -> None:
    s = failing_undo()
    s.press("RES_STOP")
    s.fails("i")
    assert (s.status, s.states["i"]) == ("COMPENSATION_INCOMPLETE", "COMPENSATION_FAILED")


def test_a_stopped_rollback_does_not_wait_for_an_agent_that_is_gone() -> None:
    s = failing_undo()
    s.press("RES_STOP")
    s.wait(40)
    assert s.status == "COMPENSATION_INCOMPLETE"


def test_an_undo_that_no_agent_claims_asks_a_person() -> None:
    s = Saga(node("a", **EFFECT), node("z")).ok("a").cancel().wait(70)
    assert s.pause["kind"] == "compensation_failure"
    assert s.pause["failure_reason"] == "no agent of type bot for 60 s"


def test_a_stale_answer_to_an_undo_changes_nothing() -> None:
    s = failing_undo()
    s.press("RES_RETRY")
    assert isinstance(s.answer("a", Outcome.FAILED, attempt=1), Rejection)
    s.answer("a", Outcome.OK, attempt=1)
    assert s.told() == ["RESULT_IGNORED a late"]
    assert isinstance(s.answer("a", Outcome.OK, attempt=1), Rejection)
    assert isinstance(s.answer("a", Outcome.OK, attempt=9), Rejection)
    assert isinstance(s.answer("a", Outcome.OK, key="t/w/a/1/undo/7"), Rejection)
    s.ok("a")
    assert isinstance(s.answer("a", Outcome.OK, attempt=2), Rejection)


# pauses during the rollback


def test_a_manual_pause_holds_the_rollback_and_offers_no_second_abort() -> None:
    s = Saga(*chain("a", "b"), node("z")).ok("a").ok("b").cancel().panic()
    assert s.buttons == ["RES_RESUME"]
    s.ok("b")
    assert undone(s) == ["b"]
    s.press("RES_RESUME")
    assert undone(s) == ["b", "a"]


def test_a_cancel_lets_go_what_was_paused_by_hand_while_it_was_undone() -> None:
    s = Saga(*chain("a", "b"), node("z")).ok("a").ok("b").cancel().panic().ok("b")
    s.do(Cancel(True, "go on", "eve", "cli"))
    assert s.told() == ["HITL_RESOLVED cancelled", "WORKFLOW_RESUMED", "a COMPENSATING"]
    told = s.last[0].data
    assert (told["actor"], told["channel"], told["comment"]) == ("eve", "cli", "go on")
    s.ok("a")
    assert s.status == "COMPENSATED"


def test_a_cancel_leaves_the_question_about_an_undo_where_it_is() -> None:
    s = Saga(*chain("a", "b"), node("z")).ok("a").ok("b").cancel().fails("b", retryable=False).wait(3)
    assert s.pause["kind"] == "compensation_failure"
    assert s.do(Cancel()) == Rejection("already-ending", "the workflow is winding down")
    s.panic().do(Cancel())
    assert s.pause["kind"] == "compensation_failure" and s.status == "PAUSED_HITL"


def test_a_retry_of_an_undo_waits_for_the_manual_pause() -> None:
    s = Saga(node("a", compensation={"retry": {"backoff": "fixed", "jitter": "none"}}, **EFFECT), node("z")).ok("a")
    s.cancel().fails("a").panic().wait(5)
    assert undone(s) == ["a"]
    s.press("RES_RESUME")
    s.wait(0)
    assert undone(s) == ["a", "a"]


# cancel


def test_a_cancel_without_undo_waits_for_what_is_out_and_keeps_it() -> None:
    s = Saga(*chain("a", "b", "c")).ok("a").started("b").cancel(undo=False)
    assert s.status == "COMPENSATING"
    assert next(r for r in s.rows if r.type == "WORKFLOW_COMPENSATING").data["scope"] == "none"
    s.ok("b")
    assert (s.status, s.state_of("a", "b", "c")) == ("CANCELLED", ["COMPLETE", "COMPLETE", "CANCELLED"])
    assert undone(s) == []


def test_a_second_cancel_is_refused() -> None:
    s = Saga(node("a", **EFFECT)).cancel()
    assert s.do(Cancel()) == Rejection("already-ending", "the workflow is winding down")


def test_a_cancel_before_the_plan_is_there() -> None:
    s = Saga(intent="do it").cancel()
    assert s.status == "COMPENSATED"
    s = Saga(intent="do it").cancel(undo=False)
    assert s.status == "CANCELLED"


def test_reasons_are_told() -> None:
    s = Saga(*DIAMOND).cancel()
    assert s.last[-1].data["reason"] == "enough"
    s = Saga(node("a")).exhaust("a")
    s.press("RES_ABORT_SAGA", comment="no budget")
    assert s.last[-1].data["reason"] == "no budget"


# sizes


def test_a_long_rollback_is_announced_in_parts() -> None:
    s = Saga(*(node(f"n{i}", **EFFECT) for i in range(450)), node("z"), large=True)
    s.ok(*(f"n{i}" for i in range(450))).cancel()
    parts = [r.data["nodes"] for r in s.last if r.type == "WORKFLOW_COMPENSATING"]
    assert [len(p) for p in parts] == [200, 200, 50]
    assert [n["node_id"] for p in parts for n in p] == [f"n{i}" for i in reversed(range(450))]


def test_a_node_that_gathers_many_undos_stands_in_the_list_itself() -> None:
    fan = [node(f"n{i}", "hub", **EFFECT) for i in range(100)]
    s = Saga(node("a", **EFFECT), node("hub", "a", compensation="none"), *fan, node("z"))
    s.ok("a").ok("hub").ok(*(f"n{i}" for i in range(100))).cancel()
    listed = {
        n["node_id"]: n["depends_on"] for r in s.last if r.type == "WORKFLOW_COMPENSATING" for n in r.data["nodes"]
    }
    assert listed["a"] == ["hub"] and len(listed["hub"]) == 100


@pytest.mark.parametrize("outcome", [Outcome.ESCALATED, Outcome.PROPOSED, Outcome.CANCELLED])
def test_whatever_an_undo_answers_but_ok_is_a_failed_undo(outcome: Outcome) -> None:
    s = Saga(node("a", **EFFECT), node("z")).ok("a").cancel()
    s.answer("a", outcome, error=Failure(code="X", message="x"))
    assert s.states["a"] == "COMPENSATING"
    assert s["a"].undo.retry_ms is not None


# what an incomplete end tells


def end_reason(s: Saga) -> str:
    return s.rows[-1].data["reason"]


def test_an_incomplete_end_names_the_effects_that_stand_and_why() -> None:
    s = Saga(
        *chain("x"), node("a", "x", **EFFECT, **UNDO_ONCE), node("irr", "x", irreversible=True, **EFFECT), node("z")
    )
    s.ok("x").ok("a").ok("irr").cancel().fails("a", "NO").wait(2)
    s.press("RES_ACCEPT")
    s.ok("x")
    assert s.status == "COMPENSATION_INCOMPLETE"
    assert end_reason(s) == "enough. Left standing: a (its undo failed: NO happened), irr (it cannot be undone)."


def test_a_stop_names_what_was_not_begun_too() -> None:
    s = Saga(*chain("x"), node("a", "x", **EFFECT, **UNDO_ONCE), node("z")).ok("x").ok("a").cancel()
    s.fails("a", "NO").wait(2)
    s.press("RES_STOP")
    assert end_reason(s) == "enough. Left standing: x (its undo was not begun), a (its undo failed: NO happened)."


def test_a_thousand_effects_that_stand_are_counted_not_listed() -> None:
    s = Saga(*(node(f"n{i}", irreversible=True, **EFFECT) for i in range(1_000)), node("z"), large=True)
    for i in range(1_000):
        s.ok(f"n{i}")
    s.cancel()
    assert s.status == "COMPENSATION_INCOMPLETE"
    assert "n19 (it cannot be undone) and 980 more." in end_reason(s) and len(end_reason(s)) < 1_000
