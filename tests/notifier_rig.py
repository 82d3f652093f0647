"""A notifier on real engines for tests: a journal to write, a bus to publish on, and clients that read the wire."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from handrail_contracts import topics
from handrail_contracts.envelope import Envelope, ce_type, to_headers
from handrail_contracts.ids import event_ce_id, partition, workflow_key
from handrail_contracts.view import WorkflowView
from handrail_notifier import bootstrap
from handrail_notifier.bootstrap import Notifier
from handrail_notifier.entrypoints.server import Listening
from handrail_notifier.settings import NotifierSettings
from handrail_runtime.ports import Bus, Outgoing, Producer
from handrail_store.journal_weeks import born
from tests.journals import Event, wire
from tests.system.house import free_port
from tests.waiting import wait_until

PARTITIONS = 4
BORN = born(datetime.now(UTC).date())


@dataclass
class Source:
    """Plays the orchestrator: writes journal rows, and publishes them when told to."""

    pool: Any
    bus: Bus
    producer: Producer
    tenant: str = "default"
    partitions: int = PARTITIONS

    async def accept(self, trace_id: str, **order: Any) -> None:
        """What the gateway stores at `POST /workflows`."""
        await self.pool.execute(
            "INSERT INTO handrail.command (tenant, command_id, trace_id, p, kind, body, at)"
            " VALUES ($1, $2, $3, 0, 'start', $4, now())",
            self.tenant,
            f"start-{self.tenant}-{trace_id}",
            trace_id,
            order,
        )

    async def write(self, events: Sequence[Event]) -> None:
        """Into the journal, in one transaction."""
        trace_id = events[0]["trace_id"]
        p = partition(self.tenant, trace_id, self.partitions)
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO handrail.workflow (tenant, trace_id, p, born, status, created_at, updated_at)"
                " VALUES ($1, $2, $3, $4, 'RUNNING', now(), now()) ON CONFLICT DO NOTHING",
                self.tenant,
                trace_id,
                p,
                BORN,
            )
            await connection.execute(
                "INSERT INTO handrail.journal (born, tenant, trace_id, seq, p, pseq, type, data, at)"
                " SELECT $1, $2, $3, seq, $4, seq, type, data::json, now()"
                " FROM unnest($5::int[], $6::text[], $7::text[]) AS e(seq, type, data)",
                BORN,
                self.tenant,
                trace_id,
                p,
                [e["seq"] for e in events],
                [e["event_type"] for e in events],
                [wire(e).decode() for e in events],
            )

    async def publish(self, events: Sequence[Event]) -> None:
        """On the bus, as the publisher does."""
        await self.send([self.record(e["trace_id"], wire(e), e["event_type"], e["seq"]) for e in events])

    async def both(self, events: Sequence[Event]) -> None:
        await self.write(events)
        await self.publish(events)

    async def send(self, messages: list[Outgoing]) -> None:
        for failure in await self.producer.send(messages):
            if failure is not None:
                raise failure

    def record(self, trace_id: str, value: bytes, kind: str = "X", seq: int = 0) -> Outgoing:
        ce_id = event_ce_id(self.tenant, trace_id, seq)
        headers = to_headers(Envelope(ce_id, ce_type(kind), "/handrail/orchestrator", trace_id))
        return self.outgoing(topics.EVENTS, trace_id, value, headers)

    def outgoing(self, topic: str, trace_id: str, value: bytes, headers: Any = ()) -> Outgoing:
        key = workflow_key(self.tenant, trace_id).encode()
        return Outgoing(topic, key, value, headers, partition(self.tenant, trace_id, self.partitions))


@dataclass
class Frame:
    """One frame as an EventSource would see it; `retry` and comments apart."""

    event: str = "message"
    data: str = ""
    id: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Wire:
    """An SSE client that reads the socket itself: status, headers, chunked body, frames as HTML section 9.2.6 says."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    frames: list[Frame] = field(default_factory=list[Frame])
    retries: list[int] = field(default_factory=list[int])
    body: bytes = b""
    closed: bool = False
    cut: bool = False
    task: asyncio.Task[None] | None = None
    writer: asyncio.StreamWriter | None = None

    @property
    def events(self) -> list[Frame]:
        """Frames other than pings."""
        return [frame for frame in self.frames if frame.event != "ping"]

    @property
    def ids(self) -> list[int]:
        return [int(frame.id) for frame in self.frames if frame.id is not None]

    def named(self, event: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.event == event]

    async def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task})


