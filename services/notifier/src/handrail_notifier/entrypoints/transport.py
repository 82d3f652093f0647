"""Two ways from the hub to a socket, one set of rules.

`AsgiSink` works under any ASGI server: sse-starlette iterates over it and sends. `TransportSink` is the hot route:
under uvicorn with `StreamProtocol` the response is begun through ASGI, then frames go straight to the transport, the
same encoded chunk for every client; no task runs per event, the ASGI task of the connection only waits for its end.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from handrail_notifier.entrypoints.hub import Client, Hub
from handrail_runtime.http_head import BoundedHead

EXTENSION = "handrail.stream"
"""Where the ASGI scope holds the `StreamProtocol` of the connection."""
MAX_PENDING_BYTES = 64 * 1024
SEND_BUFFER_BYTES = 128 * 1024
KEEPALIVE_S = 15
UNACKED_S = 25
"""A peer that acknowledges nothing for so long is gone; with a ping every 15 s that is at most 40 s after the cut."""


class ChunkCache:
    """The last body as a chunk of HTTP/1.1 (RFC 9112 section 7.1): made once for all clients that get it in a row."""

    __slots__ = ("_body", "_chunk")

    def __init__(self) -> None:
        self._body = self._chunk = b""

    def chunk(self, body: bytes) -> bytes:
        """`body`, framed."""
        if body is not self._body:
            self._body, self._chunk = body, b"%x\r\n%b\r\n" % (len(body), body)
        return self._chunk


class StreamProtocol(BoundedHead, HttpToolsProtocol):
    """uvicorn's HTTP protocol, with a side door for streams: `uvicorn.Config(app, http=StreamProtocol)`."""

    stream: TransportSink | None = None

    def on_message_begin(self) -> None:
        """Offers the side door to the application."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["extensions"] = {EXTENSION: self}

    def data_received(self, data: bytes) -> None:
        """Whatever a client says while it is being streamed to is not a request that could ever be answered."""
        if self.stream is None:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the stream."""
        super().connection_lost(exc)
        if self.stream is not None:
            self.stream.lost()

    def resume_writing(self) -> None:
        """Tells the stream that it may go on."""
        super().resume_writing()
        if self.stream is not None:
            self.stream.resumed()


class TransportSink:
    """Implements `hub.Sink` on the transport of a `StreamProtocol` whose response has begun. `done` resolves when the
    response is to be completed, or the connection is lost (`closed`)."""

    __slots__ = ("_cache", "_hub", "_protocol", "_transport", "client", "closed", "done")

    def __init__(self, protocol: StreamProtocol, hub: Hub, cache: ChunkCache) -> None:
        self._protocol, self._hub, self._cache = protocol, hub, cache
        self._transport = protocol.transport
        self.client: Client | None = None
        self.closed = self._transport.is_closing()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.closed:
            self.done.set_result(None)
        protocol.stream = self
        _watch_peer(self._transport)

    @property
    def busy(self) -> bool:
        """The send buffer is full, or the connection is gone."""
        return self._protocol.flow.write_paused or self.closed

    def write(self, body: bytes) -> None:
        """As the port says."""
        if not self.closed:
            self._transport.write(self._cache.chunk(body))

    def finish(self) -> None:
        """As the port says."""
        if not self.done.done():
            self.done.set_result(None)

    def abort(self) -> None:
        """As the port says."""
        self._transport.abort()

    def close(self) -> None:
        """Closes the connection after what is still to be sent."""
        self._transport.close()

    def lost(self) -> None:
        """The connection is gone."""
        self.closed = True
        self.finish()

    def resumed(self) -> None:
        """The send buffer has room again."""
        if self.client is not None and not self.done.done():
            self._hub.writable(self.client)


class AsgiSink:
    """Implements `hub.Sink` as an async iterator of bodies. While one body is being sent it is busy."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._pending: list[bytes] = []
        self._size = 0
        self._sending = False
        self._ending = False
        self._more = asyncio.Event()
        self.client: Client | None = None

    @property
    def busy(self) -> bool:
        """A body is on its way, or enough waits."""
        return self._sending or self._size >= MAX_PENDING_BYTES

    def write(self, body: bytes) -> None:
        """As the port says."""
        if not self._ending:
            self._pending.append(body)
            self._size += len(body)
            self._more.set()

    def finish(self) -> None:
        """As the port says."""
        self._ending = True
        self._more.set()

    def abort(self) -> None:
        """As the port says: what hangs in the server's send is cut off by sse-starlette's own timeout."""
        self._pending.clear()
        self.finish()

    def __aiter__(self) -> AsgiSink:
        return self

    async def __anext__(self) -> bytes:
        self._sending = False
        if not self._pending and self.client is not None and not self._ending:
            self._hub.writable(self.client)
        while not self._pending:
            if self._ending:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        body = b"".join(self._pending)
        self._pending.clear()
        self._size = 0
        self._sending = True
        return body


def _watch_peer(transport: asyncio.Transport) -> None:
    """Bounds the kernel's send buffer, and has the kernel notice a peer that is gone."""
    sock: Any = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)]
    for name, value in (("TCP_KEEPIDLE", KEEPALIVE_S), ("TCP_KEEPINTVL", 5), ("TCP_USER_TIMEOUT", UNACKED_S * 1000)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    for level, option, value in options:
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            return  # the connection is gone already; the transport will say so
