"""What is known of one workflow: the fold of its journal, plus leases that only its owner keeps.

`WorkflowState` is changed by `evolve` alone. Everything in it follows from the rows, so that a replay gives the same
`facts()`, except `live` and `timers`: claims of the owner about attempts that are out now, refreshed by heartbeats, lost
with the owner and started afresh by the next one (DESIGN section 5, Ownership)."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from handrail_contracts.events import UNDO_STATES, NodeStatus, WorkflowStatus
from handrail_contracts.ids import effect_key, undo_key
from handrail_contracts.plan import PauseScope, Timeouts
from handrail_engine.spec import NodeSpec

FOLD_VERSION = 4


class Row(NamedTuple):
    """One journal row: `data` is the public event, `meta` never leaves PostgreSQL."""

    seq: int
    type: str
    data: dict[str, Any]
    meta: dict[str, Any] | None
    at_ms: int


@dataclass(slots=True)
class Live:
    """The attempt that is out now, as its owner sees it. Times in ms; `lease_until` is None until it is claimed, and
    `look_at` is when an unclaimed one is looked at again. `cancels` counts how often it was asked to stop, or what
    became of it, since it was last sent."""

    look_at: int
    start_before: int
    lease_until: int | None = None
    cancels: int = 0


@dataclass(slots=True)
class Undo:
    """The second life of a node. `waiting` counts dependants whose own undo has not settled; `released` says that the
    dependencies were told of this one's end; `again`: an effect came to light that no undo has seen yet; `left`: a person
    left the effect standing."""

    waiting: int = 0
    settled: bool = False
    released: bool = False
    again: bool = False
    left: bool = False
    order: int = 0
    attempt: int = 0
    round_from: int = 0
    round_ms: int = 0
    claimed: bool = False
    retry_ms: int | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None


@dataclass(slots=True)
class NodeState:
    """One node. `waiting` counts dependencies that have not settled; `round_from` is the attempt before this round's first."""

    spec: NodeSpec
    index: int
    waiting: int
    state: NodeStatus = NodeStatus.PENDING
    attempt: int = 0
    round_from: int = 0
    round_ms: int = 0
    generation: int = 1
    look_up: bool = False
    output: Any = None
    error: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list)
    closed: dict[int, str] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    scheduled_ms: int = 0
    started_ms: int | None = None
    ended_seq: int = 0
    retry_ms: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    in_doubt: bool = False
    closes_ms: int = 0  # by then the attempt in doubt has ended, so that a look-up tells the truth
    worker: str | None = None
    conversation: list[dict[str, Any]] | None = None
    approved: dict[str, Any] | None = (
        None  # what a person let the plan's node do: {proposed, digest, args if edited, pause_id}
    )
    granted: dict[str, Any] | None = (
        None  # what was let pass of an agent's proposal: {action, args, digest, proposed, pause_id}
    )
    judged: list[Any] | None = None  # what a policy said of it last
    by: tuple[str, int] | None = None  # whose answer brought it: that node, and its generation then
    unattended: str | None = None  # the button by which silence ordered more attempts, since a person last decided
    off: bool = False  # refused, or after such a node: only what has a condition runs on
    dead_letter: tuple[str, int] | None = None  # id, due in ms: waits to return and open its pause
    undo: Undo = field(default_factory=Undo)
    live: Live | None = None
    places: tuple[str, ...] = ()  # which limits its attempt that is out counts for
    crowded: bool = False  # it could begin, and waits for room
    armed_ms: int | None = None  # the one entry of the heap that counts

    @property
    def limits(self) -> Timeouts:
        """The time limits of what it does now: its work, or its undo."""
        return self.spec.undoing.timeouts if self.state in UNDO_STATES and self.spec.undoing else self.spec.timeouts

    @property
    def max_attempts(self) -> int:
        """The highest attempt number that this round may reach."""
        return self.round_from + self.spec.retry.max_attempts


@dataclass(slots=True)
class PauseState:
    """An open pause. `data` is its event; `scope` what waits for it; `then` what a decision goes on with;
    `callback` who outside is told of it."""

    pause_id: str
    kind: str
    node_id: str | None
    scope: PauseScope
    data: dict[str, Any]
    expires_ms: int | None = None
    remind_ms: int | None = None
    expiry: dict[str, Any] | None = None
    then: dict[str, Any] | None = None
    callback: str | None = None


