"""Routes of what was set aside: dead letters and quarantine."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.answers import DeadLetterView, Ordered, QuarantineView
from handrail_contracts.commands import DiscardRequest, ReasonRequest, ReplayRequest
from handrail_contracts.ids import TRACE_ID
from handrail_gateway.application import dead_letters, paging, quarantine
from handrail_gateway.entrypoints.http import answers, body
from handrail_gateway.entrypoints.http.described import PAGING, listed, operation
from handrail_gateway.entrypoints.http.queries import Query
from handrail_gateway.entrypoints.http.usecases import UseCases

_LETTER_STATES = ("open", "replayed", "discarded", "closed")
_RECORD_STATES = ("open", "replayed", "discarded")
_DECIDING = (
    "already-resolved",
    "not-paused",
    "action-not-allowed",
    "invalid-input",
    "claimed",
    "stale-pause",
    "expired",
)


describe = partial(operation, tag="set aside")


def add_routes(router: APIRouter, use: UseCases) -> None:
    """Adds the routes."""

    @router.get(
        "/dead-letters",
        **describe(
            "Tasks that needed, or need, a person",
            answer=listed(DeadLetterView),
            query={"state": ", ".join(_LETTER_STATES), "agent": "Its agent.", "trace_id": "Its workflow.", **PAGING},
            problems=("invalid-cursor", "invalid-query"),
        ),
    )
    async def list_dead_letters(request: Request) -> Response:
        query = Query(request, ("state", "agent", "trace_id", "limit", "cursor"))
        state = query.one_of("state", ("", *_LETTER_STATES), "") or None
        limit = query.limit(paging.LIMIT, paging.MOST)
        found = await use.lists.dead_letters(
            limit, query.text("cursor"), state=state, agent=query.text("agent"), trace_id=query.text("trace_id")
        )
        return answers.value(found)

    @router.get(
        "/dead-letters/{dead_letter_id}",
        **describe(
            "One dead letter", answer=DeadLetterView, path=("dead_letter_id",), problems=("dead-letter-not-found",)
        ),
    )
    async def get_dead_letter(request: Request) -> Response:
        return answers.value(await use.lists.dead_letter(_letter_id(request)))

    @router.post(
        "/dead-letters/{dead_letter_id}/replay",
        **describe(
            "Decide `retry` on its pause; of a late effect, undo it as workflow `replay_trace_id`",
            body=ReplayRequest,
            body_required=False,
            answer=Ordered,
            status=202,
            path=("dead_letter_id",),
            problems=("dead-letter-not-found", *_DECIDING),
        ),
    )
    async def replay_dead_letter(request: Request) -> Response:
        asked, digest = await body.read(request, ReplayRequest, optional=True)
        return answers.of(await use.dead_letters.replay(use.caller(request, digest), _letter_id(request), asked))

    @router.post(
        "/dead-letters/{dead_letter_id}/discard",
        **describe(
            "Decide `skip` on its pause; of a late effect, leave it standing",
            body=ReasonRequest,
            body_required=False,
            answer=Ordered,
            status=202,
            path=("dead_letter_id",),
            problems=("dead-letter-not-found", *_DECIDING),
        ),
    )
    async def discard_dead_letter(request: Request) -> Response:
        asked, digest = await body.read(request, ReasonRequest, optional=True)
        return answers.of(await use.dead_letters.discard(use.caller(request, digest), _letter_id(request), asked))

    @router.get(
        "/quarantine",
        **describe(
            "Records that could not be read, or that parked their workflow",
            answer=listed(QuarantineView),
            query={"state": ", ".join(_RECORD_STATES), "topic": "Where it came from.", **PAGING},
            problems=("invalid-cursor", "invalid-query"),
        ),
    )
    async def list_quarantine(request: Request) -> Response:
        query = Query(request, ("state", "topic", "limit", "cursor"))
        state = query.one_of("state", ("", *_RECORD_STATES), "") or None
        limit = query.limit(paging.LIMIT, paging.MOST)
        found = await use.lists.quarantined(limit, query.text("cursor"), state=state, topic=query.text("topic"))
        return answers.value(found)

    @router.get(
        "/quarantine/{record_id}",
        **describe(
            "One record that was set aside",
            answer=QuarantineView,
            path=("record_id",),
            problems=("quarantine-not-found",),
        ),
    )
    async def get_quarantined(request: Request) -> Response:
        return answers.value(await use.lists.quarantined_record(_record_id(request)))

    @router.post(
        "/quarantine/{record_id}/replay",
        **describe(
            "Put it back onto its topic",
            body=ReasonRequest,
            body_required=False,
            status=202,
            path=("record_id",),
            problems=("quarantine-not-found", "already-resolved", "unavailable"),
        ),
    )
    async def replay_quarantined(request: Request) -> Response:
        asked, digest = await body.read(request, ReasonRequest, optional=True)
        return answers.of(await use.quarantine.replay(use.caller(request, digest), _record_id(request), asked))

    @router.post(
        "/quarantine/{record_id}/discard",
        **describe(
            "Let it go; it stays to be read. The workflow that it has parked goes on without it, or ends (`give_up`)",
            body=DiscardRequest,
            body_required=False,
            status=202,
            path=("record_id",),
            problems=("quarantine-not-found", "already-resolved", "action-not-allowed"),
        ),
    )
    async def discard_quarantined(request: Request) -> Response:
        asked, digest = await body.read(request, DiscardRequest, optional=True)
        return answers.of(await use.quarantine.discard(use.caller(request, digest), _record_id(request), asked))


def _letter_id(request: Request) -> str:
    id_: str = request.path_params["dead_letter_id"]
    if TRACE_ID.fullmatch(id_) is None:
        raise dead_letters.not_found(id_)
    return id_


def _record_id(request: Request) -> int:
    id_: str = request.path_params["record_id"]
    if not id_.isdecimal() or not id_.isascii() or len(id_) > 18:
        raise quarantine.not_found(id_)
    return int(id_)
