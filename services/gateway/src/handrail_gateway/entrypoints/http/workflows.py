"""Routes under `/workflows`."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.answers import Accepted, NodeInputs, Ordered, Preview, Resuming, State, WorkflowSummary
from handrail_contracts.commands import CancelRequest, PauseRequest, ResumeRequest, StartRequest
from handrail_contracts.events import WorkflowStatus
from handrail_contracts.ids import TRACE_ID
from handrail_gateway.application import paging, plans
from handrail_gateway.application.faults import Refusal, pause_not_found, quote, workflow_not_found
from handrail_gateway.application.ports import WorkflowFilter
from handrail_gateway.entrypoints.http import answers, body, fields
from handrail_gateway.entrypoints.http.described import PAGING, listed, operation
from handrail_gateway.entrypoints.http.queries import Query
from handrail_gateway.entrypoints.http.usecases import UseCases

JOURNAL_LIMIT, JOURNAL_MOST = 200, 1_000
_DIGEST = re.compile(r"[a-z0-9]+:[0-9a-f]{16,128}")
_SHOWN_AS_IT_IS = frozenset({"application/json", "text/plain"})
_STARTING = (
    "invalid-trace-id trace-id-taken unknown-blueprint unknown-agent no-plan empty-dag dag-cycle unknown-dependency"
    " duplicate-node dag-too-large invalid-reference invalid-retry-policy compensation-missing effect-class-lowered"
    " overloaded unavailable storage-full"
)
_RESUMING = (
    "workflow-not-found pause-not-found not-paused already-resolved stale-pause pause-ambiguous evidence-changed claimed"
    " expired action-not-allowed invalid-input unavailable"
)


describe = partial(operation, tag="workflows")


def add_routes(router: APIRouter, use: UseCases) -> None:
    """Adds the routes."""

    def starting(written: bytes, value: Any) -> tuple[StartRequest, bytes | None]:
        """The request, and its plan written again. Programs send one plan again and again: one that is remembered is left out."""
        plans.refuse_oversize(value)
        plan = value.get("plan") if isinstance(value, dict) else None
        if plan is None:
            return fields.read(StartRequest, written, value), None
        rewritten = orjson.dumps(plan)
        if use.submit.remembers(rewritten):
            written = orjson.dumps({**value, "plan": None})
        return fields.read(StartRequest, written, value), rewritten

    @router.post(
        "/workflows",
        **describe(
            "Start a workflow from an intent, a blueprint or a plan",
            body=StartRequest,
            answer=Accepted,
            status=202,
            also={202: "It is durable. `Location` is its state."},
            problems=tuple(_STARTING.split()),
        ),
    )
    async def start_workflow(request: Request) -> Response:
        (asked, plan), digest = await body.read_by(request, starting, limit=body.LARGE_BYTES)
        return answers.of(await use.submit.start(use.caller(request, digest), asked, plan))

    @router.get(
        "/workflows",
        **describe(
            "List workflows, newest first",
            answer=listed(WorkflowSummary),
            query={
                "status": "One or more, separated by commas.",
                "blueprint": "Its name.",
                "label": "`key:value`, as the label reads; several must all stand.",
                "q": "Text of the intent, from the beginning of a word on, or the beginning of a trace_id.",
                **PAGING,
            },
            problems=("invalid-cursor", "invalid-query"),
        ),
    )
    async def list_workflows(request: Request) -> Response:
        query = Query(request, ("status", "blueprint", "label", "q", "limit", "cursor"))
        wanted = WorkflowFilter(
            query.many("status", tuple(WorkflowStatus)), query.text("blueprint"), query.labels("label"), query.text("q")
        )
        limit = query.limit(paging.LIMIT, paging.MOST)
        return answers.value(await use.lists.workflows(wanted, limit, query.text("cursor")))

    @router.get(
        "/workflows/{trace_id}/state",
        **describe(
            "The state with its cursor, and with its history where asked for",
            answer=State,
            path=("trace_id",),
            query={"history": "`true` adds the newest 1,000 events."},
            problems=("workflow-not-found",),
        ),
    )
    async def get_state(request: Request) -> Response:
        trace_id = trace_id_of(request)
        with_history = bool(request.scope["query_string"]) and Query(request, ("history",)).flag("history")
        found = use.snapshots.with_history(trace_id) if with_history else use.snapshots.state(trace_id)
        return answers.Json(await found)

    @router.post(
        "/workflows/{trace_id}/resume",
        **describe(
            "Decide an open pause",
            body=ResumeRequest,
            answer=Resuming,
            status=202,
            also={202: "Stored, will be applied exactly once.", 200: "The same decision again: the first answer."},
            path=("trace_id",),
            problems=tuple(_RESUMING.split()),
        ),
    )
    async def resume_workflow(request: Request) -> Response:
        asked, digest = await body.read(request, ResumeRequest)
        return answers.of(await use.resume.decide(use.caller(request, digest), trace_id_of(request), asked))

    @router.post(
        "/workflows/{trace_id}/pause",
        **describe(
            "The panic button: pause a running workflow",
            body=PauseRequest,
            body_required=False,
            answer=Ordered,
            status=202,
            path=("trace_id",),
            problems=("workflow-not-found", "already-paused", "already-ended"),
        ),
    )
    async def pause_workflow(request: Request) -> Response:
        asked, digest = await body.read(request, PauseRequest, optional=True)
        return answers.of(await use.steering.pause(use.caller(request, digest), trace_id_of(request), asked))

    @router.post(
        "/workflows/{trace_id}/cancel",
        **describe(
            "Cancel, with undo unless told not to",
            body=CancelRequest,
            body_required=False,
            answer=Ordered,
            status=202,
            path=("trace_id",),
            problems=("workflow-not-found", "already-ended"),
        ),
    )
    async def cancel_workflow(request: Request) -> Response:
        asked, digest = await body.read(request, CancelRequest, optional=True)
        return answers.of(await use.steering.cancel(use.caller(request, digest), trace_id_of(request), asked))

    @router.get(
        "/workflows/{trace_id}/pauses/{pause_id}/preview/{action_id}",
        **describe(
            "What a button would do, only what changes",
            answer=Preview,
            path=("trace_id", "pause_id", "action_id"),
            query={"input": "What would be given with it, as JSON: a substitute output, another value."},
            problems=(
                "workflow-not-found",
                "pause-not-found",
                "not-paused",
                "action-not-allowed",
                "already-resolved",
                "stale-pause",
            ),
        ),
    )
    async def preview_action(request: Request) -> Response:
        given = Query(request, ("input",)).text("input")
        try:
            value = None if given is None else orjson.loads(given)
        except orjson.JSONDecodeError:
            value = given  # a bare text, as a link is
        action_id = request.path_params["action_id"]
        return answers.value(await use.foresight.preview(trace_id_of(request), pause_id_of(request), action_id, value))

    @router.get(
        "/workflows/{trace_id}/pause/preview",
        **describe(
            "What the panic button would do, only what changes",
            answer=Preview,
            path=("trace_id",),
            problems=("workflow-not-found", "already-paused", "already-ended"),
        ),
    )
    async def preview_pause(request: Request) -> Response:
        Query(request, ())
        return answers.value(await use.foresight.pausing(trace_id_of(request)))

    @router.get(
        "/workflows/{trace_id}/cancel/preview",
        **describe(
            "What a cancel would do, only what changes",
            answer=Preview,
            path=("trace_id",),
            query={"compensate": "`false`: without undo."},
            problems=("workflow-not-found", "already-ended"),
        ),
    )
    async def preview_cancel(request: Request) -> Response:
        undo = Query(request, ("compensate",)).one_of("compensate", ("true", "false"), "true") == "true"
        return answers.value(await use.foresight.cancelling(trace_id_of(request), compensate=undo))

    @router.get(
        "/workflows/{trace_id}/nodes/{node_id}",
        **describe(
            "What a node works with: its inputs, references resolved",
            answer=NodeInputs,
            path=("trace_id", "node_id"),
            problems=("workflow-not-found", "node-not-found"),
        ),
    )
    async def get_node(request: Request) -> Response:
        Query(request, ())
        return answers.value(await use.foresight.node(trace_id_of(request), request.path_params["node_id"]))

    @router.get(
        "/workflows/{trace_id}/journal",
        **describe(
            "The events, raw, oldest first",
            path=("trace_id",),
            query={
                "after": "A seq, or the `next_cursor` of the answer before; default 0.",
                "cursor": "The same as `after`, by the name that other lists give it.",
                "limit": "1 to 1,000, default 200.",
            },
            problems=("workflow-not-found", "invalid-cursor"),
        ),
    )
    async def get_journal(request: Request) -> Response:
        query = Query(request, ("after", "cursor", "limit"))
        after = query.position("cursor" if query.text("after") is None else "after")
        limit = query.limit(JOURNAL_LIMIT, JOURNAL_MOST)
        return answers.Json(await use.lists.journal(trace_id_of(request), after, limit))

    @router.get(
        "/workflows/{trace_id}/explain",
        **describe(
            "One sentence why it is not moving, its facts, and what it has spent on models",
            path=("trace_id",),
            problems=("workflow-not-found",),
        ),
    )
    async def explain_workflow(request: Request) -> Response:
        return answers.value(await use.foresight.explain(trace_id_of(request)))

    @router.get(
        "/workflows/{trace_id}/blobs/{digest}",
        **describe(
            "A value that was too large for an event",
            path=("trace_id", "digest"),
            problems=("blob-not-found",),
        ),
    )
    async def get_blob(request: Request) -> Response:
        digest = request.path_params["digest"]
        found = None
        if _DIGEST.fullmatch(digest) is not None:
            found = await use.views.blob(use.tenant, trace_id_of(request), digest)
        if found is None:
            raise Refusal("blob-not-found", f"Expected a value of this workflow, but there is none at {quote(digest)}.")
        # What the outside world said is never rendered: at most shown as the text that it is.
        media = found[0] if found[0].partition(";")[0] in _SHOWN_AS_IT_IS else "application/octet-stream"
        shown = {"Content-Disposition": 'attachment; filename="value"', "Content-Security-Policy": "sandbox"}
        return Response(found[1], 200, shown, media_type=media)


def trace_id_of(request: Request) -> str:
    """The trace_id of the path. Raises Refusal workflow-not-found for one that cannot be one."""
    trace_id: str = request.path_params["trace_id"]
    if TRACE_ID.fullmatch(trace_id) is None:
        raise workflow_not_found(trace_id)
    return trace_id


def pause_id_of(request: Request) -> str:
    """The pause_id of the path, likewise."""
    pause_id: str = request.path_params["pause_id"]
    if TRACE_ID.fullmatch(pause_id) is None:
        raise pause_not_found(pause_id)
    return pause_id
