"""Gates: what waits and what does not, what an approval is worth, how a refusal ends, and that no way leads around."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_contracts.model import ms_of
from handrail_contracts.plan import Plan
from handrail_contracts.policy import Policy, action_digest
from handrail_contracts.tasks import Outcome, Result, TaskKind
from handrail_engine.admission import admit
from handrail_engine.evolve import fold
from handrail_engine.inputs import Decision, Rejection
from handrail_engine.plan import compile_plan, validate
from handrail_engine.policies import Facts, Policies
from handrail_engine.preview import preview
from handrail_engine.proposals import as_written
from handrail_engine.retry import GIVE_UP_AFTER_MS
from handrail_engine.spec import node_spec
from handrail_engine.state import NodeState
from unit.engine.saga import MANIFEST, AnyAgent, Saga, node

RULES: list[dict[str, Any]] = [
    {"id": "over-100", "match": {"action": "pay", "args.amount": {"gt": 100}}, "decide": "always"},
    {"id": "no-mallory", "match": {"action": "pay", "args.to": "Mallory"}, "decide": "forbid"},
]
BANK = Policies.of([Policy.model_validate({"name": "bank", "version": 3, "rules": RULES})])
GATE = {"summary": "Transfer {amount:.2f} to {to}"}


def pay(amount: Any, to: str = "Alice", **more: Any) -> dict[str, Any]:
    fields = {
        "action": "pay",
        "inputs": {"to": to, "amount": amount},
        "effect_class": "idempotent",
        "gate": GATE,
        **more,
    }
    return node("pay", **fields)


def saga(*nodes: dict[str, Any], **more: Any) -> Saga:
    return Saga(*nodes, policies=BANK, **more)


def test_only_the_gated_node_waits_and_the_rest_of_the_plan_runs() -> None:
    s = saga(pay(500), node("look"), node("after_pay", "pay"), node("after_look", "look")).ok("look")
    assert s.states == {"pay": "AWAITING_HUMAN", "look": "COMPLETE", "after_pay": "PENDING", "after_look": "SCHEDULED"}
    assert not s.sent(node_id="pay")


def test_the_pause_shows_the_sentence_what_changes_and_by_which_rule() -> None:
    diff = {
        "before": {"balance": {"$from": "nodes.look.output.balance"}},
        "after": {"balance": {"$minus": [{"$from": "nodes.look.output.balance"}, {"$from": "args.amount"}]}},
    }
    s = saga(node("look"), pay(500, depends_on=["look"], irreversible=True, gate={**GATE, "diff": diff}))
    s.ok("look", output={"balance": 1000.3})
    p = s.pause
    assert (p["kind"], p["node_id"], p["failed_agent"]) == ("gate", "pay", "bot")
    digest = action_digest("pay", {"to": "Alice", "amount": 500})
    assert p["proposed_action"] == {
        "action": "pay",
        "args": {"to": "Alice", "amount": 500},
        "summary": "Transfer 500.00 to Alice",
        "diff": {"before": {"balance": 1000.3}, "after": {"balance": 500.3}},
        "reversible": False,
        "digest": digest,
    }
    assert p["evidence_digest"] == digest
    assert {k: p["risk"][k] for k in ("rule_id", "policy_version", "score", "decide")} == {
        "rule_id": "over-100",
        "policy_version": 3,
        "score": 0.9,
        "decide": "always",
    }
    assert s.buttons == ["RES_APPROVE", "RES_EDIT", "RES_REJECT"]
    assert p["available_resolutions"][1]["input_schema"] == {
        "type": "object",
        "properties": {"to": {"type": "string"}, "amount": {"type": "number"}},
        "required": ["to", "amount"],
        "additionalProperties": False,
    }


def test_every_verdict_is_told_also_one_that_lets_pass_and_once_only() -> None:
    s = saga(pay(50, retry={"max_attempts": 3, "initial_delay_s": 0}))
    told = [r.data for r in s.rows if r.type == "GATE_EVALUATED"]
    assert [(d["rule_id"], d["policy"], d["policy_version"], d["decide"]) for d in told] == [(None, "bank", 3, "never")]
    assert told[0]["inputs"]["args"] == {"to": "Alice", "amount": 50}
    s.fails("pay").wait(2)
    assert s["pay"].attempt == 2 and sum(r.type == "GATE_EVALUATED" for r in s.rows) == 1


def test_a_node_that_no_rule_names_and_no_gate_guards_is_not_spoken_of() -> None:
    s = saga(node("a", agent="other", inputs={"amount": 500}), node("b", inputs={"amount": 5000, "to": "x"}))
    assert "GATE_EVALUATED" not in {r.type for r in s.rows}


def test_a_policy_holds_without_any_gate_in_the_plan() -> None:
    s = saga(pay(500, gate=None))
    assert (
        s.state_of("pay") == ["AWAITING_HUMAN"]
        and s.pause["proposed_action"]["summary"] == "bot: pay (to: Alice, amount: 500)"
    )


def test_approve_sends_exactly_what_was_approved() -> None:
    s = saga(pay(500))
    s.press("RES_APPROVE")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "pay SCHEDULED"]
    (task,) = s.sent()
    assert task.inputs == {"to": "Alice", "amount": 500} and task.attempt == 1
    assert task.approval is not None and task.approval["digest"] == action_digest("pay", task.inputs)
    assert s.ok("pay", output={}).status == "COMPLETED"


def test_edit_sends_the_edited_arguments_and_the_undo_gets_them_too() -> None:
    s = saga(pay(500), node("z", "pay"))
    s.press("RES_EDIT", {"to": "Alice", "amount": 120})
    assert s.told()[-2:] == ["GATE_EVALUATED pay always over-100", "pay SCHEDULED"]
    assert s.sent()[0].inputs == {"to": "Alice", "amount": 120}
    s.ok("pay").cancel()
    undo = [m for m in s.messages if getattr(m, "kind", None) == "compensate"]
    assert [m.inputs["amount"] for m in undo] == [120]  # pyright: ignore[reportAttributeAccessIssue]


def test_edited_arguments_are_checked_against_forbid_again() -> None:
    s = saga(pay(500))
    s.press("RES_EDIT", {"to": "Mallory", "amount": 1})
    assert s.told()[-3:] == ["GATE_EVALUATED pay forbid no-mallory", "pay DEAD_LETTERED", "TASK_DEAD_LETTERED pay"]
    assert not s.sent()


@pytest.mark.parametrize(
    ("on_reject", "pay_state", "after", "status"),
    [
        ("skip", "SKIPPED", "SCHEDULED", "RUNNING"),
        ("fail", "CANCELLED", "CANCELLED", "FAILED"),
        ("compensate", "CANCELLED", "CANCELLED", "COMPENSATING"),
        ("branch", "SKIPPED", "SKIPPED", "RUNNING"),
    ],
)
def test_a_refusal_ends_as_the_gate_says(on_reject: str, pay_state: str, after: str, status: str) -> None:
    other = node("tell", "pay", when={"ref": "nodes.pay.output", "exists": False})
    first = node("first", effect_class="idempotent")
    s = saga(first, pay(500, depends_on=["first"], gate={"on_reject": on_reject}), node("next", "pay"), other).ok(
        "first"
    )
    s.press("RES_REJECT", comment="too much")
    assert s.state_of("pay", "next") == [pay_state, after] and s.status == status
    if on_reject in ("skip", "branch"):
        assert s.state_of("tell") == ["SCHEDULED"]
        reason = next(r.data["reason"] for r in s.last if r.data.get("to") == "SKIPPED")
        assert reason == "rejected by ada: too much"
    assert not s.sent(node_id="pay")


def test_after_an_approval_the_other_branch_is_not_taken() -> None:
    other = node("tell", "pay", when={"ref": "nodes.pay.output", "exists": False})
    s = saga(pay(500, gate={"on_reject": "branch"}), node("next", "pay"), node("last", "next"), other)
    s.press("RES_APPROVE")
    s.ok("pay", output={"ok": True}).ok("next").ok("last")
    assert s.states == {"pay": "COMPLETE", "next": "COMPLETE", "last": "COMPLETE", "tell": "SKIPPED"}
    t = saga(pay(500, gate={"on_reject": "branch"}), node("next", "pay"), node("last", "next"), other)
    t.press("RES_REJECT")
    assert t.states == {"pay": "SKIPPED", "next": "SKIPPED", "last": "SKIPPED", "tell": "SCHEDULED"}


def test_what_is_forbidden_fails_for_good_and_no_button_lets_it_pass() -> None:
    s = saga(pay(5, "Mallory")).wait(2)
    assert s.pause["kind"] == "failure" and s.pause["raw_evidence"]["body"]["error"] == "FORBIDDEN_BY_POLICY"
    assert "RES_APPROVE" not in s.buttons
    s.press("RES_RETRY")
    s.wait(2)
    assert s.state_of("pay") == ["AWAITING_HUMAN"] and not s.sent()
    s.policies = Policies()
    s.press("RES_RETRY")
    assert s.pause["kind"] == "gate", "the policy was taken back, and the gate that nothing covers asks"


def test_a_changed_input_makes_the_old_approval_worth_nothing() -> None:
    sets = {
        "action_id": "RES_SET",
        "display_text": "Other",
        "kind": "retry",
        "sets": "amount",
        "input_schema": "number",
    }
    s = saga(pay(500, resolutions=[{**sets, "requires_input": True}]))
    s.press("RES_APPROVE")
    s.fails("pay", retryable=False).wait(2)
    s.press("RES_SET", 900)
    assert s.pause["proposed_action"]["args"]["amount"] == 900 and len(s.sent()) == 1
    s.owner_changes()
    s.press("RES_APPROVE")
    first, second = s.sent()
    assert second.inputs["amount"] == 900 and second.effect_key != first.effect_key and second.attempt == 2
    s.fails("pay", retryable=False).wait(2)
    s.press("RES_SET", 50)
    assert s.sent()[-1].inputs["amount"] == 50, "below the limit nobody is asked"


def test_what_was_edited_away_is_asked_about_when_a_person_sets_it_again() -> None:
    sets = {"action_id": "RES_SET", "display_text": "Other", "kind": "retry", "sets": "amount"}
    s = saga(pay(500, resolutions=[{**sets, "requires_input": True, "input_schema": "number"}]))
    s.press("RES_EDIT", {"to": "Alice", "amount": 50})
    s.fails("pay", retryable=False).wait(2)
    s.press("RES_SET", 500)
    assert s.state_of("pay") == ["AWAITING_HUMAN"] and s.pause["kind"] == "gate"
    assert [t.inputs["amount"] for t in s.sent()] == [50]


def test_an_approved_proposal_is_kept_while_the_plans_own_gate_asks() -> None:
    rules = [{"id": "all", "match": {"action": "act"}, "decide": "always"}]
    s = Saga(node("bot", effect_class="idempotent")).proposes("bot", "refund", {"amount": 30})
    s.policies = Policies.of([Policy.model_validate({"rules": rules})])
    s.press("RES_APPROVE")
    assert s.pause["risk"]["rule_id"] == "all"
    s.press("RES_APPROVE")
    assert s.sent()[-1].approved == {"amount": 30}


def _granted_by_a_rule(then: str) -> Saga:
    """An agent's proposal that a rule let pass; its attempt fails, and the rule has changed by then."""

    def policy(decide: str) -> Policies:
        return Policies.of(
            [Policy.model_validate({"rules": [{"id": "r", "match": {"action": "x"}, "decide": decide}]})]
        )

    s = Saga(node("bot", retry={"max_attempts": 3, "initial_delay_s": 0, "jitter": "none"}), policies=policy("never"))
    s.proposes("bot", "x", {"amount": 30})
    assert s.sent()[-1].approved == {"amount": 30}
    s.policies = policy(then)
    return s.fails("bot").wait(1)


