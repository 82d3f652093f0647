"""Every event: one journal row is one public event is one `seq`. `EVENTS` is the table; the engine builds the data.

The engine writes plain dictionaries (they are encoded once and never read back by it); the models here publish the
shape as JSON Schema, and tests hold every row that the engine ever produces against them, unknown fields refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from handrail_contracts.model import Json
from handrail_contracts.pauses import Pause, ResolutionOutcome

MAX_EVENT_BYTES = 256 * 1024
NODES_PER_EVENT = 200


class WorkflowStatus(StrEnum):
    """CONTRACT section 3. The last six are ends: after them nothing is appended."""

    ACCEPTED = "ACCEPTED"
    PLANNING = "PLANNING"
    RUNNING = "RUNNING"
    PAUSED_HITL = "PAUSED_HITL"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_SKIPS = "COMPLETED_WITH_SKIPS"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_INCOMPLETE = "COMPENSATION_INCOMPLETE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TERMINAL: frozenset[WorkflowStatus] = frozenset(
    {
        WorkflowStatus.COMPLETED,
        WorkflowStatus.COMPLETED_WITH_SKIPS,
        WorkflowStatus.COMPENSATED,
        WorkflowStatus.COMPENSATION_INCOMPLETE,
        WorkflowStatus.FAILED,
        WorkflowStatus.CANCELLED,
    }
)


class NodeStatus(StrEnum):
    """CONTRACT section 3, node state."""

    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    RETRYING = "RETRYING"
    AWAITING_HUMAN = "AWAITING_HUMAN"
    COMPLETE = "COMPLETE"
    DEAD_LETTERED = "DEAD_LETTERED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"
    NOT_REVERSIBLE = "NOT_REVERSIBLE"
    NOTHING_TO_UNDO = "NOTHING_TO_UNDO"


UNDO_STATES: frozenset[NodeStatus] = frozenset(
    {
        NodeStatus.COMPENSATING,
        NodeStatus.COMPENSATED,
        NodeStatus.COMPENSATION_FAILED,
        NodeStatus.NOT_REVERSIBLE,
        NodeStatus.NOTHING_TO_UNDO,
    }
)
"""States of the second life of a node. Their `attempt` counts undos, so a view keeps the first life's number apart."""


class EventType(StrEnum):
    """CONTRACT section 4."""

    WORKFLOW_ACCEPTED = "WORKFLOW_ACCEPTED"
    WORKFLOW_PLANNED = "WORKFLOW_PLANNED"
    NODES_ADDED = "NODES_ADDED"
    NODE_STATE_CHANGED = "NODE_STATE_CHANGED"
    RESULT_IGNORED = "RESULT_IGNORED"
    TASK_DEAD_LETTERED = "TASK_DEAD_LETTERED"
    GATE_EVALUATED = "GATE_EVALUATED"
    WORKFLOW_PAUSED_HITL = "WORKFLOW_PAUSED_HITL"
    PAUSE_UPDATED = "PAUSE_UPDATED"
    MESSAGE_ADDED = "MESSAGE_ADDED"
    HITL_RESOLVED = "HITL_RESOLVED"
    WORKFLOW_RESUMED = "WORKFLOW_RESUMED"
    WORKFLOW_COMPENSATING = "WORKFLOW_COMPENSATING"
    WORKFLOW_COMPLETED = "WORKFLOW_COMPLETED"
    WORKFLOW_COMPENSATED = "WORKFLOW_COMPENSATED"
    WORKFLOW_COMPENSATION_INCOMPLETE = "WORKFLOW_COMPENSATION_INCOMPLETE"
    WORKFLOW_FAILED = "WORKFLOW_FAILED"
    WORKFLOW_CANCELLED = "WORKFLOW_CANCELLED"


TERMINAL_EVENTS: frozenset[str] = frozenset(
    {
        EventType.WORKFLOW_COMPLETED,
        EventType.WORKFLOW_COMPENSATED,
        EventType.WORKFLOW_COMPENSATION_INCOMPLETE,
        EventType.WORKFLOW_FAILED,
        EventType.WORKFLOW_CANCELLED,
    }
)


