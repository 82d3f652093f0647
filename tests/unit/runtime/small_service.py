"""A service as a process, told by its arguments how to behave: `python small_service.py <port> <behaviour>`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping

from handrail_runtime.errors import Misconfigured
from handrail_runtime.lifecycle import main, serve
from handrail_runtime.logging import configure


class Small:
    name = "small"

    def __init__(self, behaviour: str) -> None:
        self._behaviour = behaviour
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        if self._behaviour == "misconfigured":
            raise Misconfigured("Expected a topic, but there is none. Make one.")
        if self._behaviour == "start fails":
            raise RuntimeError("no database")
        if self._behaviour == "start hangs":
            print("starting", flush=True)
            await asyncio.Event().wait()

    async def run(self) -> None:
        print("running", flush=True)
        if self._behaviour == "run fails":
            raise RuntimeError("part broke")
        if self._behaviour == "run returns":
            return
        await self._stopping.wait()
        if self._behaviour in ("run hangs", "run hangs long"):
            await asyncio.Event().wait()
        print("drained", flush=True)

    async def stop(self) -> None:
        self._stopping.set()
        if self._behaviour == "stop fails":
            raise RuntimeError("cannot let go")
        if self._behaviour == "stop is cancelled":
            raise asyncio.CancelledError
        print("stopped", flush=True)

    def checks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {}


if __name__ == "__main__":
    configure("small")
    _, given_port, given_behaviour = sys.argv

    async def make() -> int:
        drain_s = 60.0 if given_behaviour == "run hangs long" else 1.0
        return await serve(Small(given_behaviour), port=int(given_port) or None, drain_s=drain_s)

    main(make)
