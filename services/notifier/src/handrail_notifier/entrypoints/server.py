"""uvicorn around the notifier: its own port, no signal handlers of its own, streams on the hot route."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Protocol

import uvicorn

from handrail_notifier.entrypoints.transport import StreamProtocol
from handrail_runtime.errors import Misconfigured
from handrail_runtime.lifecycle import supervise

BACKLOG = 4096
DRAIN_S = 5
KEEP_ALIVE_S = 75
"""Longer than clients hold an idle connection: whoever closes first may reset what the other sends just then."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Signals belong to `lifecycle.serve`."""
        yield


class _Inner(Protocol):
    name: str
    app: Any

    async def start(self) -> None: ...
    async def run(self) -> None: ...
    async def stop(self) -> None: ...
    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]: ...


class Listening:
    """A service and its HTTP server as one service. Listens before the inner service is ready (`/readyz` is 503 then).
    `port` is the one that was taken, once `start` has begun."""

    def __init__(self, inner: _Inner, host: str, port: int, *, http: Any = StreamProtocol) -> None:
        self.name = inner.name
        self.port = port
        self._inner, self._host = inner, host
        self._stopping = asyncio.Event()
        self._server = _Server(
            uvicorn.Config(
                inner.app,
                http=http,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """As `lifecycle.Service`. Raises Misconfigured when the port is taken."""
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            listener = socket.create_server((self._host, self.port), family=family, backlog=BACKLOG)
        except OSError as e:
            raise Misconfigured(
                f"Expected the port {self.port} on {self._host} to be free, but: {e.strerror}. Set HANDRAIL_{self.name.upper()}__PORT."
            ) from e
        self.port = int(listener.getsockname()[1])
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="uvicorn")
        await self._inner.start()

    async def run(self) -> None:
        """As `lifecycle.Service`."""
        await supervise(self._inner.run(), self._served(), until=self._stopping)

    async def stop(self) -> None:
        """As `lifecycle.Service`: streams are told, then the port is closed."""
        self._stopping.set()
        await self._inner.stop()
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait({self._serving})

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """As `lifecycle.Service`."""
        return self._inner.checks()

    async def _served(self) -> None:
        if self._serving is not None:
            await asyncio.shield(self._serving)
