"""The streams over HTTP: `GET /workflows/{trace_id}/events` as CONTRACT section 4 says, and what all streams share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handrail_contracts.commands import TraceId
from handrail_contracts.ids import TRACE_ID
from handrail_notifier.application.ports import Frames, NotFound, Unavailable
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.tickets import Tickets, workflow_stream
from handrail_notifier.application.watched import Watched, resets
from handrail_notifier.domain.position import GoOn, Over, Reset
from handrail_notifier.entrypoints.door import accepts_stream, problem_response
from handrail_notifier.entrypoints.hub import Feed, Hub
from handrail_notifier.entrypoints.transport import EXTENSION, AsgiSink, ChunkCache, StreamProtocol, TransportSink
from handrail_runtime.telemetry import counter

HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
    "connection": "keep-alive",
}
RETRY_AFTER_S = 2


class Streams:
    """Opens streams on a hub and refuses what cannot be one. `attend` returns once live events are read as they come."""

    def __init__(
        self,
        hub: Hub,
        frames: Frames,
        tickets: Tickets,
        attend: Callable[[], Awaitable[None]],
        *,
        max_streams: int,
        send_timeout_s: float,
    ) -> None:
        self.hub, self._frames, self._tickets, self.attend = hub, frames, tickets, attend
        self._max_streams, self._send_timeout_s = max_streams, send_timeout_s
        self._cache = ChunkCache()
        # On the hot route the connection is closed at the end: nobody may keep it for a next request.
        direct = {**HEADERS, "connection": "close"}
        self._raw_headers = [(name.encode(), value.encode()) for name, value in direct.items()]
        self._evicted = counter("sse_evictions", "Streams closed because nobody read them")

    def refusal(self, request: Request, methods: tuple[str, ...] = ("GET", "HEAD")) -> Response | None:
        """Why this request cannot have a stream, if so."""
        path = request.url.path[:120]
        if request.method not in methods:
            detail, allow = f"Expected {' or '.join(methods)}.", {"allow": ", ".join(methods)}
            return problem_response("method-not-allowed", detail, instance=path, headers=allow)
        if not accepts_stream(request.headers.get("accept")):
            detail = "Expected an Accept that allows text/event-stream, but it does not. Leave it out, or ask for that."
            return problem_response("not-acceptable", detail, instance=path)
        if self.hub.draining or len(self.hub) >= self._max_streams:
            return unavailable(path)
        return None

    async def admit(self, request: Request, stream: str) -> Response | None:
        """Why this request may not have `stream`, if so: a ticket that is missing or opens nothing. It is spent here. Whoever
        is let in finds live events attended to."""
        ticket, path = request.query_params.get("ticket"), request.url.path[:120]
        challenge = {"www-authenticate": 'Ticket realm="/sse-tickets"'}
        if ticket is None:
            if not self._tickets.required:
                await self.attend()
                return None
            detail = "Expected ?ticket=, but there is none. Order one with POST /sse-tickets; it opens a stream once."
            return problem_response("ticket-required", detail, instance=path, headers=challenge)
        try:
            if await self._tickets.redeem(ticket, stream):
                await self.attend()
                return None
        except Unavailable:
            return unavailable(path)
        detail = "Expected a ticket for this stream, but it is used, expired or for another. Order one with POST /sse-tickets."
        return problem_response("ticket-invalid", detail, instance=path, headers=challenge)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, feed: Feed, cursor: int, opening: bytes = b""
    ) -> None:
        """Streams a feed from behind `cursor`, after `opening`, until it ends, the client goes, or we have to."""
        if scope["method"] == "HEAD":
            await Response(None, 200, HEADERS)(scope, receive, send)
            return
        greeting = self._frames.hello() + opening
        protocol = cast("Mapping[str, object]", scope.get("extensions") or {}).get(EXTENSION)
        if isinstance(protocol, StreamProtocol):
            await self._serve_directly(protocol, send, feed, cursor, greeting)
        else:
            await self._serve_by_asgi(scope, receive, send, feed, cursor, greeting)

    async def _serve_directly(
        self, protocol: StreamProtocol, send: Send, feed: Feed, cursor: int, greeting: bytes
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._raw_headers})
        sink = TransportSink(protocol, self.hub, self._cache)
        sink.client = client = self.hub.join(feed, sink, cursor, greeting)
        try:
            await sink.done
        finally:
            self.hub.leave(client)
        if not sink.closed:
            try:
                async with asyncio.timeout(self._send_timeout_s):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                sink.close()
            except TimeoutError:
                sink.abort()

    async def _serve_by_asgi(
        self, scope: Scope, receive: Receive, send: Send, feed: Feed, cursor: int, greeting: bytes
    ) -> None:
        sink = AsgiSink(self.hub)
        sink.client = client = self.hub.join(feed, sink, cursor, greeting)
        response = EventSourceResponse(
            sink, headers=HEADERS, ping=0, sep="\n", send_timeout=self._send_timeout_s, shutdown_grace_period=5
        )
        try:
            await response(scope, receive, send)
        except SendTimeoutError:
            if not client.finished:
                self._evicted.inc()
        finally:
            self.hub.leave(client)


class OtherForm(Protocol):
    """The same stream in the frames of another protocol."""

    async def follow(self, watched: Watched, opening: GoOn | Reset, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves it from where the client goes on; the caller holds `watched`."""
        ...