class Visitor:
    """Opens streams on a port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._clients: list[Wire] = []

    async def open(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        host: str | None = None,
        port: int | None = None,
        body: bytes = b"",
    ) -> Wire:
        """Sends a request and returns when the status line and headers are there; the body is read in the background."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{self.port}'}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        client = Wire(status=int(head[0].split(" ")[1]), writer=writer)
        client.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        client.task = asyncio.create_task(_read(reader, client, method))
        self._clients.append(client)
        return client

    async def events(self, trace_id: str, position: int | str | None = None, **more: Any) -> Wire:
        headers = {} if position is None else {"Last-Event-ID": str(position)}
        return await self.open(f"/workflows/{trace_id}/events", headers=headers, **more)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


class Rig(Visitor):
    """A running notifier and how to reach it."""

    def __init__(self, notifier: Notifier, port: int, source: Source, redis: Redis) -> None:
        super().__init__(port)
        self.notifier, self.source, self.redis = notifier, source, redis


async def _read(reader: asyncio.StreamReader, client: Wire, method: str) -> None:
    parser = _Frames(client)
    try:
        if method == "HEAD" or client.status == 204:
            return
        if "content-length" in client.headers:
            client.body = await reader.readexactly(int(client.headers["content-length"]))
            return
        while size := int(await reader.readline() or b"-1", 16):
            if size < 0:
                client.cut = True
                return
            chunk = await reader.readexactly(size)
            await reader.readexactly(2)
            client.body += chunk
            parser.feed(chunk.decode())
    except (asyncio.IncompleteReadError, ConnectionError):
        client.cut = True
    finally:
        client.closed = True


class _Frames:
    def __init__(self, client: Wire) -> None:
        self._client, self._rest, self._fields = client, "", dict[str, list[str]]()

    def feed(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                self._fields.setdefault(name, []).append(value.removeprefix(" "))
                continue
            fields, self._fields = self._fields, {}
            self._client.retries += [int(value) for value in fields.get("retry", [])]
            if "data" in fields:
                frame = Frame(fields.get("event", ["message"])[-1], "\n".join(fields["data"]))
                frame.id = fields["id"][-1] if "id" in fields else None
                self._client.frames.append(frame)


@asynccontextmanager
async def running(
    *,
    pool: Any,
    bus: Bus,
    redis_url: str,
    route: str = "direct",
    tenant: str = "default",
    host: str = "127.0.0.1",
    origins: Iterable[str] = (),
    **settings: Any,
) -> AsyncGenerator[Rig]:
    """A notifier that listens. `route` is `direct` (frames go to the transport) or `asgi` (through sse-starlette)."""
    redis = bootstrap.connect_redis(redis_url)
    notifier = bootstrap.build(
        NotifierSettings(port=0, **settings), bus=bus, pool=pool, redis=redis, tenant=tenant, origins=origins
    )
    listening = Listening(notifier, host, 0, http=bootstrap.HTTP_PROTOCOL if route == "direct" else "httptools")
    await listening.start()
    running = asyncio.create_task(listening.run(), name="notifier")
    rig = Rig(notifier, listening.port, Source(pool, bus, await bus.producer(), tenant), redis)
    try:
        yield rig
    finally:
        await rig.close()
        await listening.stop()
        await running
        await redis.aclose()


class Process:
    """`python -m handrail_notifier`, started again on the same port."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self._environment = {**os.environ, **environment, "HANDRAIL_NOTIFIER__PORT": str(self.port)}
        self.child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "handrail_notifier", env=self._environment, stderr=asyncio.subprocess.DEVNULL
        )
        await wait_until(self.ready, description="the notifier is ready")

    async def ready(self) -> bool:
        assert self.child is not None
        assert self.child.returncode is None, f"Expected it to run, but it ended with {self.child.returncode}."
        try:
            answer = await Visitor(self.port).open("/readyz")
        except OSError:
            return False
        return answer.status == 200

    async def end(self, how: signal.Signals) -> int:
        assert self.child is not None
        if self.child.returncode is None:
            self.child.send_signal(how)
        return await self.child.wait()


class Fold:
    """What a good client does with its stream: fold events, take snapshots, remember where it is."""

    def __init__(self, trace_id: str) -> None:
        self.view = WorkflowView(trace_id)
        self.position: str | None = None
        self.order: list[int] = []
        self._taken = 0
        self._client: Wire | None = None

    def take(self, client: Wire) -> None:
        if client is not self._client:
            self._client, self._taken = client, 0
        for frame in client.frames[self._taken :]:
            if frame.event == "snapshot":
                self.view = WorkflowView.from_state(frame.json)
                self.order.clear()
            elif frame.id is not None:
                assert self.view.apply(frame.json), f"Expected each event once, but {frame.id} came again."
                self.order.append(int(frame.id))
            self.position = frame.id or self.position
        self._taken = len(client.frames)


async def topics_for(bus: Bus) -> None:
    await bus.ensure_topics({topics.EVENTS: (PARTITIONS, {}), topics.PROGRESS: (PARTITIONS, {})})
