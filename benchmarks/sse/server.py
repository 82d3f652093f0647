"""The servers under load, one per process: `python -m benchmarks.sse.server handrail|loop PORT`.

`handrail` is the notifier as it is, on the memory bus and with its Redis projection running; `POST /pub` publishes an
event of the workflow `w` on that bus. `loop` is what one writes with sse-starlette in an afternoon: a queue per client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from handrail_contracts import topics
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.events import EventType
from handrail_contracts.ids import event_ce_id, partition, workflow_key
from handrail_notifier import bootstrap
from handrail_notifier.settings import NotifierSettings
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.lifecycle import supervise
from handrail_runtime.ports import Outgoing
from handrail_store import connect, migrate
from handrail_store.journal_weeks import born

TENANT, TRACE_ID, PARTITIONS = "default", "w", 4
BORN = born(datetime.now(UTC).date())
KIND = str(EventType.RESULT_IGNORED)


class Counting:
    """An asyncpg pool that counts what is asked of it."""

    def __init__(self, pool: Any) -> None:
        self._pool, self.asked = pool, 0

    def acquire(self, **options: Any) -> Any:
        """As asyncpg's."""
        self.asked += 1
        return self._pool.acquire(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def event(seq: int, body: bytes) -> bytes:
    """An event of the workflow that carries what the load generator measures by."""
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    head = f'{{"event_type":"{KIND}","trace_id":"{TRACE_ID}","seq":{seq},"at":"{at}","node_id":"a","attempt":1,'
    return head.encode() + b'"reason":"late","load":' + body + b"}"


async def handrail(port: int, dsn: str, redis_url: str) -> None:
    """The notifier with a publisher beside it."""
    await migrate.upgrade(dsn, PARTITIONS)
    pool = Counting(await connect.pool(dsn, app="bench-sse", max_size=4))
    bus, redis = MemoryBus(), bootstrap.connect_redis(redis_url)
    await redis.flushall()  # what an earlier step left there was never in the journal
    await bus.ensure_topics({topics.EVENTS: (PARTITIONS, {}), topics.PROGRESS: (PARTITIONS, {})})
    producer = await bus.producer()
    notifier = bootstrap.build(NotifierSettings(), bus=bus, pool=pool, redis=redis, tenant=TENANT)
    seq = await pool.fetchval("SELECT coalesce(max(seq), 0) FROM handrail.journal WHERE trace_id = $1", TRACE_ID)
    place = partition(TENANT, TRACE_ID, PARTITIONS)

    async def pub(request: Request) -> Response:
        nonlocal seq
        seq += 1
        headers = to_headers(Envelope(event_ce_id(TENANT, TRACE_ID, seq), ce_type(KIND), "/bench", TRACE_ID))
        value = event(seq, await request.body())
        await producer.send([Outgoing(topics.EVENTS, workflow_key(TENANT, TRACE_ID).encode(), value, headers, place)])
        return Response(status_code=204)

    async def stats(request: Request) -> Response:
        return JSONResponse({"postgres": pool.asked, "clients": len(notifier.hub), "seq": seq})

    side = Starlette(routes=[Route("/pub", pub, methods=["POST"]), Route("/stats", stats)])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (side if scope["path"] in ("/pub", "/stats") else notifier.app)(scope, receive, send)

    class Both:
        name = "bench"
        start, run, stop, checks = notifier.start, notifier.run, notifier.stop, notifier.checks

    both: Any = Both()
    both.app = app
    listening = bootstrap.listening(both, "127.0.0.1", port)
    await listening.start()
    await supervise(listening.run(), until=asyncio.Event())


class Loop:
    """A queue per client."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[dict[str, Any]]] = set()
        self._number = 0

    async def pub(self, request: Request) -> Response:
        """One event for everybody."""
        self._number += 1
        body = (await request.body()).decode()
        for queue in self._queues:
            queue.put_nowait({"id": str(self._number), "event": KIND, "data": body})
        return Response(status_code=204)

    async def sse(self, request: Request) -> Response:
        """A client."""
        return EventSourceResponse(self._events(), sep="\n")

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)


def loop_app() -> Starlette:
    """The loop as an application."""
    loop = Loop()
    return Starlette(routes=[Route("/pub", loop.pub, methods=["POST"]), Route("/sse", loop.sse)])


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=["handrail", "loop"])
    parser.add_argument("port", type=int)
    parser.add_argument("--dsn", default="")
    parser.add_argument("--redis", default="")
    chosen = parser.parse_args()
    if chosen.which == "handrail":
        import uvloop

        uvloop.run(handrail(chosen.port, chosen.dsn, chosen.redis))
        return
    common: dict[str, Any] = {"log_level": "error", "access_log": False, "backlog": 8192}
    uvicorn.run(loop_app(), host="127.0.0.1", port=chosen.port, loop="uvloop", http="httptools", **common)


if __name__ == "__main__":
    print(json.dumps({"serving": True}), flush=True)
    main()
