"""What a workflow may spend on models: tokens and money, as its plan and the policies in force declare.

What agents say that an attempt took (`usage`) is part of its rows, so the sum is a fold of the journal. Once a budget is used up
nothing more is begun, and a person is asked: raise it, go on without one, skip what is left, or undo. What is out finishes.
After a skip nothing is begun any more that no person orders: neither what is planned or appended later, nor a retry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import Resolution, ResolutionKind
from handrail_engine import pauses
from handrail_engine.evidence import evidence_of
from handrail_engine.policies import Policies
from handrail_engine.state import WorkflowState
from handrail_engine.turn import Turn

CODE = "budget"
_UNITS = {"tokens": "tokens", "usd": "USD"}


class UsedUp(NamedTuple):
    """Which budget, how far it reached with what people have added, and what is spent."""

    name: str
    limit: float
    spent: float


def declared(s: WorkflowState, policies: Policies) -> list[dict[str, float]]:
    """Every budget that holds for the workflow: its plan's, then those of policies."""
    return ([s.budget] if s.budget else []) + policies.budget(s.blueprint)


def used_up(t: Turn) -> UsedUp | None:
    """The budget that is used up while there is more to begin, else None."""
    s = t.state
    if not s.spent or s.unbounded or s.no_more or s.ends or s.ended or not (s.unsettled or s.plan is not None):
        return None
    for budget in declared(s, t.now.policies):
        for name, most in budget.items():
            limit = most + s.granted.get(name, 0)
            if s.spent.get(name, 0) >= limit:
                return UsedUp(name, limit, s.spent[name])
    return None


def check(t: Turn) -> None:
    """Asks a person where a budget is used up and nobody is asked about it yet."""
    found = used_up(t)
    if found is None or any((p.then or {}).get("budget") for p in t.state.pauses.values()):
        return
    unit = _UNITS[found.name]
    text = f"The workflow has spent {found.spent:g} {unit} on models, and its budget is {found.limit:g}."
    error = {"code": CODE, "message": text, "budget": found.name, "limit": found.limit, "spent": found.spent}
    evidence, digest = evidence_of(error)
    pauses.open_pause(
        t,
        PauseKind.FAILURE,
        None,
        reason=text,
        resolutions=_buttons(found.name, unit),
        then={"budget": found.name},
        raw_evidence=evidence,
        evidence_digest=digest,
        context_snapshot={f"spent_{k}": v for k, v in t.state.spent.items()} | {f"budget_{found.name}": found.limit},
    )


def meaning(name: str, kind: ResolutionKind, given: Any) -> dict[str, Any]:
    """What a button of such a pause means for the budget, as its row keeps it."""
    if kind is ResolutionKind.RESUME and given is not None:
        return {"budget": {"more": {name: given}}}
    if kind is ResolutionKind.SKIP:
        return {"budget": {"stop": True}}
    return {"budget": {"off": True}} if kind is ResolutionKind.RESUME else {}


def _buttons(name: str, unit: str) -> list[dict[str, Any]]:
    number = {"type": "integer", "minimum": 1} if name == "tokens" else {"type": "number", "exclusiveMinimum": 0}
    offered: list[dict[str, Any]] = [
        {
            "action_id": "RES_RAISE_BUDGET",
            "display_text": f"Raise the budget, by so many {unit}",
            "requires_input": True,
            "input_schema": {**number, "title": f"More {unit}"},
            "style": "primary",
            "kind": "resume",
        },
        {"action_id": "RES_RESUME", "display_text": "Go on without a budget", "kind": "resume"},
        {"action_id": "RES_SKIP", "display_text": "Skip what is not begun", "kind": "skip"},
        {"action_id": "RES_ABORT_SAGA", "display_text": "Abort and roll back", "kind": "compensate"},
    ]
    return [pauses.button(Resolution.model_validate(b)) for b in offered]
