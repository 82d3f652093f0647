"""Who may come in: a `Host` and an `Origin` that are ours, methods, media types. Refusals are problem+json (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from handrail_contracts.problems import PROBLEMS, problem

OWN_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by machines under whatever address they know us by; they say nothing about anybody."""
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?", re.ASCII)


def problem_response(
    code: str, detail: str, *, instance: str, headers: Mapping[str, str] = {}, **more: object
) -> Response:
    """A problem of the table in contracts as a response."""
    body = to_json(problem(code, detail, instance=instance, **more))
    return Response(
        body, PROBLEMS[code][0], {"cache-control": "no-store", **headers}, media_type="application/problem+json"
    )


def is_ours(host: str, allowed: frozenset[str]) -> bool:
    """Whether a host name (without port) is a name of this machine or one that was configured."""
    return host.lower() in OWN_HOSTS or host.lower() in allowed


def host_of(authority: str) -> str:
    """The host in `host:port`, `[v6]:port` or either alone; empty when it is none of these."""
    found = _AUTHORITY.fullmatch(authority)
    return found[1] if found is not None else ""


def origin_host(origin: str) -> str:
    """The host of an http(s) origin; empty for `null` and all else."""
    scheme, _, authority = origin.partition("://")
    return host_of(authority) if scheme.lower() in ("http", "https") else ""


def accepts_stream(accept: str | None) -> bool:
    """Whether an `Accept` header allows text/event-stream; a missing one does."""
    if not accept:
        return True
    for part in accept.split(","):
        media, _, parameters = part.partition(";")
        refused = any(
            p.strip().replace(" ", "").lower() in ("q=0", "q=0.0", "q=0.00", "q=0.000") for p in parameters.split(";")
        )
        if media.strip().lower() in ("*/*", "text/*", "text/event-stream") and not refused:
            return True
    return False


class Door:
    """ASGI middleware: a foreign `Host` or `Origin` is refused before anything else is looked at."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            refusal = self._refuse(Headers(scope=scope), scope["path"])
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse(self, headers: Headers, path: str) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not is_ours(host_of(hosts[0]), self._allowed):
            detail = "Expected a Host that is a name of this machine or one of HANDRAIL_NOTIFIER__ALLOWED_HOSTS, but it is not."
            return problem_response("foreign-host", detail, instance=path)
        for origin in headers.getlist("origin"):
            if not is_ours(origin_host(origin), self._allowed):
                detail = (
                    "Expected an Origin that is ours, but it is not. Open the page from the address of this machine."
                )
                return problem_response("foreign-origin", detail, instance=path)
        return None


async def framework_problem(request: Request, error: Exception) -> Response:
    """What the framework itself refuses, in our form."""
    status = getattr(error, "status_code", 500)
    path = request.url.path[:80]
    if status == 405:
        return problem_response(
            "method-not-allowed", "Expected GET or HEAD.", instance=path, headers={"allow": "GET, HEAD"}
        )
    if status == 404:
        return problem_response(
            "not-found", "Expected the path of a stream, but nothing is at this path.", instance=path
        )
    return problem_response("internal", "Something failed on our side. Try again.", instance=path)
