"""Who waits for whom in a rollback, and when an undo is over. Part of `evolve`: these counters follow from the rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from handrail_contracts.events import NodeStatus, WorkflowStatus
from handrail_contracts.plan import EffectClass
from handrail_engine.state import Ending, NodeState, Row, WorkflowState

UNDO_ENDS = frozenset({NodeStatus.COMPENSATED, NodeStatus.NOTHING_TO_UNDO, NodeStatus.NOT_REVERSIBLE})
_LEFT = frozenset({NodeStatus.CANCELLED, NodeStatus.SKIPPED})


def announced(s: WorkflowState, row: Row) -> bool:
    """Takes up that the workflow, or a part of it, winds down; False for a row that only goes on with a long list."""
    meta = row.meta or {}
    if "undo" not in meta:
        return False
    e = s.ending
    end = WorkflowStatus(meta["end"]) if "end" in meta else None
    again = frozenset(meta.get("again", ()))
    members = frozenset(meta["members"]) if "members" in meta else None if meta["undo"] else frozenset[str]()
    if e is not None:  # another part is being rolled back already: the two are finished together
        again |= e.again - (members or frozenset())
        members = e.members | members if e.members is not None and members is not None else None
    s.ending = Ending(end, members, again, row.data.get("reason"))
    if end is not None:
        s.deadline_ms = s.deadline_left_ms = None
    count_undos(s)
    return True


def joined(s: WorkflowState, ids: Collection[str], known: Collection[str] = ()) -> None:
    """Takes up that nodes belong from now on to the part that is being rolled back, and run with it again: nodes appended just now,
    and those of `known`, which were there before."""
    e = s.ending
    if e is None or e.members is None or not ids:
        return
    s.ending = replace(e, members=e.members.union(ids), again=e.again.union(ids))
    if known:
        count_undos(s)
        return
    s.undo_unsettled += len(ids)
    for node_id in ids:
        for dep in s.nodes[node_id].spec.depends_on:
            if s.undoes(s.nodes[dep]):
                s.nodes[dep].undo.waiting += 1


def runs_again(n: NodeState) -> bool:
    """True for a node that a rollback to a savepoint runs again. An effect that could not be undone is not had a second time:
    its node keeps what it answered."""
    if n.state is NodeStatus.NOTHING_TO_UNDO:
        return n.spec.undoing is not None or n.spec.effect_class is EffectClass.PURE
    return n.state in _RUN_AGAIN


_RUN_AGAIN = frozenset({NodeStatus.COMPENSATED, *_LEFT})


def given_up(s: WorkflowState, n: NodeState) -> bool:
    """True for a node that was rolled back, or is being, and does not run again: nothing may come after it any more. A skip
    gives nothing up."""
    if s.undoes(n):
        return s.ending is not None and n.spec.id not in s.ending.again
    return n.state is not NodeStatus.SKIPPED and runs_again(n)


def count_undos(s: WorkflowState) -> None:
    """Who waits for whom, counted anew. What an earlier rollback of a part has undone or left is passed through; what it is
    at goes on."""
    undone = [n for n in s.nodes.values() if s.undoes(n)]
    ids = {n.spec.id for n in undone}
    for n in undone:
        n.undo.left = n.undo.left or (n.state is NodeStatus.COMPENSATION_FAILED and n.undo.settled)
        n.undo.settled = n.undo.released = False
        n.undo.waiting = sum(c in ids for c in s.children[n.spec.id])
    s.undo_unsettled = len(undone)
    for n in undone:
        try_settle(s, n)


def needs_undo(node: NodeState) -> bool:
    """True when an effect of the node stands, or may stand."""
    doubtful = node.in_doubt and node.spec.effect_class is not EffectClass.PURE
    return node.state is NodeStatus.COMPLETE or (node.state in _LEFT and doubtful)


def _idle(node: NodeState) -> bool:
    """True when there is nothing (more) to undo here."""
    if node.undo.again:
        return False
    if node.state in _LEFT:
        return not needs_undo(node)
    return node.state in UNDO_ENDS or node.undo.left


def try_settle(s: WorkflowState, node: NodeState) -> None:
    """Settles a node that needs no undo (never ran, skipped, refused, undone before) once its dependants have settled."""
    if s.undoes(node) and not node.undo.waiting and _idle(node):
        settle_undo(s, node)


def settle_undo(s: WorkflowState, node: NodeState) -> None:
    """This node's undo is over; its dependencies come one step nearer to theirs, and those whose turn it is now are noted in
    `undo_ready`. Iterative: chains may be 10,000 long."""
    if not s.undoes(node):
        return
    work = [node]
    while work:
        n = work.pop()
        if n.undo.settled or n.undo.again:
            continue
        n.undo.settled = True
        s.undo_unsettled -= 1
        if n.undo.released:
            continue  # a late success that was undone again
        n.undo.released = True
        for dep in n.spec.depends_on:
            parent = s.nodes[dep]
            if not s.undoes(parent):
                continue
            parent.undo.waiting -= 1
            if parent.undo.waiting == 0:
                if _idle(parent):
                    work.append(parent)
                else:
                    s.undo_ready.append(dep)
