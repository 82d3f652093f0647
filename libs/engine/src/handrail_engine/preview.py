"""What a button or an order would do, computed by the very `decide` that will do it, on a state folded for the question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_engine.decide import decide
from handrail_engine.inputs import Cancel, Decision, Now, PanicPause, Rejection
from handrail_engine.policies import Policies
from handrail_engine.references import MISSING, Reference, dig
from handrail_engine.room import recrowd
from handrail_engine.standing import standing
from handrail_engine.state import WorkflowState
from handrail_engine.undo_list import subtree, undo_list

NOBODY = "system:preview"
"""Who presses in a preview: never the one who may not."""


def preview(
    s: WorkflowState,
    pause_id: str,
    action_id: str,
    input_: Any,
    now_ms: int,
    policies: Policies | None = None,
    room: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """`{action_id, status_after, nodes: [{node_id, from, to}], undo: [node_id, …], skipped: [node_id, …], under_way:
    [node_id, …], standing: [node_id, …]}`: what changes at once; in `skipped` every node that could not run any more, also
    those that would only be skipped later; in `under_way` those with an attempt that is out and stays out until it answers;
    in `standing` those whose effect would stay although they are rolled back.

    `undo` lists, in order, what would be undone; within a rollback, what is still to be begun or tried again. `policies` and
    `room`: as `Now` has them. Uses up `s`. Raises LookupError when the pause or the button is not there.
    """
    recrowd(s, now_ms, retries=True)
    now = Now(now_ms, policies=policies or Policies(), room=room or {})
    seen = _seen(s, action_id, Decision(pause_id, action_id, input_, actor=NOBODY), now)
    if isinstance(seen, Rejection):
        raise LookupError(seen.detail)
    return seen


def preview_order(s: WorkflowState, order: PanicPause | Cancel, now_ms: int) -> dict[str, Any] | Rejection:
    """What pausing by hand or cancelling would do, as `preview` tells it; `action_id` is `pause` or `cancel`. A Rejection
    says why it would do nothing. Uses up `s`."""
    recrowd(s, now_ms, retries=True)
    return _seen(s, "pause" if isinstance(order, PanicPause) else "cancel", order, Now(now_ms))


def _seen(
    s: WorkflowState, action_id: str, what: Decision | PanicPause | Cancel, now: Now
) -> dict[str, Any] | Rejection:
    before = {k: n.state.value for k, n in s.nodes.items()}
    out = [k for k, n in s.nodes.items() if n.live is not None]
    rolling_back, stood = s.ending is not None, standing(s)
    decided = decide(s, what, now)
    if isinstance(decided, Rejection):
        return decided
    undo: list[str] = []
    for row in decided.rows:
        if row.type == T.WORKFLOW_COMPENSATING:
            undo.extend(n["node_id"] for n in row.data["nodes"])
    if rolling_back and not undo:
        undo = [k for k in _to_come(s) if before[k] != N.COMPENSATING]
    changed = [
        {"node_id": k, "from": before[k], "to": n.state.value}
        for k, n in s.nodes.items()
        if n.state.value != before.get(k)
    ]
    lost = [c["node_id"] for c in changed if c["to"] == N.SKIPPED]
    skipped = [*lost, *(k for k in lost_with(s, lost) if k not in lost)]
    return {
        "action_id": action_id,
        "status_after": s.status.value,
        "nodes": changed,
        "undo": undo,
        "skipped": skipped,
        "under_way": [k for k in out if s.nodes[k].live is not None],
        "standing": [k for k in standing(s) if k not in stood],
    }


def _to_come(s: WorkflowState) -> list[str]:
    """The undos that a rollback has still to begin or to try again, in their order."""
    if s.ending is None or s.ending.stopped or s.held:
        return []
    return [n["node_id"] for n in undo_list(s, s.ending.members) if s.nodes[n["node_id"]].spec.undoing is not None]


def lost_with(s: WorkflowState, skipped: list[str]) -> list[str]:
    """The nodes not begun that cannot live without the output of one of these, or of one another, in plan order."""
    lost: dict[str, None] = {}
    after = sorted((s.nodes[k] for k in subtree(s, skipped)), key=lambda n: n.index)
    for node in after:
        if node.state is N.PENDING and any(
            ref.node_id is not None and not may_miss and _gone(s, ref, lost)
            for ref, may_miss in node.spec.refs.values()
        ):
            lost[node.spec.id] = None
    return list(lost)


def _gone(s: WorkflowState, ref: Reference, lost: dict[str, None]) -> bool:
    source = s.nodes[ref.node_id or ""]
    if source.spec.optional:
        return False
    nothing = source.output is None or dig(source.output, ref.path) is MISSING
    return source.spec.id in lost or (source.state is N.SKIPPED and nothing)
