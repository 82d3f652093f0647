"""Tickets for streams: a browser's EventSource sends no headers, so who may open a stream is asked for beforehand.

Whoever may speak to the API orders a ticket (`POST /sse-tickets`) and opens the stream with `?ticket=`. Promise: a ticket
opens the one stream that it was made for, once, on whichever replica, before it expires; after that, and wherever it
is tried on another stream, it is spent. What is stored is a digest, so that nobody who reads the store can use it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from typing import Protocol
from urllib.parse import quote, urlencode

from handrail_runtime.telemetry import counter

TICKET_BYTES = 24
INBOX = "/inbox/events"


class TicketStore(Protocol):
    """Where tickets wait. Every call raises Unavailable when it does not answer."""

    async def put(self, digest: str, grant: str, lifetime_s: float) -> None:
        """Keeps what a ticket grants for so long."""
        ...

    async def take(self, digest: str) -> str | None:
        """What a ticket grants, once; None when there is none (any more)."""
        ...


def workflow_stream(trace_id: str) -> str:
    """The stream of a workflow, as tickets name it."""
    return f"/workflows/{quote(trace_id, safe='')}/events"


def bundle_stream(trace_ids: Iterable[str], label: str | None, *, started: bool = False) -> str:
    """The stream of several workflows, as tickets name it: the same for the same workflows in any order."""
    asked = [("trace_id", trace_id) for trace_id in sorted(set(trace_ids))]
    asked += [("label", label)] if label is not None else []
    return "/events?" + urlencode(asked + ([("started", "true")] if started else []))


class Tickets:
    """See the module. With `required` no stream opens without one."""

    def __init__(self, store: TicketStore, *, tenant: str, lifetime_s: float, required: bool) -> None:
        self._store, self._tenant = store, tenant
        self.lifetime_s, self.required = lifetime_s, required
        self._count = counter("sse_tickets", "Tickets for streams, by what became of them", ["outcome"])

    async def issue(self, stream: str) -> str:
        """A new ticket for one stream. Raises Unavailable."""
        ticket = secrets.token_urlsafe(TICKET_BYTES)
        await self._store.put(_digest(ticket), self._grant(stream), self.lifetime_s)
        self._count.labels("issued").inc()
        return ticket

    async def redeem(self, ticket: str, stream: str) -> bool:
        """Whether it opens this stream; it is spent either way. Raises Unavailable."""
        found = await self._store.take(_digest(ticket))
        good = found is not None and secrets.compare_digest(found.encode(), self._grant(stream).encode())
        self._count.labels("redeemed" if good else "refused").inc()
        return good

    def _grant(self, stream: str) -> str:
        return f"{self._tenant} {stream}"


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()
