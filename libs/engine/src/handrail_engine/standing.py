"""Which effects stand when a rollback ends, told so that a person can look after them."""

from __future__ import annotations

from handrail_contracts.events import TERMINAL
from handrail_contracts.events import NodeStatus as N
from handrail_engine.evidence import clip
from handrail_engine.rollback import needs_undo
from handrail_engine.state import NodeState, WorkflowState

_NAMED = 20
_WHY_CHARS = 200


def incomplete_reason(s: WorkflowState) -> str | None:
    """Why the rollback began, and then every effect that stands (at most 20 by name), each with why it does."""
    assert s.ending is not None
    stands = [f"{n.spec.id} ({why})" for n in s.nodes.values() if (why := _why(n)) is not None]
    if not stands:
        return s.ending.reason
    more = f" and {len(stands) - _NAMED} more" if len(stands) > _NAMED else ""
    begun = (s.ending.reason or "").rstrip()
    if begun and begun[-1] not in ".!?…":
        begun += "."
    return f"{begun} Left standing: {', '.join(stands[:_NAMED])}{more}.".strip()


def standing(s: WorkflowState) -> list[str]:
    """The nodes whose effect stays although they are rolled back, as far as that is settled, in plan order. Empty where
    nothing is rolled back."""
    if s.ending is None:
        return []
    over = s.ending.stopped or s.status in TERMINAL
    return [n.spec.id for n in s.nodes.values() if s.undoes(n) and (_why(n) is not None if over else _left(n))]


def _left(n: NodeState) -> bool:
    return n.state is N.NOT_REVERSIBLE or (n.state is N.COMPENSATION_FAILED and n.undo.settled)


def _why(n: NodeState) -> str | None:
    match n.state:
        case N.COMPENSATION_FAILED:
            said = (n.undo.error or {}).get("message") or (n.undo.error or {}).get("code")
            return f"its undo failed: {clip(said, _WHY_CHARS).rstrip('. ')}" if said else "its undo was stopped"
        case N.NOT_REVERSIBLE:
            return "it cannot be undone"
        case N.COMPLETE if n.spec.undoing is not None:
            return "its undo was not begun"
        case N.CANCELLED | N.SKIPPED if needs_undo(n) and not n.undo.settled:
            return "it may have happened"
        case _:
            return None
