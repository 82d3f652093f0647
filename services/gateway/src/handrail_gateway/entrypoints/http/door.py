"""What stands before every route: whose request it is, in which form the answer may be, and the headers of every answer.

Foreign `Host` headers (DNS rebinding) and foreign `Origin` headers (another site's script) are refused; CORS headers are
sent to the origins that were named and to nobody else. A HEAD is answered as the GET it asks about, without its body.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from handrail_gateway.application.faults import Refusal, quote
from handrail_gateway.entrypoints.http import answers, head
from handrail_runtime.cors import Cors, RawHeaders
from handrail_runtime.telemetry import counter, histogram

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OWN_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NO_STORE = (b"cache-control", b"no-store")
# Paths whose answers are not JSON and say themselves what they are.
_OTHER_FORMS = ("/console", "/problems/", "/metrics", "/feedback.jsonl", "/events", "/inbox/events", "/ag-ui", "/mcp")


class Door:
    """An ASGI application around another. `hosts` are names besides those of this machine, `cors` whose pages may ask."""

    def __init__(self, app: App, hosts: Iterable[str] = (), cors: Cors | None = None) -> None:
        self._app = app
        self._cors = cors or Cors()
        self._hosts = OWN_HOSTS | {h.lower() for h in hosts}
        self._requests = counter("http_requests", "Requests answered.", ["route", "method", "status"])
        self._seconds = histogram("http_request_seconds", "From the head of a request to its answer.", ["route"])
        self._counts: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = answers.GONE
        inner: Scope = scope
        origin: str | None = None

        async def sent(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, self._cors.headers(origin))
            await send(message)

        try:
            known = head.read(scope["headers"])
            origin = known.origin
            scope[head.SCOPE_KEY] = known
            if scope["method"] == "HEAD":
                inner = {**scope, "method": "GET"}
            self._refuse_foreign(known)
            if scope["method"] == "OPTIONS":
                preflight = self._cors.preflight("OPTIONS", Headers(scope=scope))
                if preflight is not None:
                    await _permission(preflight)(inner, receive, send)
                    status = 204
                    return
            _refuse_unacceptable(known, scope["path"])
            await self._app(inner, receive, sent)
        except Refusal as refused:
            await answers.refusal(scope["path"], refused)(inner, receive, sent)
        except ClientDisconnect:
            pass
        finally:
            route = getattr(inner.get("route"), "path", "other")
            self._count(route, scope["method"] if route != "other" else "any", status, time.perf_counter() - began)

    def _count(self, route: str, method: str, status: int, seconds: float) -> None:
        counts = self._counts.get((route, method, status))
        if counts is None:  # never more than the metrics themselves keep
            counts = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._counts[route, method, status] = counts
        counts[0].inc()
        counts[1].observe(seconds)

    def _refuse_foreign(self, known: head.Head) -> None:
        if known.hosts > 1:  # RFC 9112, 3.2
            raise Refusal("malformed-request", f"Expected one Host header, but found {known.hosts}.")
        if _without_port(known.host.lower()) not in self._hosts:
            raise Refusal(
                "foreign-host",
                f"Expected a Host of ours, but found {quote(known.host)}. Add the name to HANDRAIL_GATEWAY__HOSTS.",
            )
        if known.origin is None or self._cors.allows(known.origin):
            return
        try:
            origin = urlsplit(known.origin.lower())
            own = origin.scheme in ("http", "https") and _without_port(origin.netloc) in self._hosts
        except ValueError:
            own = False
        if not own:
            raise Refusal("foreign-origin", f"Expected an Origin of ours, but found {quote(known.origin)}.")


def _permission(headers: RawHeaders) -> Response:
    response = Response(status_code=204)
    response.raw_headers.extend(headers)
    return response


def _without_port(netloc: str) -> str:
    name, colon, port = netloc.rpartition(":")
    return name if colon and (port.isdecimal() or not port) and not netloc.endswith("]") else netloc


def _refuse_unacceptable(known: head.Head, path: str) -> None:
    accept = known.accept.lower()
    if not accept or "*/*" in accept or "json" in accept or "application/*" in accept:
        return
    if path.startswith(_OTHER_FORMS) or path == "/" or "/blobs/" in path or path.endswith("/events"):
        return
    raise Refusal(
        "not-acceptable", f"Expected to answer with application/json, but only {quote(known.accept)} is accepted."
    )


def _add_headers(message: MutableMapping[str, Any], cors: RawHeaders) -> None:
    headers = [*message.get("headers", ()), *_HEADERS]
    names = {name for name, _ in headers}
    # A forwarded answer has them already: two would be none to a browser.
    headers += [(name, value) for name, value in cors if name not in names]
    if _POLICY[0] not in names:
        headers.append(_POLICY)
    if _NO_STORE[0] not in names:
        headers.append(_NO_STORE)
    message["headers"] = headers
