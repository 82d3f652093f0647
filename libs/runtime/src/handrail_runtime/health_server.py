"""The small HTTP server of services that have no web framework: GET /healthz, /readyz, /metrics, nothing else.

HTTP/1.1 as RFC 9112 asks of an origin server that answers one request per connection: no bodies are read, every
answer closes. Bounded: 8 KiB of head, 5 s to send it, 64 connections at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import orjson

from handrail_runtime import health
from handrail_runtime.health import Check

_HEAD_BYTES = 8192
_HEAD_S = 5.0
_CONNECTIONS = 64
_JSON = "application/json"
_PROBLEM = "application/problem+json"
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

Answer = tuple[int, str, bytes]


class HealthServer:
    """Serves the health of one service. `accepting` says whether it takes work; `checks` are asked at each request."""

    def __init__(self, checks: Callable[[], Mapping[str, Check]], accepting: Callable[[], bool]) -> None:
        self._checks, self._accepting = checks, accepting
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> int:
        """Listens; answers the port (the one taken when `port` is 0). Raises OSError when it is not free."""
        self._server = await asyncio.start_server(self._connection, host, port, limit=_HEAD_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stops listening. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                async with asyncio.timeout(_HEAD_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head, writer)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the peer was slow, rude or gone: there is nobody to tell
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        method = words[0] if len(words) == 3 and words[2].startswith(b"HTTP/1.") else b""
        status, content_type, body = await self._route(method, words[1] if method else b"")
        lines = [
            f"HTTP/1.1 {status} {_REASONS[status]}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *(["Allow: GET, HEAD"] if status == 405 else []),
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == b"HEAD" else body))
        async with asyncio.timeout(_HEAD_S):
            await writer.drain()

    async def _route(self, method: bytes, target: bytes) -> Answer:
        if not method:
            return _problem(400, "malformed-request", "Expected an HTTP/1.1 request line, but found something else.")
        path = target.split(b"?", 1)[0]
        if path not in (b"/healthz", b"/readyz", b"/metrics"):
            return _problem(404, "not-found", "Expected /healthz, /readyz or /metrics.")
        if method not in (b"GET", b"HEAD"):
            return _problem(405, "method-not-allowed", "Expected GET or HEAD.")
        if path == b"/metrics":
            content_type, body = health.metrics()
            return 200, content_type, body
        if path == b"/healthz":
            status, state = health.healthz()
        else:
            status, state = await health.readyz(self._checks(), accepting=self._accepting())
        return status, _JSON, orjson.dumps(state)


def _problem(status: int, code: str, detail: str) -> Answer:
    body = {"type": f"/problems/{code}", "title": _REASONS[status], "status": status, "detail": detail}
    return status, _PROBLEM, orjson.dumps(body)
