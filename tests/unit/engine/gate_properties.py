"""What gates promise, each judged over the whole story of one random world with gates.

What a policy says is worked out here a second time, for the one form of rule that these worlds use, so that the engine's own
judgement is held against another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from handrail_contracts.model import ms_of
from handrail_contracts.plan import EffectClass
from handrail_contracts.policy import Policy, action_digest
from handrail_contracts.tasks import TaskKind
from handrail_engine.outgoing import Dispatch
from handrail_engine.state import NodeState, Row
from unit.engine import properties
from unit.engine.checks import Broken, expect
from unit.engine.gated_world import PROPOSED, GatedWorld
from unit.engine.world import Step

Property = Callable[[GatedWorld], None]
PROPERTIES: dict[str, Property] = {}
_STRENGTH = ("never", "uncertain", "always", "forbid")


def prop(f: Property) -> Property:
    PROPERTIES[f.__name__] = f
    return f


def names() -> list[str]:
    """Of these properties, and of those that hold in every world."""
    return [*properties.names(), *PROPERTIES]


def verdicts(w: GatedWorld) -> set[str]:
    """The names of all properties that do not hold, these and those of every world."""
    fallen = properties.verdicts(w)
    for f in PROPERTIES.values():
        try:
            f(w)
        except Broken as e:
            fallen.add(e.name)
    return fallen


class Sent(NamedTuple):
    """A dispatch of work, in its step, or with no `row` a repeat of one; `approvals`: what people had let happen of the node by
    then."""

    step: Step
    row: Row | None
    task: Dispatch
    node: NodeState
    approvals: list[Approval]


class Approval(NamedTuple):
    """A decision for an action. `proposed` is the digest that was shown; `digest` of what was let happen."""

    pause_id: str
    gate: str
    digest: str
    silent: bool


def dispatches(w: GatedWorld) -> Iterator[Sent]:
    """Every first send of an attempt that does work: no look-ups, no undos."""
    return (s for s in sends(w) if s.row is not None)


def sends(w: GatedWorld) -> Iterator[Sent]:
    """Every send of an attempt that does work, the first one and what is sent again since nobody has claimed it. What is sent
    when its window is over only asks: nobody begins anything by it."""
    open_: dict[str, Row] = {}
    approvals: dict[str, list[Approval]] = {}
    for step in w.steps:
        tasks = {
            (m.node_id, m.attempt): m
            for m in step.messages
            if isinstance(m, Dispatch) and m.kind is TaskKind.EXECUTE and ms_of(m.start_before) > step.now
        }
        for r in step.rows:
            d = r.data
            if r.type == "WORKFLOW_PAUSED_HITL" and d["kind"] == "gate":
                open_[d["pause_id"]] = r
            elif r.type == "HITL_RESOLVED" and d["pause_id"] in open_:
                _note(approvals, open_.pop(d["pause_id"]), d)
            elif (r.type == "GATE_EVALUATED" and "sets" in (r.meta or {})) or (
                r.type == "NODE_STATE_CHANGED" and d["to"] == "PENDING"
            ):
                approvals.pop(d["node_id"], None)
            elif r.type == "NODE_STATE_CHANGED" and d["to"] == "SCHEDULED":
                if "sets" in (r.meta or {}):
                    approvals.pop(d["node_id"], None)
                task = tasks.pop((d["node_id"], d["attempt"]), None)
                if task is not None:
                    known = list(approvals.get(d["node_id"], ()))
                    yield Sent(step, r, task, w.state.nodes[d["node_id"]], known)
        for task in tasks.values():
            yield Sent(step, None, task, w.state.nodes[task.node_id], list(approvals.get(task.node_id, ())))


def _note(approvals: dict[str, list[Approval]], pause: Row, d: dict[str, Any]) -> None:
    if d["action_id"] not in ("RES_APPROVE", "RES_EDIT"):
        return
    p = pause.data["proposed_action"]
    digest = p["digest"] if d["action_id"] == "RES_APPROVE" else action_digest(p["action"], d["input"])
    gate = (pause.meta or {})["then"]["gate"]
    silent = d["outcome"] == "expired"
    approvals.setdefault(pause.data["node_id"], []).append(Approval(d["pause_id"], gate, digest, silent))


def said(policies: tuple[Policy, ...], agent: str, action: str, args: dict[str, Any]) -> str | None:
    """The strongest word of these policies, None when no rule speaks."""
    best: str | None = None
    for rule in (r for p in policies for r in p.rules):
        match = dict(rule.match)
        if match["action"] != action or match.get("agent", agent) != agent:
            continue
        word = rule.decide.value
        if "args.amount" in match:
            amount, above = args.get("amount"), match["args.amount"]["gt"]
            if isinstance(amount, int) and amount <= above:
                continue
            if not isinstance(amount, int):
                if word == "never":
                    continue
                word = "uncertain"
        if best is None or _STRENGTH.index(word) > _STRENGTH.index(best):
            best = word
    return best


def wanted(s: Sent) -> str:
    """What holds for the plan's action of this dispatch."""
    policies, spec = s.step.policies.policies, s.node.spec
    word = said(policies, spec.agent, spec.action, s.task.inputs)
    covered = any(
        r.match["action"] == spec.action and r.match.get("agent", spec.agent) == spec.agent
        for p in policies
        for r in p.rules
    )
    words = [word or "never"]
    if spec.tainted and spec.effect_class is not EffectClass.PURE:
        words.append("always")
    if spec.gate is not None:
        words += ["always"] if spec.gate["decide"] == "always" else [] if covered else ["uncertain"]
    if s.task.inputs.get("requires_confirmation") is True:
        words.append("uncertain")
    return max(words, key=_STRENGTH.index)


