"""The one reducer: events in, the state that clients see out. Notifier, clients and tests fold with this, nobody else folds.

Pure and incremental: `apply` costs O(what the event touches). Unknown event types are counted by their `seq` and change
nothing else, so a newer server never breaks an older view. The TypeScript client mirrors this file; golden recordings
hold the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from handrail_contracts.events import TERMINAL, TERMINAL_EVENTS, UNDO_STATES, EventType, NodeStatus, WorkflowStatus

_NODE_FIELDS = (
    "attempt",
    "max_attempts",
    "output",
    "error",
    "retry_at",
    "worker",
    "started_at",
    "finished_at",
    "usage",
)
_UNDO_FIELDS = {
    "attempt": "undo_attempt",
    "error": "undo_error",
    "started_at": "undo_started_at",
    "finished_at": "undo_finished_at",
}
_ENDED = frozenset({NodeStatus.COMPLETE, NodeStatus.SKIPPED, NodeStatus.CANCELLED, NodeStatus.DEAD_LETTERED})


class Gap(Exception):
    """An event came whose `seq` is not the next one; the view is unchanged and must be filled from the journal."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"Expected seq {expected}, but the event has {found}. Fill the hole from the journal.")
        self.expected = expected
        self.found = found


class WorkflowView:
    """The state of one workflow as CONTRACT section 3 shows it, without `history`.

    `nodes` keeps plan order. `cursor` is the `seq` of the last applied event, 0 before the first.
    """

    __slots__ = (
        "blueprint",
        "created_at",
        "cursor",
        "input",
        "intent",
        "labels",
        "nodes",
        "output",
        "pauses",
        "reason",
        "status",
        "trace_id",
        "updated_at",
    )

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.status: str = WorkflowStatus.ACCEPTED
        self.blueprint: str | None = None
        self.intent: str | None = None
        self.input: dict[str, Any] = {}
        self.labels: dict[str, str] = {}
        self.cursor = 0
        self.output: Any = None
        self.reason: str | None = None
        self.created_at: str | None = None
        self.updated_at: str | None = None
        self.nodes: dict[str, dict[str, Any]] = {}
        self.pauses: dict[str, dict[str, Any]] = {}

    @property
    def ended(self) -> bool:
        """True once the terminal event was applied."""
        return self.status in TERMINAL

    def apply(self, event: Mapping[str, Any]) -> bool:
        """Folds one event in. False for one that was applied before (idempotent); raises Gap when one is missing.

        Raises KeyError, TypeError or AttributeError on what is not an event of ours; the view is to be thrown away then.
        """
        seq: int = event["seq"]
        if seq <= self.cursor:
            return False
        if seq != self.cursor + 1:
            raise Gap(self.cursor + 1, seq)
        self._fold(event["event_type"], event)
        self.updated_at = event["at"]
        if seq == 1:
            # Also where the view was begun from the order (`accepted`): the journal's own time wins.
            self.created_at = event["at"]
        self.cursor = seq
        return True

    def apply_all(self, events: Iterable[Mapping[str, Any]]) -> WorkflowView:
        """Folds many in order; returns self."""
        for event in events:
            self.apply(event)
        return self

    def _fold(self, kind: str, event: Mapping[str, Any]) -> None:
        match kind:
            case EventType.NODE_STATE_CHANGED:
                self._node_changed(event)
            case EventType.WORKFLOW_ACCEPTED:
                self.intent, self.blueprint = event["intent"], event["blueprint"]
                self.input, self.labels, self.status = event["input"], event["labels"], event["status"]
            case EventType.WORKFLOW_PLANNED:
                self.status = WorkflowStatus.RUNNING
                self._add_nodes(event)
            case EventType.NODES_ADDED:
                self._add_nodes(event)
            case EventType.WORKFLOW_PAUSED_HITL:
                self.status = WorkflowStatus.PAUSED_HITL
                self.pauses[event["pause_id"]] = dict(event)
            case EventType.PAUSE_UPDATED:
                pause = self.pauses.get(event["pause_id"])
                if pause is not None:
                    for field in ("claimed_by", "claimed_until", "reminded_at"):
                        if field in event:
                            pause[field] = event[field]
            case EventType.MESSAGE_ADDED:
                pause = self.pauses.get(event["pause_id"])
                if pause is not None:
                    said = {k: event[k] for k in ("role", "text", "at", "withheld") if k in event}
                    pause["transcript"] = [*(pause["transcript"] or []), said]
            case EventType.HITL_RESOLVED:
                self.pauses.pop(event["pause_id"], None)
            case EventType.WORKFLOW_RESUMED:
                self.status = event["status"]
            case EventType.WORKFLOW_COMPENSATING:
                if not self.pauses:
                    self.status = WorkflowStatus.COMPENSATING
            case _:
                if kind in TERMINAL_EVENTS:
                    self.status, self.output, self.reason = event["status"], event["output"], event["reason"]
                    self.pauses.clear()

    def _add_nodes(self, event: Mapping[str, Any]) -> None:
        for node in event["nodes"]:
            self.nodes[node["id"]] = {**node, "started_at": None, "finished_at": None, "output": None, "error": None}

    def _node_changed(self, event: Mapping[str, Any]) -> None:
        node = self.nodes.get(event["node_id"])
        if node is None:
            return
        to = event["to"]
        node["state"] = to
        if to in UNDO_STATES:
            for field, name in _UNDO_FIELDS.items():
                if field in event:
                    node[name] = event[field]
            if to == NodeStatus.COMPENSATED:
                node.pop("undo_error", None)
            return
        for field in _NODE_FIELDS:
            if field in event:
                node[field] = event[field]
        if "retry_at" not in event:
            node.pop("retry_at", None)
        if to == NodeStatus.COMPLETE:
            node["error"] = None
        elif to == NodeStatus.SCHEDULED:
            node["started_at"] = node["finished_at"] = None
        if to in _ENDED and "finished_at" not in event:
            node["finished_at"] = event["at"]

    def state(self) -> dict[str, Any]:
        """The snapshot of CONTRACT section 3, `history` left out. Shares structure with the view: encode it, do not keep it."""
        return {
            "trace_id": self.trace_id,
            "status": self.status,
            "blueprint": self.blueprint,
            "intent": self.intent,
            "input": self.input,
            "labels": self.labels,
            "cursor": str(self.cursor),
            "output": self.output,
            "reason": self.reason,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "nodes": list(self.nodes.values()),
            "pauses": list(self.pauses.values()),
        }

    @classmethod
    def accepted(cls, trace_id: str, order: Mapping[str, Any], at: str) -> WorkflowView:
        """The view of a workflow that was accepted (a command row of kind `start` with the body `order`, stored at `at`)
        and has no event yet. The first event replaces all that stands here."""
        view = cls(trace_id)
        view.intent, view.blueprint = order.get("intent"), order.get("blueprint")
        view.input, view.labels = order.get("input") or {}, order.get("labels") or {}
        view.created_at = view.updated_at = at
        return view

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> WorkflowView:
        """A view that goes on from a snapshot (`state()` of any age)."""
        view = cls(state["trace_id"])
        view.status, view.blueprint, view.intent = state["status"], state["blueprint"], state["intent"]
        view.input, view.labels, view.cursor = state["input"], state["labels"], int(state["cursor"])
        view.output, view.reason = state["output"], state["reason"]
        view.created_at, view.updated_at = state["created_at"], state["updated_at"]
        view.nodes = {n["id"]: dict(n) for n in state["nodes"]}
        view.pauses = {p["pause_id"]: dict(p) for p in state["pauses"]}
        return view
