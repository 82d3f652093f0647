"""`POST /sse-tickets`: a ticket for one stream. The body names the stream, the answer says where it is opened."""

from __future__ import annotations

from urllib.parse import quote

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from handrail_contracts.answers import SseTicket
from handrail_contracts.commands import SseTicketRequest
from handrail_contracts.ids import TRACE_ID
from handrail_notifier.application.ports import Unavailable
from handrail_notifier.application.rings import Rings
from handrail_notifier.application.tickets import INBOX, Tickets, bundle_stream, workflow_stream
from handrail_notifier.entrypoints.body import Refused, read_body
from handrail_notifier.entrypoints.sse import not_found, unavailable

LIMIT_BYTES = 16 * 1024


class SseTickets:
    """ASGI endpoint of `/sse-tickets`."""

    def __init__(self, tickets: Tickets, rings: Rings, tenant: str) -> None:
        self._tickets, self._rings, self._tenant = tickets, rings, tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(await read_body(request, SseTicketRequest, limit_bytes=LIMIT_BYTES), request)
        except Refused as refused:
            response = refused.response
        await response(scope, receive, send)

    async def _answer(self, order: SseTicketRequest, request: Request) -> Response:
        path = request.url.path
        try:
            wanted = [*(order.trace_ids or ()), *([order.trace_id] if order.trace_id is not None else ())]
            for trace_id in wanted:
                known = TRACE_ID.fullmatch(trace_id) and await self._rings.known((self._tenant, trace_id))
                if not known:
                    return not_found(trace_id, path)
            stream = _stream(order)
            ticket = await self._tickets.issue(stream)
        except Unavailable:
            return unavailable(path)
        url = f"{stream}{'&' if '?' in stream else '?'}ticket={quote(ticket)}"
        answer = SseTicket(ticket=ticket, url=url, expires_in_s=self._tickets.lifetime_s)
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(to_json(answer), 201, headers, media_type="application/json")


def _stream(order: SseTicketRequest) -> str:
    if order.inbox:
        return INBOX
    if order.trace_id is not None:
        return workflow_stream(order.trace_id)
    return bundle_stream(order.trace_ids or (), order.label, started=bool(order.started))
