"""`max_in_flight`: an attempt takes a place of its agent, and one of its action, where these are limited; what finds none
free waits, in order, without a row. Who may start is decided with `Now.room`, which the owner reads where all owners count.

A place is taken by the row that dispatches (meta `places`) and given back by the row that ends the attempt, so that the
count follows from the journals. Undos, and what a person orders, take places and wait for none.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from handrail_contracts.events import NodeStatus
from handrail_engine.state import ROOM_TIMER, NodeState, WorkflowState

if TYPE_CHECKING:
    from handrail_engine.turn import Turn

LOOK_AGAIN_MS = 30_000
"""A workflow that waits for room looks again by itself after this time; its owner wakes it as soon as there is some."""


def keys(node: NodeState) -> tuple[str, str]:
    """Under which names this node's attempts are counted: its agent's, and its action's."""
    return node.spec.agent, f"{node.spec.agent}/{node.spec.action}"


def limited(t: Turn, node: NodeState) -> list[str]:
    """Which of them have a limit now."""
    return [k for k in keys(node) if k in t.now.room] if t.now.room else []


def left(t: Turn, key: str) -> int | None:
    """How many places are free, counting what this turn took and gave back; None: no limit."""
    if key not in t.now.room:
        return None
    return t.now.room[key] - t.state.places.get(key, 0) + t.places.get(key, 0)


def full(t: Turn, node: NodeState) -> bool:
    """True when the node has to wait; it is noted then."""
    if all((free := left(t, k)) is None or free > 0 for k in limited(t, node)):
        return False
    crowd(t.state, node, t.now.ms)
    return True


def crowd(s: WorkflowState, node: NodeState, now_ms: int) -> None:
    """Notes that the node waits for room. Idempotent."""
    node.crowded = True
    s.crowded.setdefault(keys(node)[1], {})[node.spec.id] = None
    if s.room_at is None:
        look_again(s, now_ms)


def recrowd(s: WorkflowState, now_ms: int, *, retries: bool = False) -> None:
    """Notes again, in a state folded from the journal, what could begin and so must have found no room, in the order in which it
    could; with `retries` also those whose wait is over, behind these."""
    if s.held or s.ended:
        return
    waiting: list[tuple[bool, int, int, NodeState]] = []
    for node in s.nodes.values():
        ready = node.state is NodeStatus.PENDING and not node.waiting
        due = retries and node.state is NodeStatus.RETRYING and node.retry_ms is not None and node.retry_ms <= now_ms
        if (ready or due) and not s.leaves(node):
            since = max((s.nodes[d].ended_seq for d in node.spec.depends_on), default=0)
            waiting.append((due, since, node.index, node))
    for *_, node in sorted(waiting, key=lambda w: w[:3]):
        crowd(s, node, now_ms)


def look_again(s: WorkflowState, now_ms: int) -> None:
    """Sets the wake-up of a workflow that waits for room."""
    s.room_at = now_ms + LOOK_AGAIN_MS
    heapq.heappush(s.timers, (s.room_at, ROOM_TIMER))


def next_up(t: Turn) -> NodeState | None:
    """The node that has waited longest among those for which there is room now; it does not wait any more."""
    s = t.state
    if s.held:
        return None
    for waiting in s.crowded.values():
        node = s.nodes[next(iter(waiting))]
        if all((free := left(t, k)) is None or free > 0 for k in keys(node)):
            uncrowd(s, node)
            return node
    return None


def uncrowd(s: WorkflowState, node: NodeState) -> None:
    """The node waits for room no longer."""
    node.crowded = False
    waiting = s.crowded[keys(node)[1]]
    waiting.pop(node.spec.id, None)
    if not waiting:
        del s.crowded[keys(node)[1]]


def moved(s: WorkflowState, node: NodeState, was_out: bool, meta: Mapping[str, Any]) -> None:
    """A row has moved the node: attempts out and places are counted anew. Part of `evolve`."""
    out = node.live is not None
    s.out += out - was_out
    if node.crowded:
        uncrowd(s, node)
    if was_out and not out:
        for key in node.places:
            s.places[key] -= 1
        node.places = ()
    elif out and not was_out and "places" in meta:
        node.places = tuple(meta["places"])
        for key in node.places:
            s.places[key] = s.places.get(key, 0) + 1


def empty(s: WorkflowState) -> None:
    """The workflow has ended: nothing is out, nothing waits. Part of `evolve`."""
    s.out = 0
    s.places.clear()
    s.crowded.clear()
    for node in s.nodes.values():
        node.places, node.crowded = (), False
