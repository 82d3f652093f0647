"""What the routes call, put together by the bootstrap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from handrail_gateway.application.dead_letters import DeadLetters
from handrail_gateway.application.dev import Dev
from handrail_gateway.application.escalations import Escalations
from handrail_gateway.application.foresight import Foresight
from handrail_gateway.application.lists import Lists
from handrail_gateway.application.policies import Policies
from handrail_gateway.application.ports import Caller, Views
from handrail_gateway.application.quarantine import Quarantine
from handrail_gateway.application.resume import Resume
from handrail_gateway.application.snapshots import Snapshots
from handrail_gateway.application.steering import Steering
from handrail_gateway.application.submit import Submit
from handrail_gateway.entrypoints.http import head

Ledger = Callable[[str, str], Awaitable[list[dict[str, Any]]]]
"""(tenant, trace_id) -> what the simulators really did, in order."""
Check = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class UseCases:
    """Everything that a route may need. `ledger` only where simulators run, `dev` only under `handrail up`; `accepting` is
    False while stopping."""

    tenant: str
    submit: Submit
    resume: Resume
    steering: Steering
    escalations: Escalations
    dead_letters: DeadLetters
    quarantine: Quarantine
    snapshots: Snapshots
    lists: Lists
    foresight: Foresight
    views: Views
    policies: Policies
    ledger: Ledger | None
    dev: Dev | None
    checks: Callable[[], Mapping[str, Check]]
    accepting: Callable[[], bool]

    def caller(self, request: Request, digest: str = "") -> Caller:
        """Who is asking. Raises Refusal for a bad key or name."""
        known = head.of(request.scope)
        return Caller(
            tenant=self.tenant,
            method=request.method,
            path=request.scope["path"],
            key=head.idempotency_key(known),
            digest=digest,
            actor=head.actor(known),
            channel=head.name(known.channel, "api", "Handrail-Channel"),
            traceparent=known.traceparent or None,
        )
