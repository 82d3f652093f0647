"""The pause: what a person is shown and may press. The first block of `Pause` is the seed's payload, to the letter."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from handrail_contracts.model import Json, Wire
from handrail_contracts.plan import Resolution, ResolutionKind


class PauseKind(StrEnum):
    """By which door the pause was opened."""

    FAILURE = "failure"
    GATE = "gate"
    ESCALATION = "escalation"
    COMPENSATION_FAILURE = "compensation_failure"
    AMBIGUOUS = "ambiguous"
    MANUAL = "manual"


class Evidence(Wire):
    """What the outside world said, as text to be shown, never as markup to be rendered."""

    content_type: str = "application/json"
    body: Json = None
    truncated: bool = False


class Pause(Wire):
    """The payload of `WORKFLOW_PAUSED_HITL`, of the inbox and of the state's open pauses."""

    event_type: str = "WORKFLOW_PAUSED_HITL"
    trace_id: str
    failed_agent: str | None
    failure_reason: str
    context_snapshot: dict[str, Any]
    available_resolutions: list[dict[str, Any]]
    seq: int
    at: str
    pause_id: str
    kind: PauseKind
    node_id: str | None
    raw_evidence: Evidence | None
    evidence_digest: str | None
    attempts: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    proposed_action: dict[str, Any] | None = None
    confidence: float | None = None
    risk: dict[str, Any] | None = None
    transcript: list[dict[str, Any]] | None = None
    summary: str | None = None
    assignees: list[str] = Field(default_factory=list[str])
    claimed_by: str | None = None
    claimed_until: str | None = None
    expires_at: str | None = None
    on_expiry: str | None = None


class ResolutionOutcome(StrEnum):
    """How a pause was closed."""

    DECIDED = "decided"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


def _button(action_id: str, text: str, kind: ResolutionKind, **more: Any) -> Resolution:
    return Resolution(action_id=action_id, display_text=text, kind=kind, **more)


_ABORT = _button("RES_ABORT_SAGA", "Abort and roll back", ResolutionKind.COMPENSATE, style="danger")
_JSON_INPUT: dict[str, Any] = {"requires_input": True, "input_schema": "json"}

SHORTHANDS: dict[str, dict[str, Any]] = {
    "url": {"type": "string", "format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^/]", "maxLength": 2048},
    "email": {"type": "string", "format": "email", "maxLength": 254},
    "text": {"type": "string", "minLength": 1, "maxLength": 20_000},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "json": {},
}
"""What each shorthand of `input_schema` stands for, as JSON Schema 2020-12 (formats are asserted)."""

DEFAULT_RESOLUTIONS: dict[PauseKind, tuple[Resolution, ...]] = {
    PauseKind.FAILURE: (
        _button("RES_RETRY", "Try again", ResolutionKind.RETRY, style="primary"),
        _button("RES_SKIP", "Skip this step", ResolutionKind.SKIP),
        _ABORT,
    ),
    PauseKind.GATE: (
        _button("RES_APPROVE", "Approve", ResolutionKind.APPROVE, style="primary"),
        _button("RES_EDIT", "Approve with edits", ResolutionKind.EDIT, **_JSON_INPUT),
        _button("RES_REJECT", "Reject", ResolutionKind.REJECT, style="danger"),
    ),
    PauseKind.ESCALATION: (
        _button(
            "RES_RESPOND", "Reply", ResolutionKind.RESPOND, style="primary", requires_input=True, input_schema="text"
        ),
        _button("RES_HAND_BACK", "Hand back to the agent", ResolutionKind.HAND_BACK),
        _button("RES_CLOSE", "Close without a reply", ResolutionKind.CLOSE),
        _ABORT,
    ),
    PauseKind.COMPENSATION_FAILURE: (
        _button("RES_RETRY", "Try the undo again", ResolutionKind.RETRY, style="primary"),
        _button(
            "RES_MARK_UNDONE",
            "It is undone",
            ResolutionKind.MARK,
            outcome="undone",
            requires_input=True,
            input_schema="text",
        ),
        _button("RES_ACCEPT", "Leave this effect standing", ResolutionKind.ACCEPT),
        _button("RES_STOP", "Stop undoing", ResolutionKind.STOP, style="danger"),
    ),
    PauseKind.AMBIGUOUS: (
        _button("RES_HAPPENED", "It happened", ResolutionKind.MARK, outcome="happened", **_JSON_INPUT),
        _button("RES_DID_NOT_HAPPEN", "It did not happen", ResolutionKind.MARK, outcome="not_happened"),
        _ABORT,
    ),
    PauseKind.MANUAL: (
        _button("RES_RESUME", "Go on", ResolutionKind.RESUME, style="primary"),
        _ABORT,
    ),
}
"""What is offered where a node declares no resolutions of its own."""

_ANSWER_A_FAILURE = frozenset(
    {
        ResolutionKind.RETRY,
        ResolutionKind.SKIP,
        ResolutionKind.COMPENSATE,
        ResolutionKind.REJECT,
        ResolutionKind.RESPOND,
        ResolutionKind.CLOSE,
        ResolutionKind.MARK,
    }
)


def misfit(button: Resolution) -> tuple[str, str] | None:
    """Why the pause of a failure, the one that shows a node's own buttons, cannot carry this one out: the field at fault and
    a sentence. None where it can. There is no proposal to approve, no conversation to hand back and no undo to leave or stop,
    and a mark has to say whether it happened."""
    if button.kind not in _ANSWER_A_FAILURE:
        kinds = ", ".join(sorted(_ANSWER_A_FAILURE))
        return (
            "kind",
            f"Expected a kind that answers a failure ({kinds}), but {button.action_id} is of kind {button.kind}.",
        )
    if button.kind is ResolutionKind.MARK and button.outcome not in ("happened", "not_happened"):
        found = button.outcome or "none"
        text = f"Expected a mark that says happened or not_happened, but the outcome of {button.action_id} is {found}."
        return "outcome", text
    return None