class WorkflowEvents:
    """ASGI endpoint of `/workflows/{trace_id}/events`."""

    def __init__(self, rings: Rings, streams: Streams, others: Mapping[str, OtherForm], tenant: str) -> None:
        self._rings, self._streams, self._others, self._tenant = rings, streams, others, tenant
        self._replayed = counter("sse_replayed_events", "Events sent again to clients that came with a position")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        trace_id: TraceId = request.path_params["trace_id"]
        refusal = self._streams.refusal(request)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        path = request.url.path[:120]
        form = request.query_params.get("format", "sse")
        if form != "sse" and form not in self._others:
            detail = f"Expected no format, or one of sse, {', '.join(self._others)}."
            await problem_response("not-acceptable", detail, instance=path)(scope, receive, send)
            return
        if TRACE_ID.fullmatch(trace_id) is None:
            await not_found(trace_id, path)(scope, receive, send)
            return
        refusal = await self._streams.admit(request, workflow_stream(trace_id))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            watched = await self._rings.hold((self._tenant, trace_id))
        except NotFound:
            await not_found(trace_id, path)(scope, receive, send)
            return
        except Unavailable:
            await unavailable(path)(scope, receive, send)
            return
        try:
            opening = await self._rings.opening(watched, position_of(request))
            if isinstance(opening, Over):
                await Response(None, 204, {"cache-control": "no-store"})(scope, receive, send)
            elif form in self._others:
                await self._others[form].follow(watched, opening, scope, receive, send)
            else:
                await self._follow(watched, opening, scope, receive, send)
        except Unavailable:
            await unavailable(path)(scope, receive, send)
        finally:
            self._rings.release(watched)

    async def _follow(
        self, watched: Watched, opening: GoOn | Reset, scope: Scope, receive: Receive, send: Send
    ) -> None:
        match opening:
            case GoOn(cursor):
                if cursor:
                    self._replayed.inc(watched.head - cursor)
                await self._streams.serve(scope, receive, send, watched, cursor)
            case Reset(reason):
                resets().labels(reason).inc()
                piece = watched.reset(reason)
                await self._streams.serve(scope, receive, send, watched, piece.cursor, piece.body)


def position_of(request: Request) -> str:
    """Where the client wants to go on, as it said: `Last-Event-ID`, else `?after=`, else the beginning."""
    last = request.headers.get("last-event-id")
    return last if last is not None else request.query_params.get("after", "0")


def not_found(trace_id: str, path: str) -> Response:
    """The same answer for whatever is not there (for this tenant)."""
    detail = f"Expected a workflow, but there is none with the id {trace_id[:80]!r}. Look it up in GET /workflows."
    return problem_response("workflow-not-found", detail, instance=path)


def unavailable(path: str) -> Response:
    """Come back in a moment."""
    detail = "Expected to open a stream, but there is no room for it or the journal does not answer. Try again."
    after = {"retry-after": str(RETRY_AFTER_S)}
    return problem_response("unavailable", detail, instance=path, headers=after, retry_after=RETRY_AFTER_S)
