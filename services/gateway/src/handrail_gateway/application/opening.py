"""The pause of an escalation from outside, from its `202` until an orchestrator has opened it."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import WorkflowStatus
from handrail_contracts.pauses import Pause, PauseKind
from handrail_contracts.tasks import Escalation
from handrail_engine.talk import OUTSIDE_AGENT, OUTSIDE_NODE, lines_of

OPENING = "opening"
"""Its state: not `open` yet, since nothing can be pressed."""


def shown(pause_id: str, trace_id: str, body: dict[str, Any], at: str) -> dict[str, Any]:
    """As `GET /pauses/{pause_id}` shows it; `body` and `at` are those of the start command."""
    told = Escalation.model_validate(body["outside"]["escalation"])
    transcript = lines_of(told.transcript, at)
    pause = Pause(
        trace_id=trace_id,
        failed_agent=OUTSIDE_AGENT,
        failure_reason=told.reason.strip(),
        context_snapshot=told.metadata,
        available_resolutions=[],
        seq=0,
        at=at,
        pause_id=pause_id,
        kind=PauseKind.ESCALATION,
        node_id=OUTSIDE_NODE,
        raw_evidence=None,
        evidence_digest=None,
        transcript=transcript,
        summary=told.summary or None,
    )
    workflow = {"status": WorkflowStatus.ACCEPTED, "blueprint": None, "intent": body["intent"], "labels": {}}
    more = {"error_code": None, "opened_at": at, "closed_at": None, "decision": None, "workflow": workflow}
    return {**pause.model_dump(mode="json"), "state": OPENING, **more, "conversation": transcript}