def test_what_a_rule_let_pass_is_not_sent_again_once_it_is_forbidden() -> None:
    s = _granted_by_a_rule("forbid")
    assert s.state_of("bot") == ["DEAD_LETTERED"] and len(s.sent()) == 2


def test_what_a_rule_let_pass_is_taken_back_once_it_asks_and_the_next_proposal_asks_a_person() -> None:
    s = _granted_by_a_rule("always")
    assert s.sent()[-1].attempt == 3 and s.sent()[-1].approved is None
    s.proposes("bot", "x", {"amount": 30})
    assert s.pause["risk"]["rule_id"] == "r"
    s.press("RES_APPROVE")
    s.owner_changes()
    assert s.sent()[-1].approved == {"amount": 30}


def test_a_gate_asks_while_there_is_no_room_yet_and_what_waits_for_room_is_judged_again() -> None:
    s = saga(node("busy"), pay(500), pay(5) | {"id": "small"}, room={"bot": 1})
    assert s.state_of("busy", "pay", "small") == ["SCHEDULED", "AWAITING_HUMAN", "PENDING"]
    assert sum(r.type == "GATE_EVALUATED" and r.data["node_id"] == "small" for r in s.rows) == 1
    s.policies = Policies.of(
        [Policy.model_validate({"rules": [{"id": "all", "match": {"action": "pay"}, "decide": "forbid"}]})]
    )
    s.press("RES_REJECT")
    s.ok("busy")
    assert s.state_of("pay", "small") == ["SKIPPED", "DEAD_LETTERED"]


