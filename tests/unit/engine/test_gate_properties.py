"""Random worlds with gates: policies that change on the way × gates × agents that propose × people who approve, edit, refuse.

The properties are those of `gate_properties.py`, and all of `properties.py` too. Mutants, each killed by the one beside it:

| mutant | killed by |
|---|---|
| an approval is kept when a person changes the arguments | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| what was edited away counts as approved when it is set again | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| a retry skips the gate | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| taint is ignored | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| a model's flag overrides the rule | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| silence approves what is always asked | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| a gate that always asks asks the policy | what_a_rule_asks_about_is_not_sent_without_a_persons_decision |
| an edit is not judged again | what_is_forbidden_is_never_sent_and_no_button_passes_it |
| what is forbidden asks a person | what_is_forbidden_is_never_sent_and_no_button_passes_it |
| what nobody has claimed is sent again unjudged | what_is_forbidden_is_never_sent_and_no_button_passes_it |
| what was let pass is not judged again | what_is_forbidden_is_never_sent_and_no_button_passes_it |
| the proposed arguments are sent, not the edited ones | what_is_done_has_the_approved_digest |
| a refusal lets it happen | a_refused_action_is_not_done |
| a verdict that lets pass is not journaled | every_verdict_is_journaled_also_one_that_lets_pass |
| a proposal's verdict is not journaled | a_proposal_is_judged_in_the_step_that_brings_it |
| a retry is not held back by a budget | beyond_a_budget_nothing_is_begun_unless_a_person_says_so |
| a raise counts for ever | beyond_a_budget_nothing_is_begun_unless_a_person_says_so |
| whoever skips what is not begun lifts the budget | beyond_a_budget_nothing_is_begun_unless_a_person_says_so |
| a gate asks once more while it is open | a_question_is_asked_once_and_only_while_its_answer_counts |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from handrail_contracts.policy import Decide, action_digest
from handrail_engine import asking, budgets, gates, nodes, pauses, spending
from handrail_engine.outgoing import resolved_inputs
from handrail_engine.policies import Policies, Verdict
from unit.engine.gate_properties import names, verdicts
from unit.engine.gated_world import GatedWorld
from unit.engine.mutants import kill
from unit.engine.world import World

Patch = pytest.MonkeyPatch
WORLDS = 300


def test_every_promise_of_gates_holds_and_the_worlds_are_not_idle() -> None:
    seen: Counter[str] = Counter()
    for seed in range(WORLDS):
        w = GatedWorld(seed).run()
        assert not verdicts(w), seed
        for r in w.rows:
            if r.type == "GATE_EVALUATED":
                seen[f"decide {r.data['decide']}"] += 1
                seen[f"rule {r.data['rule_id']}"] += 1
            elif r.type == "HITL_RESOLVED" and r.data["action_id"] is not None:
                seen[f"{r.data['outcome']} {r.data['action_id']}"] += 1
            elif r.type == "NODE_STATE_CHANGED":
                seen[f"error {(r.data.get('error') or {}).get('code')}"] += 1
                withdrawn = (r.meta or {}).get("outcome") == "given-up" and r.data["to"] == "RETRYING"
                seen["withdrawn"] += withdrawn
                seen["taken back"] += (r.meta or {}).get("granted", 0) is None
        seen["spent"] += bool(w.state.spent)
        seen["done as granted"] += sum(d.task.approved is not None for d in w.done)
        seen["done as edited"] += sum(d.task.approved is None and d.task.approval is not None for d in w.done)
        seen["new owner"] += w.owners > 1
        seen["policies changed"] += w.versions > 1
    expected = [f"decide {d}" for d in Decide]
    expected += [f"rule {k}" for k in ("None", "gate", "untrusted-content", "no-policy", "proposed")]
    expected += [f"decided RES_{k}" for k in ("APPROVE", "EDIT", "REJECT", "AMOUNT", "SET", "RETRY", "ABORT_SAGA")]
    expected += [
        "expired RES_APPROVE",
        "expired RES_REJECT",
        "done as granted",
        "done as edited",
        "taken back",
        "withdrawn",
    ]
    expected += ["spent", "decided RES_RAISE_BUDGET", "decided RES_RESUME"]
    expected += ["error FORBIDDEN_BY_POLICY", "error PROPOSED_AGAIN", "new owner", "policies changed"]
    missing = [k for k in expected if not seen[k]]
    assert not missing, missing


def test_gates_change_no_story_of_the_worlds_without_them() -> None:
    assert World(11).run().rows == World(11).run().rows
    assert GatedWorld(11).run().rows == GatedWorld(11).run().rows
    assert not any(r.type == "GATE_EVALUATED" for seed in range(20) for r in World(seed).run().rows)


# mutants


def _judged_with(p: Patch, change: Callable[[Any, Any, dict[str, Any]], Any]) -> None:
    """Replaces the judgement; `change(real, facts, given)` gives the verdict."""
    real = gates.judge

    def judge(policies: Any, f: Any, now_ms: int, **given: Any) -> Verdict:
        return change(lambda facts, more: real(policies, facts, now_ms, **more), f, given)

    p.setattr(gates, "judge", judge)


def approval_kept_over_changed_arguments(p: Patch) -> None:
    real = gates.admits

    def admits(t: Any, node: Any, meta: dict[str, Any]) -> bool:
        if node.approved is not None and meta.get("sets") and node.approved["args"] is None:
            digest = action_digest(node.spec.action, {**resolved_inputs(t.state, node), **meta["sets"]})
            meta["approved"] = {**node.approved, "proposed": digest, "digest": digest}
        return real(t, node, meta)

    p.setattr(gates, "admits", admits)


def edited_away_is_approved(p: Patch) -> None:
    real = gates.admits

    def admits(t: Any, node: Any, meta: dict[str, Any]) -> bool:
        if meta.get("sets") and node.approved is not None:
            return real(t, node, {**meta, "approved": node.approved})
        return real(t, node, meta)

    p.setattr(gates, "admits", admits)


def retry_skips_the_gate(p: Patch) -> None:
    real = gates.admits
    p.setattr(gates, "admits", lambda t, node, meta: node.attempt > 0 or real(t, node, meta))


def taint_ignored(p: Patch) -> None:
    _judged_with(p, lambda real, f, given: real(replace(f, untrusted=False), given))


def flag_overrides_the_rule(p: Patch) -> None:
    def change(real: Any, f: Any, given: dict[str, Any]) -> Verdict:
        found: Verdict = real(f, given)
        return replace(found, decide=Decide.NEVER) if f.proposed and given.get("confirm") is False else found

    _judged_with(p, change)
    granted_for_good(p)  # which takes back what no rule lets pass: a second net


def silence_approves(p: Patch) -> None:
    real = pauses.open_pause
    p.setattr(pauses, "open_pause", lambda *a, **k: real(*a, **{**k, "silence": True}))
    p.setattr(gates, "_outgrown", lambda *_: False)  # which asks again where a rule wants a person: a second net


def gate_asks_the_policy(p: Patch) -> None:
    _judged_with(p, lambda real, f, given: real(f, {**given, "gate": given.get("gate") and "policy"}))


def edit_not_judged_again(p: Patch) -> None:
    real = gates.approve

    def approve(t: Any, node: Any, pause: Any, d: Any, *, edit: bool) -> None:
        now = t.now
        t.now = replace(now, policies=Policies()) if edit else now
        real(t, node, pause, d, edit=edit)
        t.now = now

    p.setattr(gates, "approve", approve)


def forbidden_asks(p: Patch) -> None:
    def change(real: Any, f: Any, given: dict[str, Any]) -> Verdict:
        found: Verdict = real(f, given)
        return replace(found, decide=Decide.ALWAYS) if found.decide is Decide.FORBID else found

    _judged_with(p, change)


def granted_for_good(p: Patch) -> None:
    p.setattr(gates, "_still_granted", lambda t, node, meta: True)


def resent_unjudged(p: Patch) -> None:
    p.setattr(gates, "outdated", lambda t, node: False)


def sends_what_was_proposed(p: Patch) -> None:
    real = gates.approve

    def approve(t: Any, node: Any, pause: Any, d: Any, *, edit: bool) -> None:
        real(t, node, pause, d, edit=False)

    p.setattr(gates, "approve", approve)


def refusal_lets_it_happen(p: Patch) -> None:
    p.setattr(gates, "reject", lambda t, node, d: nodes._send(t, node, {}))


def passes_in_silence(p: Patch) -> None:
    real = gates._record

    def record(t: Any, node: Any, v: Verdict, *a: Any, again: bool = True) -> None:
        if again:
            real(t, node, v, *a)

    p.setattr(gates, "_record", record)


def proposals_are_judged_in_silence(p: Patch) -> None:
    real = gates._record

    def record(t: Any, node: Any, v: Verdict, f: Any, *a: Any, **k: Any) -> None:
        if not f.proposed:
            real(t, node, v, f, *a, **k)

    p.setattr(gates, "_record", record)


def asks_again(p: Patch) -> None:
    real = gates._ask

    def ask(*a: Any) -> None:
        real(*a)
        real(*a)

    p.setattr(gates, "_ask", ask)


def retries_cost_nothing(p: Patch) -> None:
    real = nodes.retry_due

    def retry_due(t: Any, node: Any) -> None:
        unbounded, t.state.unbounded = t.state.unbounded, True
        real(t, node)
        t.state.unbounded = unbounded

    p.setattr(nodes, "retry_due", retry_due)


def a_skip_lifts_the_budget(p: Patch) -> None:
    real = spending.grant

    def grant(s: Any, said: dict[str, Any]) -> None:
        real(s, {**said, "off": said.get("off") or said.get("stop"), "stop": False})

    p.setattr(asking, "grant", grant)


def a_raise_counts_for_ever(p: Patch) -> None:
    real = budgets.used_up
    p.setattr(budgets, "used_up", lambda t: None if t.state.granted else real(t))


ASKS = "what_a_rule_asks_about_is_not_sent_without_a_persons_decision"
BUDGET = "beyond_a_budget_nothing_is_begun_unless_a_person_says_so"
FORBIDS = "what_is_forbidden_is_never_sent_and_no_button_passes_it"
MUTANTS: dict[Callable[[Patch], None], str] = {
    approval_kept_over_changed_arguments: ASKS,
    edited_away_is_approved: ASKS,
    retry_skips_the_gate: ASKS,
    taint_ignored: ASKS,
    flag_overrides_the_rule: ASKS,
    silence_approves: ASKS,
    gate_asks_the_policy: ASKS,
    edit_not_judged_again: FORBIDS,
    forbidden_asks: FORBIDS,
    granted_for_good: FORBIDS,
    resent_unjudged: FORBIDS,
    sends_what_was_proposed: "what_is_done_has_the_approved_digest",
    refusal_lets_it_happen: "a_refused_action_is_not_done",
    passes_in_silence: "every_verdict_is_journaled_also_one_that_lets_pass",
    proposals_are_judged_in_silence: "a_proposal_is_judged_in_the_step_that_brings_it",
    retries_cost_nothing: BUDGET,
    a_raise_counts_for_ever: BUDGET,
    a_skip_lifts_the_budget: BUDGET,
    asks_again: "a_question_is_asked_once_and_only_while_its_answer_counts",
}


@pytest.mark.parametrize(("plant", "killer"), MUTANTS.items(), ids=[m.__name__ for m in MUTANTS])
def test_a_planted_mutant_is_killed_by_name(plant: Callable[[Patch], None], killer: str, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    kill(lambda seed: verdicts(GatedWorld(seed).run()), killer, names())


def test_silence_approves_nothing_that_a_changed_rule_wants_a_person_for() -> None:
    """In this world a pause that may expire is answered by silence after its policy became `always`."""
    assert verdicts(GatedWorld(1002576).run()) == set()


def test_what_is_taken_back_when_its_budget_is_used_up_waits_for_the_pause_of_this_turn() -> None:
    """In this world an attempt is withdrawn by a wake-up that also finds the budget used up: it went round for ever."""
    assert verdicts(GatedWorld(1000162).run()) == set()
