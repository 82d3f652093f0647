"""The streams as OpenAPI describes them. The notifier serves them under the same origin, so no route of ours does."""

from __future__ import annotations

from typing import Any

from handrail_gateway.entrypoints.http.described import operation

_AFTER = (
    "Position: the stream begins behind it. `Last-Event-ID` goes before it; 0, the default, is before the first event."
)
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
    one = {"after": _AFTER}
    found = {
        "/workflows/{trace_id}/events": _stream(
            "watch_workflow",
            "Watch one workflow live: its events from a position on, without a hole",
            path=("trace_id",),
            query=one,
            problems=("workflow-not-found", "not-acceptable", "unavailable"),
            over=over,
        ),
        "/inbox/events": _stream(
            "watch_inbox",
            "Watch what waits for a person, over all workflows",
            query={},
            problems=("not-acceptable", "unavailable"),
        ),
    }
    for item in found.values():
        item["get"]["parameters"] = [*item["get"].get("parameters", []), _LAST]
    return found


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
    responses: dict[str, Any] = {str(status): answer for status, answer in said["responses"].items()}
    content = {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}}
    responses["200"] = {"description": "Frames as they happen; `ping` every 15 s.", "content": content}
    if over:
        responses["204"] = {"description": over}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "tags": said["tags"],
            "responses": responses,
            **said["openapi_extra"],
        }
    }