def test_a_policy_that_became_stricter_holds_for_the_next_attempt() -> None:
    s = Saga(pay(500, gate=None, retry={"max_attempts": 3, "initial_delay_s": 0, "jitter": "none"}))
    assert s.state_of("pay") == ["SCHEDULED"]
    s.policies = BANK
    s.fails("pay").wait(1)
    assert s.pause["kind"] == "gate"
    s.press("RES_APPROVE")
    assert s["pay"].attempt == 2


def test_silence_never_approves_what_a_rule_always_asks_and_may_refuse_it() -> None:
    s = saga(pay(500, expiry={"after_s": 10, "action_id": "RES_APPROVE"}))
    assert s.pause["expires_at"] is None
    t = saga(pay(500, expiry={"after_s": 10, "action_id": "RES_REJECT"})).wait(11)
    assert t.state_of("pay") == ["SKIPPED"]
    unsure = Policies.of(
        [Policy.model_validate({"rules": [{"id": "u", "match": {"action": "pay"}, "decide": "uncertain"}]})]
    )
    u = Saga(pay(5, expiry={"after_s": 10, "action_id": "RES_APPROVE"}), policies=unsure).wait(11)
    assert u.state_of("pay") == ["SCHEDULED"], "declared for an uncertain one, silence approves"


