"""What a node's agent appended, once that node was rolled back to a savepoint and runs again: its new answer says anew what is
to be done.

Each appended node keeps whose answer brought it, and of which generation that was (`NodeState.by`). What the new answer names
again goes on under its id, as it is written now: its attempts go on counting, under new keys. What it does not name any more
is left out once its maker has ended, if it has not begun by then.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from typing import Any

from handrail_contracts.events import NodeStatus
from handrail_engine import room
from handrail_engine.spec import NodeSpec, node_spec
from handrail_engine.state import NodeState, WorkflowState
from handrail_engine.undo_list import subtree

_ENDED = frozenset({NodeStatus.COMPLETE, NodeStatus.SKIPPED})


def placed(node: dict[str, Any], by: str) -> dict[str, Any]:
    """The node as it is appended: one that names no dependency comes after the node that made it."""
    return node if node.get("depends_on") else {**node, "depends_on": [by]}


def may_come_again(s: WorkflowState, maker: NodeState, node_id: str) -> bool:
    """True for a node that an earlier answer of this maker brought, one that was rolled back."""
    by = s.nodes[node_id].by if node_id in s.nodes else None
    return by is not None and by[0] == maker.spec.id and by[1] != maker.generation


def outdated(s: WorkflowState, node: NodeState) -> bool:
    """True for a node whose maker has run again and ended, and does not want it any more."""
    if node.by is None:
        return False
    maker = s.nodes[node.by[0]]
    return maker.generation != node.by[1] and maker.state in _ENDED


def unlike(s: WorkflowState, maker: NodeState, c: dict[str, Any], ids: Collection[str]) -> str | None:
    """Why this node, one of `ids`, may not be appended under the id of one that exists, or None. What has begun may only be
    named again; what has acted before stays whose step it was, so that its old effects are undone by whoever had them; and
    content from outside comes before nothing that was written as if it did not."""
    old, name = s.nodes[c["id"]], repr(c["id"][:80])
    if not may_come_again(s, maker, c["id"]):
        return f"A node {name} exists already."
    if old.state is not NodeStatus.PENDING:
        same = placed(c, maker.spec.id) == old.spec.compiled
        return None if same else f"A node {name} exists already, and has begun as it was appended before."
    if old.attempt and _acts(node_spec(c, s.nodes)) != _acts(old.spec):
        return f"A node {name} has acted before, as another step. Expected a new id for this one."
    others = [k for k in s.children[c["id"]] if k not in ids and not may_come_again(s, maker, k)]
    if others and _is_tainted(node_spec(c, s.nodes)) and not _is_tainted(old.spec):
        return f"Content from outside would come before {others[0][:80]!r} by way of {name}. Expected a new id for this node."
    return None


def _is_tainted(spec: NodeSpec) -> bool:
    return spec.untrusted or spec.tainted


def _acts(spec: NodeSpec) -> tuple[Any, ...]:
    return spec.agent, spec.action, spec.effect_class, spec.undoing, spec.irreversible


def closes_a_cycle(s: WorkflowState, nodes: list[dict[str, Any]]) -> bool:
    """True when one of these, which are in topological order, goes on under its id and would come after what comes after it."""
    ids = {n["id"] for n in nodes}
    later = set(subtree(s, [k for k in ids if k in s.nodes])) - ids
    for n in nodes if later else ():
        if not later.isdisjoint(n.get("depends_on", ())):
            if n["id"] in s.nodes:
                return True
            later.add(n["id"])
    return False


def kept(s: WorkflowState, nodes: Iterable[dict[str, Any]]) -> list[str]:
    """Those of a new answer that go on as they are, because they have begun."""
    return [n["id"] for n in nodes if n["id"] in s.nodes and s.nodes[n["id"]].state is not NodeStatus.PENDING]


def keep(s: WorkflowState, maker: NodeState, ids: Collection[str]) -> None:
    """Takes up that the maker's new answer names these again. Part of `evolve`."""
    for node_id in ids:
        s.nodes[node_id].by = (maker.spec.id, maker.generation)


def renew(s: WorkflowState, spec: NodeSpec, by: tuple[str, int] | None) -> bool:
    """The node of this id goes on as it is written now. What a person had set belonged to what was written before. Part of
    `evolve`; expects these in topological order. True when it comes after others than before: see `rearrange`."""
    node = s.nodes[spec.id]
    if node.crowded:
        room.uncrowd(s, node)  # as what it was; as what it is now it is considered anew
    old, node.spec, node.by = node.spec, spec, by
    if spec.compiled != old.compiled:
        node.overrides = {}
    node.waiting = sum(1 for d in spec.depends_on if not s.nodes[d].ended_seq)
    return spec.depends_on != old.depends_on


def rearrange(s: WorkflowState) -> None:
    """Puts the nodes into the topological order that is nearest to the one they had, once edges have changed. Part of `evolve`."""
    children: dict[str, list[str]] = {k: [] for k in s.nodes}
    before: dict[str, int] = {}
    for k, n in s.nodes.items():
        before[k] = len(n.spec.depends_on)
        for dep in n.spec.depends_on:
            children[dep].append(k)
    ready = [(n.index, k) for k, n in s.nodes.items() if not before[k]]
    heapq.heapify(ready)
    order: dict[str, NodeState] = {}
    while ready:
        k = heapq.heappop(ready)[1]
        order[k] = s.nodes[k]
        for child in children[k]:
            before[child] -= 1
            if not before[child]:
                heapq.heappush(ready, (s.nodes[child].index, child))
    for index, n in enumerate(order.values()):
        n.index = index
    s.nodes = order
    s.children = {k: sorted(children[k], key=lambda c: order[c].index) for k in order}
