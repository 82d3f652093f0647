"""Pauses: who opens them, what they hold back, what each button does, several at once, deadlines."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_contracts.tasks import DeadLetter, Failure, Outcome, Result, TaskKind
from handrail_engine.inputs import Cancel, Claim, Decision, PanicPause, Rejection, Say
from unit.engine.saga import DIAMOND, Saga, node

RETRY_SETS = {
    "action_id": "RES_MANUAL_SKU",
    "display_text": "Provide a link",
    "requires_input": True,
    "input_schema": "url",
    "kind": "retry",
    "sets": "url",
}
SKIP = {"action_id": "RES_SKIP", "display_text": "Skip", "kind": "skip"}
ABORT = {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "kind": "compensate"}


# the payload


def test_a_failure_pause_shows_fault_evidence_context_and_buttons() -> None:
    buttons = [SKIP, RETRY_SETS, ABORT]
    s = Saga(
        node("a", inputs={"budget": {"$from": "input.b"}}, context={"requested": "input.budget"}, resolutions=buttons),
        input={"b": 5},
    )
    s.answer("a", Outcome.FAILED, error=Failure(code="SKU", message="404", evidence={"error": "SKU"}, retryable=False))
    s.wait(2)
    p = s.pause
    assert (p["kind"], p["node_id"], p["failed_agent"], p["failure_reason"]) == ("failure", "a", "bot", "404")
    assert p["context_snapshot"] == {"requested": 5}
    assert p["raw_evidence"] == {"content_type": "application/json", "body": {"error": "SKU"}, "truncated": False}
    assert p["evidence_digest"].startswith("sha256:")
    assert [b["action_id"] for b in p["available_resolutions"]] == ["RES_SKIP", "RES_MANUAL_SKU", "RES_ABORT_SAGA"]
    assert p["available_resolutions"][1]["input_schema"] == "url"
    assert [b["style"] for b in p["available_resolutions"]] == ["neutral", "neutral", "danger"]
    assert [a["attempt"] for a in p["attempts"]] == [1]


def test_buttons_by_default() -> None:
    assert Saga(node("a")).exhaust("a").buttons == ["RES_RETRY", "RES_SKIP", "RES_ABORT_SAGA"]
    assert Saga(node("a")).panic().buttons == ["RES_RESUME", "RES_ABORT_SAGA"]
    assert Saga(node("a")).escalates("a").buttons == ["RES_RESPOND", "RES_HAND_BACK", "RES_CLOSE", "RES_ABORT_SAGA"]


# the panic button


def test_a_manual_pause_holds_dispatch_and_due_retries_and_lets_running_attempts_finish() -> None:
    s = Saga(node("a"), node("b", "a"), node("r")).fails("r").panic()
    assert (s.pause["kind"], s.pause["failed_agent"], s.pause["node_id"]) == ("manual", None, None)
    assert s.pause["failure_reason"] == "stop"
    s.ok("a").wait(5)
    assert s.state_of("a", "b", "r") == ["COMPLETE", "PENDING", "RETRYING"]
    s.press("RES_RESUME")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "r SCHEDULED", "b SCHEDULED"]


def test_a_retry_that_falls_due_after_the_release_comes_at_its_time() -> None:
    s = Saga(node("r")).fails("r").panic().wait(0.5)
    s.press("RES_RESUME")
    assert s.states["r"] == "RETRYING"
    s.wait(0.5)
    assert s.states["r"] == "SCHEDULED"


def test_only_one_manual_pause_at_a_time() -> None:
    s = Saga(node("a")).panic()
    assert s.do(PanicPause()) == Rejection("already-paused", "a manual pause is open")


def test_a_workflow_that_finished_under_a_manual_pause_ends_when_it_closes() -> None:
    s = Saga(node("a")).panic().ok("a")
    assert s.status == "PAUSED_HITL"
    s.press("RES_RESUME")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "WORKFLOW_COMPLETED"]


# what a pause holds back


def test_a_failure_holds_the_whole_workflow_and_a_branch_pause_only_what_depends_on_it() -> None:
    plan = (node("x"), node("y", "x"))
    s = Saga(node("a"), *plan).exhaust("a").ok("x")
    assert s.states["y"] == "PENDING"
    s = Saga(node("a", pause_scope="branch"), node("after", "a"), *plan).exhaust("a").ok("x")
    assert s.state_of("y", "after") == ["SCHEDULED", "PENDING"]
    assert s.status == "PAUSED_HITL"


def test_an_escalation_holds_only_its_branch_and_a_node_may_say_otherwise() -> None:
    assert Saga(node("a"), node("x"), node("y", "x")).escalates("a").ok("x").states["y"] == "SCHEDULED"
    s = Saga(node("a", pause_scope="workflow"), node("x"), node("y", "x")).escalates("a").ok("x")
    assert s.states["y"] == "PENDING"


def test_a_decision_acts_on_its_own_node_at_once_and_the_rest_waits_for_the_last_pause_that_holds() -> None:
    s = Saga(node("a"), node("b"), node("after_a", "a")).fails("a", retryable=False).exhaust("b")
    assert len(s.state.pauses) == 2
    s.press("RES_SKIP", at="a")
    assert s.told() == ["HITL_RESOLVED decided", "a SKIPPED"]
    assert s.states["after_a"] == "PENDING"
    s.press("RES_RETRY", at="b")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "b SCHEDULED", "after_a SCHEDULED"]


@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"]])
def test_several_pauses_are_answered_by_id_in_any_order(order: list[str]) -> None:
    s = Saga(*(node(k, on_exhausted="pause") for k in "abc"))
    s.fails("a", retryable=False).fails("b", retryable=False).exhaust("c")
    for k in order:
        s.press("RES_SKIP", at=k)
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_a_pause_is_decided_once() -> None:
    s = Saga(node("a"), node("b")).exhaust("a")
    first = s.pause["pause_id"]
    s.press("RES_SKIP")
    assert s.do(Decision(first, "RES_RETRY")) == Rejection("stale-pause", f"pause {first} is not open")


def test_a_button_that_is_not_offered_changes_nothing() -> None:
    s = Saga(node("a")).exhaust("a")
    assert isinstance(s.press("RES_HAPPENED"), Rejection)
    assert s.status == "PAUSED_HITL"


# retry


def test_a_retry_starts_a_fresh_round_whose_numbers_go_on_counting() -> None:
    s = Saga(node("a"))
    s.fails("a").wait(1).fails("a").wait(1).fails("a").wait(2)
    s.press("RES_RETRY")
    assert (s["a"].attempt, s["a"].max_attempts, s["a"].generation) == (4, 6, 1)
    s.fails("a").wait(1).fails("a").wait(1).fails("a")
    assert s.states["a"] == "DEAD_LETTERED"
    assert [a["attempt"] for a in s["a"].attempts] == [1, 2, 3, 4, 5, 6]


def test_a_retry_with_a_changed_input_is_a_new_effect_under_a_new_key() -> None:
    s = Saga(node("a", effect_class="idempotent", inputs={"url": "old", "n": 1}, resolutions=[RETRY_SETS])).exhaust("a")
    s.press("RES_MANUAL_SKU", "https://new.example")
    task = s.sent()[-1]
    assert (task.effect_key, task.inputs) == ("t/w/a/2", {"url": "https://new.example", "n": 1})
    assert [m.effect_key for m in s.sent(TaskKind.CANCEL)] == ["t/w/a/1"], "the old key is closed for latecomers"


def test_what_a_person_set_stays_set() -> None:
    s = Saga(node("a", inputs={"url": "old"}, resolutions=[RETRY_SETS])).exhaust("a")
    s.press("RES_MANUAL_SKU", "one")
    s.fails("a").wait(1)
    assert s.sent()[-1].inputs == {"url": "one"}


def test_a_changed_input_while_an_effect_is_in_doubt_asks_first_whether_it_happened() -> None:
    plan = node("a", effect_class="idempotent", resolutions=[RETRY_SETS], retry={"max_attempts": 1})
    s = Saga(plan).started("a").wait(7)
    s.press("RES_MANUAL_SKU", "https://new.example")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_PAUSED_HITL"]
    assert s.pause["kind"] == "ambiguous"
    s.press("RES_DID_NOT_HAPPEN")
    assert (s.sent()[-1].effect_key, s.sent()[-1].inputs) == ("t/w/a/2", {"url": "https://new.example"})
    s = Saga(plan).started("a").wait(7)
    s.press("RES_MANUAL_SKU", "https://new.example")
    s.press("RES_HAPPENED", {"po": 1})
    assert (s.status, s["a"].output) == ("COMPLETED", {"po": 1})


def test_a_success_under_a_key_that_was_left_behind_becomes_a_dead_letter() -> None:
    s = Saga(node("a", effect_class="idempotent", resolutions=[RETRY_SETS], retry={"max_attempts": 1})).started("a")
    s.wait(7)
    s.press("RES_MANUAL_SKU", "x")
    s.press("RES_DID_NOT_HAPPEN")
    s.answer("a", Outcome.OK, attempt=1, key="t/w/a/1")
    assert s.told() == ["RESULT_IGNORED a superseded", "TASK_DEAD_LETTERED a"]
    letter = [m for m in s.messages if isinstance(m, DeadLetter)][-1]
    assert (letter.kind, letter.task and letter.task["effect_key"]) == ("late_effect", "t/w/a/1")
    s.wait(10)
    assert s.status == "RUNNING", "it is shown in the list, it does not stop the workflow"


# ambiguous


def ambiguous() -> Saga:
    return Saga(node("a", effect_class="unsafe", compensation={}), node("b", "a")).started("a").in_doubt("a")


def test_it_happened_completes_the_node_with_the_output_that_a_person_gives() -> None:
    s = ambiguous()
    s.press("RES_HAPPENED", {"id": 7})
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "a COMPLETE", "b SCHEDULED"]
    assert s["a"].output == {"id": 7}


def test_it_did_not_happen_is_followed_by_a_retry_under_the_same_key() -> None:
    s = ambiguous()
    s.press("RES_DID_NOT_HAPPEN")
    assert [(m.attempt, m.effect_key) for m in s.sent(node_id="a")] == [(1, "t/w/a/1"), (2, "t/w/a/1")]
    assert not s["a"].in_doubt


def test_an_ambiguous_effect_is_undone_by_an_abort() -> None:
    s = ambiguous()
    s.press("RES_ABORT_SAGA")
    assert s.state_of("a", "b") == ["COMPENSATING", "CANCELLED"]
    assert s.sent(TaskKind.COMPENSATE)[0].output is None
    s.ok("a")
    assert s.status == "COMPENSATED"


# skip


def test_a_substitute_output_stands_in_and_what_reads_more_than_it_has_is_skipped_too() -> None:
    reads = {"x": {"$from": "nodes.a.output.x"}}
    misses = {"y": {"$from": "nodes.a.output.y"}}
    s = Saga(node("a"), node("b", "a", inputs=reads), node("c", "a", inputs=misses)).exhaust("a")
    s.press("RES_SKIP", {"x": 1})
    assert s.state_of("a", "b", "c") == ["SKIPPED", "SCHEDULED", "SKIPPED"]
    assert s.sent(node_id="b")[0].inputs == {"x": 1}


def own(kind: str, **more: str) -> list[dict[str, Any]]:
    return [{"action_id": "RES_X", "display_text": "X", "kind": kind, **more}]


@pytest.mark.parametrize(
    ("button", "state", "output"),
    [
        (own("mark", outcome="happened"), "COMPLETE", {"n": 1}),
        (own("respond"), "COMPLETE", {"response": {"n": 1}}),
        (own("close"), "COMPLETE", {"response": None}),
        (own("reject"), "SKIPPED", None),
        (own("skip"), "SKIPPED", {"n": 1}),
    ],
)
def test_each_button_of_a_node_does_what_its_kind_says(button: list[dict[str, Any]], state: str, output: Any) -> None:
    s = Saga(node("a", resolutions=button)).exhaust("a")
    s.press("RES_X", {"n": 1})
    assert (s.states["a"], s["a"].output) == (state, output)


def test_a_refusal_ends_the_workflow_where_the_gate_of_the_node_says_so() -> None:
    s = Saga(node("a", gate={"on_reject": "fail"}, resolutions=own("reject")))
    s.press("RES_APPROVE")
    s.exhaust("a").press("RES_X")
    assert (s.status, s["a"].output) == ("FAILED", None)


def test_a_person_who_vouches_that_nothing_happened_lets_an_unsafe_node_act_again() -> None:
    s = Saga(node("a", effect_class="unsafe", resolutions=own("mark", outcome="not_happened")))
    s.letter("a", reason="odd")
    s.press("RES_X")
    assert [t.attempt for t in s.sent()] == [1, 2] and not s["a"].in_doubt


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of old: nobody looked at the kinds of their buttons."""
    monkeypatch.setattr("unit.engine.saga.validate", lambda plan, registry: [])