def test_previews_of_the_three_buttons_are_what_they_do() -> None:
    for action, to in (("RES_APPROVE", "SCHEDULED"), ("RES_EDIT", "SCHEDULED"), ("RES_REJECT", "SKIPPED")):
        s = saga(pay(500), node("reads", "pay", inputs={"x": {"$from": "nodes.pay.output.po"}}))
        seen = preview(fold("t", "w", s.rows), s.pause["pause_id"], action, None, s.now_ms, BANK)
        assert seen["nodes"][0] == {"node_id": "pay", "from": "AWAITING_HUMAN", "to": to}
        assert seen["skipped"] == (["pay", "reads"] if to == "SKIPPED" else [])


def test_four_eyes_and_who_asked_stand_in_the_risk() -> None:
    s = saga(pay(500, gate={**GATE, "four_eyes": True}), actor="bob")
    assert s.pause["risk"]["four_eyes"] is True and s.pause["risk"]["requested_by"] == "bob"
    assert "four_eyes" not in saga(pay(500)).pause["risk"]


@pytest.mark.parametrize(("action", "input_"), [("RES_APPROVE", None), ("RES_EDIT", {"to": "Alice", "amount": 4})])
def test_who_started_approves_nothing_that_asks_for_four_eyes_however_the_decision_comes(
    action: str, input_: Any
) -> None:
    s = saga(pay(500, gate={**GATE, "four_eyes": True}), actor="bob")
    refused = s.press(action, input_, actor="bob")
    assert isinstance(refused, Rejection) and refused.reason == "self-approval"
    assert preview(fold("t", "w", s.rows), s.pause["pause_id"], action, input_, s.now_ms, BANK)["nodes"]
    s.press(action, input_, actor="ada")
    assert s.state_of("pay") == ["SCHEDULED"]


SECOND_PERSON = {
    "id": "two-over-1000",
    "match": {"action": "pay", "args.amount": {"gt": 1000}},
    "decide": "always",
    "four_eyes": True,
}


@pytest.mark.parametrize("proposed", [False, True])
def test_who_started_edits_nothing_to_what_asks_for_four_eyes(proposed: bool) -> None:
    two = Policies.of([Policy.model_validate({"name": "bank", "version": 3, "rules": [*RULES, SECOND_PERSON]})])
    s = Saga(node("pay") if proposed else pay(500), policies=two, actor="bob")
    if proposed:
        s.proposes("pay", "pay", {"to": "Alice", "amount": 500})
    assert "four_eyes" not in s.pause["risk"]
    refused = s.press("RES_EDIT", {"to": "Alice", "amount": 5000}, actor="bob")
    assert isinstance(refused, Rejection) and refused.reason == "self-approval"
    s.press("RES_EDIT", {"to": "Alice", "amount": 400}, actor="bob")
    assert s.state_of("pay") == ["SCHEDULED"], "what asks for nobody else is theirs"


def test_four_eyes_that_are_asked_for_meanwhile_hold_for_a_pause_that_stands() -> None:
    s = saga(pay(5000), actor="bob")
    rules = [*RULES, SECOND_PERSON]
    s.policies = Policies.of([Policy.model_validate({"name": "bank", "version": 4, "rules": rules})])
    refused = s.press("RES_APPROVE", actor="bob")
    assert isinstance(refused, Rejection) and refused.reason == "self-approval"
    s.press("RES_APPROVE", actor="ada")
    assert s.state_of("pay") == ["SCHEDULED"]


def test_who_started_may_refuse_it() -> None:
    s = saga(pay(500, gate={**GATE, "four_eyes": True}), actor="bob")
    s.press("RES_REJECT", actor="bob")
    assert s.state_of("pay") == ["SKIPPED"]


# what nobody has claimed


def policy_that(decide: str, action: str = "pay") -> Policies:
    rule = {"id": "new", "match": {"action": action}, "decide": decide}
    return Policies.of([Policy.model_validate({"version": 4, "rules": [rule]})])


