"""What can happen to a workflow: the inputs of `decide`. Results, heartbeats and dead letters are contracts' own types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.tasks import DeadLetter, Escalation, Result
from handrail_engine.policies import Policies


@dataclass(frozen=True, slots=True)
class Now:
    """The instant of a batch in ms, and what is known then beyond the workflow: when an attempt of each agent was last claimed
    anywhere (ms; absent: never seen), the policies in force, how often each (agent, action) has succeeded lately (0 to 1;
    absent: too little is known), and how many more attempts an agent, or `agent/action`, may have in flight (`room`; absent:
    no limit)."""

    ms: int
    last_claim: Mapping[str, int] = field(default_factory=dict)
    policies: Policies = field(default_factory=Policies)
    success_rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    room: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outside:
    """An escalation that comes from outside of any workflow. `pause_id` was given out when it was accepted; `callback_url`
    is told what people say and decide."""

    escalation: Escalation
    pause_id: str
    callback_url: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """A start command of `actor`. `nodes` is the compiled plan (`plan.compile_plan`), None when the planner agent is to make one,
    or when the workflow is an escalation from outside. `policies` is the serial of those in force at the door."""

    intent: str | None
    blueprint: str | None
    input: dict[str, Any]
    labels: dict[str, str]
    nodes: list[dict[str, Any]] | None
    output: dict[str, Any] | None = None
    deadline_s: float | None = None
    actor: str | None = None
    outside: Outside | None = None
    policies: int = 0
    budget: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person pressed, as the one row of table `decision` says."""

    pause_id: str
    action_id: str
    input: Any = None
    comment: str | None = None
    actor: str = "local"
    channel: str = "api"


@dataclass(frozen=True, slots=True)
class PanicPause:
    """A person pauses the workflow by hand."""

    comment: str | None = None
    actor: str = "local"


@dataclass(frozen=True, slots=True)
class Cancel:
    """A person ends the workflow, with undo or without."""

    compensate: bool = True
    comment: str | None = None
    actor: str = "local"
    channel: str = "api"

    @property
    def reason(self) -> str:
        """What the workflow's end says."""
        return self.comment or f"cancelled by {self.actor}"


@dataclass(frozen=True, slots=True)
class GiveUp(Cancel):
    """A person gives up a workflow that is parked: a cancel that does not wait behind what parked it (`forced.py` where the
    rules cannot follow it either)."""

    @property
    def reason(self) -> str:
        """Who gave it up, and why."""
        return f"Given up by {self.actor}" + (f": {self.comment}" if self.comment else "")


@dataclass(frozen=True, slots=True)
class Claim:
    """A pause was claimed or released; times RFC 3339."""

    pause_id: str
    claimed_by: str | None
    claimed_until: str | None


@dataclass(frozen=True, slots=True)
class Say:
    """Somebody spoke in an escalation's conversation."""

    pause_id: str
    role: str
    text: str
    actor: str = "local"


@dataclass(frozen=True, slots=True)
class Wake:
    """Time has passed: everything that is due is done."""


Input = Start | Decision | PanicPause | Cancel | Claim | Say | Wake | Result | DeadLetter


@dataclass(frozen=True, slots=True)
class Rejection:
    """The input changes nothing, and why. Logged, counted, committed with its offset; never a journal row."""

    reason: str
    detail: str = ""