UNFIT = [own(k) for k in ("approve", "edit", "hand_back", "accept", "stop", "resume", "mark")]


@pytest.mark.parametrize("button", UNFIT, ids=lambda b: b[0]["kind"])
def test_what_a_button_of_an_older_plan_cannot_do_is_not_offered(unchecked: None, button: list[dict[str, Any]]) -> None:
    assert Saga(node("a", resolutions=button)).exhaust("a").buttons == ["RES_RETRY", "RES_SKIP", "RES_ABORT_SAGA"]
    assert Saga(node("a", resolutions=[*button, SKIP])).exhaust("a").buttons == ["RES_SKIP"]


@pytest.mark.parametrize("effect", ["pure", "unsafe"])
@pytest.mark.parametrize("button", UNFIT, ids=lambda b: b[0]["kind"])
def test_such_a_button_that_is_offered_already_sends_nothing_and_a_person_is_asked_again(
    unchecked: None, button: list[dict[str, Any]], effect: str
) -> None:
    s = Saga(node("a", effect_class=effect, resolutions=button), deadline_s=3600)
    s.letter("a", reason="odd")
    s.pause["available_resolutions"][:] = button  # as the pause was opened before
    left = s.state.deadline_left_ms
    s.press("RES_X")
    assert s.states["a"] == "AWAITING_HUMAN" and len(s.sent()) == 1
    assert s.pause["kind"] in ("failure", "ambiguous") and "RES_X" not in s.buttons
    assert s["a"].in_doubt is (effect == "unsafe")
    assert s.state.deadline_left_ms == left