@pytest.mark.parametrize("bus_lost", [False, True])
def test_what_nobody_has_claimed_is_not_sent_again_once_a_rule_asks_and_a_person_is_asked(bus_lost: bool) -> None:
    s = saga(pay(50, timeouts={"schedule_to_start_s": 600}))
    (first,) = s.sent()
    window = ms_of(first.start_before)
    s.policies = policy_that("always")
    if bus_lost:
        s.owner_changes(bus_lost=True)
    s.wait(25)
    assert s.sent() == [first] and s.state_of("pay") == ["SCHEDULED"], "the first send can still be claimed"
    s.wait(60)
    assert s.pause["kind"] == "gate" and s.pause["risk"]["rule_id"] == "new"
    assert s.sent() == [first, first], "it was asked about once, its window over"
    asked = next(r for r in s.rows if r.type == "WORKFLOW_PAUSED_HITL")
    assert asked.at_ms >= window + GIVE_UP_AFTER_MS
    s.press("RES_APPROVE", actor="ada")
    assert [t.attempt for t in s.sent()] == [1, 1, 2]
    assert s["pay"].max_attempts - s["pay"].round_from == 3, "what nobody began has cost no attempt"
    assert s.ok("pay").status == "COMPLETED"


def test_what_nobody_has_claimed_is_not_sent_again_once_it_is_forbidden() -> None:
    s = saga(pay(50)).wait(1)
    s.policies = policy_that("forbid")
    s.wait(120)
    assert len({t.start_before for t in s.sent()}) == 1 and s.pause["kind"] == "failure"
    assert s["pay"].error is not None and s["pay"].error["code"] == "FORBIDDEN_BY_POLICY"


def test_what_was_done_and_never_heard_of_is_asked_about_before_it_is_taken_back() -> None:
    """The worker did it and died before it said a word; a rule that asks came meanwhile."""
    s = saga(pay(50, timeouts={"schedule_to_start_s": 600}))
    (first,) = s.sent()
    s.policies = policy_that("always")
    s.wait((ms_of(first.start_before) - s.now_ms) / 1000)
    assert s.sent() == [first, first] and s.state_of("pay") == ["SCHEDULED"], "asked once nobody can begin it"
    assert s.ok("pay").status == "COMPLETED"
    assert not s.state.pauses


@pytest.mark.parametrize("sign", [Outcome.STARTED, Outcome.IN_DOUBT])
def test_what_can_be_queried_and_shows_life_while_it_waits_at_a_gate_is_looked_up_before_it_is_done(
    sign: Outcome,
) -> None:
    s = saga(pay(50, effect_class="queryable", timeouts={"schedule_to_start_s": 600}))
    s.policies = policy_that("always")
    s.wait(90)
    assert s.pause["kind"] == "gate", "nobody seemed to have begun it"
    s.answer("pay", sign)
    assert s["pay"].in_doubt
    s.press("RES_APPROVE", actor="ada")
    assert [t.attempt for t in s.sent(TaskKind.LOOK_UP)] == [2]
    s.fails("pay", "NOT_FOUND")
    assert s.sent()[-1].attempt == 3 and s.sent()[-1].approval, "it did not happen, and is approved"
    assert s.ok("pay").status == "COMPLETED"


@pytest.mark.parametrize("effect", ["unsafe", "queryable"])
def test_what_shows_life_while_it_waits_for_its_next_attempt_is_not_simply_done_again(effect: str) -> None:
    s = saga(pay(50, effect_class=effect, timeouts={"schedule_to_start_s": 600}))
    s.policies = policy_that("always")
    s.wait(20).panic()
    s.wait(70)
    assert s.states["pay"] == "RETRYING", "it was taken back"
    s.answer("pay", Outcome.IN_DOUBT)
    s.policies = policy_that("never")
    s.press("RES_RESUME")
    assert len({t.attempt for t in s.sent()}) == 1
    if effect == "queryable":
        assert [t.attempt for t in s.sent(TaskKind.LOOK_UP)] == [2]
        s.fails("pay", "NOT_FOUND")
    else:
        assert s.pause["kind"] == "ambiguous"
        s.press("RES_DID_NOT_HAPPEN")
    assert s.ok("pay").status == "COMPLETED"


def test_silence_of_all_agents_gives_up_nothing_that_was_not_asked_about() -> None:
    s = saga(pay(50, timeouts={"schedule_to_start_s": 5}))
    (first,) = s.sent()
    s.policies = policy_that("always")
    s.wait(60)
    assert s.sent() == [first, first] and s.pause["kind"] == "gate"


def test_what_somebody_has_claimed_goes_on_and_what_is_as_it_was_is_sent_again() -> None:
    s = saga(pay(50), pay(60) | {"id": "other"}).started("pay")
    s.policies = policy_that("never")
    for _ in range(3):
        s.wait(4).heartbeat("pay")
    assert [t.node_id for t in s.sent()] == ["pay", "other", "other"]
    s.policies = policy_that("always")
    assert s.ok("pay").state_of("pay") == ["COMPLETE"]


def test_a_grant_that_a_rule_takes_back_is_not_sent_again_and_the_agent_proposes_anew() -> None:
    s = Saga(node("a", effect_class="idempotent"), policies=policy_that("never", "refund"))
    s.proposes("a", "refund", {"amount": 5})
    assert s.sent()[-1].approved == {"amount": 5}
    s.policies = policy_that("always", "refund")
    s.wait(40)
    assert [t.approved for t in s.sent()] == [None, {"amount": 5}, {"amount": 5}, None]
    assert s.sent()[1] == s.sent()[2], "the grant was asked about, its window over, and not given again"
    s.proposes("a", "refund", {"amount": 5})
    assert s.pause["kind"] == "gate"


