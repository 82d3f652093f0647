"""The part of the fold that concerns people: pauses, as they open and close, and what waits to become one."""

from __future__ import annotations

import heapq

from handrail_contracts.events import NodeStatus
from handrail_contracts.model import ms_of
from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import PauseScope, ResolutionKind
from handrail_engine.rollback import settle_undo
from handrail_engine.spending import grant
from handrail_engine.state import (
    DEADLINE_TIMER,
    PAUSE_TIMER,
    REMIND_TIMER,
    NodeState,
    PauseState,
    Row,
    WorkflowState,
)

REMIND_EVERY_MS = 86_400_000
_MORE_ATTEMPTS = (ResolutionKind.RETRY, ResolutionKind.HAND_BACK, ResolutionKind.MARK)
"""What may end in the same pause again."""


def letter(s: WorkflowState, node: NodeState, waits: tuple[str, int] | None) -> None:
    """The dead letter that waits to return and open the pause of this node, or none."""
    s.letters += (waits is not None) - (node.dead_letter is not None)
    node.dead_letter = waits


def set_deadline(s: WorkflowState, at_ms: int) -> None:
    """When the workflow is to have ended."""
    s.deadline_ms = at_ms
    heapq.heappush(s.timers, (at_ms, DEADLINE_TIMER))


def paused(s: WorkflowState, row: Row) -> None:
    """A pause opens."""
    d, meta = row.data, row.meta or {}
    scope = PauseScope(meta["scope"])
    expires = ms_of(d["expires_at"]) if d.get("expires_at") else None
    pause = PauseState(d["pause_id"], d["kind"], d["node_id"], scope, d, expires)
    pause.expiry, pause.then, pause.callback = meta.get("expiry"), meta.get("then"), meta.get("callback")
    s.pauses[d["pause_id"]] = pause
    remind(s, pause, row.at_ms + (REMIND_EVERY_MS if expires is None else (expires - row.at_ms) // 2))
    if expires is not None:
        heapq.heappush(s.timers, (expires, PAUSE_TIMER + d["pause_id"]))
    s.holding += scope is PauseScope.WORKFLOW
    if d["node_id"] is not None:
        letter(s, s.nodes[d["node_id"]], None)
    if s.deadline_ms is not None:
        s.deadline_left_ms, s.deadline_ms = max(0, s.deadline_ms - row.at_ms), None


def remind(s: WorkflowState, pause: PauseState, at_ms: int | None) -> None:
    """People are reminded once at half the time that a pause has, or every day where it has no end."""
    pause.remind_ms = at_ms
    if at_ms is not None:
        heapq.heappush(s.timers, (at_ms, REMIND_TIMER + pause.pause_id))


def resolved(s: WorkflowState, row: Row) -> None:
    """A pause closes."""
    meta = row.meta or {}
    pause = s.pauses.pop(row.data["pause_id"])
    s.holding -= pause.scope is PauseScope.WORKFLOW
    if pause.kind == PauseKind.ESCALATION:
        s.talks[pause.pause_id] = pause.node_id
    if pause.kind == PauseKind.COMPENSATION_FAILURE and pause.node_id is not None and s.ending is not None:
        if meta.get("kind") == ResolutionKind.ACCEPT:
            s.nodes[pause.node_id].undo.again = False  # a person leaves the effect standing, whatever came to light
            settle_undo(s, s.nodes[pause.node_id])
        elif meta.get("kind") == ResolutionKind.STOP:
            s.ending.stopped = True
            for node in s.nodes.values():
                letter(s, node, None)
    if "budget" in meta:
        grant(s, meta["budget"])
    if meta.get("no_deadline"):
        s.deadline_left_ms = None
    elif not s.pauses and s.deadline_left_ms is not None:
        left, s.deadline_left_ms = s.deadline_left_ms, None
        set_deadline(s, row.at_ms + left)
    if pause.node_id in s.nodes and row.data["outcome"] in ("decided", "expired"):
        silence = row.data["outcome"] == "expired" and meta.get("kind") in _MORE_ATTEMPTS
        s.nodes[pause.node_id].unattended = row.data["action_id"] if silence else None
    if pause.scope is PauseScope.WORKFLOW and not s.held:
        for node in s.nodes.values():
            if node.state in (NodeStatus.RETRYING, NodeStatus.COMPENSATING):
                s.arm(node)