def granted(s: Sent) -> str | None:
    """What holds for the proposed action that this dispatch grants, None when it grants none. That an agent asks for a person
    is left out: it may have been let pass for good."""
    if s.task.approved is None or s.task.approval is None:
        return None
    spec = s.node.spec
    word = said(s.step.policies.policies, spec.agent, s.task.approval["action"], s.task.approved) or "uncertain"
    return "always" if word != "forbid" and (spec.tainted or spec.untrusted) else word


def _decided(s: Sent, gate: str, action: str, args: dict[str, Any], word: str) -> bool:
    digest = action_digest(action, args)
    return any(a.gate == gate and a.digest == digest and not (a.silent and word == "always") for a in s.approvals)


@prop
def what_a_rule_asks_about_is_not_sent_without_a_persons_decision(w: GatedWorld) -> None:
    """`always` needs a person, `uncertain` a person or the plan's declared silence; for this action with these arguments. What
    nobody has claimed and is sent again is judged by the policies of that instant too."""
    name = "what_a_rule_asks_about_is_not_sent_without_a_persons_decision"
    for s in sends(w):
        word, id_ = wanted(s), s.node.spec.id
        if word in ("always", "uncertain"):
            ok = _decided(s, "plan", s.node.spec.action, s.task.inputs, word)
            expect(ok, name, f"{id_} attempt {s.task.attempt}: {word}, {s.task.inputs}, {s.approvals}")
        word = granted(s)
        if word in ("always", "uncertain"):
            assert s.task.approval is not None and s.task.approved is not None
            ok = _decided(s, "agent", s.task.approval["action"], s.task.approved, word)
            expect(ok, name, f"{id_} attempt {s.task.attempt}: proposed, {word}, {s.task.approved}, {s.approvals}")


@prop
def what_is_forbidden_is_never_sent_and_no_button_passes_it(w: GatedWorld) -> None:
    name = "what_is_forbidden_is_never_sent_and_no_button_passes_it"
    for s in sends(w):
        told = f"{s.node.spec.id} attempt {s.task.attempt} by {s.step.what}"
        expect(wanted(s) != "forbid", name, told)
        expect(granted(s) != "forbid", name, f"{told}: proposed, {s.task.approved}")


@prop
def what_is_done_has_the_approved_digest(w: GatedWorld) -> None:
    """And the pause that it names was answered with that very action."""
    name = "what_is_done_has_the_approved_digest"
    known = {a.pause_id: a for s in dispatches(w) for a in s.approvals}
    for done in w.done:
        if (by := done.task.approval) is None:
            continue
        expect(action_digest(done.action, done.args) == by["digest"], name, f"{done.args} by {by}")
        if by["pause_id"] is not None:
            expect(known[by["pause_id"]].digest == by["digest"], name, f"{known[by['pause_id']]} {by}")


@prop
def a_refused_action_is_not_done(w: GatedWorld) -> None:
    """Nothing is sent for the node any more, unless it is rolled back and runs anew."""
    refused: set[str] = set()
    pauses: dict[str, str] = {}
    for _, r in properties.by_step(w):
        d = r.data
        if r.type == "WORKFLOW_PAUSED_HITL" and d["kind"] == "gate":
            pauses[d["pause_id"]] = d["node_id"]
        elif r.type == "HITL_RESOLVED" and d["action_id"] == "RES_REJECT":
            refused.add(pauses[d["pause_id"]])
        elif r.type == "NODE_STATE_CHANGED" and d["to"] == "PENDING":
            refused.discard(d["node_id"])
        elif r.type == "NODE_STATE_CHANGED" and d["to"] == "SCHEDULED":
            expect(d["node_id"] not in refused, "a_refused_action_is_not_done", f"{d['node_id']} was refused")


