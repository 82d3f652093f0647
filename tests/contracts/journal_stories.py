"""The stories behind the golden journals. A journal that was recorded is never recorded again: `python journal_stories.py`
(from `tests/contracts`, with `tests` on the path) writes only those that are not there yet, and adds their digests.

To add one: add a story, run this, commit the new file and the new line of `digests.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from handrail_contracts.policy import Policy
from handrail_contracts.tasks import DeadLetter, Escalation, Outcome
from handrail_contracts.view import WorkflowView
from handrail_engine.evolve import fold
from handrail_engine.inputs import Claim, Outside, Say
from handrail_engine.policies import Policies
from handrail_engine.state import Row
from unit.engine.saga import DIAMOND, Saga, node
from unit.engine.world import World

HERE = Path(__file__).parent / "journals"
EFFECT = {"effect_class": "idempotent"}
UNSAFE = {"effect_class": "unsafe", "compensation": {}}
SETS = {"action_id": "RES_MANUAL_SKU", "display_text": "Link", "requires_input": True, "input_schema": "url"}
SETS |= {"kind": "retry", "sets": "url"}
SKIP = {"action_id": "RES_SKIP", "display_text": "Skip", "kind": "skip"}
ABORT = {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "kind": "compensate"}


def diamond_completes() -> Saga:
    s = Saga(*DIAMOND, input={"x": 1}, intent="do it").started("a").wait(1).ok("a", output={"n": 1})
    return s.ok("c", "b").wait(1).ok("d", output="done")


def retries_then_completes() -> Saga:
    s = Saga(node("a", **EFFECT), node("b", "a", inputs={"n": {"$from": "nodes.a.output.n", "default": 0}}))
    return s.fails("a").wait(1).started("a").wait(6).ok("a", output={"n": 3}).ok("b")


def dead_letter_skipped() -> Saga:
    plan = node("a", resolutions=[SKIP, SETS, ABORT], inputs={"budget": 1}, context={"b": "input.budget"})
    s = Saga(plan, node("b", "a")).fails("a").wait(1).fails("a").wait(1).fails("a").wait(2)
    s.do(Claim(s.pause["pause_id"], "ada", "2027-01-15T09:00:00.000Z"))
    s.press("RES_SKIP", comment="not needed")
    return s.ok("b")


def changed_input_under_a_new_key() -> Saga:
    s = Saga(node("a", resolutions=[SETS, ABORT], inputs={"url": "old"}, **EFFECT), node("b", "a")).exhaust("a")
    s.press("RES_MANUAL_SKU", "https://vendor.example/1")
    return s.ok("a", output={"po": 1}).ok("b")


def abort_in_reverse() -> Saga:
    s = Saga(
        node("a", **EFFECT),
        node("b", "a", **EFFECT),
        node("c", "a", **EFFECT),
        node("d", "b", "c", resolutions=[ABORT]),
    )
    s.ok("a").ok("c").ok("b").exhaust("d")
    s.press("RES_ABORT_SAGA", comment="no budget")
    return s.ok("b").started("c").ok("c").ok("a")


def _failing_undo() -> Saga:
    once = {"compensation": {"retry": {"max_attempts": 1}}}
    s = Saga(node("x", **EFFECT), node("a", "x", **EFFECT, **once), node("i", **EFFECT), node("z"))
    return s.ok("x").ok("i").ok("a").cancel().fails("a", "NO").wait(2)


def failed_undo_accepted() -> Saga:
    s = _failing_undo()
    s.press("RES_ACCEPT")
    return s.ok("x").ok("i")


def failed_undo_stopped() -> Saga:
    s = _failing_undo()
    s.press("RES_STOP")
    return s.ok("i")


def failed_undo_marked() -> Saga:
    s = _failing_undo()
    s.press("RES_RETRY")
    s.fails("a", "NO", retryable=False).wait(2)
    s.press("RES_MARK_UNDONE", "by phone")
    return s.ok("i").ok("x")


def ambiguous_and_it_happened() -> Saga:
    s = Saga(node("a", **UNSAFE), node("b", "a")).started("a").wait(6)
    s.press("RES_HAPPENED", {"id": 7})
    return s.ok("b")


def ambiguous_and_it_did_not() -> Saga:
    s = Saga(node("a", **UNSAFE)).started("a").in_doubt("a")
    s.press("RES_DID_NOT_HAPPEN")
    return s.ok("a")


def looked_up() -> Saga:
    s = Saga(node("a", effect_class="queryable", timeouts={"start_to_close_s": 10})).started("a").wait(5).wait(5)
    return s.fails("a", "NOT_FOUND").ok("a", output=1)


def escalated_and_handed_back() -> Saga:
    s = Saga(node("a"), node("b")).escalates("a", metadata={"order": 1}).ok("b")
    s.do(Say(s.pause["pause_id"], "operator", "I am here"))
    s.press("RES_HAND_BACK")
    return s.ok("a")


def escalated_from_outside_and_handed_back() -> Saga:
    """Left open: the agent outside has the conversation."""
    asked = Escalation(reason="r", transcript=[{"role": "user", "text": "help"}], handover_message="A colleague comes.")
    s = Saga(outside=Outside(asked, "p-given-out", "https://agents.example/hook"))
    s.do(Say("p-given-out", "operator", "I am here"))
    s.press("RES_HAND_BACK")
    s.wait(1).do(Say("p-given-out", "agent", "I go on"))
    return s


def paused_by_hand_with_a_deadline() -> Saga:
    """Left open: it replays into a paused workflow."""
    s = Saga(node("a", timeouts={"schedule_to_start_s": 3600}), node("b", "a"), deadline_s=500).started("a").panic()
    s.wait(1)
    s.press("RES_RESUME")
    return s.ok("a").wait(20).panic()


def planned_and_appended() -> Saga:
    plan = [{"id": "a", "agent": "bot", "action": "act", "may_add_nodes": 2}]
    plan.append({"id": "b", "agent": "bot", "action": "act", "depends_on": ["a"]})
    s = Saga(intent="do it").ok("plan", nodes=plan, output={"output": {"said": {"$from": "nodes.b.output"}}})
    more = [
        {"id": "x", "agent": "bot", "action": "act"},
        {"id": "y", "agent": "bot", "action": "act", "depends_on": ["x"]},
    ]
    return s.ok("a", nodes=more).ok("x").ok("y").ok("b", output="yes")


def cancelled_without_undo() -> Saga:
    return (
        Saga(node("a", **EFFECT), node("b", "a", **EFFECT), node("c")).ok("a").started("b").cancel(undo=False).ok("b")
    )


def failed_by_its_node() -> Saga:
    s = Saga(node("a"), node("b", "a", on_exhausted="fail"), node("c", **EFFECT)).ok("a").started("c")
    s.fails("b", retryable=False)
    return s.wait(6)


def late_success_undone_again() -> Saga:
    s = Saga(node("a", **EFFECT), node("z", **EFFECT)).started("a", "z").cancel().wait(4)
    s.heartbeat("z")
    s.wait(1).ok("a")
    s.answer("a", Outcome.OK, undo=False)
    s.ok("a")
    s.answer("z", Outcome.CANCELLED)
    return s


def conditions_and_optional_nodes() -> Saga:
    s = Saga(
        node("a", optional=True),
        node("b", "a", inputs={"x": {"$from": "nodes.a.output.x"}}),
        node("c", when={"ref": "input.go", "eq": True}),
        node("d", "c", inputs={"x": {"$from": "nodes.c.output"}}),
        input={"go": False},
    )
    return s.fails("a", retryable=False).ok("b")


def dead_letter_from_elsewhere() -> Saga:
    """Left open, with an attempt in doubt and no agent for another."""
    s = Saga(node("a", **EFFECT), node("b", pause_scope="branch")).started("a")
    s.do(DeadLetter(trace_id="w", node_id="a", reason="my worker gave up", task={"why": 1}))
    return s.wait(70)


def pause_that_expires() -> Saga:
    s = Saga(node("a", expiry={"after_s": 60, "action_id": "RES_SKIP", "input": {"x": 1}}), node("b", "a")).exhaust("a")
    return s.wait(60).ok("b")


def a_large_plan_rolled_back() -> Saga:
    ids = [f"n{i}" for i in range(250)]
    s = Saga(*(node(k, **EFFECT) for k in ids), node("z"), large=True).ok(*ids).cancel()
    return s.ok(*ids)


def rolled_back_to_a_savepoint() -> Saga:
    back = {"action_id": "RES_BACK", "display_text": "Back", "kind": "compensate", "scope": "savepoint"}
    s = Saga(
        node("quote", savepoint=True, **EFFECT),
        node("flight", "quote", **EFFECT),
        node("mail", "quote", compensation="none", **EFFECT),
        node("pay", "flight", resolutions=[back], **EFFECT),
        node("news"),
    )
    s.ok("quote").ok("flight", output=1).ok("mail").exhaust("pay")
    s.press("RES_BACK")
    s.wait(1).ok("flight").wait(1).ok("flight", output=2).ok("news").wait(1).ok("pay")
    return s


def a_subtree_given_up_and_the_rest_aborted() -> Saga:
    prune = {"action_id": "RES_PRUNE", "display_text": "Without", "kind": "compensate", "scope": "subtree"}
    plan = (
        node("a", **EFFECT),
        node("b", "a", pause_scope="branch", resolutions=[prune], **EFFECT),
        node("c", "b"),
        node("z"),
    )
    s = Saga(*plan).ok("a").started("b").in_doubt("b").wait(1).fails("b", retryable=False).wait(2)
    s.press("RES_PRUNE")
    s.wait(1).ok("b").wait(1).cancel()
    return s.ok("a")


def reminded_daily() -> Saga:
    """Left open."""
    return Saga(node("a")).exhaust("a").wait(2 * 86_400)


def held_back_by_a_limit() -> Saga:
    s = Saga(node("a", **EFFECT), node("b", **EFFECT), node("c", "a", "b"), room={"bot": 1, "bot/act": 2})
    return s.started("a").ok("a").fails("b").wait(1).ok("b").ok("c")


BANK = Policies.of(
    [
        Policy.model_validate(
            {
                "name": "bank",
                "version": 3,
                "rules": [
                    {"id": "over-100", "match": {"agent": "till", "args.amount": {"gt": 100}}, "decide": "always"},
                    {"id": "no-mallory", "match": {"agent": "till", "args.to": "Mallory"}, "decide": "forbid"},
                    {"id": "refunds", "match": {"action": "refund", "args.amount": {"gt": 10}}, "decide": "always"},
                    {"id": "small", "match": {"action": "refund"}, "decide": "never"},
                ],
            }
        )
    ]
)


def _gated(amount: int, to: str = "Alice", **gate: Any) -> Saga:
    pay: dict[str, Any] = {
        "agent": "till",
        "inputs": {"to": to, "amount": amount},
        "gate": {"summary": "Pay {amount:.2f} to {to}", **gate},
    }
    tell = node("tell", "pay", when={"ref": "nodes.pay.output", "exists": False})
    return Saga(node("look"), node("pay", "look", **pay, **EFFECT), node("next", "pay"), tell, policies=BANK).ok("look")


def gate_approved() -> Saga:
    """Approved, and tried twice under one approval."""
    s = _gated(500)
    s.press("RES_APPROVE", comment="known")
    s.wait(1).fails("pay").wait(1).ok("pay", output={"id": 1})
    return s.ok("next")


def gate_edited() -> Saga:
    """Edited, sent as edited, and undone as edited: an abort follows."""
    s = _gated(500)
    s.press("RES_EDIT", {"to": "Alice", "amount": 120})
    s.wait(1).ok("pay", output={"id": 1}).wait(1).cancel()
    return s.ok("pay")


def gate_rejected_takes_the_other_branch() -> Saga:
    s = _gated(500, on_reject="branch")
    s.press("RES_REJECT", comment="too much")
    return s.wait(1).ok("tell")


def gate_forbidden() -> Saga:
    """Forbidden, tried again by a person in vain, then skipped."""
    s = _gated(5, "Mallory").wait(2)
    s.press("RES_RETRY")
    s.wait(2)
    s.press("RES_SKIP")
    return s.ok("next", "tell")


def gate_of_an_agent() -> Saga:
    """An agent proposes: what passes by a rule, then what a person edits. Left open, with the next question."""
    s = Saga(node("a", **EFFECT), node("b", **EFFECT), policies=BANK)
    s.proposes("a", "refund", {"amount": 5}, summary="Refund 5").wait(1).ok("a")
    s.proposes("b", "refund", {"amount": 50}, summary="Refund 50", confidence=0.5, reversible=True).wait(1)
    s.press("RES_EDIT", {"amount": 20})
    return s.wait(1).proposes("b", "refund", {"amount": 70}, summary="Refund 70")


STORIES: tuple[Callable[[], Saga], ...] = (
    diamond_completes,
    held_back_by_a_limit,
    retries_then_completes,
    dead_letter_skipped,
    changed_input_under_a_new_key,
    abort_in_reverse,
    failed_undo_accepted,
    failed_undo_stopped,
    failed_undo_marked,
    ambiguous_and_it_happened,
    ambiguous_and_it_did_not,
    looked_up,
    escalated_and_handed_back,
    paused_by_hand_with_a_deadline,
    planned_and_appended,
    cancelled_without_undo,
    failed_by_its_node,
    late_success_undone_again,
    conditions_and_optional_nodes,
    dead_letter_from_elsewhere,
    pause_that_expires,
    a_large_plan_rolled_back,
    rolled_back_to_a_savepoint,
    a_subtree_given_up_and_the_rest_aborted,
    reminded_daily,
    escalated_from_outside_and_handed_back,
    gate_approved,
    gate_edited,
    gate_rejected_takes_the_other_branch,
    gate_forbidden,
    gate_of_an_agent,
)
WORLDS = (11, 92, 282, 1234)


def projection(rows: Iterable[Row]) -> dict[str, Any]:
    """What a replay must give for ever. The list of fields is frozen: newer facts are not added here."""
    rows = list(rows)
    s = fold("t", "w", rows)
    view = WorkflowView("w").apply_all(r.data for r in rows)
    return {
        "status": s.status.value,
        "seq": s.seq,
        "ended": s.ended,
        "held": s.held,
        "deadline": [s.deadline_ms, s.deadline_left_ms],
        "ending": [s.ending.end.value, s.ending.undo, s.ending.stopped] if s.ending and s.ending.end else None,
        "pauses": {k: [p.kind, p.node_id, p.scope.value, p.expires_ms] for k, p in s.pauses.items()},
        "nodes": {
            k: {
                "state": n.state.value,
                "attempt": [n.attempt, n.max_attempts],
                "key": s.do_key(n),
                "undo": [s.undo_key(n), n.undo.attempt, n.undo.settled],
                "in_doubt": n.in_doubt,
                "output": n.output,
                "set": n.overrides,
                "waiting": n.waiting,
                "retry_ms": n.retry_ms,
                "out": n.live is not None,
            }
            for k, n in s.nodes.items()
        },
        "view": [
            view.status,
            view.cursor,
            view.reason,
            [[n["id"], n["state"], n["attempt"]] for n in view.nodes.values()],
        ],
    }


def digest(rows: Iterable[Row]) -> str:
    text = json.dumps(projection(rows), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def line(r: Row) -> str:
    row = {"seq": r.seq, "type": str(r.type), "data": r.data, "meta": r.meta, "at_ms": r.at_ms}
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False)


def read(path: Path) -> list[Row]:
    raw = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
    return [Row(r["seq"], r["type"], r["data"], r["meta"], r["at_ms"]) for r in raw]


def main() -> None:
    known: dict[str, dict[str, str]] = (
        json.loads((HERE / "digests.json").read_text()) if HERE.joinpath("digests.json").exists() else {}
    )
    stories: list[tuple[str, list[Row]]] = [(f.__name__.replace("_", "-"), f().rows) for f in STORIES]
    stories += [(f"world-{seed}", World(seed).run().rows) for seed in WORLDS]
    for name, rows in stories:
        path = HERE / f"{name}.jsonl"
        if path.exists():
            continue
        path.write_text("\n".join(line(r) for r in rows) + "\n", "utf-8")
        known[name] = {"file": hashlib.sha256(path.read_bytes()).hexdigest(), "state": digest(read(path))}
        print(f"recorded {name}: {len(rows)} rows")
    (HERE / "digests.json").write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
