"""A dead letter from elsewhere: somebody who is not the owner put it onto the topic."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.pauses import PauseKind
from handrail_contracts.tasks import DeadLetter
from handrail_engine import pauses
from handrail_engine.evidence import CODE_CHARS, MESSAGE_CHARS, clip, evidence_of
from handrail_engine.inputs import Rejection
from handrail_engine.state import NodeState
from handrail_engine.turn import Turn


def arrived(t: Turn, node: NodeState, d: DeadLetter) -> Rejection | None:
    """Somebody else put a dead letter for this node onto the topic: a person looks at it.

    Its attempt, if one is out, is taken as lost and in doubt. Where there is nothing to stop (the node has settled, or not
    begun), the two buttons only close the pause, except that a node not begun can be skipped. What such a node asks of its
    own, once it has run, it asks beside that, and only its own pause answers it.
    """
    s = t.state
    if node.dead_letter is not None:
        pauses.open_failure(t, node)  # its own is on the way and says the same
        return None
    if any(p.node_id == node.spec.id for p in s.pauses.values()):
        return Rejection("duplicate", "a pause of this node is open")
    body = d.error.evidence if d.error else d.task
    said = d.reason or (d.error.message if d.error else "") or f"A dead letter came for {node.spec.id}."
    reason = clip(said, MESSAGE_CHARS)
    code = clip(d.error.code, CODE_CHARS) if d.error else "dead-letter"
    error = {"code": code, "message": reason, "evidence": body}
    active = not s.leaves(node) and node.state in (N.SCHEDULED, N.IN_PROGRESS, N.RETRYING)
    if active:
        out = node.live is not None
        meta = {"outcome": "given-up", **({"doubt": True} if out and pauses.may_have_effect(node) else {})}
        t.move(node, N.AWAITING_HUMAN, meta if out else None, error=error, finished_at=t.at)
    evidence, mark = evidence_of(body)
    own = None if active else _BUTTONS[: 2 if s.ends else 3]
    shows: dict[str, Any] = {"raw_evidence": evidence, "evidence_digest": mark}
    pauses.open_pause(t, PauseKind.FAILURE, node, reason=reason, resolutions=own, foreign=True, **shows)
    return None


_BUTTONS: list[dict[str, Any]] = [
    {**pauses.defaults(PauseKind.FAILURE)[0], "display_text": "Go on"},
    {**pauses.defaults(PauseKind.FAILURE)[1], "display_text": "Discard"},
    pauses.defaults(PauseKind.FAILURE)[2],
]
