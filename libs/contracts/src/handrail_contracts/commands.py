"""What people and clients order: the bodies at the door, and the command rows that the gateway stores for the owner."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from handrail_contracts.model import Door, Json, Wire, time_of
from handrail_contracts.plan import Plan
from handrail_contracts.policy import Policy

TraceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Text = Annotated[str, StringConstraints(max_length=20_000)]


class StartRequest(Door):
    """`POST /workflows`: at least one of intent, blueprint, plan; a plan goes without a blueprint."""

    intent: Text | None = None
    blueprint: str | None = None
    input: dict[str, Any] = Field(default_factory=dict[str, Any])
    plan: Plan | None = None
    trace_id: str | None = None
    labels: dict[Label, Label] = Field(default_factory=dict[str, str], max_length=64)
    deadline_s: float | None = Field(default=None, gt=0, le=365 * 86_400)


class ResumeRequest(Door):
    """`POST /workflows/{trace_id}/resume`: what a person pressed."""

    action_id: str
    input: Json = None
    pause_id: str | None = None
    comment: Text | None = None
    evidence_digest: str | None = None
    override_claim: bool = False


class PauseRequest(Door):
    """`POST /workflows/{trace_id}/pause`: the panic button."""

    comment: Text | None = None


class CancelRequest(Door):
    """`POST /workflows/{trace_id}/cancel`."""

    compensate: bool = True
    comment: Text | None = None


class ClaimRequest(Door):
    """`POST /pauses/{pause_id}/claim`, for so many seconds."""

    seconds: int = Field(default=300, ge=1, le=86_400)


class ReleaseRequest(Door):
    """`POST /pauses/{pause_id}/release`: no fields."""


class ReasonRequest(Door):
    """`POST …/discard`."""

    reason: Text | None = None


class DiscardRequest(ReasonRequest):
    """`POST /quarantine/{id}/discard`. The workflow that the record has parked goes on without it; with `give_up` it ends
    instead, undone where `compensate` says so and the rules still can."""

    give_up: bool = False
    compensate: bool = True


class ReplayRequest(Door):
    """`POST …/replay`. `input` is for a dead letter whose only retry asks for one."""

    reason: Text | None = None
    input: Json = None


class MessageRequest(Door):
    """`POST /pauses/{pause_id}/messages`: somebody speaks in the conversation of an escalation."""

    role: Literal["operator", "user", "agent"]
    text: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]


class DevRecordRequest(Door):
    """`POST /dev/topics/{topic}/records`, under `handrail up` only: a record as it is, whether anybody can read it or not.
    Without a partition its key decides."""

    text: Text
    key: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    headers: dict[Label, Text] = Field(default_factory=dict[str, str], max_length=32)
    partition: int | None = Field(default=None, ge=0, le=10_000)


class SseTicketRequest(Door):
    """`POST /sse-tickets`: for exactly one of the streams, that of a workflow, of the inbox, or of `/events`. `started` asks
    `/events` for what is accepted as well, alone or beside trace_ids or a label."""

    trace_id: str | None = None
    inbox: Literal[True] | None = None
    trace_ids: list[str] | None = Field(default=None, min_length=1, max_length=100)
    label: Annotated[str, StringConstraints(pattern=r"^[\s\S]{1,256}:[\s\S]{0,256}$")] | None = None
    started: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> SseTicketRequest:
        named = [name for name in type(self).model_fields if getattr(self, name) is not None]
        several = set(named) in ({"trace_ids", "started"}, {"label", "started"})
        if len(named) != 1 and not several:
            found = " and ".join(named) or "none"
            raise ValueError(
                "Expected exactly one of trace_id, inbox, trace_ids, label, started (the last also with trace_ids or"
                f" label), but found {found}."
            )
        return self


def _time(text: str) -> str:
    if time_of(text) is None:
        raise PydanticCustomError(
            "datetime_parsing", "Expected a time such as 2026-01-31T12:00:00Z, but found another text."
        )
    return text


class Line(Door):
    """One line of a conversation. `at` RFC 3339; left out it is when the line came in."""

    role: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    text: Text
    at: Annotated[str, StringConstraints(max_length=64), AfterValidator(_time)] | None = None


class EscalationRequest(Door):
    """`POST /escalations`: an agent outside of any workflow asks for a person. `handover_message` is what its user is told;
    `callback_url` hears what people say and decide (https, a public host)."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=4_000, pattern=r"\S")]
    summary: Annotated[str, StringConstraints(max_length=4_000)] = ""
    transcript: list[Line] = Field(default_factory=list[Line], max_length=1_000)
    metadata: dict[str, Json] = Field(default_factory=dict[str, Json], max_length=100)
    handover_message: Text | None = None
    callback_url: str | None = None


class PolicyRequest(Door):
    """`POST /policies`: a new version of a policy; `comment` says why, for whoever looks at its history."""

    policy: Policy
    comment: Text | None = None


class SimulateRequest(Door):
    """`POST /policies/simulate`: what a candidate would have asked of people. It takes the place of the policy of its name."""

    policy: Policy
    since: str | None = None


class CommandKind(StrEnum):
    """What a command row orders."""

    START = "start"
    DECIDE = "decide"
    PAUSE = "pause"
    CANCEL = "cancel"
    GIVE_UP = "give-up"
    LOOK = "look"
    CLAIM = "claim"
    MESSAGE = "message"


class Nudge(Wire):
    """Ids only: there is a command row for this workflow. Losing one costs a poll interval, nothing else."""

    tenant: str = "default"
    trace_id: str
    command_id: str