def test_an_unsafe_effect_in_doubt_is_not_handed_back_before_a_person_has_looked() -> None:
    s = Saga(node("a", effect_class="unsafe")).wait(80)
    s.press("RES_RETRY")
    s.escalates("a")
    s.answer("a", Outcome.STARTED, attempt=1)  # it did begin, after all
    s.press("RES_HAND_BACK")
    assert s.pause["kind"] == "ambiguous" and s["a"].attempt == 2
    s.press("RES_DID_NOT_HAPPEN")
    assert [m["text"] for m in s.sent()[-1].conversation or ()] == ["a person, please"]


# escalation


def test_a_reply_completes_the_node_with_it() -> None:
    s = Saga(node("a")).escalates("a", metadata={"order": 1})
    assert (s.pause["kind"], s.pause["failure_reason"]) == ("escalation", "out of depth")
    assert s.pause["context_snapshot"] == {"order": 1}
    s.press("RES_RESPOND", "here you are")
    assert (s.status, s["a"].output) == ("COMPLETED", {"response": "here you are"})


def test_close_completes_it_without_a_text() -> None:
    s = Saga(node("a")).escalates("a")
    s.press("RES_CLOSE")
    assert s["a"].output == {"response": None}


def test_hand_back_dispatches_again_with_the_conversation() -> None:
    s = Saga(node("a")).escalates("a")
    s.do(Say(s.pause["pause_id"], "operator", "I am here"))
    assert s.told() == ["MESSAGE_ADDED"]
    s.press("RES_HAND_BACK")
    assert [m["text"] for m in s.sent()[-1].conversation or ()] == ["a person, please", "I am here"]
    assert s.sent()[-1].effect_key == "t/w/a/1"


