"""Forwarding of the streams to a notifier, so that `make stack` without a front proxy is one origin.

Bytes go through as they come, nothing is kept back; when the client leaves, the connection to the notifier is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import MutableMapping
from typing import Any

import httpx2
import structlog

from handrail_contracts.problems import problem
from handrail_gateway.entrypoints.http import answers
from handrail_gateway.entrypoints.http.door import App, Receive, Scope, Send

STREAMS = re.compile(r"/workflows/[^/]+/events|/inbox/events|/events|/ag-ui|/sse-tickets|/slack/interactions")
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
_TIMEOUT = httpx2.Timeout(5.0, read=None)

_log = structlog.get_logger(__name__)


class Forward:
    """An ASGI application: the streams come from the notifier at `base_url`, everything else from `app`."""

    def __init__(self, app: App, base_url: str) -> None:
        self._app, self._base_url = app, base_url.rstrip("/")
        self._client: httpx2.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or STREAMS.fullmatch(scope["path"]) is None:
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        streaming = asyncio.create_task(self._stream(scope, body, send), name="gateway.forward")
        leaving = asyncio.create_task(_left(receive), name="gateway.forward.left")
        try:
            await asyncio.wait({streaming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (streaming, leaving):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving
            with contextlib.suppress(asyncio.CancelledError):
                await streaming

    async def close(self) -> None:
        """Lets go of the connections. Idempotent."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _stream(self, scope: Scope, body: bytes, send: Send) -> None:
        if self._client is None:
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
            self._client = httpx2.AsyncClient(timeout=_TIMEOUT, limits=limits, trust_env=False)
        query = scope["query_string"].decode("latin-1")
        url = self._base_url + scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        headers = [(k, v) for k, v in scope["headers"] if k not in _HOP_BY_HOP and k != b"content-length"]
        request = self._client.build_request(scope["method"], url, headers=headers, content=body or None)
        begun = False
        try:
            response = await self._client.send(request, stream=True)
            try:
                begun = True
                await send(_start(response))
                async for part in response.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                await response.aclose()
        except httpx2.HTTPError as e:
            _log.warning("notifier_failed", kind=type(e).__name__)
            if not begun:
                detail = "Expected the notifier to answer, but it does not. Connect again."
                shown = problem("unavailable", detail, instance=scope["path"], retry_after=2)
                await answers.problem_response(503, shown, retry_after=2)(scope, _nothing, send)


def _start(response: httpx2.Response) -> MutableMapping[str, Any]:
    # Our own server adds its date; two of them are one too many.
    headers = [(k.lower(), v) for k, v in response.headers.raw if k.lower() not in _HOP_BY_HOP and k.lower() != b"date"]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if sum(map(len, parts)) > 1024 * 1024 or not message.get("more_body", False):
            return b"".join(parts)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> MutableMapping[str, Any]:
    return {"type": "http.disconnect"}
