"""Routes of operators: the inbox, pauses, feedback."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from handrail_contracts.answers import Claimed, EscalationOpened, Feedback, InboxPause, Ordered
from handrail_contracts.commands import ClaimRequest, EscalationRequest, MessageRequest, ReleaseRequest
from handrail_contracts.pauses import PauseKind
from handrail_gateway.application import feedback, paging
from handrail_gateway.application.ports import PauseFilter
from handrail_gateway.entrypoints.http import answers, body
from handrail_gateway.entrypoints.http.described import PAGING, listed, operation
from handrail_gateway.entrypoints.http.queries import Query
from handrail_gateway.entrypoints.http.usecases import UseCases
from handrail_gateway.entrypoints.http.workflows import pause_id_of

_NDJSON = "application/x-ndjson"
_OPENING = ("webhook-url-rejected", "invalid-time", "overloaded", "unavailable", "storage-full")
_FILTERS = {
    "state": "`open` (default), `mine` (claimed by Handrail-Actor) or `resolved`.",
    "kind": "One or more kinds of pauses, separated by commas.",
    "agent": "The failed agent.",
    "error_code": "The code of the last error.",
    "blueprint": "The blueprint of the workflow.",
    "trace_id": "One workflow.",
    "q": "Text of the intent, the failure reason or the node, from the beginning of a word on.",
}


describe = partial(operation, tag="people")


def add_routes(router: APIRouter, use: UseCases) -> None:
    """Adds the routes."""

    @router.get(
        "/inbox",
        **describe(
            "Pauses over all workflows, newest first, and how many there are",
            answer=listed(InboxPause),
            query={**_FILTERS, **PAGING},
            problems=("invalid-cursor", "invalid-query"),
        ),
    )
    async def list_inbox(request: Request) -> Response:
        query = Query(request, (*_FILTERS, "limit", "cursor"))
        wanted = PauseFilter(
            query.one_of("state", ("open", "mine", "resolved"), "open"),
            use.caller(request).actor,
            query.many("kind", tuple(PauseKind)),
            query.text("agent"),
            query.text("error_code"),
            query.text("blueprint"),
            query.text("trace_id"),
            query.text("q"),
        )
        limit = query.limit(paging.LIMIT, paging.MOST)
        return answers.value(await use.lists.inbox(wanted, limit, query.text("cursor")))

    @router.get(
        "/pauses/{pause_id}",
        **describe(
            "The pause, its decision, its conversation",
            answer=InboxPause,
            path=("pause_id",),
            problems=("pause-not-found",),
        ),
    )
    async def get_pause(request: Request) -> Response:
        return answers.value(await use.lists.pause(pause_id_of(request)))

    @router.post(
        "/pauses/{pause_id}/claim",
        **describe(
            "Claim a pause for so many seconds",
            body=ClaimRequest,
            body_required=False,
            answer=Claimed,
            path=("pause_id",),
            problems=("pause-not-found", "not-paused", "claimed", "already-resolved", "stale-pause"),
        ),
    )
    async def claim_pause(request: Request) -> Response:
        asked, digest = await body.read(request, ClaimRequest, optional=True)
        return answers.of(await use.steering.claim(use.caller(request, digest), pause_id_of(request), asked))

    @router.post(
        "/pauses/{pause_id}/release",
        **describe(
            "Release a claim",
            body=ReleaseRequest,
            body_required=False,
            answer=Claimed,
            path=("pause_id",),
            problems=("pause-not-found", "not-paused", "claimed", "already-resolved", "stale-pause"),
        ),
    )
    async def release_pause(request: Request) -> Response:
        _, digest = await body.read(request, ReleaseRequest, optional=True)
        return answers.of(await use.steering.release(use.caller(request, digest), pause_id_of(request)))

    @router.post(
        "/pauses/{pause_id}/messages",
        **describe(
            "Speak in the conversation of a pause",
            body=MessageRequest,
            answer=Ordered,
            status=202,
            path=("pause_id",),
            problems=("pause-not-found", "human-has-control", "already-resolved", "stale-pause"),
        ),
    )
    async def add_message(request: Request) -> Response:
        asked, digest = await body.read(request, MessageRequest)
        return answers.of(await use.steering.say(use.caller(request, digest), pause_id_of(request), asked))

    @router.post(
        "/escalations",
        **describe(
            "Open an escalation from outside of any workflow",
            body=EscalationRequest,
            answer=EscalationOpened,
            status=202,
            also={
                202: "It is durable, the ids are final. `Location` is the pause; the inbox shows it once it is open."
            },
            problems=_OPENING,
        ),
    )
    async def open_escalation(request: Request) -> Response:
        asked, digest = await body.read(request, EscalationRequest)
        return answers.of(await use.escalations.open(use.caller(request, digest), asked))

    @router.get(
        "/feedback.jsonl",
        **describe(
            "Every decision, one line each, oldest first",
            answer=Feedback,
            query={
                "since": "An RFC 3339 time with a zone: decisions made since then. One shows once it is committed, which may be after"
                " younger ones: whoever collects again begins some minutes before, and knows a line by its `decision_id`.",
                "blueprint": "Workflows of this blueprint.",
                "kind": "One or more kinds of pauses, separated by commas.",
                "outcome": "One or more outcomes, separated by commas.",
                "format": "`sft`, `preference` or `eval`: examples to learn from, made of what people decided.",
            },
            problems=("invalid-time", "invalid-query"),
            media=_NDJSON,
        ),
    )
    async def export_feedback(request: Request) -> Response:
        query = Query(request, ("since", "blueprint", "kind", "outcome", "format"))
        form = query.one_of("format", ("decisions", *feedback.FORMS), "decisions")
        wanted = feedback.Wanted(
            query.time("since"),
            query.text("blueprint"),
            query.many("kind", tuple(PauseKind)),
            query.many("outcome", feedback.OUTCOMES),
            form if form != "decisions" else None,
        )
        lines = feedback.lines(use.views, use.tenant, wanted)
        # A database that does not answer must be a 503, not a 200 that breaks off.
        first = await anext(lines, b"")
        return StreamingResponse(_after(first, lines), media_type=_NDJSON)


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for more in rest:
            yield more