def asked_beside_a_letter() -> tuple[Saga, str, str]:
    """A node that a dead letter from elsewhere came for before it began, and that waits at its gate since."""
    s = saga(node("a"), pay(500, depends_on=["a"], pause_scope="branch"))
    s.letter("pay", reason="odd")
    s.ok("a")
    letter, gate = s.state.pauses
    return s, letter, gate


def test_another_pause_of_the_node_that_skips_it_withdraws_the_question() -> None:
    s, letter, gate = asked_beside_a_letter()
    s.do(Decision(letter, "RES_SKIP", None, actor="ada"))
    assert s.told()[:2] == ["HITL_RESOLVED decided", "HITL_RESOLVED superseded"]
    assert gate not in s.state.pauses and s.state_of("pay") == ["SKIPPED"]


def test_another_pause_of_the_node_that_lets_it_go_on_leaves_the_question_as_it_is() -> None:
    s, letter, gate = asked_beside_a_letter()
    s.do(Decision(letter, "RES_RETRY", None, actor="ada"))
    assert list(s.state.pauses) == [gate] and s.state_of("pay") == ["AWAITING_HUMAN"]
    s.do(Decision(gate, "RES_APPROVE", None, actor="bob"))
    assert [t.attempt for t in s.sent(node_id="pay")] == [1]


def test_an_approval_of_an_unsafe_effect_in_doubt_waits_for_whether_it_happened() -> None:
    s = Saga(node("a", effect_class="unsafe")).wait(80)
    s.policies = policy_that("always", "act")
    s.press("RES_RETRY")
    s.answer("a", Outcome.STARTED, attempt=1)  # it did begin, after all
    s.press("RES_APPROVE")
    assert s.pause["kind"] == "ambiguous" and s["a"].attempt == 1
    s.press("RES_DID_NOT_HAPPEN")
    assert s.pause["kind"] == "gate" and s["a"].attempt == 1
    s.press("RES_APPROVE")
    assert s["a"].attempt == 2 and not s["a"].in_doubt


def test_an_abort_answers_the_question() -> None:
    s = saga(
        pay(500), node("b", resolutions=[{"action_id": "RES_ABORT_SAGA", "display_text": "x", "kind": "compensate"}])
    )
    s.exhaust("b")
    s.press("RES_ABORT_SAGA", at="b")
    assert s.status == "COMPENSATED" and not s.sent(node_id="pay")


def test_arguments_that_do_not_fit_are_approved_by_their_digest_and_not_edited() -> None:
    s = saga(pay(500, inputs={"amount": 500, "to": "Alice", "text": "x" * 60_000}))
    assert s.buttons == ["RES_APPROVE", "RES_REJECT"]
    assert s.pause["proposed_action"]["args"]["text"]["bytes"] == 60_002
    s.press("RES_APPROVE")
    assert len(s.sent()[0].inputs["text"]) == 60_000


# an agent that proposes


def test_a_proposal_waits_and_approval_runs_the_task_again_with_the_approved_arguments() -> None:
    s = saga(node("bot", effect_class="idempotent"))
    s.proposes("bot", "refund", {"amount": 30}, summary="Refund 30", confidence=0.7, affected=1)
    p = s.pause
    assert (p["proposed_action"]["summary"], p["confidence"], p["proposed_action"]["affected"]) == ("Refund 30", 0.7, 1)
    assert p["risk"]["rule_id"] == "proposed" and p["risk"]["proposed"] is True and s["bot"].attempt == 1
    s.press("RES_APPROVE")
    task = s.sent()[-1]
    assert task.approved == {"amount": 30} and task.attempt == 2 and task.approval is not None
    assert task.approval["proposed"] == task.approval["digest"] == action_digest("refund", {"amount": 30})
    assert s.ok("bot").status == "COMPLETED"


def test_an_edited_proposal_carries_both_digests() -> None:
    s = saga(node("bot", effect_class="idempotent")).proposes("bot", "refund", {"amount": 30})
    s.press("RES_EDIT", {"amount": 20})
    task = s.sent()[-1]
    assert task.approved == {"amount": 20} and task.approval is not None
    assert task.approval["proposed"] == action_digest("refund", {"amount": 30})
    assert task.approval["digest"] == action_digest("refund", {"amount": 20})


