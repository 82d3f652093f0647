"""The HTTP application: all routes behind the door, and problems for whatever the framework itself refuses."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from handrail_contracts.problems import problem
from handrail_gateway.application.faults import Refusal, StoreFault, quote
from handrail_gateway.entrypoints.http import (
    answers,
    console,
    dev,
    inbox,
    policies,
    published,
    registry,
    set_aside,
    workflows,
)
from handrail_gateway.entrypoints.http.described import Bare
from handrail_gateway.entrypoints.http.door import App, Door
from handrail_gateway.entrypoints.http.forward import Forward
from handrail_gateway.entrypoints.http.usecases import UseCases
from handrail_runtime.cors import Cors


def application(use: UseCases, *, partitions: int, console_folder: Path = console.FOLDER) -> Starlette:
    """The routes, without the door. FastAPI describes them; what it would do at each request, none of them needs."""
    described = FastAPI(
        title="Handrail",
        version=version("handrail-gateway"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    described.router.route_class = Bare
    for group in (workflows, inbox, set_aside, registry, policies, dev):
        # Not `include_router`: it puts another router in front of each of these on every request.
        group.add_routes(described.router, use)
    published.add_routes(described, use, partitions)
    console.mount(described, console_folder)
    served = Starlette(
        routes=described.routes,
        exception_handlers={
            Refusal: answers.on_refusal,
            StoreFault: answers.on_store_fault,
            HTTPException: _on_framework_error,
            ClientDisconnect: answers.on_gone,
            Exception: answers.on_bug,
        },
    )
    served.router.redirect_slashes = False
    return served


def behind_door(
    app: App, hosts: Iterable[str], notifier_url: str | None, origins: Iterable[str] = ()
) -> tuple[App, Forward | None]:
    """The whole application, and the part of it that must be closed. `origins` are those of pages that may ask."""
    forward = Forward(app, notifier_url) if notifier_url else None
    return Door(forward or app, hosts, Cors(origins)), forward


async def _on_framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    instance = answers.instance(path)
    if error.status_code == 405:
        allowed = ", ".join(_allowed(request))
        detail = f"Expected one of the methods {allowed}, but found {quote(request.method)}."
        body = problem("method-not-allowed", detail, instance=instance)
        return answers.problem_response(405, body, headers={"Allow": allowed})
    if error.status_code == 404:
        detail = f"Expected an address of this API, but there is nothing at {quote(path)}. See /openapi.json."
        return answers.problem_response(404, problem("not-found", detail, instance=instance))
    if error.status_code < 500:
        return answers.problem_response(
            400, problem("malformed-request", "Expected a request that can be read.", instance=instance)
        )
    return answers.problem_response(500, problem("internal", "Something failed on our side.", instance=instance))


def _allowed(request: Request) -> list[str]:
    """The methods of all routes at this path; Starlette names those of the first one only."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
