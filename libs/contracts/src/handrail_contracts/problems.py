"""Every problem that the HTTP API answers, with its status and title: RFC 9457, `type` is `/problems/<code>`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed-request": (400, "The request cannot be read"),
    "malformed-json": (400, "The body is not JSON"),
    "too-deep": (400, "The body is nested too deeply"),
    "duplicate-key": (400, "The body has a key twice"),
    "number-out-of-range": (400, "A number is out of range"),
    "invalid-text": (400, "A text holds what cannot be stored"),
    "invalid-trace-id": (400, "Not a trace id"),
    "invalid-cursor": (400, "Not a cursor"),
    "invalid-query": (400, "A query parameter is wrong"),
    "idempotency-key-invalid": (400, "Not an idempotency key"),
    "ticket-required": (401, "This stream opens with a ticket"),
    "ticket-invalid": (401, "This ticket opens nothing"),
    "bad-signature": (401, "This is not signed by whom it should be"),
    "stale-request": (401, "This request is too old, or was seen before"),
    "foreign-host": (403, "This host name is not ours"),
    "foreign-origin": (403, "This origin is not ours"),
    "agent-not-allowed": (403, "This agent is not allowed here"),
    "self-approval": (403, "The requester may not approve"),
    "forbidden": (403, "Not allowed"),
    "not-found": (404, "Nothing here"),
    "workflow-not-found": (404, "No such workflow"),
    "pause-not-found": (404, "No such pause"),
    "node-not-found": (404, "No such node"),
    "dead-letter-not-found": (404, "No such dead letter"),
    "quarantine-not-found": (404, "No such quarantined record"),
    "blob-not-found": (404, "No such blob"),
    "policy-not-found": (404, "No such policy"),
    "method-not-allowed": (405, "This method is not allowed here"),
    "not-acceptable": (406, "Not a form that we can answer in"),
    "request-timeout": (408, "The body comes too slowly"),
    "trace-id-taken": (409, "This trace id is taken"),
    "request-in-progress": (409, "The same request is under way"),
    "not-paused": (409, "The workflow is not paused"),
    "already-paused": (409, "The workflow is paused already"),
    "already-ended": (409, "The workflow has ended"),
    "already-resolved": (409, "Somebody decided already"),
    "stale-pause": (409, "This pause is over"),
    "pause-ambiguous": (409, "Several pauses are open"),
    "evidence-changed": (409, "The evidence has changed"),
    "claimed": (409, "Somebody else has claimed this pause"),
    "policy-version": (409, "Not the next version of this policy"),
    "human-has-control": (409, "A person has the conversation"),
    "expired": (410, "The deadline of this pause has passed"),
    "payload-too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "Not a media type that we read"),
    "validation": (422, "The body is not what was expected"),
    "unknown-field": (422, "A field is unknown"),
    "too-many-items": (422, "A list is too long"),
    "unknown-blueprint": (422, "No such blueprint"),
    "webhook-url-rejected": (422, "This address may not be called"),
    "unknown-agent": (422, "No such agent or action"),
    "no-plan": (422, "The intent matches nothing"),
    "empty-dag": (422, "The plan has no nodes"),
    "dag-cycle": (422, "The plan has a cycle"),
    "unknown-dependency": (422, "A node depends on an unknown node"),
    "duplicate-node": (422, "Two nodes have the same id"),
    "dag-too-large": (422, "The plan is too large"),
    "invalid-reference": (422, "A reference leads nowhere"),
    "invalid-retry-policy": (422, "The retry policy makes no sense"),
    "compensation-missing": (422, "A side effect has no compensation"),
    "effect-class-lowered": (422, "A plan may not lower an effect class"),
    "invalid-time": (422, "Not a time"),
    "invalid-input": (422, "The input is not what the button asks for"),
    "action-not-allowed": (422, "This button is not offered"),
    "idempotency-key-reused": (422, "This idempotency key was used for another body"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "Something failed on our side"),
    "storage-full": (503, "The database cannot store any more"),
    "overloaded": (503, "Too much is waiting"),
    "unavailable": (503, "A part that is needed does not answer"),
}
"""code -> (HTTP status, title)."""


class FieldProblem(BaseModel):
    """One fault in a body: a JSON pointer (RFC 6901), a short code, one sentence."""

    pointer: str
    code: str
    message: str


class Problem(BaseModel):
    """`application/problem+json`. `detail` says what was expected, what was found, what to do."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    trace_id: str | None = None
    errors: list[FieldProblem] | None = None
    retry_after: float | None = Field(default=None, description="seconds")


QUOTE_CHARS = 80


def problem(code: str, detail: str, **more: Any) -> dict[str, Any]:
    """The body of a problem; members that are None are left out. Raises KeyError on a code that is not in the table."""
    status, title = PROBLEMS[code]
    body: dict[str, Any] = {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail}
    body.update((k, v) for k, v in more.items() if v is not None)
    return body


def quote(value: object) -> str:
    """At most 80 characters of what a stranger sent, escaped so that it is shown and never interpreted."""
    text = value if isinstance(value, str) else repr(value)
    shown = text[:QUOTE_CHARS].encode("unicode_escape").decode("ascii")[: QUOTE_CHARS * 2]
    return f"'{shown}…'" if len(text) > QUOTE_CHARS else f"'{shown}'"