def test_a_proposal_passes_by_a_rule_is_forbidden_by_a_rule_and_code_beats_the_models_flag() -> None:
    rules = [
        {"id": "small", "match": {"action": "refund", "args.amount": {"le": 10}}, "decide": "never"},
        {"id": "huge", "match": {"action": "refund", "args.amount": {"gt": 1000}}, "decide": "forbid"},
    ]
    policies = Policies.of([Policy.model_validate({"rules": rules})])

    def told(amount: Any, **more: Any) -> tuple[Saga, str]:
        s = Saga(node("bot", effect_class="idempotent"), policies=policies)
        s.proposes("bot", "refund", {"amount": amount}, **more)
        return s, s.states["bot"]

    s, state = told(5, requires_confirmation=False)
    assert state == "SCHEDULED" and s.sent()[-1].approved == {"amount": 5}
    assert told(5, requires_confirmation=True)[1] == "AWAITING_HUMAN"
    assert told(500, requires_confirmation=False)[1] == "AWAITING_HUMAN"
    assert told("5", requires_confirmation=False)[1] == "AWAITING_HUMAN"
    s, state = told(5000)
    assert state == "DEAD_LETTERED" and s["bot"].error is not None
    assert s["bot"].error["code"] == "FORBIDDEN_BY_POLICY"


@pytest.mark.parametrize(
    "said", [{"confidence": 86.0, "affected": 1}, {"confidence": 0.9, "affected": -1}, {"affected": 1}]
)
def test_a_confidence_on_another_scale_lets_nothing_pass(said: dict[str, Any]) -> None:
    """A model that says 86 and means of a hundred is above every threshold."""
    match = {"action": "refund", "confidence": {"ge": 0.8}, "affected": {"le": 10}}
    sure = Policy.model_validate({"version": 1, "rules": [{"id": "sure", "match": match, "decide": "never"}]})
    s = Saga(node("bot", effect_class="idempotent"), policies=Policies.of([sure]))
    s.proposes("bot", "refund", {"amount": 30}, **said)
    assert s.pause["kind"] == "gate" and s.pause["confidence"] == (0.9 if said.get("confidence") == 0.9 else None)
    passes = Saga(node("bot", effect_class="idempotent"), policies=Policies.of([sure]))
    passes.proposes("bot", "refund", {"amount": 30}, confidence=0.86, affected=1)
    assert passes.state_of("bot") == ["SCHEDULED"]


def test_another_proposal_after_an_approval_is_asked_again_and_the_same_one_is_a_fault() -> None:
    s = saga(node("bot", effect_class="idempotent")).proposes("bot", "refund", {"amount": 30})
    old = s.pause["pause_id"]
    s.press("RES_APPROVE")
    s.proposes("bot", "refund", {"amount": 3000})
    assert s.pause["pause_id"] != old and s.pause["proposed_action"]["args"] == {"amount": 3000}
    s.press("RES_APPROVE")
    s.proposes("bot", "refund", {"amount": 3000})
    assert s["bot"].error is not None and s["bot"].error["code"] == "PROPOSED_AGAIN"


def test_an_agent_that_proposes_for_ever_comes_to_an_end() -> None:
    rules = [{"id": "all", "match": {"action": "x"}, "decide": "never"}]
    s = Saga(node("bot"), policies=Policies.of([Policy.model_validate({"rules": rules})]))
    for n in range(30):
        if s.states["bot"] != "SCHEDULED":
            break
        s.proposes("bot", "x", {"n": n})
    assert s["bot"].error is not None and s["bot"].error["code"] == "TOO_MANY_PROPOSALS"


def test_an_agent_that_proposes_nothing_has_failed() -> None:
    s = saga(node("bot"))
    s.answer("bot", Outcome.PROPOSED)
    assert s["bot"].error is not None and s["bot"].error["code"] == "invalid-result"


# content from outside


def read_mail(**more: Any) -> dict[str, Any]:
    return node("mail", untrusted=True, **more)


def test_a_side_effect_after_content_from_outside_asks_by_itself() -> None:
    act = {"effect_class": "idempotent"}
    s = Saga(
        read_mail(), node("think", "mail"), node("send", "think", **act), node("free", **act), node("read", "mail")
    )
    assert s.state_of("free") == ["SCHEDULED"]
    s.ok("mail").ok("think")
    assert s.state_of("send", "read") == ["AWAITING_HUMAN", "SCHEDULED"]
    assert s.pause["risk"]["rule_id"] == "untrusted-content" and s.pause["risk"]["untrusted"] is True


class Reader(AnyAgent):
    """An agent whose answers hold content from outside."""

    def __missing__(self, key: tuple[str, str]) -> dict[str, Any]:
        return {**MANIFEST, "untrusted": key[1] == "read"}


def test_an_agent_says_it_of_itself_and_no_plan_takes_it_back() -> None:
    nodes = [
        {"id": "m", "agent": "bot", "action": "read", "untrusted": False},
        {"id": "x", "agent": "bot", "action": "act", "depends_on": ["m"]},
    ]
    plan = Plan.model_validate({"nodes": nodes})
    assert not validate(plan, Reader())
    m, x = compile_plan(plan, Reader())["nodes"]
    assert m["untrusted"] is True and x["tainted"] is True


