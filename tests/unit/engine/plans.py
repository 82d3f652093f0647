"""Random plans by seed: every field that the engine gives a meaning to, in small sizes."""

from __future__ import annotations

from random import Random
from typing import Any

from handrail_contracts.plan import Plan
from handrail_engine.plan import compile_plan, validate
from unit.engine.saga import AnyAgent

AGENTS = ("ann", "bob", "cyd")
SIZES = (1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 12)
RETRY = {"action_id": "RES_RETRY", "display_text": "Again", "kind": "retry"}
RETRY_SETS = {
    "action_id": "RES_SET",
    "display_text": "With another url",
    "kind": "retry",
    "sets": "url",
    "requires_input": True,
    "input_schema": "url",
}
SKIP = {"action_id": "RES_SKIP", "display_text": "Skip", "kind": "skip"}
ABORT = {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "kind": "compensate"}
BACK = {"action_id": "RES_BACK", "display_text": "Back to the savepoint", "kind": "compensate", "scope": "savepoint"}
PRUNE = {"action_id": "RES_PRUNE", "display_text": "Without this branch", "kind": "compensate", "scope": "subtree"}
OWN_BUTTONS = (
    [RETRY, SKIP],
    [RETRY_SETS, ABORT],
    [RETRY, RETRY_SETS, SKIP, ABORT],
    [BACK, SKIP, ABORT],
    [PRUNE, RETRY],
    [BACK, PRUNE, RETRY],
)


def random_plan(rng: Random, *, size: int | None = None, prefix: str = "n") -> dict[str, Any]:
    """A valid plan as a client writes it."""
    n = size or rng.choice(SIZES)
    nodes: list[dict[str, Any]] = []
    for i in range(n):
        before = [x["id"] for x in nodes]
        nodes.append(_node(rng, f"{prefix}{i}", before))
    plan: dict[str, Any] = {"nodes": nodes}
    if rng.random() < 0.15:
        plan["output"] = {"said": {"$from": f"nodes.{rng.choice(nodes)['id']}.output.n", "default": 0}}
    return plan


def compiled(plan: dict[str, Any]) -> dict[str, Any]:
    model = Plan.model_validate(plan)
    problems = validate(model, AnyAgent())
    assert not problems, problems
    return compile_plan(model, AnyAgent())


def _node(rng: Random, id_: str, before: list[str]) -> dict[str, Any]:
    deps = sorted(rng.sample(before, min(len(before), rng.choice((0, 1, 1, 1, 2, 3)))))
    node: dict[str, Any] = {"id": id_, "agent": rng.choice(AGENTS), "action": "act", "depends_on": deps}
    effect = rng.choices(("pure", "idempotent", "queryable", "unsafe"), (3, 5, 2, 2))[0]
    node["effect_class"] = effect
    _undo(rng, node)
    node["retry"] = _retry(rng)
    node["timeouts"] = {
        "lease_s": rng.choice((1.0, 3.0)),
        "start_to_close_s": rng.choice((8.0, 20.0)),
        "schedule_to_start_s": rng.choice((5.0, 15.0, 40.0)),
    }
    node["on_exhausted"] = rng.choices(("pause", "skip", "compensate", "fail"), (12, 3, 3, 2))[0]
    node["inputs"] = {"url": "old", "flag": {"$from": "input.flag"}, **_references(rng, deps)}
    if rng.random() < 0.15:
        node["when"] = _when(rng, deps)
    if rng.random() < 0.1:
        node["optional"] = True
    if rng.random() < 0.25:
        node["pause_scope"] = rng.choice(("branch", "workflow"))
    if rng.random() < 0.4:
        node["resolutions"] = rng.choice(OWN_BUTTONS)
    if rng.random() < 0.2:
        node["savepoint"] = True
    if rng.random() < 0.2:
        offered = [r["action_id"] for r in node.get("resolutions", (SKIP, ABORT))]
        ends = [a for a in offered if a in ("RES_SKIP", "RES_ABORT_SAGA", "RES_PRUNE")]
        node["expiry"] = {"after_s": rng.choice((5.0, 60.0)), "action_id": rng.choice(ends)}
    if rng.random() < 0.15:
        node["may_add_nodes"] = 2
    return node


def _undo(rng: Random, node: dict[str, Any]) -> None:
    if node["effect_class"] == "pure":
        return
    kind = rng.random()
    if kind < 0.12:
        node["irreversible"] = True
    elif kind < 0.24:
        node["compensation"] = "none"
    elif kind < 0.6:
        node["compensation"] = {"retry": _retry(rng), "timeouts": {"lease_s": 2.0, "schedule_to_start_s": 20.0}}


def _retry(rng: Random) -> dict[str, Any]:
    retry: dict[str, Any] = {
        "max_attempts": rng.choice((1, 2, 3)),
        "backoff": rng.choice(("fixed", "linear", "exponential")),
        "initial_delay_s": rng.choice((0.0, 0.5, 2.0)),
        "jitter": rng.choice(("full", "none")),
    }
    if rng.random() < 0.2:
        retry["total_timeout_s"] = rng.choice((4.0, 30.0))
    if rng.random() < 0.2:
        retry["non_retryable_errors"] = ["E1"]
    return retry


def _references(rng: Random, deps: list[str]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for d in deps:
        draw = rng.random()
        if draw < 0.35:
            inputs[f"from_{d}"] = {"$from": f"nodes.{d}.output.n"}
        elif draw < 0.6:
            inputs[f"maybe_{d}"] = {"$from": f"nodes.{d}.output.n", "default": -1}
    return inputs


def _when(rng: Random, deps: list[str]) -> dict[str, Any]:
    if deps and rng.random() < 0.5:
        return {"ref": f"nodes.{rng.choice(deps)}.output.n", "ge": rng.choice((0, 2))}
    return {"ref": "input.flag", "eq": rng.random() < 0.7}
