"""Routes of what can run and what is alive, and of what the simulators really did."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.answers import AgentView, BlueprintView
from handrail_contracts.ids import TRACE_ID
from handrail_gateway.application.faults import Refusal
from handrail_gateway.entrypoints.http import answers
from handrail_gateway.entrypoints.http.described import listed, operation
from handrail_gateway.entrypoints.http.queries import Query
from handrail_gateway.entrypoints.http.usecases import UseCases

describe = partial(operation, tag="registry")


def add_routes(router: APIRouter, use: UseCases) -> None:
    """Adds the routes; the ledger only where simulators run."""

    @router.get("/blueprints", **describe("Blueprints that can be started", answer=listed(BlueprintView)))
    async def list_blueprints(request: Request) -> Response:
        Query(request, ())
        return answers.value(await use.lists.blueprints())

    @router.get("/agents", **describe("Agents ever registered, and which are alive", answer=listed(AgentView)))
    async def list_agents(request: Request) -> Response:
        Query(request, ())
        return answers.value(await use.lists.agents())

    ledger = use.ledger
    if ledger is not None:

        @router.get(
            "/simulators/ledger",
            **describe(
                "What the simulated outside world really did, in order",
                query={"trace_id": "The workflow."},
                problems=("invalid-query",),
            ),
        )
        async def get_ledger(request: Request) -> Response:
            trace_id = Query(request, ("trace_id",)).text("trace_id")
            if trace_id is None or TRACE_ID.fullmatch(trace_id) is None:
                raise Refusal("invalid-query", "Expected ?trace_id= of a workflow.", parameter="trace_id")
            return answers.value(await ledger(use.tenant, trace_id))