def test_an_escalation_without_a_reason_is_a_failure() -> None:
    s = Saga(node("a"))
    s.answer("a", Outcome.ESCALATED)
    assert s.states["a"] == "RETRYING"


def test_a_proposed_action_never_runs_without_gates() -> None:
    s = Saga(node("a"))
    s.answer("a", Outcome.PROPOSED)
    assert s.states["a"] == "DEAD_LETTERED"


# claims and messages


def test_a_claim_is_shown_and_released() -> None:
    s = Saga(node("a")).exhaust("a")
    pid = s.pause["pause_id"]
    s.do(Claim(pid, "ada", "2027-01-01T00:00:00.000Z"))
    assert s.told() == ["PAUSE_UPDATED"]
    assert s.pause["claimed_by"] == "ada"
    s.do(Claim(pid, None, None))
    assert s.pause["claimed_by"] is None
    assert isinstance(s.do(Claim("p0", "ada", None)), Rejection)
    assert isinstance(s.do(Say("p0", "user", "hello")), Rejection)


# deadlines


def test_a_pause_with_a_deadline_presses_its_declared_default_as_the_system() -> None:
    s = Saga(node("a", expiry={"after_s": 60, "action_id": "RES_SKIP", "input": {"x": 1}})).exhaust("a")
    assert s.pause["on_expiry"] == "RES_SKIP"
    s.wait(59)
    assert s.status == "PAUSED_HITL"
    s.wait(1)
    row = next(r for r in s.last if r.type == "HITL_RESOLVED")
    assert (row.data["outcome"], row.data["actor"], row.data["input"]) == ("expired", "system:timeout", {"x": 1})
    assert (s.status, s["a"].output) == ("COMPLETED_WITH_SKIPS", {"x": 1})


