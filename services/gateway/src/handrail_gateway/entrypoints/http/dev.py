"""Routes of the bench: the bus, to be looked at and tried. They exist only under `handrail up` on loopback."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.answers import DevRecord, DevSent, DevTopic
from handrail_contracts.commands import DevRecordRequest
from handrail_gateway.entrypoints.http import answers, body
from handrail_gateway.entrypoints.http.described import listed, operation
from handrail_gateway.entrypoints.http.queries import Query
from handrail_gateway.entrypoints.http.usecases import UseCases

RECORDS, MOST_RECORDS = 20, 200

describe = partial(operation, tag="dev")


def add_routes(router: APIRouter, use: UseCases) -> None:
    """Adds the routes, where there is a bench."""
    dev = use.dev
    if dev is None:
        return

    @router.get("/dev/topics", **describe("Topics of the bus; only under `handrail up`", answer=listed(DevTopic)))
    async def list_topics(request: Request) -> Response:
        Query(request, ())
        return answers.value(await dev.topics())

    @router.get(
        "/dev/topics/{topic}/records",
        **describe(
            "The newest records of a topic, newest first; only under `handrail up`",
            answer=listed(DevRecord),
            path=("topic",),
            query={"limit": f"1 to {MOST_RECORDS}, default {RECORDS}; others are moved to the nearest end."},
            problems=("not-found", "invalid-query"),
        ),
    )
    async def list_records(request: Request) -> Response:
        limit = Query(request, ("limit",)).limit(RECORDS, MOST_RECORDS)
        return answers.value(await dev.records(request.path_params["topic"], limit))

    @router.post(
        "/dev/topics/{topic}/records",
        **describe(
            "Put a record onto a topic as it is, also one that nobody can read; only under `handrail up`",
            body=DevRecordRequest,
            answer=DevSent,
            status=202,
            path=("topic",),
            problems=("not-found", "validation", "unavailable"),
            keyed=False,
        ),
    )
    async def send_record(request: Request) -> Response:
        asked, _ = await body.read(request, DevRecordRequest)
        return answers.value(await dev.send(request.path_params["topic"], asked), 202)
