"""Who may come in: a `Host` and an `Origin` that are ours, methods, media types. Refusals are problem+json (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handrail_contracts.problems import PROBLEMS, problem
from handrail_runtime.cors import Cors, RawHeaders

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
    """ASGI middleware: a foreign `Host` or `Origin` is refused before anything else is looked at. Pages of the origins
    of `cors` come in, and are told that they may read the answer."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str], cors: Cors) -> None:
        self._app, self._allowed, self._cors = app, allowed, cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refuse(headers, scope["path"])
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        preflight = self._cors.preflight(scope["method"], headers)
        if preflight is not None:
            permission = Response(status_code=204)
            permission.raw_headers.extend(preflight)
            await permission(scope, receive, send)
            return
        told = self._cors.headers(headers.get("origin"))
        await self._app(scope, receive, _adding(send, told) if told else send)

    def _refuse(self, headers: Headers, path: str) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not is_ours(host_of(hosts[0]), self._allowed):
            detail = "Expected a Host that is a name of this machine or one of HANDRAIL_NOTIFIER__ALLOWED_HOSTS, but it is not."
            return problem_response("foreign-host", detail, instance=path)
        for origin in headers.getlist("origin"):
            if not is_ours(origin_host(origin), self._allowed) and not self._cors.allows(origin):
                detail = "Expected an Origin that is ours, but it is not. Name it in HANDRAIL_CORS_ORIGINS, or open the page from here."
                return problem_response("foreign-origin", detail, instance=path)
        return None


def _adding(send: Send, headers: RawHeaders) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return sent


async def client_left(request: Request, error: Exception) -> Response:
    """A client that has left while it was sending: nobody hears this, and it is no fault of ours."""
    return Response(status_code=499)


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
