"""What a button would do, computed by the very `decide` that will do it, on a state folded for the question."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import EventType as T
from handrail_engine.decide import decide
from handrail_engine.inputs import Decision, Now, Rejection
from handrail_engine.state import WorkflowState


def preview(s: WorkflowState, pause_id: str, action_id: str, input_: Any, now_ms: int) -> dict[str, Any]:
    """`{action_id, status_after, nodes: [{node_id, from, to}], undo: [node_id, …]}`: only what changes at once.

    `undo` lists, in order, what would be undone. Uses up `s`. Raises LookupError when the pause or the button is not there.
    """
    before = {k: n.state.value for k, n in s.nodes.items()}
    decided = decide(s, Decision(pause_id, action_id, input_), Now(now_ms))
    if isinstance(decided, Rejection):
        raise LookupError(decided.detail)
    undo: list[str] = []
    for row in decided.rows:
        if row.type == T.WORKFLOW_COMPENSATING:
            undo.extend(n["node_id"] for n in row.data["nodes"])
    changed = [
        {"node_id": k, "from": before[k], "to": n.state.value}
        for k, n in s.nodes.items()
        if n.state.value != before.get(k)
    ]
    return {"action_id": action_id, "status_after": s.status.value, "nodes": changed, "undo": undo}
