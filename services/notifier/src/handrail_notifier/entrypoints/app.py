"""The notifier's HTTP side: routes, the door in front of them, health behind none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from handrail_notifier.entrypoints.door import Door, client_left, framework_problem
from handrail_runtime import health
from handrail_runtime.cors import Cors

Checks = Callable[[], Mapping[str, Callable[[], Awaitable[None]]]]


def create_app(
    streams: Mapping[str, ASGIApp],
    *,
    allowed: frozenset[str],
    cors: Cors,
    checks: Checks,
    accepting: Callable[[], bool],
) -> Starlette:
    """An ASGI application with a stream at each path of `streams`, and /healthz, /readyz, /metrics."""

    async def healthz(request: Request) -> Response:
        status, body = health.healthz()
        return JSONResponse(body, status)

    async def readyz(request: Request) -> Response:
        status, body = await health.readyz(checks(), accepting=accepting())
        return JSONResponse(body, status)

    async def metrics(request: Request) -> Response:
        content_type, body = health.metrics()
        return Response(body, headers={"content-type": content_type})

    routes: list[BaseRoute] = [Route(path, endpoint=app) for path, app in streams.items()]
    routes += [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Door, allowed=allowed, cors=cors)],
        exception_handlers={
            404: framework_problem,
            405: framework_problem,
            500: framework_problem,
            ClientDisconnect: client_left,
        },
    )
