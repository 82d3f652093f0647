"""What the HTTP API answers, published as JSON Schema. The gateway writes plain dictionaries; tests hold them against these."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from handrail_contracts.events import ErrorInfo, NodeStatus, WorkflowStatus
from handrail_contracts.model import Json
from handrail_contracts.pauses import Pause, ResolutionOutcome


class Answer(BaseModel):
    """Any answer: fields may be added later, none is taken away."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class Links(Answer):
    """Where a workflow is seen."""

    state: str
    events: str
    console: str


class Accepted(Answer):
    """`202` of `POST /workflows`: it is durable."""

    trace_id: str
    status: WorkflowStatus
    links: Links


class Ordered(Answer):
    """`202` of pause, cancel and messages: stored, will be applied."""

    trace_id: str
    status: str


class EscalationOpened(Answer):
    """`202` of `POST /escalations`: it is durable. The ids are final; the inbox shows it a moment later."""

    trace_id: str
    pause_id: str


class Resuming(Answer):
    """`202` of resume; with `resolved_by` the `200` of the same decision again."""

    trace_id: str
    pause_id: str
    action_id: str
    status: str = "RESUMING"
    resolved_by: str | None = None


class NodeView(Answer):
    """A node of the state. `error` is that of its last failed attempt."""

    id: str
    agent: str
    action: str
    depends_on: list[str]
    state: NodeStatus
    attempt: int
    max_attempts: int
    started_at: str | None
    finished_at: str | None
    output: Json = None
    error: ErrorInfo | None = None


class State(Answer):
    """`GET /workflows/{trace_id}/state`. `history` stands only where it was asked for."""

    trace_id: str
    status: WorkflowStatus
    blueprint: str | None
    intent: str | None
    input: dict[str, Any]
    labels: dict[str, str]
    cursor: str
    output: Json = None
    reason: str | None
    created_at: str | None
    updated_at: str | None
    nodes: list[NodeView]
    pauses: list[Pause]
    history: list[dict[str, Any]] | None = None
    history_truncated: bool | None = None
    history_next: str | None = None


class NodeChange(Answer):
    """What a button would do to one node."""

    node_id: str
    from_: NodeStatus = Field(alias="from")
    to: NodeStatus


class Preview(Answer):
    """What a button or an order would do, only what changes. `skipped`: every node that could not run any more, at once or
    later. `under_way`: nodes with an attempt that is out and goes on until it answers (an abort tells it to stop).
    `standing`: nodes whose effect would stay although they are rolled back."""

    action_id: str
    status_after: WorkflowStatus
    nodes: list[NodeChange]
    undo: list[str]
    skipped: list[str] = Field(default_factory=list[str])
    under_way: list[str] = Field(default_factory=list[str])
    standing: list[str] = Field(default_factory=list[str])


class NodeInputs(Answer):
    """What a node works with. References are resolved; one whose source has not ended yet stands as it is written, and its
    text in `unresolved`. `overridden`: names that a person set. `edited`: a person approved other arguments than proposed."""

    trace_id: str
    node_id: str
    agent: str
    action: str
    effect_class: str
    inputs: dict[str, Any]
    unresolved: list[str]
    overridden: list[str]
    edited: bool


class WorkflowSummary(Answer):
    """A workflow in a list. `counts`: node state -> how many; `parked_reason`: why the rules cannot go on with it."""

    trace_id: str
    status: WorkflowStatus
    blueprint: str | None
    intent: str | None
    labels: dict[str, str]
    counts: dict[str, int]
    created_at: str
    updated_at: str
    ended_at: str | None
    parked_reason: str | None = None


class Decided(Answer):
    """How a pause was closed, and by whom."""

    outcome: ResolutionOutcome
    action_id: str | None
    input: Json = None
    comment: str | None
    actor: str
    channel: str
    decided_at: str
    applied: bool


