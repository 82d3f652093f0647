"""How a DAG is written down. A plan is data: validated once, then immutable; running workflows keep their copy.

References: wherever a node's `inputs` hold the object `{"$from": "<path>"}`, the value at that path stands at dispatch:
`input.<path>` is the workflow's input, `nodes.<id>.output.<path>` the output of an upstream node. `context` maps names
to paths of the same form, where `input.` means the node's own resolved inputs. `when` is a condition on such paths.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from handrail_contracts.ids import AGENT_NAME
from handrail_contracts.model import Door, Json

NodeId = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\s/\x00-\x1f\x7f]+$")]
AgentName = Annotated[str, StringConstraints(pattern=AGENT_NAME)]
ActionName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64)]

MAX_NODES = 10_000
MAX_EDGES = 100_000
DAY_S = 86_400.0


class EffectClass(StrEnum):
    """What may be done when it is unknown whether an attempt had its effect; from harmless to dangerous."""

    PURE = "pure"
    IDEMPOTENT = "idempotent"
    QUERYABLE = "queryable"
    UNSAFE = "unsafe"


EFFECT_ORDER: dict[EffectClass, int] = {c: i for i, c in enumerate(EffectClass)}


class OnExhausted(StrEnum):
    """What follows when a node's attempts are used up."""

    PAUSE = "pause"
    COMPENSATE = "compensate"
    SKIP = "skip"
    FAIL = "fail"


class PauseScope(StrEnum):
    """What else waits while a pause of this node is open: everything, or only what depends on the node."""

    WORKFLOW = "workflow"
    BRANCH = "branch"


class RetryPolicy(Door):
    """How often and how soon an attempt is repeated. Seconds throughout. Jitter is a hash, so a replay waits the same."""

    max_attempts: int = Field(default=3, ge=1, le=1000)
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    initial_delay_s: float = Field(default=1.0, ge=0, le=DAY_S)
    multiplier: float = Field(default=2.0, ge=1, le=100)
    max_delay_s: float = Field(default=60.0, ge=0, le=7 * DAY_S)
    jitter: Literal["full", "none"] = "full"
    total_timeout_s: float | None = Field(default=None, gt=0, le=365 * DAY_S)
    non_retryable_errors: list[Code] = Field(default_factory=list[str], max_length=100)


SHORTEST_LEASE_S = 0.2


class Timeouts(Door):
    """Limits of one node, in seconds. `schedule_to_start_s`: unclaimed for so long while its agent claims nothing at all."""

    schedule_to_start_s: float = Field(default=60.0, gt=0, le=365 * DAY_S)
    start_to_close_s: float = Field(default=300.0, gt=0, le=30 * DAY_S)
    lease_s: float = Field(default=5.0, ge=SHORTEST_LEASE_S, le=3600)


class ResolutionKind(StrEnum):
    """What a button does: CONTRACT section 5."""

    RETRY = "retry"
    SKIP = "skip"
    COMPENSATE = "compensate"
    APPROVE = "approve"
    EDIT = "edit"
    REJECT = "reject"
    RESPOND = "respond"
    CLOSE = "close"
    HAND_BACK = "hand_back"
    MARK = "mark"
    ACCEPT = "accept"
    STOP = "stop"
    RESUME = "resume"


INPUT_SHORTHANDS = ("url", "email", "text", "number", "integer", "boolean", "date", "json")
InputSchema = Literal["url", "email", "text", "number", "integer", "boolean", "date", "json"] | dict[str, Any]


class Resolution(Door):
    """One button of a pause, declared by people, never by a model. `sets` names the input that a retry's value replaces;
    `outcome` refines `mark`: happened, not_happened, undone; `scope` refines `compensate`: everything (default), back to
    the nearest savepoint before the node and on again from there, or the node's subtree, without which the rest goes on."""

    action_id: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
    display_text: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    requires_input: bool = False
    input_schema: InputSchema | None = None
    style: Literal["primary", "neutral", "danger"] = "neutral"
    kind: ResolutionKind
    sets: str | None = None
    outcome: Literal["happened", "not_happened", "undone"] | None = None
    scope: Literal["workflow", "savepoint", "subtree"] | None = None