@dataclass(slots=True)
class Ending:
    """The workflow, or a part of it, is winding down; `stopped`: a person said enough.

    `members` are undone, None means all. With an `end` everything winds down, whether it is undone or not, and the workflow
    ends so. Without one only the members do (they include all their dependants), and then the workflow goes on: those of
    `again` run once more, under new keys, the others are left.
    """

    end: WorkflowStatus | None
    members: frozenset[str] | None
    again: frozenset[str]
    reason: str | None
    stopped: bool = False

    @property
    def undo(self) -> bool:
        """True when everything is undone."""
        return self.members is None


@dataclass(slots=True)
class WorkflowState:
    """One workflow. `unsettled` counts nodes whose first life goes on, `undo_unsettled` those whose second must still end,
    `out` attempts that are out."""

    tenant: str
    trace_id: str
    status: WorkflowStatus = WorkflowStatus.ACCEPTED
    seq: int = 0
    exists: bool = False
    requester: str | None = None
    intent: str | None = None
    blueprint: str | None = None
    input: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    output_mapping: dict[str, Any] | None = None
    budget: dict[str, float] = field(default_factory=dict)  # declared by the plan
    spent: dict[str, float] = field(default_factory=dict)  # on models, by the same names
    granted: dict[str, float] = field(default_factory=dict)  # by people, on top of every limit
    unbounded: bool = False  # a person has said that no budget counts any more
    no_more: bool = False  # a person has said that nothing more is begun
    created_ms: int = 0
    updated_ms: int = 0
    nodes: dict[str, NodeState] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    unsettled: int = 0
    undo_unsettled: int = 0
    out: int = 0
    places: dict[str, int] = field(default_factory=dict)  # of attempts that are out, by limit
    crowded: dict[str, dict[str, None]] = field(default_factory=dict)  # what waits for room
    room_at: int | None = None
    letters: int = 0  # dead letters on their way back
    off: int = 0  # nodes that are off
    planner: bool = False  # the plan comes from the planner agent
    planned: bool = False
    plan: dict[str, Any] | None = None  # made by the planner agent, adopted when no pause is open
    pauses: dict[str, PauseState] = field(default_factory=dict)
    talks: dict[str, str | None] = field(default_factory=dict)  # escalations that are over -> their node
    holding: int = 0  # open pauses of workflow scope
    deadline_ms: int | None = None
    deadline_left_ms: int | None = None  # while a pause is open the deadline does not run
    ending: Ending | None = None
    ended: bool = False
    undo_ready: list[str] = field(default_factory=list)
    timers: list[tuple[int, str]] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """True while nothing new may be dispatched."""
        return self.holding > 0

    @property
    def ends(self) -> bool:
        """True once the whole workflow winds down."""
        return self.ending is not None and self.ending.end is not None

    def leaves(self, node: NodeState) -> bool:
        """True when this node is being wound down: it is not dispatched any more, what is out drains."""
        e = self.ending
        return e is not None and (e.end is not None or e.members is None or node.spec.id in e.members)

    def undoes(self, node: NodeState) -> bool:
        """True when what this node did is being undone."""
        e = self.ending
        return e is not None and (e.members is None or node.spec.id in e.members)

    def do_key(self, node: NodeState) -> str:
        """The effect key of the node's current generation."""
        return effect_key(self.tenant, self.trace_id, node.spec.id, node.generation)

    def undo_key(self, node: NodeState) -> str:
        """The effect key of the node's current undo."""
        return undo_key(self.do_key(node), node.undo.order)

    def generation_of(self, node: NodeState, key: str) -> int | None:
        """Which generation of the node this effect key belongs to, None when it is not one of its keys."""
        if key == self.do_key(node):
            return node.generation
        return next((g for g in range(1, node.generation) if key == self.key(node, g)), None)

    def key(self, node: NodeState, generation: int) -> str:
        """The effect key of one generation of the node."""
        return effect_key(self.tenant, self.trace_id, node.spec.id, generation)

    def arm(self, node: NodeState) -> None:
        """Sees to it that the heap wakes no later than the node is due. One entry per node counts; an outdated one is ignored
        when it comes up, so that a node of many moves does not fill the heap."""
        due = due_ms(self, node)
        if due is not None and (node.armed_ms is None or due < node.armed_ms):
            node.armed_ms = due
            heapq.heappush(self.timers, (due, node.spec.id))

    def next_wake(self) -> int | None:
        """The earliest instant at which something may be due, in ms; None when only people or agents can move it."""
        return self.timers[0][0] if self.timers and not self.ended else None

    def facts(self) -> dict[str, Any]:
        """Everything that follows from the journal, as plain JSON: two states with equal facts are the same state."""
        return {
            "status": self.status,
            "seq": self.seq,
            "input": self.input,
            "deadline": [self.deadline_ms, self.deadline_left_ms],
            "counts": {k: v for k, v in sorted(self.counts.items()) if v},
            "unsettled": self.unsettled,
            "undo_unsettled": self.undo_unsettled,
            "out": self.out,
            "letters": self.letters,
            "planned": self.planned,
            "plan": self.plan,
            "holding": self.holding,
            "off": self.off,
            "requester": self.requester,
            "budget": [self.budget, self.spent, self.granted, self.unbounded, self.no_more],
            "talks": self.talks,
            "ended": self.ended,
            "ending": _ending_facts(self.ending) if self.ending else None,
            "pauses": {
                k: [p.kind, p.node_id, p.scope, p.data, p.then, p.remind_ms] for k, p in sorted(self.pauses.items())
            },
            "nodes": {k: _node_facts(n) for k, n in self.nodes.items()},
        }


