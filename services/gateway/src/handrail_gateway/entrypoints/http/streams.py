"""The streams as OpenAPI describes them. The notifier serves them under the same origin, so no route of ours does."""

from __future__ import annotations

from typing import Any

from handrail_contracts.answers import SseTicket
from handrail_contracts.commands import SseTicketRequest
from handrail_gateway.entrypoints.http.described import READING, operation

_AFTER = (
    "Position: the stream begins behind it. `Last-Event-ID` goes before it; 0, the default, is before the first event."
)
_TICKET = "From `POST /sse-tickets`; spent by its first use."
_EXAMPLE = """retry: 2000

id: 17
event: WORKFLOW_PAUSED_HITL
data: {"event_type":"WORKFLOW_PAUSED_HITL","trace_id":"req_8847_abc","seq":17}

event: ping
data: {"at":"2026-11-26T15:04:16.598Z"}

event: end
data: {}

"""
_LAST = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Where the last stream broke: the `id` of the last frame that arrived.",
    "schema": {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"},
}


def paths() -> dict[str, Any]:
    """The path items of the streams, each with an example of what is on the wire."""
    over = "It is over, and nothing is left: do not come back."
    ticket = {"ticket": _TICKET}
    one = {"after": _AFTER, "format": "`sse` (the default) or `agui`: the same stream in AG-UI 1.0 frames.", **ticket}
    found = {
        "/workflows/{trace_id}/events": _stream(
            "watch_workflow",
            "Watch one workflow live: its events from a position on, without a hole",
            path=("trace_id",),
            query=one,
            problems=("ticket-required", "ticket-invalid", "workflow-not-found", "not-acceptable", "unavailable"),
            over=over,
        ),
        "/events": _stream(
            "watch_several",
            "Watch several workflows on one connection: a snapshot of each, then their events, without positions",
            query={
                "trace_id": "Once or more.",
                "label": "`key:value`, as the label reads: all that carry it, later ones included.",
                "started": "`true`: also `started` frames, which name what was accepted. Alone, or beside the others.",
                **ticket,
            },
            problems=("invalid-query", "ticket-required", "ticket-invalid", "workflow-not-found", "unavailable"),
        ),
        "/inbox/events": _stream(
            "watch_inbox",
            "Watch what waits for a person, over all workflows",
            query=ticket,
            problems=("ticket-required", "ticket-invalid", "not-acceptable", "unavailable"),
        ),
    }
    positioned = found["/workflows/{trace_id}/events"]["get"]
    positioned["parameters"] = [*positioned.get("parameters", []), _LAST]
    return {**found, "/sse-tickets": {"post": _tickets()}, "/ag-ui": {"post": _agui()}}


def _tickets() -> dict[str, Any]:
    said = operation(
        "Order a ticket: it opens one stream, once, within seconds, for whoever can send no headers",
        tag="streams",
        body=SseTicketRequest,
        answer=SseTicket,
        status=201,
        problems=("workflow-not-found", "unavailable"),
        keyed=False,
    )
    return _item("order_ticket", said)


def _agui() -> dict[str, Any]:
    said = operation(
        "Run a workflow for an AG-UI client: from the state of now to its next pause or its end",
        tag="streams",
        problems=("workflow-not-found", "already-resolved", "invalid-input", "unavailable", *READING),
    )
    item = _item("run_agui", said)
    text = "AG-UI's RunAgentInput: `threadId` is the trace id, `resume[]` are decisions with `payload: {action_id, input?}`."
    body = {"type": "object", "required": ["threadId", "runId", "messages"], "description": text}
    item["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    frames = {"text/event-stream": {"schema": {"type": "string"}}}
    item["responses"]["200"] = {"description": "One AG-UI event per `data` line.", "content": frames}
    return item


def _item(name: str, said: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {str(status): answer for status, answer in said["responses"].items()}
    head = {"operationId": name, "summary": said["summary"], "tags": said["tags"], "responses": responses}
    return {**head, **said["openapi_extra"]}


def _stream(
    name: str,
    summary: str,
    *,
    problems: tuple[str, ...],
    query: dict[str, str],
    path: tuple[str, ...] = (),
    over: str = "",
) -> dict[str, Any]:
    said = operation(summary, tag="streams", path=path, query=query, problems=problems)
    item = _item(name, said)
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}
    item["responses"]["200"] = {"description": "Frames as they happen; `ping` every 15 s.", "content": content}
    if over:
        item["responses"]["204"] = {"description": over}
    return {"get": item}
