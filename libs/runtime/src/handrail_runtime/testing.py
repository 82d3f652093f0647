"""For tests of anything that runs on this shell: waiting without sleeping blindly, and a network that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_BACKLOG = 4096
"""Connections of a crowd that comes back at once wait for the one loop; beyond asyncio's 100 the kernel resets them."""


async def wait_until(
    condition: Callable[[], T] | Callable[[], Awaitable[T]], *, description: str, timeout_s: float = 10.0
) -> T:
    """Waits until `condition` answers something true, and answers that. Asks at once, then ever less often (5 to 100 ms).
    Raises AssertionError naming `description` and the last answer; what `condition` raises passes through."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    pause = 0.005
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer  # type: ignore[return-value]  # the awaitable was awaited
        if loop.time() > deadline:
            raise AssertionError(f"Expected {description} within {timeout_s:g} s, but the last answer was {answer!r}.")
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.1)


@dataclass(slots=True)
class Direction:
    """How one direction of a proxy treats bytes. `delay_s` (plus up to `jitter_s`) holds each chunk back; `black_hole`
    reads and throws away; `limit_bytes` passes so many more and then cuts the connection."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    black_hole: bool = False
    limit_bytes: int | None = None


class TcpProxy:
    """A TCP proxy on loopback whose faults can be changed while it runs. Chance comes from `seed` only.

    `up` is client to server, `down` server to client. `accepted` counts the connections that came in, `answered` those over
    which the server has sent something. Leave it with `async with`, or call `stop`.
    """

    def __init__(self, target_host: str, target_port: int, *, seed: int = 0) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.up, self.down = Direction(), Direction()
        self.accepted = 0
        self.answered = 0
        self.refusing = False
        self._target = (target_host, target_port)
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()

    async def start(self) -> TcpProxy:
        """Listens, on the port of the first start from the second on."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=_BACKLOG)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def stop(self) -> None:
        """Stops listening and cuts all connections. Idempotent; `start` works again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.cut()

    async def cut(self) -> int:
        """Cuts the connections that are open now; answers how many."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        return len(links)

    async def __aenter__(self) -> TcpProxy:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self.accepted += 1
        writers = [writer]
        try:
            if self.refusing:
                return
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            writers.append(far_writer)
            pumps = {
                asyncio.create_task(self._pump(reader, far_writer, self.up)),
                asyncio.create_task(self._pump(far_reader, writer, self.down)),
            }
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the far end is gone, or the test cut the line: both are what a proxy is for
        finally:
            self._links.discard(link)
            for end in writers:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction) -> None:
        answering = way is self.down
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if way.delay_s or way.jitter_s:
                    await asyncio.sleep(way.delay_s + self._random.uniform(0, way.jitter_s))
                if way.black_hole:
                    continue
                if way.limit_bytes is not None:
                    data = data[: way.limit_bytes]
                    way.limit_bytes -= len(data)
                writer.write(data)
                await writer.drain()
                if answering:
                    answering = False
                    self.answered += 1
                if way.limit_bytes == 0:
                    way.limit_bytes = None
                    return