@prop
def every_verdict_is_journaled_also_one_that_lets_pass(w: GatedWorld) -> None:
    """By the row of the dispatch the last verdict about the node's action is today's, about what is sent."""
    name = "every_verdict_is_journaled_also_one_that_lets_pass"
    sent = {s.row.seq: s for s in dispatches(w) if s.row is not None}
    last: dict[str, dict[str, Any]] = {}
    for _, r in properties.by_step(w):
        if r.type == "GATE_EVALUATED" and r.data["inputs"]["action"] not in PROPOSED:
            last[r.data["node_id"]] = r.data
        elif (s := sent.get(r.seq)) is not None:
            spec, word = s.node.spec, wanted(s)
            silent = (
                spec.gate is None and said(s.step.policies.policies, spec.agent, spec.action, s.task.inputs) is None
            )
            if silent and word == "never":
                continue
            told = last.get(spec.id)
            right = told is not None and (told["decide"], told["inputs"]["args"]) == (word, s.task.inputs)
            expect(right, name, f"{spec.id}: {word} {s.task.inputs}, journaled {told}")


@prop
def a_proposal_is_judged_in_the_step_that_brings_it(w: GatedWorld) -> None:
    name = "a_proposal_is_judged_in_the_step_that_brings_it"
    for s in w.steps:
        for r in s.rows:
            if (
                r.type == "NODE_STATE_CHANGED"
                and (r.meta or {}).get("outcome") == "proposed"
                and r.data["to"] not in ("CANCELLED",)
            ):
                faults = ("PROPOSED_AGAIN", "TOO_MANY_PROPOSALS")
                fault = (r.data.get("error") or {}).get("code") in faults
                judged = any(x.type == "GATE_EVALUATED" and x.data["node_id"] == r.data["node_id"] for x in s.rows)
                expect(judged or fault, name, f"{r.data}")


@prop
def beyond_a_budget_nothing_is_begun_unless_a_person_says_so(w: GatedWorld) -> None:
    """What a person has ordered for its own node is dispatched whatever it costs; nothing else is, a retry included. Once a
    person has said so, nothing else is begun ever, whatever the budgets are by then."""
    name = "beyond_a_budget_nothing_is_begun_unless_a_person_says_so"
    spent, more, off = {"tokens": 0, "usd": 0.0}, {"tokens": 0, "usd": 0.0}, False
    stopped, ordered = False, set[str]()
    for s, r in properties.by_step(w):
        if usage := r.data.get("usage"):
            spent["tokens"] += usage["input_tokens"]
            spent["usd"] += usage["cost_usd"]
        elif r.type == "HITL_RESOLVED" and "budget" in (r.meta or {}):
            said = (r.meta or {})["budget"]
            off, stopped = off or said.get("off", False), stopped or said.get("stop", False)
            for k, n in said.get("more", {}).items():
                more[k] += n
        if r.type != "NODE_STATE_CHANGED":
            continue
        node_id, to, meta = r.data["node_id"], r.data["to"], r.meta or {}
        if to == "RETRYING" and meta.get("round"):
            ordered.add(node_id)  # it waits until the old attempt has ended
        elif to == "SCHEDULED" and r.data["from"] != "AWAITING_HUMAN":
            expect(not stopped or node_id in ordered, name, f"{node_id}, and a person wants nothing more begun")
            if stopped:
                continue
            for budget in (p.budget for p in s.policies.policies if p.budget is not None and not off):
                for k, most in budget.model_dump(exclude_none=True).items():
                    begun = spent[k] < most + more[k] - 1e-9
                    expect(begun, name, f"{node_id} with {spent} of {most}, and {more} granted")
        if to not in ("RETRYING", "SCHEDULED") or (to == "SCHEDULED" and not meta.get("look_up")):
            ordered.discard(node_id)


@prop
def a_question_is_asked_once_and_only_while_its_answer_counts(w: GatedWorld) -> None:
    """Of one node at most one gate is open; and when a person answers it, the node waits for that."""
    name = "a_question_is_asked_once_and_only_while_its_answer_counts"
    open_: dict[str, str] = {}
    for s, r in properties.by_step(w):
        d = r.data
        if r.type == "WORKFLOW_PAUSED_HITL" and d["kind"] == "gate":
            expect(d["node_id"] not in open_.values(), name, f"{d['node_id']} is asked about twice")
            open_[d["pause_id"]] = d["node_id"]
        elif r.type == "HITL_RESOLVED" and d["pause_id"] in open_:
            node_id = open_.pop(d["pause_id"])
            if d["outcome"] in ("decided", "expired") and node_id in s.before.nodes:
                state = s.before.nodes[node_id][0]
                expect(state == "AWAITING_HUMAN", name, f"{node_id} is {state}, and {d['action_id']} was pressed")
