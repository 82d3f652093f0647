"""`GET /inbox/events`: what operators follow. A snapshot of the open pauses, then what opens, changes and closes them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from handrail_notifier.application.inbox_feed import InboxFeed
from handrail_notifier.application.ports import Unavailable
from handrail_notifier.application.tickets import INBOX
from handrail_notifier.entrypoints.sse import Streams, unavailable


class InboxEvents:
    """ASGI endpoint of `/inbox/events`."""

    def __init__(self, feed: InboxFeed, streams: Streams) -> None:
        self._feed, self._streams = feed, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        refusal = self._streams.refusal(request) or await self._streams.admit(request, INBOX)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            await self._feed.hold()
        except Unavailable:
            await unavailable(request.url.path)(scope, receive, send)
            return
        try:
            snapshot = self._feed.opening()
            await self._streams.serve(scope, receive, send, self._feed, snapshot.cursor, snapshot.body)
        finally:
            self._feed.release()
