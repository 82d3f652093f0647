"""What a use case raises, as a tree:

GatewayFault
├── Refusal        the request is answered with a problem; its code decides the status
└── StoreFault     the database did not do it; nothing was stored, unless the connection broke during commit
    ├── Unavailable   it does not answer
    ├── StorageFull   it cannot store any more
    └── Busy          somebody else holds what is needed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handrail_contracts.problems import PROBLEMS, problem
from handrail_contracts.problems import quote as quote


class GatewayFault(Exception):
    """Root of what the gateway raises on purpose."""


class Refusal(GatewayFault):
    """A request that is answered with a problem. `detail` is one plain sentence: what was expected, what was found, what
    to do. `errors` are {pointer, code, message}; further members appear in the problem as they are."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.errors = code, detail, errors
        self.retry_after, self.headers, self.close, self.members = retry_after, headers or {}, close, members

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return PROBLEMS[self.code][0]

    def body(self, instance: str) -> dict[str, Any]:
        """The problem as RFC 9457 wants it; `instance` is the path of the request."""
        return problem(
            self.code,
            self.detail,
            instance=instance,
            **self.members,
            errors=list(self.errors) if self.errors else None,
            retry_after=self.retry_after,
        )


class StoreFault(GatewayFault):
    """The database did not do what was asked."""


class Unavailable(StoreFault):
    """It does not answer; the same request may work in a moment."""


class StorageFull(StoreFault):
    """It cannot store any more."""


class Busy(StoreFault):
    """A lock was not to be had in time."""


def workflow_not_found(trace_id: str) -> Refusal:
    """The same words for one that is not there and one that is somebody else's."""
    return Refusal("workflow-not-found", f"Expected a workflow, but there is none with the trace id {quote(trace_id)}.")


def node_not_found(trace_id: str, node_id: str) -> Refusal:
    """As `workflow_not_found`."""
    detail = f"Expected a node of the workflow's plan, but there is none with the id {quote(node_id)}."
    return Refusal("node-not-found", detail, trace_id=trace_id)


def already_ended(trace_id: str, status: str) -> Refusal:
    """Nothing can be ordered any more."""
    detail = f"Expected a workflow that goes on, but it has ended: {status}."
    return Refusal("already-ended", detail, trace_id=trace_id, workflow_status=status)


def already_paused(trace_id: str) -> Refusal:
    """The panic button was pressed before."""
    detail = "Expected a running workflow, but somebody has paused it by hand. Resume it first."
    return Refusal("already-paused", detail, trace_id=trace_id)


def still_opening(trace_id: str, pause_id: str) -> Refusal:
    """The pause of an escalation from outside that was accepted and that nobody has begun."""
    detail = "Expected an open pause, but this one is accepted and still being opened. Try again in a moment."
    return Refusal(
        "not-paused", detail, retry_after=1, trace_id=trace_id, pause_id=pause_id, workflow_status="ACCEPTED"
    )


def pause_not_found(pause_id: str) -> Refusal:
    """As `workflow_not_found`."""
    return Refusal("pause-not-found", f"Expected a pause, but there is none with the id {quote(pause_id)}.")