class Expiry(Door):
    """A pause's deadline and what the system presses when it passes. Silence is never approval unless this says so."""

    after_s: float = Field(gt=0, le=365 * DAY_S)
    action_id: str
    input: Json = None


class Compensation(Door):
    """How a node is undone, where it is not simply its action's own compensation."""

    action: ActionName | None = None
    retry: RetryPolicy = Field(default_factory=lambda: RetryPolicy(max_attempts=3))
    timeouts: Timeouts = Field(default_factory=lambda: Timeouts())


class Diff(Door):
    """What an action changes: names with values, each as it stands, a reference (`{"$from": "nodes.x.output.y"}`, also
    `args.<path>`), or a sum of two (`{"$plus": [a, b]}`, `{"$minus": [a, b]}`)."""

    before: dict[str, Any] = Field(default_factory=dict[str, Any])
    after: dict[str, Any] = Field(default_factory=dict[str, Any])


class Gate(Door):
    """Approval on the plan: this node waits for a person when the policy says so, or always.

    `on_reject` is what a refusal does: `skip` the node, `fail` or `compensate` the workflow, or take the other `branch`: of what
    depends on the node only nodes with a condition go on. `summary` is the sentence that a person reads, with `{name}` and
    `{name:.2f}` for arguments. `affected`: how many things it touches, a number or `args.<path>` (a list counts its items).
    `four_eyes`: who started the workflow may not approve. `redact`: arguments (`args.<path>`) that are left out of exports.
    """

    decide: Literal["always", "policy"] = "policy"
    on_reject: Literal["skip", "fail", "compensate", "branch"] = "skip"
    summary: Annotated[str, StringConstraints(max_length=500)] | None = None
    diff: Diff | None = None
    affected: int | str | None = None
    domain: Code | None = None
    four_eyes: bool = False
    redact: list[str] = Field(default_factory=list[str], max_length=50)


class Condition(Door):
    """`when`: the node runs only if this holds; else it ends SKIPPED. All given comparisons must hold."""

    ref: str
    eq: Json = None
    ne: Json = None
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    in_: list[Json] | None = Field(default=None, alias="in")
    exists: bool | None = None


class Node(Door):
    """One node of a plan: who does what, after whom, and what is to happen when it goes wrong. `untrusted`: what it answers
    holds content from outside, so that a node with side effects that comes after it asks a person first."""

    id: NodeId
    agent: AgentName
    action: ActionName
    depends_on: list[NodeId] = Field(default_factory=list[str])
    inputs: dict[str, Any] = Field(default_factory=dict[str, Any])
    when: Condition | None = None
    context: dict[str, str] = Field(default_factory=dict[str, str])
    retry: RetryPolicy | None = None
    timeouts: Timeouts | None = None
    effect_class: EffectClass | None = None
    compensation: Compensation | Literal["none"] | None = None
    gate: Gate | None = None
    resolutions: list[Resolution] | None = Field(default=None, max_length=20)
    on_exhausted: OnExhausted = OnExhausted.PAUSE
    expiry: Expiry | None = None
    output_schema: dict[str, Any] | None = None
    optional: bool = False
    irreversible: bool = False
    pause_scope: PauseScope | None = None
    savepoint: bool = False
    untrusted: bool = False
    may_add_nodes: int = Field(default=0, ge=0, le=MAX_NODES)

    @model_validator(mode="after")
    def _irreversible_has_no_undo(self) -> Node:
        if self.irreversible and isinstance(self.compensation, Compensation):
            raise ValueError("Expected no compensation on an irreversible node, but both are given.")
        return self


class Budget(Door):
    """What one workflow may spend on models: tokens in and out, and US dollars. Once it is used up a person is asked."""

    tokens: int | None = Field(default=None, ge=1)
    usd: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _limits_something(self) -> Budget:
        if self.tokens is None and self.usd is None:
            raise ValueError("Expected tokens or usd in a budget, but found neither.")
        return self


class Plan(Door):
    """A DAG of nodes. `output` maps names to references; without it the outputs of the sinks stand under their node ids.
    `budget`: what the workflow may spend on models."""

    nodes: list[Node]
    output: dict[str, Any] | None = None
    budget: Budget | None = None