class Event(BaseModel):
    """What every event carries. `seq` is 1, 2, 3 … without holes within a workflow."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    event_type: EventType
    trace_id: str
    seq: Annotated[int, Field(ge=1)]
    at: str


class NodeSummary(BaseModel):
    """A node as it enters the view."""

    model_config = ConfigDict(extra="forbid")
    id: str
    agent: str
    action: str
    depends_on: list[str]
    state: NodeStatus
    attempt: int
    max_attempts: int


class ErrorInfo(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(extra="forbid")
    code: str
    message: str
    evidence: Json = None


class WorkflowAccepted(Event):
    """The workflow exists. `status` is PLANNING where a planner agent is to make the plan."""

    intent: str | None
    blueprint: str | None
    input: dict[str, Any]
    labels: dict[str, str]
    status: WorkflowStatus
    deadline_at: str | None = None


class WorkflowPlanned(Event):
    """The DAG. The first 200 nodes; the rest follow as NODES_ADDED before any dispatch."""

    nodes: list[NodeSummary]
    node_count: int
    edge_count: int
    plan_digest: str


class NodesAdded(Event):
    """More nodes: the rest of a large plan (`by` null), or nodes that an agent appended (`by` its node)."""

    nodes: list[NodeSummary]
    by: str | None = None


class NodeStateChanged(Event):
    """A node moved. In the states of an undo `attempt` counts undo attempts."""

    node_id: str
    from_: NodeStatus = Field(alias="from")
    to: NodeStatus
    attempt: int
    max_attempts: int | None = None
    output: Json = None
    error: ErrorInfo | None = None
    retry_at: str | None = None
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    reason: str | None = None
    usage: dict[str, Any] | None = None


class ResultIgnored(Event):
    """An answer that changes nothing."""

    node_id: str
    attempt: int
    reason: str


class TaskDeadLettered(Event):
    """Attempts are used up, or must not go on."""

    node_id: str
    attempts: list[dict[str, Any]]
    dead_letter_id: str


class GateEvaluated(Event):
    """A policy looked at a node, also when it let it pass. `rule_id` null: no rule spoke; `policy` null with a rule: one of our
    own (a gate that always asks, content from outside). `inputs` are the facts."""

    node_id: str
    rule_id: str | None
    policy_version: int
    score: float | None
    decide: str
    policy: str | None = None
    reason: str | None = None
    inputs: dict[str, Any] | None = None


class PausedHitl(Event, Pause):
    """A person is needed."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    event_type: EventType  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]  the narrower of the two bases


class PauseUpdated(Event):
    """Claimed, released or reminded."""

    pause_id: str
    claimed_by: str | None = None
    claimed_until: str | None = None
    reminded_at: str | None = None


class MessageAdded(Event):
    """Somebody spoke in an escalation's conversation: operator, user, agent, or the system for the hand-over sentence.
    `withheld`: an agent spoke while a person had the conversation; it is written down and goes to nobody."""

    pause_id: str
    role: str
    text: str
    actor: str | None = None
    withheld: bool | None = None


class HitlResolved(Event):
    """A pause was closed. `actor` is a person, `system:timeout` or `system`."""

    pause_id: str
    outcome: ResolutionOutcome
    action_id: str | None
    actor: str
    channel: str
    comment: str | None
    input: Json
    node_id: str | None = None


class WorkflowResumed(Event):
    """The last open pause closed and the workflow goes on, in `status`."""

    status: WorkflowStatus


class UndoNode(BaseModel):
    """One undo: it starts when the undos that it depends on have ended."""

    model_config = ConfigDict(extra="forbid")
    node_id: str
    depends_on: list[str]


class WorkflowCompensating(Event):
    """The rollback begins. `nodes` in reverse order of completion."""

    scope: str
    nodes: list[UndoNode]
    reason: str | None = None


class WorkflowEnded(Event):
    """The end: nothing follows."""

    status: WorkflowStatus
    output: Json
    reason: str | None
    totals: dict[str, int]


EVENTS: dict[str, type[Event]] = {
    EventType.WORKFLOW_ACCEPTED: WorkflowAccepted,
    EventType.WORKFLOW_PLANNED: WorkflowPlanned,
    EventType.NODES_ADDED: NodesAdded,
    EventType.NODE_STATE_CHANGED: NodeStateChanged,
    EventType.RESULT_IGNORED: ResultIgnored,
    EventType.TASK_DEAD_LETTERED: TaskDeadLettered,
    EventType.GATE_EVALUATED: GateEvaluated,
    EventType.WORKFLOW_PAUSED_HITL: PausedHitl,
    EventType.PAUSE_UPDATED: PauseUpdated,
    EventType.MESSAGE_ADDED: MessageAdded,
    EventType.HITL_RESOLVED: HitlResolved,
    EventType.WORKFLOW_RESUMED: WorkflowResumed,
    EventType.WORKFLOW_COMPENSATING: WorkflowCompensating,
    EventType.WORKFLOW_COMPLETED: WorkflowEnded,
    EventType.WORKFLOW_COMPENSATED: WorkflowEnded,
    EventType.WORKFLOW_COMPENSATION_INCOMPLETE: WorkflowEnded,
    EventType.WORKFLOW_FAILED: WorkflowEnded,
    EventType.WORKFLOW_CANCELLED: WorkflowEnded,
}