def test_silence_orders_the_same_retry_once_and_what_comes_of_it_is_for_a_person() -> None:
    again = {"action_id": "RES_AGAIN", "display_text": "Again", "kind": "retry", "sets": "url"}
    expiry = {"after_s": 60, "action_id": "RES_AGAIN", "input": "x"}
    s = Saga(node("a", resolutions=[again], expiry=expiry)).exhaust("a").wait(61)
    assert s.state_of("a") == ["SCHEDULED"]
    s.exhaust("a")
    assert (s.pause["on_expiry"], s.pause["expires_at"]) == (None, None)
    s.wait(3_600)
    assert s.state_of("a") == ["AWAITING_HUMAN"]
    s.press("RES_AGAIN", "y")
    s.exhaust("a")
    assert s.pause["on_expiry"] == "RES_AGAIN", "a person was there since: it is silence anew"


def test_people_are_reminded_at_half_the_time_or_every_day_and_a_claim_stays() -> None:
    s = Saga(node("a", expiry={"after_s": 60, "action_id": "RES_SKIP"})).exhaust("a")
    s.do(Claim(s.pause["pause_id"], "ada", "2027-01-16T00:00:00.000Z"))
    s.wait(30)
    assert s.told() == ["PAUSE_UPDATED"]
    assert (s.last[0].data["reminded_at"], s.last[0].data["claimed_by"]) == (s.last[0].data["at"], "ada")
    s.wait(29)
    assert s.told() == []
    s = Saga(node("a")).exhaust("a").wait(3 * 86_400)
    assert s.told() == ["PAUSE_UPDATED"] * 3
    s.owner_changes().wait(86_400)
    assert s.told() == ["PAUSE_UPDATED"]


def test_a_default_that_the_pause_does_not_offer_is_no_deadline() -> None:
    plan = node("a", effect_class="unsafe", compensation={}, expiry={"after_s": 60, "action_id": "RES_SKIP"})
    s = Saga(plan).started("a").in_doubt("a")
    assert s.pause["expires_at"] is None
    s.wait(1000)
    assert s.status == "PAUSED_HITL"


