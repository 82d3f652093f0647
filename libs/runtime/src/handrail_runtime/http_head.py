"""A request's head is bounded, and what cannot be read is answered as a problem: what uvicorn leaves open, once for every door."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import orjson

from handrail_contracts.problems import problem

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
else:
    _Protocol = object  # the services that serve HTTP bring uvicorn; the others do not need it

MAX_HEAD_BYTES = 64 * 1024
SLOWEST_HEAD_S = 30.0
"""So long a client may take for the head of a request, from its first byte, or from the connection for the first one."""
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,40}) (/[\x21-\x7e]{0,2000}) HTTP/1\.[01]\r?\n")
_USUAL = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS")


class BoundedHead(_Protocol):
    """To be put before uvicorn's protocol: `class Protocol(BoundedHead, HttpToolsProtocol)`."""

    _head_bytes = 0
    _newest = b""
    _begun = False
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._wait_no_more()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A new request begins."""
        self._head_bytes, self._begun = 0, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._begun = False
        self._wait_no_more()
        super().on_headers_complete()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("The head of the request is too large.")

    def data_received(self, data: bytes) -> None:
        """Bytes of requests; the newest stay at hand, for whoever has to say what could not be read."""
        self._newest = data
        super().data_received(data)
        if self._patience is None and (self._begun or self._idle):
            self._wait()

    @property
    def _idle(self) -> bool:
        # uvicorn has None there until the first request, whatever it says.
        return self.cycle is None or self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _wait(self) -> None:
        # uvicorn bounds how long a connection says nothing after an answer, not how long a head takes.
        self._patience = self.loop.call_later(SLOWEST_HEAD_S, self._give_up)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if not self._idle:
            self._wait()  # another request is being answered: its answer comes first
            return
        if self._begun and not self.transport.is_closing():
            detail = f"Expected the whole head of a request within {SLOWEST_HEAD_S:g} s, but it is still coming."
            self._refuse(408, b"Request Timeout", problem("request-timeout", detail, instance="/"))
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is answered as a problem, too; a method that nobody knows is one that is not allowed."""
        line = _LINE.match(self._newest)
        path = line[2].decode().partition("?")[0] if line else "/"
        if line and line[1] not in _USUAL and not self._head_bytes:
            detail = f"Expected one of GET, HEAD, POST, but found {line[1].decode()!r}."
            self._refuse(405, b"Method Not Allowed", problem("method-not-allowed", detail, instance=path))
            return
        detail = f"Expected an HTTP/1.1 request with a head of at most {MAX_HEAD_BYTES} bytes, but it cannot be read."
        self._refuse(400, b"Bad Request", problem("malformed-request", detail, instance=path))

    def _refuse(self, status: int, reason: bytes, told: dict[str, Any]) -> None:
        body = orjson.dumps(told)
        allow = b"allow: GET, HEAD, POST\r\n" if status == 405 else b""
        head = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\nx-content-type-options: nosniff\r\n%s"
            b"cache-control: no-store\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % (status, reason, allow, len(body))
        )
        self.transport.write(head + body)
        self.transport.close()
