"""Which undos a rollback announces, in which order, and which nodes a partial one takes along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.plan import EffectClass
from handrail_engine.lifecycle import OPEN
from handrail_engine.state import NodeState, WorkflowState

_GATHERS_FROM = 64
_LEFT_OR_IDLE = frozenset({N.PENDING, N.RETRYING, N.DEAD_LETTERED, N.AWAITING_HUMAN, N.CANCELLED, N.SKIPPED})


def undo_list(s: WorkflowState, members: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    """Every undo that may come, in reverse order of completion (what is still out first), each with those it waits for."""
    nodes = [n for n in s.nodes.values() if members is None or n.spec.id in members]
    maybe = [n for n in nodes if _may_stand(n)]
    done = sorted((n for n in nodes if n.state is N.COMPLETE), key=lambda n: -n.ended_seq)
    listed = [n for n in (*maybe, *done) if n.spec.undoing is not None]
    wait = _dependencies(s, {n.spec.id for n in listed}, members)
    gathering = [n for n in nodes if n.spec.id in wait and n.spec.undoing is None]
    for n in (*listed, *reversed(gathering)):
        yield {"node_id": n.spec.id, "depends_on": wait[n.spec.id]}


def _may_stand(n: NodeState) -> bool:
    if n.state in OPEN or (n.state in _LEFT_OR_IDLE and n.in_doubt):
        return n.spec.effect_class is not EffectClass.PURE
    return n.state in (N.COMPENSATING, N.COMPENSATION_FAILED) and not n.undo.settled


def _dependencies(s: WorkflowState, undoing: set[str], members: frozenset[str] | None) -> dict[str, list[str]]:
    """For each node to be undone, the nearest dependants that are undone too: their undos come first.

    A node without an undo of its own passes its dependants' on. One that gathers more than 64 of them stands in the list
    itself, so that the lists stay linear in the plan's edges.
    """
    nearest: dict[str, dict[str, None]] = {}
    shown: dict[str, list[str]] = {}
    for node_id in reversed(s.nodes):  # plans are in topological order, so dependants come first
        if members is not None and node_id not in members:
            continue
        found: dict[str, None] = {}
        for child in s.children[node_id]:
            if child in undoing or child in shown:
                found[child] = None
            else:
                found.update(nearest[child])
        nearest[node_id] = found
        if node_id in undoing or len(found) > _GATHERS_FROM:
            shown[node_id] = list(found)
    return shown


def subtree(s: WorkflowState, roots: list[str]) -> frozenset[str]:
    """These nodes and everything that depends on them, directly or not. Iterative."""
    found: set[str] = set()
    work = list(roots)
    while work:
        node_id = work.pop()
        if node_id not in found:
            found.add(node_id)
            work.extend(s.children[node_id])
    return frozenset(found)


def after_savepoints(s: WorkflowState, node: NodeState) -> tuple[list[str], frozenset[str]]:
    """The nearest savepoints before the node, and all that comes after any of them. A way to the node without a savepoint
    counts from its beginning."""
    points: list[str] = []
    begins: list[str] = []
    seen: set[str] = set()
    work = list(node.spec.depends_on) or [node.spec.id]
    while work:
        node_id = work.pop()
        if node_id in seen:
            continue
        seen.add(node_id)
        spec = s.nodes[node_id].spec
        if spec.savepoint and spec is not node.spec:
            points.append(node_id)
        elif spec.depends_on:
            work.extend(spec.depends_on)
        else:
            begins.append(node_id)
    return sorted(points), subtree(s, [*begins, *(c for p in points for c in s.children[p])])