def test_without_a_declared_default_silence_decides_nothing() -> None:
    s = Saga(node("a")).exhaust("a").wait(100_000)
    assert s.status == "PAUSED_HITL"


def test_a_decision_before_the_deadline_wins() -> None:
    s = Saga(node("a", expiry={"after_s": 60, "action_id": "RES_SKIP"}), node("b")).exhaust("a").wait(30)
    s.press("RES_RETRY")
    s.ok("a").wait(58)
    assert [r for r in s.rows if r.type == "HITL_RESOLVED" and r.data["outcome"] == "expired"] == []


def test_a_workflow_that_reaches_its_deadline_asks_a_person() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 3600}), deadline_s=100).wait(100)
    assert (s.pause["kind"], s.buttons, s.pause["node_id"]) == ("failure", ["RES_RESUME", "RES_ABORT_SAGA"], None)
    assert s.pause["raw_evidence"]["body"]["code"] == "deadline"
    s.press("RES_RESUME")
    s.wait(1000)
    assert s.status == "RUNNING", "it goes on without a deadline"


def test_the_deadline_does_not_run_while_a_pause_is_open() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 36_000}), deadline_s=100).wait(40).panic().wait(500)
    s.press("RES_RESUME")
    s.wait(59)
    assert s.status == "RUNNING"
    s.wait(1)
    assert s.pause["failure_reason"] == "The workflow did not end before its deadline."


def test_a_deadline_that_was_waived_stays_waived_while_another_pause_is_open() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 36_000}), deadline_s=100).wait(100).panic()
    deadline = next(p for p in s.state.pauses.values() if p.kind == "failure")
    s.do(Decision(deadline.pause_id, "RES_RESUME"))
    s.press("RES_RESUME")
    s.wait(1000)
    assert s.status == "RUNNING"


def test_an_abort_forgets_the_deadline() -> None:
    s = Saga(node("a", effect_class="idempotent"), deadline_s=100).started("a").cancel()
    for _ in range(50):
        s.heartbeat("a")
        s.wait(4)
    assert s.status == "COMPENSATING"


# dead letters from elsewhere


def foreign(s: Saga, node_id: str = "a") -> object:
    return s.do(DeadLetter(trace_id="w", node_id=node_id, reason="my worker gave up", task={"why": 1}))


def test_a_dead_letter_from_elsewhere_opens_a_pause_on_the_node_that_it_names() -> None:
    s = Saga(node("a", effect_class="idempotent"), node("b", "a")).started("a")
    foreign(s)
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL"]
    assert (s.pause["failure_reason"], s.pause["raw_evidence"]["body"]) == ("my worker gave up", {"why": 1})
    assert isinstance(foreign(s), Rejection)
    s.press("RES_RETRY")
    assert [m.attempt for m in s.sent(node_id="a")] == [1, 2]
    s.ok("a")
    assert s.states["b"] == "SCHEDULED"


def test_one_for_an_unsafe_attempt_leaves_it_in_doubt() -> None:
    s = Saga(node("a", effect_class="unsafe", compensation={})).started("a")
    foreign(s)
    s.press("RES_RETRY")
    assert s.pause["kind"] == "ambiguous"


def test_one_for_a_node_that_has_not_begun_can_skip_it_or_go_on() -> None:
    s = Saga(node("x"), node("a", "x"))
    foreign(s)
    s.press("RES_RETRY")
    assert s.states["a"] == "PENDING"
    foreign(s)
    s.press("RES_SKIP")
    assert s.states["a"] == "SKIPPED"
    s.ok("x")
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_one_for_a_node_that_has_ended_only_informs() -> None:
    s = Saga(node("a"), node("b")).ok("a")
    foreign(s)
    s.press("RES_SKIP")
    assert s.states == {"a": "COMPLETE", "b": "SCHEDULED"}


