"""What follows from the nodes of a plan alone, worked out once for all workflows that have the same plan.

Programs and blueprints start one plan again and again. It is known by the bytes of its nodes, and its outline is made from
a copy of them, so that nobody else holds what the workflows share. Nobody may change an outline.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from handrail_contracts.events import NODES_PER_EVENT, NodeStatus
from handrail_contracts.ids import digest
from handrail_engine.spec import NodeSpec, node_spec

_PLANS = 100
_PLAN_BYTES = 16 * 1024
"""A plan of so few bytes fits into one event, and a hundred of them into some megabytes."""


class Outline(NamedTuple):
    """`specs` in the order of the nodes, `summaries` as they enter the view, `digest` of the plan's shape."""

    specs: tuple[NodeSpec, ...]
    summaries: list[dict[str, Any]]
    edges: int
    digest: str


def outline(nodes: list[dict[str, Any]]) -> Outline | None:
    """The outline of the compiled nodes of a whole plan, not to be changed; None for one that is too large to keep."""
    if not 0 < len(nodes) <= NODES_PER_EVENT:
        return None
    key = marshal.dumps(nodes, 2)  # a version without references: the same bytes are the same nodes
    return _outline(key) if len(key) <= _PLAN_BYTES else None


@lru_cache(maxsize=_PLANS)
def _outline(key: bytes) -> Outline:
    nodes: list[dict[str, Any]] = marshal.loads(key)
    ids: dict[str, None] = {}
    specs: list[NodeSpec] = []
    for n in nodes:
        specs.append(node_spec(n, ids))  # plans are in topological order: what a node refers to stands before it
        ids[n["id"]] = None
    return Outline(tuple(specs), [summary(n) for n in nodes], edges(nodes), shape(nodes))


def summary(c: dict[str, Any]) -> dict[str, Any]:
    """A compiled node as it enters the view."""
    return {
        "id": c["id"],
        "agent": c["agent"],
        "action": c["action"],
        "depends_on": c.get("depends_on", []),
        "state": NodeStatus.PENDING.value,
        "attempt": 0,
        "max_attempts": c.get("retry", {}).get("max_attempts", 3),
    }


def edges(nodes: Sequence[dict[str, Any]]) -> int:
    """How many edges lead to these nodes."""
    return sum(len(n.get("depends_on", ())) for n in nodes)


def shape(nodes: Sequence[dict[str, Any]]) -> str:
    """The digest of who does what after whom."""
    lines = (f"{n['id']} {n['agent']} {n['action']} {' '.join(n.get('depends_on', ()))}" for n in nodes)
    return digest("\n".join(lines).encode())