CLOSE_GRACE_MS = 2_000
"""An attempt that ran into its start-to-close is given this long for its last word to arrive."""

PAUSE_TIMER = " pause "
REMIND_TIMER = " remind "
DEADLINE_TIMER = " deadline"
ROOM_TIMER = " room"
"""Timers that belong to no node: a node id holds no white space, so these names cannot clash with one."""


def due_ms(s: WorkflowState, node: NodeState) -> int | None:
    """When this node must be looked at next, or None."""
    live = node.live
    if live is not None:
        if live.lease_until is None:
            return live.look_at
        started = node.started_ms if node.started_ms is not None else live.lease_until
        return min(live.lease_until, started + int(node.limits.start_to_close_s * 1000) + CLOSE_GRACE_MS)
    if node.dead_letter is not None:
        return node.dead_letter[1]
    if node.state is NodeStatus.RETRYING:
        return None if s.held or node.crowded else node.retry_ms
    if node.state is NodeStatus.COMPENSATING:
        return None if s.held else node.undo.retry_ms
    if node.spec.outside and node.state is NodeStatus.IN_PROGRESS and node.started_ms is not None:
        return node.started_ms + int(node.limits.start_to_close_s * 1000)
    return None


def _ending_facts(e: Ending) -> list[Any]:
    return [e.end, sorted(e.members) if e.members is not None else None, sorted(e.again), e.reason, e.stopped]


def _node_facts(n: NodeState) -> list[Any]:
    u = n.undo
    undo = [u.waiting, u.settled, u.released, u.again, u.left, u.order, u.attempt, u.round_from, u.round_ms, u.claimed]
    undo += [u.retry_ms, u.attempts, u.error]
    first = [
        n.state,
        n.waiting,
        n.attempt,
        n.round_from,
        n.round_ms,
        n.generation,
        n.look_up,
        n.output,
        n.error,
        n.attempts,
    ]
    times = [n.scheduled_ms, n.started_ms, n.ended_seq, n.retry_ms]
    return [
        *first,
        sorted(n.closed.items()),
        sorted(n.ignored),
        *times,
        n.overrides,
        n.in_doubt,
        n.closes_ms,
        n.worker,
        n.conversation,
        list(n.dead_letter) if n.dead_letter else None,
        [n.approved, n.granted, n.judged, n.off, n.unattended],
        list(n.by) if n.by else None,
        undo,
    ]
