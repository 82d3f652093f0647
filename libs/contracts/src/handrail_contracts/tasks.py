"""What owner and agents say to each other: a task, how an attempt went, a heartbeat, progress, a dead letter."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from handrail_contracts.model import Json, Wire
from handrail_contracts.plan import EffectClass

MAX_RESULT_BYTES = 900_000
"""A result larger than this does not fit into one record; the runtime answers `result-too-large` instead."""


class TaskKind(StrEnum):
    """What the agent is asked for."""

    EXECUTE = "execute"
    COMPENSATE = "compensate"
    LOOK_UP = "look_up"
    CANCEL = "cancel"

    @property
    def answered(self) -> TaskKind:
        """What the answer speaks of: a cancel is answered as the execution that it is about."""
        return TaskKind.EXECUTE if self is TaskKind.CANCEL else self


class Task(Wire):
    """One dispatch. `effect_key` is stable over retries, `attempt` is the fence. `start_before` (RFC 3339): an attempt
    that was not claimed by then must not start. `do_key` is the effect key of what a compensation undoes, `output` what
    it had answered (None when that is unknown). A cancel carries the attempt that it cancels. `approved` are the arguments that
    an agent proposed and that were let pass; `approval` says by what: {action, proposed, digest, pause_id}, digests of
    `policy.action_digest`, `pause_id` null where a policy let it pass."""

    kind: TaskKind = TaskKind.EXECUTE
    tenant: str = "default"
    trace_id: str
    node_id: str
    agent: str
    action: str
    attempt: int
    max_attempts: int
    effect_key: str
    effect_class: EffectClass = EffectClass.PURE
    inputs: dict[str, Any] = Field(default_factory=dict[str, Any])
    output: Json = None
    do_key: str | None = None
    start_before: str
    start_to_close_s: float = 300.0
    lease_s: float = 5.0
    conversation: list[dict[str, Any]] | None = None
    approved: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None


class Outcome(StrEnum):
    """How an attempt stands. `started` is the claim; all others end the attempt."""

    STARTED = "started"
    OK = "ok"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    ESCALATED = "escalated"
    PROPOSED = "proposed"
    CANCELLED = "cancelled"


class Failure(Wire):
    """What went wrong. `evidence` is what the outside world said, verbatim. `retryable` false ends the retries."""

    code: str
    message: str = ""
    evidence: Json = None
    retryable: bool = True
    retry_after_s: float | None = None


class Escalation(Wire):
    """An agent that knows it is out of its depth. `transcript` is a list of {role, text, at}."""

    reason: str
    summary: str = ""
    transcript: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    handover_message: str | None = None


class ProposedAction(Wire):
    """An action that an agent proposes instead of acting. `args` in full; `diff` is {before, after}. With `requires_confirmation`
    a model asks for a person; that it asks for none counts for nothing."""

    action: str
    args: dict[str, Any] = Field(default_factory=dict[str, Any])
    summary: str = ""
    diff: dict[str, Any] | None = None
    reversible: bool | None = None
    confidence: float | None = None
    affected: int | None = None
    domain: str | None = None
    requires_confirmation: bool | None = None


class Result(Wire):
    """How an attempt went. `started_at` and `finished_at` are RFC 3339 by the agent's database clock."""

    kind: TaskKind = TaskKind.EXECUTE
    tenant: str = "default"
    trace_id: str
    node_id: str
    attempt: int
    effect_key: str
    outcome: Outcome
    output: Json = None
    error: Failure | None = None
    escalation: Escalation | None = None
    proposed: ProposedAction | None = None
    nodes: list[dict[str, Any]] | None = None
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    usage: dict[str, Any] | None = None


class Heartbeat(Wire):
    """An attempt is still being worked on."""

    tenant: str = "default"
    trace_id: str
    node_id: str
    attempt: int
    effect_key: str
    worker: str | None = None


class Progress(Wire):
    """News from inside an attempt; shown, never journaled. `percent` 0 to 100."""

    tenant: str = "default"
    trace_id: str
    node_id: str
    attempt: int
    percent: float | None = None
    message: str | None = None
    at: str | None = None


class DeadLetter(Wire):
    """A task that needs a person. Records put on the topic by anyone else need only trace_id, node_id and reason."""

    tenant: str = "default"
    trace_id: str
    node_id: str | None = None
    dead_letter_id: str | None = None
    kind: str = "task"
    reason: str = ""
    error: Failure | None = None
    attempts: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    task: dict[str, Any] | None = None
