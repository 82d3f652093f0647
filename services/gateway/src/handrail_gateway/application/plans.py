"""A plan at the door: the engine's rules and every schema in it, answered with the problem that names the fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from handrail_contracts.pauses import DEFAULT_RESOLUTIONS, PauseKind
from handrail_contracts.plan import MAX_NODES, Plan, ResolutionKind
from handrail_engine.plan import compile_plan, validate
from handrail_engine.proposals import edit_schema
from handrail_gateway.application import pressed, schemas
from handrail_gateway.application.faults import Refusal
from handrail_gateway.application.registry import Manifests
from handrail_gateway.application.substitutes import Substitutes

MAX_ERRORS = 200
_USUAL: dict[str, dict[str, Any]] = {
    r.action_id: r.model_dump(mode="json", exclude_none=True)
    for kind in (PauseKind.GATE, PauseKind.ESCALATION, PauseKind.AMBIGUOUS, PauseKind.FAILURE)
    for r in DEFAULT_RESOLUTIONS[kind]
}


def refuse_oversize(body: Any) -> None:
    """Refuses a plan of too many nodes before each of them is looked at. `body` is the request as read."""
    plan = body.get("plan") if isinstance(body, dict) else None
    nodes = plan.get("nodes") if isinstance(plan, dict) else None
    if isinstance(nodes, list) and len(nodes) > MAX_NODES:
        raise Refusal(
            "dag-too-large",
            f"Expected at most {MAX_NODES} nodes, but the plan has {len(nodes)}. Split the work into several workflows.",
            limit=MAX_NODES,
            got=len(nodes),
        )


def compiled(plan: Plan, manifests: Manifests, at: str) -> dict[str, Any]:
    """The plan as it runs with these agents. Raises Refusal when it may not run: pointers begin with `at`, the code is that of
    the first fault."""
    found = [{"pointer": at + p.pointer, "code": p.code, "message": p.message} for p in validate(plan, manifests)]
    found = found or list(_bad_schemas(plan, at))
    if not found:
        as_it_runs = compile_plan(plan, manifests)
        found = list(islice(_unfit_silence(plan, as_it_runs["nodes"], at), MAX_ERRORS))
        if not found:
            return as_it_runs
    raise _refusal(found)


def granted_s(plan: Plan) -> float:
    """The longest time that the plan itself grants a node, for one attempt or for a round of them; 0 where it grants none. What
    an agent or nobody has said grants nothing."""
    return max((seconds for _, seconds in _granted(plan)), default=0.0)


def beyond(plan: Plan, deadline_s: float, at: str) -> Refusal:
    """The refusal of a plan that grants a node more time than the whole workflow has."""
    return _refusal(
        [
            {
                "pointer": at + pointer,
                "code": "invalid-retry-policy",
                "message": f"Expected at most the deadline_s of {deadline_s:.15g} s, but found {seconds:.15g} s.",
            }
            for pointer, seconds in _granted(plan)
            if seconds > deadline_s
        ]
    )


def _granted(plan: Plan) -> Iterator[tuple[str, float]]:
    for i, node in enumerate(plan.nodes):
        if node.timeouts is not None and "start_to_close_s" in node.timeouts.model_fields_set:
            yield f"/nodes/{i}/timeouts/start_to_close_s", node.timeouts.start_to_close_s
        if node.retry is not None and node.retry.total_timeout_s is not None:
            yield f"/nodes/{i}/retry/total_timeout_s", node.retry.total_timeout_s


def _refusal(found: Sequence[dict[str, str]]) -> Refusal:
    codes = Counter(f["code"] for f in found)
    first = found[0]
    more = f" {len(found)} faults in all; `errors` lists them." if len(found) > 1 else ""
    return Refusal(
        "validation" if len(codes) > 1 and "validation" in codes else first["code"],
        f"{first['message']}{more}",
        errors=found[:MAX_ERRORS],
    )


def _bad_schemas(plan: Plan, at: str) -> Iterator[dict[str, str]]:
    for i, node in enumerate(plan.nodes):
        named: list[tuple[str, Any]] = [(f"{at}/nodes/{i}/output_schema", node.output_schema)]
        for j, resolution in enumerate(node.resolutions or ()):
            named.append((f"{at}/nodes/{i}/resolutions/{j}/input_schema", resolution.input_schema))
        for pointer, schema in named:
            if isinstance(schema, dict):
                try:
                    schemas.check(schema)
                except schemas.BadSchema as e:
                    yield {
                        "pointer": pointer + e.pointer,
                        "code": "validation",
                        "message": f"Expected a JSON Schema, but: {e}.",
                    }


def _unfit_silence(plan: Plan, nodes: Sequence[dict[str, Any]], at: str) -> Iterator[dict[str, str]]:
    """What a deadline gives its button is what a person would have to give: nobody is there to give it again. `nodes` are
    compiled."""
    outputs: Substitutes | None = None
    as_they_run = {n["id"]: n for n in nodes} if any(n.expiry is not None for n in plan.nodes) else {}
    for i, node in enumerate(plan.nodes):
        if node.expiry is None:
            continue
        button = _button(as_they_run[node.id], node.expiry.action_id)
        given = node.expiry.input if "input" in node.expiry.model_fields_set else pressed.MISSING
        here = f"{at}/nodes/{i}/expiry/input"
        try:
            wrong = pressed.faults(button, given, here)
            if not wrong and pressed.is_output(button, given):
                outputs = outputs or Substitutes(nodes)
                wrong = outputs.faults(node.id, None if given is pressed.MISSING else given, here)
        except schemas.BadSchema:
            continue  # the agent's own: not for the author of a plan to mend
        for w in wrong:
            message = f"Expected what {button['action_id']} asks for, but: {w['message']}"
            yield {"pointer": w["pointer"], "code": "validation", "message": message}


def _button(node: Mapping[str, Any], action_id: str) -> dict[str, Any]:
    """The button of this name that a pause of the node offers. Arguments are edited by the schema of the action that the gate
    stands before."""
    own = next((r for r in node.get("resolutions") or () if r["action_id"] == action_id), None)
    button: dict[str, Any] = own or _USUAL[action_id]
    if own is None and button["kind"] == ResolutionKind.EDIT:
        declared: dict[str, Any] = node.get("args_schema", {}) if "gate" in node else {}
        known = declared.get("type") == "object" and "properties" in declared
        return {**button, "input_schema": edit_schema(declared, {}) if known else {"type": "object"}}
    return button
