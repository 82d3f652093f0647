"""Which moves exist. Everything else is a bug, and `evolve` refuses it.

A node lives twice. The first life does the work:

    PENDING → SCHEDULED → IN_PROGRESS → COMPLETE
                 ↘ (an attempt that ends within 50 ms skips IN_PROGRESS)
    RETRYING waits between attempts; DEAD_LETTERED has no attempts left; AWAITING_HUMAN has an open pause;
    SKIPPED and CANCELLED never (or no longer) run.

The second life undoes it, and only after an abort:

    COMPLETE, or left (CANCELLED, SKIPPED) in doubt → COMPENSATING ⟲ → COMPENSATED | NOTHING_TO_UNDO | COMPENSATION_FAILED ⟲
    NOT_REVERSIBLE: the effect stands and cannot be undone.

Why a table: a status that is assigned in one place and allowed in one table can be checked by reading one page. It is as
tight as the rules: whatever goes on when an abort begins is CANCELLED first (or drains), so a second life begins only where
a first one settled. The loop is deliberate: COMPENSATING → COMPENSATING is the claim of an undo, its retry, its next attempt.
PENDING, RETRYING and AWAITING_HUMAN → DEAD_LETTERED is a policy that forbids what would be dispatched.
A late success after its undo starts the second life again (COMPENSATED → COMPENSATING). After a rollback to a savepoint
whatever was undone, left or skipped is PENDING once more, for a new first life under a new effect key; what could not be
undone (NOT_REVERSIBLE, COMPENSATION_FAILED) stays.
"""

from __future__ import annotations

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus as W

_UNDO_STARTS = frozenset({N.COMPENSATING, N.NOTHING_TO_UNDO, N.NOT_REVERSIBLE})
_AGAIN = frozenset({N.PENDING})

NODE_MOVES: dict[N, frozenset[N]] = {
    N.PENDING: frozenset({N.SCHEDULED, N.SKIPPED, N.CANCELLED, N.AWAITING_HUMAN, N.DEAD_LETTERED}),
    N.SCHEDULED: frozenset({N.IN_PROGRESS, N.COMPLETE, N.RETRYING, N.DEAD_LETTERED, N.AWAITING_HUMAN, N.CANCELLED}),
    N.IN_PROGRESS: frozenset({N.COMPLETE, N.RETRYING, N.DEAD_LETTERED, N.AWAITING_HUMAN, N.CANCELLED}),
    N.RETRYING: frozenset({N.SCHEDULED, N.AWAITING_HUMAN, N.CANCELLED, N.DEAD_LETTERED}),
    N.DEAD_LETTERED: frozenset({N.AWAITING_HUMAN, N.SKIPPED, N.CANCELLED}),
    N.AWAITING_HUMAN: frozenset({N.SCHEDULED, N.RETRYING, N.SKIPPED, N.COMPLETE, N.CANCELLED, N.DEAD_LETTERED}),
    N.COMPLETE: _UNDO_STARTS,
    N.SKIPPED: _UNDO_STARTS | _AGAIN,
    N.CANCELLED: _UNDO_STARTS | _AGAIN,
    N.COMPENSATING: frozenset({N.COMPENSATING, N.COMPENSATED, N.COMPENSATION_FAILED, N.NOTHING_TO_UNDO}),
    N.COMPENSATED: frozenset({N.COMPENSATING}) | _AGAIN,
    N.COMPENSATION_FAILED: frozenset({N.COMPENSATING, N.COMPENSATED}),
    N.NOT_REVERSIBLE: frozenset(),
    N.NOTHING_TO_UNDO: frozenset({N.COMPENSATING}) | _AGAIN,
}

SETTLED: frozenset[N] = frozenset({N.COMPLETE, N.SKIPPED, N.CANCELLED})
"""First-life states that need nothing more: when all nodes are here, the workflow ends."""

OPEN: frozenset[N] = frozenset({N.SCHEDULED, N.IN_PROGRESS})
"""First-life states with an attempt out."""

WORKFLOW_MOVES: dict[W, frozenset[W]] = {
    W.ACCEPTED: frozenset({W.PLANNING, W.RUNNING, W.PAUSED_HITL, W.COMPENSATING, W.CANCELLED, W.FAILED}),
    W.PLANNING: frozenset({W.RUNNING, W.PAUSED_HITL, W.COMPENSATING, W.CANCELLED, W.COMPENSATED, W.FAILED}),
    W.RUNNING: frozenset(set(W) - {W.ACCEPTED, W.PLANNING, W.RUNNING}),
    W.PAUSED_HITL: frozenset(set(W) - {W.ACCEPTED, W.PAUSED_HITL}),
    W.COMPENSATING: frozenset(
        {W.RUNNING, W.PAUSED_HITL, W.COMPENSATED, W.COMPENSATION_INCOMPLETE, W.CANCELLED, W.FAILED}
    ),
    W.COMPLETED: frozenset(),
    W.COMPLETED_WITH_SKIPS: frozenset(),
    W.COMPENSATED: frozenset(),
    W.COMPENSATION_INCOMPLETE: frozenset(),
    W.FAILED: frozenset(),
    W.CANCELLED: frozenset(),
}


class IllegalMove(Exception):
    """A row asks for a move that the tables above do not have: a bug in `decide`, or a journal from elsewhere."""

    def __init__(self, what: str, old: str, new: str) -> None:
        super().__init__(f"Expected a move of {what} that the lifecycle allows, but {old} → {new} is none.")


def check_node(node_id: str, old: N, new: N) -> None:
    """Raises IllegalMove unless the node may go from old to new."""
    if new not in NODE_MOVES[old]:
        raise IllegalMove(f"node {node_id!r}", old, new)


def check_workflow(trace_id: str, old: W, new: W) -> None:
    """Raises IllegalMove unless the workflow may go from old to new; staying is always allowed, except at an end."""
    if new != old and new not in WORKFLOW_MOVES[old]:
        raise IllegalMove(f"workflow {trace_id!r}", old, new)