def failed_beside_one(effect: str, *, doubt: bool) -> tuple[Saga, str, str]:
    """A node that one came for before it began, and that ran and failed: both pauses are open."""
    s = Saga(node("x"), node("a", "x", pause_scope="branch", effect_class=effect, retry={"max_attempts": 1}))
    foreign(s)
    s.ok("x").started("a")
    if doubt:
        s.wait(8)
    else:
        s.exhaust("a")
    beside, asks = s.state.pauses
    return s, beside, asks


@pytest.mark.parametrize("button", ["RES_RETRY", "RES_SKIP"])
@pytest.mark.parametrize("effect", ["pure", "unsafe"])
@pytest.mark.parametrize("doubt", [False, True])
def test_one_that_came_before_the_node_began_does_not_answer_what_the_node_asks_later(
    button: str, effect: str, doubt: bool
) -> None:
    s, beside, asks = failed_beside_one(effect, doubt=doubt)
    s.do(Decision(beside, button, actor="ada"))
    assert s.told() == ["HITL_RESOLVED decided"]
    assert s.states["a"] == "AWAITING_HUMAN" and list(s.state.pauses) == [asks] and len(s.sent(node_id="a")) == 1


def test_what_the_node_asks_is_answered_while_one_that_came_before_is_open() -> None:
    s, beside, asks = failed_beside_one("pure", doubt=False)
    s.do(Decision(asks, "RES_SKIP", actor="bob"))
    assert s.states["a"] == "SKIPPED" and list(s.state.pauses) == [beside]
    s.do(Decision(beside, "RES_RETRY", actor="ada"))
    assert s.status == "COMPLETED_WITH_SKIPS" and len(s.sent(node_id="a")) == 1


def test_one_still_only_informs_after_a_new_owner_has_taken_up_the_workflow() -> None:
    s, beside, asks = failed_beside_one("unsafe", doubt=True)
    s.owner_changes()
    s.do(Decision(beside, "RES_RETRY", actor="ada"))
    assert list(s.state.pauses) == [asks] and len(s.sent(node_id="a")) == 1


def test_one_while_the_nodes_own_is_on_its_way_counts_as_its_own() -> None:
    s = Saga(node("a")).fails("a", retryable=False)
    foreign(s)
    assert s.told() == ["a AWAITING_HUMAN", "WORKFLOW_PAUSED_HITL"]
    s.press("RES_RETRY")
    assert s.states["a"] == "SCHEDULED"


def test_one_that_names_no_node_is_rejected() -> None:
    s = Saga(node("a"))
    assert isinstance(s.do(DeadLetter(trace_id="w")), Rejection)
    assert isinstance(foreign(s, "nobody"), Rejection)


# cancel, end


def test_a_cancel_closes_every_pause_as_cancelled_and_an_abort_supersedes_the_others() -> None:
    s = Saga(node("a"), node("b")).fails("a", retryable=False).exhaust("b").cancel()
    assert s.told()[:2] == ["HITL_RESOLVED cancelled", "HITL_RESOLVED cancelled"]
    s = Saga(node("a"), node("b")).fails("a", retryable=False).exhaust("b")
    s.press("RES_ABORT_SAGA", at="a")
    assert s.told()[:2] == ["HITL_RESOLVED decided", "HITL_RESOLVED superseded"]


def test_terminal_is_terminal() -> None:
    s = Saga(*DIAMOND).ok("a").ok("b", "c").ok("d")
    assert s.status == "COMPLETED"
    r = Result(trace_id="w", node_id="d", attempt=1, effect_key="t/w/d/1", outcome=Outcome.OK)
    for what in (r, Cancel(), PanicPause(), Decision("p", "RES_SKIP"), DeadLetter(trace_id="w", node_id="a")):
        assert s.do(what) == Rejection("ended", "the workflow is COMPLETED")
    assert s.state.next_wake() is None


def test_what_was_never_started_is_unknown() -> None:
    from handrail_engine.decide import decide
    from handrail_engine.inputs import Now, Wake
    from handrail_engine.state import WorkflowState

    answer = decide(WorkflowState("t", "w"), Wake(), Now(1))
    assert answer == Rejection("unknown-workflow", "it was never started")