def test_nodes_that_a_reader_of_outside_content_appends_are_tainted_wherever_they_hang() -> None:
    s = Saga(node("root"), read_mail(may_add_nodes=2)).ok("root")
    raw = {"id": "evil", "agent": "bot", "action": "act", "depends_on": ["root"], "effect_class": "idempotent"}
    raw["gate"] = {"decide": "policy", "summary": "Harmless", "diff": {"before": {}, "after": {}}}
    key = s.state.do_key(s["mail"])
    r = Result(trace_id="w", node_id="mail", attempt=1, effect_key=key, outcome=Outcome.OK, nodes=[raw])
    s.do(admit(s.state, r, AnyAgent()))
    assert s.state_of("evil") == ["AWAITING_HUMAN"]
    assert s.pause["risk"]["rule_id"] == "untrusted-content"
    assert s.pause["proposed_action"]["summary"] != "Harmless", "a model never writes the question"


@pytest.mark.parametrize(
    ("gate", "pointer"),
    [
        ({"redact": ["amount"]}, "/nodes/0/gate/redact/0"),
        ({"affected": "amount"}, "/nodes/0/gate/affected"),
        ({"diff": {"before": {"x": {"$from": "balance"}}}}, "/nodes/0/gate/diff/before/x"),
        ({"diff": {"before": {"x": {"$plus": 5}}}}, "/nodes/0/gate/diff/before/x/$plus"),
        ({"diff": {"after": {"x": {"$minus": [1]}}}}, "/nodes/0/gate/diff/after/x/$minus"),
        ({"diff": {"after": {"x": {"$plus": [1, 2, 3]}}}}, "/nodes/0/gate/diff/after/x/$plus"),
        ({"diff": {"after": {"x": {"$plus": [1, "x"]}}}}, "/nodes/0/gate/diff/after/x/$plus/1"),
        ({"diff": {"after": {"x": {"$plus": [True, 1]}}}}, "/nodes/0/gate/diff/after/x/$plus/0"),
        ({"diff": {"after": {"x": {"$plus": [1, {"$minus": {}}]}}}}, "/nodes/0/gate/diff/after/x/$plus/1/$minus"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(gate: dict[str, Any], pointer: str) -> None:
    plan = Plan.model_validate({"nodes": [pay(5, gate=gate)]})
    assert [(p.code, p.pointer) for p in validate(plan, AnyAgent())] == [("validation", pointer)]


@pytest.mark.parametrize("text", ["nodes.zz.output", "nodes.later.output.x", "nodes.pay.output"])
def test_a_diff_reads_what_inputs_may_read(text: str) -> None:
    gate = {"diff": {"before": {"x": {"$from": text}}, "after": {"x": {"$plus": [{"$from": text}, 1]}}}}
    plan = Plan.model_validate({"nodes": [pay(5, gate=gate), node("later", "pay")]})
    found = [(p.code, p.pointer) for p in validate(plan, AnyAgent())]
    at = "/nodes/0/gate/diff"
    assert found == [("invalid-reference", f"{at}/before/x"), ("invalid-reference", f"{at}/after/x/$plus/0")]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"$plus": [1, 2.5]}, 3.5),
        ({"$minus": [{"$plus": [1, 2]}, {"$from": "args.amount"}]}, -497),
        ({"$plus": [2**53, 1]}, float(2**53)),
        ({"$plus": [{"$from": "input.huge"}, 1]}, 1e300),
        ({"$plus": [1e308, 1e308]}, None),
        ({"$plus": [{"$from": "input.digits"}, 1]}, None),
        ({"$plus": [{"$from": "input.text"}, 1]}, None),
        ({"$minus": [{"$from": "input.nothing"}, 1]}, None),
        ({"$plus": 5}, None),
        ({"$plus": None}, None),
        ({"$plus": [1]}, None),
        ({"$from": 5}, None),
        ({"$from": ["args.amount"]}, None),
    ],
)
def test_what_a_diff_cannot_work_out_is_null_and_a_sum_is_a_number_that_json_has(value: Any, shown: Any) -> None:
    """Also of a plan that was accepted when the door did not look at the form."""
    given = {"huge": 1e300, "digits": 10**400, "text": "x"}
    gate = {"summary": "{amount:.2f} of {n:.2f}", "diff": {"after": {"x": value}}}
    s = Saga(node("look"), input=given)
    f = Facts(None, "bot", "pay", {"amount": 500, "n": 10**400}, reversible=True)
    about = node_spec(pay(500, gate=gate), {})
    proposed = as_written(s.state, NodeState(about, 0, 0), f)
    assert proposed["diff"]["after"] == {"x": shown}
    assert type(proposed["diff"]["after"]["x"]) is type(shown)
    assert proposed["summary"].startswith("500.00 of 1")