class InboxPause(Pause):
    """A pause over all workflows: its payload, how it stands, and of which workflow."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    state: str
    decision: Decided | None
    closed_at: str | None
    workflow: dict[str, Any]


class Claimed(Answer):
    """`200` of claim and release."""

    pause_id: str
    claimed_by: str | None
    claimed_until: str | None


class DeadLetterView(Answer):
    """A task that needed, or needs, a person."""

    dead_letter_id: str
    trace_id: str
    node_id: str | None
    kind: str
    agent: str | None
    error_code: str | None
    pause_id: str | None
    state: str
    reason: str | None
    at: str
    closed_by: str | None = None
    closed_channel: str | None = None
    closed_at: str | None = None


class QuarantineView(Answer):
    """A record that was set aside. `value` and `key` are base64, null where the record had none; a list shows the first 64 KiB
    of a value (`truncated`), the record by itself shows it whole."""

    id: int
    topic: str
    partition: int
    offset: int
    reason: str
    kind: str
    trace_id: str | None
    state: str
    at: str
    key: str | None
    value: str | None
    bytes: int | None = None
    truncated: bool = False


class AgentAction(Answer):
    """One action of an agent: its manifest, and its track record. Of the `attempts_ended` that are counted (both are halved at
    400, so that the newest weigh most) `attempts_ok` succeeded; `success_rate` is what policies are told, null below 20."""

    action: str
    version: str
    attempts_ok: int = 0
    attempts_ended: int = 0
    success_rate: float | None = None


class AgentView(Answer):
    """An agent and its actions. `alive`: seen within the last 15 s by the database clock."""

    name: str
    alive: bool
    last_seen: str
    actions: list[AgentAction]


class BlueprintView(Answer):
    """The newest version of a blueprint."""

    name: str
    version: int
    digest: str
    title: str
    description: str
    input_schema: dict[str, Any]
    defaults: dict[str, Any]
    match: dict[str, Any]
    nodes: list[dict[str, Any]]


class PolicyView(Answer):
    """One version of a policy, and who has applied it. `rules` as they were written."""

    name: str
    version: int
    blueprint: str | None
    title: str
    description: str
    rules: list[dict[str, Any]]
    redact: list[str]
    budget: dict[str, int | float | None] | None = None
    digest: str
    comment: str | None
    actor: str
    channel: str
    applied_at: str


class Feedback(Answer):
    """One line of `GET /feedback.jsonl`. `final` is what was executed, null when rejected; `patch` is RFC 6902; `input` is what
    the button was given: a reply, another vendor, edited arguments. What is marked to be left out stands as `[redacted]`."""

    decision_id: str
    trace_id: str
    pause_id: str
    kind: str
    outcome: str
    proposed: Json = None
    final: Json = None
    patch: list[dict[str, Any]]
    input: Json = None
    comment: str | None
    actor: str
    channel: str
    policy: dict[str, Any] | None
    waited_s: float
    later: dict[str, Any]
    decided_at: str | None = None
    blueprint: str | None = None
    node_id: str | None = None
    agent: str | None = None
    action: str | None = None


class Simulated(Answer):
    """What a candidate policy would have asked of people. `slipped`: rejected actions that nobody would have seen; `unedited`:
    those that a person has corrected; `forbidden`: approved ones that would have been forbidden."""

    policy: dict[str, Any]
    decisions: int
    interruptions: dict[str, Any]
    spared: dict[str, int]
    waited_s_spared: float
    slipped: list[dict[str, Any]]
    unedited: list[dict[str, Any]]
    forbidden: list[dict[str, Any]]


class Suggestion(Answer):
    """An exemption that people's decisions speak for. `candidate` is the policy with it, to be looked at and applied."""

    policy: str
    rule_id: str
    agent: str
    action: str
    approvals: int
    people: int
    exemption: dict[str, Any]
    candidate: dict[str, Any]


class SseTicket(Answer):
    """`POST /sse-tickets`: opens the stream at `url` once, within `expires_in_s`."""

    ticket: str
    url: str
    expires_in_s: float


class DevTopic(Answer):
    """A topic of the bus, under `handrail up` only: what it carries, and how many records it holds."""

    topic: str
    why: str
    key: str
    payload: list[str]
    partitions: int
    records: int


class DevRecord(Answer):
    """A record as it lies on its topic, under `handrail up` only. `value` is what it says where that is JSON, else null, and
    then `text` has its beginning; `truncated` where either is cut."""

    partition: int
    offset: int
    at: str
    key: str | None
    headers: dict[str, str]
    bytes: int
    value: Json = None
    text: str | None = None
    truncated: bool = False


class DevSent(Answer):
    """`202` of `POST /dev/topics/{topic}/records`: it is on the bus."""

    topic: str


ANSWERS: tuple[type[BaseModel], ...] = (
    Accepted,
    Ordered,
    EscalationOpened,
    Resuming,
    State,
    Preview,
    NodeInputs,
    WorkflowSummary,
    InboxPause,
    Claimed,
    DeadLetterView,
    QuarantineView,
    AgentView,
    BlueprintView,
    PolicyView,
    Feedback,
    Simulated,
    Suggestion,
    SseTicket,
    DevTopic,
    DevRecord,
    DevSent,
)
