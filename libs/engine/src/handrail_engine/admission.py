"""What an agent hands in as nodes, before `decide` sees it: validated like any plan, compiled like any plan, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from handrail_contracts.plan import EffectClass, Gate, Plan
from handrail_contracts.tasks import Failure, Outcome, Result
from handrail_engine import appended, planning
from handrail_engine.lifecycle import OPEN
from handrail_engine.plan import PlanProblem, Registry, compile_plan, validate
from handrail_engine.state import WorkflowState


def admit(s: WorkflowState, r: Result, registry: Registry) -> Result:
    """The answer as `decide` may have it: its `nodes` compiled; or, where they are no plan that may run, as a failed attempt
    whose evidence names every fault (in doubt, when the node has side effects: that the agent acted is not undone by a bad
    plan). Answers without nodes pass as they are, and so do those whose nodes nobody adds any more: that the agent has acted is
    all that counts of one that comes late, or while its node is wound down. Pure; never raises on what an agent wrote.
    """
    node = s.nodes.get(r.node_id)
    if r.outcome is not Outcome.OK or not r.nodes or node is None or s.ended:
        return r
    if s.leaves(node) or node.state not in OPEN or (r.attempt, r.effect_key) != (node.attempt, s.do_key(node)):
        return r
    if s.planned and not node.spec.may_add_nodes:
        return r  # decide refuses it by the quota
    asked: dict[str, Any] = {"nodes": [_placed(n, node.spec.id) if s.planned else n for n in r.nodes]}
    said = r.output.get("output") if isinstance(r.output, dict) and not s.planned else None
    if isinstance(said, dict):
        asked["output"] = said
    try:
        plan = Plan.model_validate(asked)
    except ValueError as e:
        return _refused(r, node.spec.effect_class, [{"code": "validation", "message": str(e)[:2000]}])
    writer = registry.get((node.spec.agent, node.spec.action)) or {}
    seen = node.spec.untrusted or node.spec.tainted or bool(writer.get("untrusted"))
    again = {n.id for n in plan.nodes if appended.may_come_again(s, node, n.id)}
    problems = validate(plan, registry, known=s.nodes, again=again) or list(_given_up(s, plan))
    problems = problems or (list(_only_for_people(plan)) if seen else [])
    if problems:
        shown = [{"code": p.code, "pointer": p.pointer, "message": p.message} for p in problems[:20]]
        return _refused(r, node.spec.effect_class, shown)
    for n in plan.nodes:
        if n.gate is not None:  # an agent may ask for a person, and never puts words into the question
            n.gate = Gate.model_validate(n.gate.model_dump(include=_GATE_OF_AGENTS, exclude_unset=True))
    known = {k: n.spec for k, n in s.nodes.items()}
    return r.model_copy(update={"nodes": compile_plan(plan, registry, known=known, tainted=seen)["nodes"]})


_GATE_OF_AGENTS = {"decide", "on_reject", "four_eyes"}


_ONLY_FOR_PEOPLE = ("resolutions", "expiry", "may_add_nodes", "compensation", "irreversible")


def _only_for_people(plan: Plan) -> Iterator[PlanProblem]:
    """Whoever has read content from outside writes no buttons, no deadlines that press them, and no way around an undo."""
    for i, n in enumerate(plan.nodes):
        for name in _ONLY_FOR_PEOPLE:
            if name in n.model_fields_set:
                text = f"Expected no {name} on {n.id!r}, because the plan was written after content from outside."
                yield PlanProblem("validation", f"/nodes/{i}/{name}", text)


def _given_up(s: WorkflowState, plan: Plan) -> Iterator[PlanProblem]:
    for i, n in enumerate(plan.nodes):
        for j, dep in enumerate(n.depends_on):
            if why := planning.gone(s, n.id, dep):
                yield PlanProblem("unknown-dependency", f"/nodes/{i}/depends_on/{j}", why)


def _placed(n: Any, by: str) -> Any:
    return appended.placed(n, by) if isinstance(n, dict) else n


def _refused(r: Result, effect: EffectClass, problems: list[dict[str, Any]]) -> Result:
    error = Failure(code="invalid-plan", message=problems[0]["message"][:300], evidence=problems)
    outcome = Outcome.FAILED if effect is EffectClass.PURE else Outcome.IN_DOUBT
    return r.model_copy(update={"outcome": outcome, "nodes": None, "output": None, "error": error})
