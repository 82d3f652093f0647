"""Routes of policies: what is in force, a policy's history, the next version."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from handrail_contracts.answers import PolicyView, Simulated, Suggestion
from handrail_contracts.commands import PolicyRequest, SimulateRequest
from handrail_gateway.entrypoints.http import answers, body
from handrail_gateway.entrypoints.http.described import listed, operation
from handrail_gateway.entrypoints.http.queries import Query, time_of
from handrail_gateway.entrypoints.http.usecases import UseCases

describe = partial(operation, tag="policies")


def add_routes(router: APIRouter, use: UseCases) -> None:
    """Adds the routes."""

    @router.get("/policies", **describe("Policies in force, by name", answer=listed(PolicyView)))
    async def list_policies(request: Request) -> Response:
        Query(request, ())
        return answers.value(await use.policies.shown())

    @router.get(
        "/policies/suggestions",
        **describe(
            "Exemptions that people's unanimous approvals speak for, to be looked at and applied",
            answer=listed(Suggestion),
            query={
                "min": "So many approvals at least, default 20, at least 3.",
                "days": "For so many days, default 30, at most 365.",
                "since": "An RFC 3339 time with a zone: older decisions do not count.",
            },
            problems=("invalid-query", "invalid-time"),
        ),
    )
    async def list_suggestions(request: Request) -> Response:
        query = Query(request, ("min", "days", "since"))
        enough, days = max(3, query.number("min", 20, 100_000)), query.number("days", 30, 365)
        return answers.value(await use.policies.suggestions(enough, days, query.time("since")))

    @router.post(
        "/policies/simulate",
        **describe(
            "What a candidate policy would have asked of people, over past decisions; changes nothing",
            body=SimulateRequest,
            answer=Simulated,
            problems=("validation", "unknown-field", "invalid-time"),
        ),
    )
    async def simulate_policy(request: Request) -> Response:
        asked, _ = await body.read(request, SimulateRequest)
        since = None if asked.since is None else time_of("since", asked.since)
        return answers.value(await use.policies.simulate(asked.policy, since))

    @router.get(
        "/policies/{name}",
        **describe(
            "Every version of a policy, newest first",
            answer=listed(PolicyView),
            path=("name",),
            problems=("policy-not-found",),
        ),
    )
    async def get_policy(request: Request) -> Response:
        Query(request, ())
        return answers.value(await use.policies.versions(request.path_params["name"][:64]))

    @router.post(
        "/policies",
        **describe(
            "Put the next version of a policy in force",
            body=PolicyRequest,
            answer=PolicyView,
            status=201,
            also={200: "The newest version says the same already."},
            problems=("policy-version", "validation", "unknown-field"),
        ),
    )
    async def apply_policy(request: Request) -> Response:
        asked, digest = await body.read(request, PolicyRequest)
        return answers.of(await use.policies.apply(use.caller(request, digest), asked))
