"""A request's head is bounded, and what cannot be read is answered as a problem: what uvicorn leaves open, once for every door."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from handrail_contracts.problems import problem

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
else:
    _Protocol = object  # the services that serve HTTP bring uvicorn; the others do not need it

MAX_HEAD_BYTES = 64 * 1024


class BoundedHead(_Protocol):
    """To be put before uvicorn's protocol: `class Protocol(BoundedHead, HttpToolsProtocol)`."""

    _head_bytes = 0

    def on_message_begin(self) -> None:
        """A new request begins."""
        self._head_bytes = 0
        super().on_message_begin()

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

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is answered as a problem, too."""
        detail = f"Expected an HTTP/1.1 request with a head of at most {MAX_HEAD_BYTES} bytes, but it cannot be read."
        body = orjson.dumps(problem("malformed-request", detail))
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nx-content-type-options: nosniff\r\n"
            b"cache-control: no-store\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()
