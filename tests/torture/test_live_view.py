"""The live view under everything at once: a killed notifier at every event, a bad network, an emptied Redis, crowds.

`HANDRAIL_TORTURE=long` runs the crowds in full size (2,000 clients with ten reconnects each, 100,000 connections);
without it they are smaller, so that all of this takes about four minutes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import resource
import signal
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import pytest_asyncio

from handrail.engines.valkey import LocalValkey
from handrail_contracts import topics
from handrail_contracts.view import WorkflowView
from handrail_notifier import bootstrap
from handrail_notifier.adapters.redis_view import read_state
from handrail_notifier.application import projection
from handrail_notifier.application.agui_tracks import Track
from handrail_notifier.application.bundle import Bundle
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.ring import Ring
from handrail_notifier.entrypoints.hub import Client
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.testing import TcpProxy
from handrail_store import connect, migrate
from tests.journals import Event, Story, canonical, random_journal
from tests.notifier_rig import PARTITIONS, Fold, Process, Rig, Source, Visitor, Wire, running, topics_for
from tests.waiting import wait_until

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1500)]

LONG = os.environ.get("HANDRAIL_TORTURE") == "long"
CROWD, ROUNDS = (2000, 10) if LONG else (200, 10)
CONNECTS = 100_000 if LONG else 20_000
RECORDING = Path(__file__).parents[1] / "contracts" / "recordings" / "onboarding-manual-sku.jsonl"
SILENCE_S = 2.0


def folded(events: list[Event]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())


@pytest_asyncio.fixture(loop_scope="session")
async def valkey(tmp_path: Path) -> AsyncGenerator[LocalValkey]:
    """A Redis of this test alone: it is emptied."""
    valkey = await LocalValkey.start(tmp_path / "valkey")
    yield valkey
    await valkey.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def pool(empty_database: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(empty_database, PARTITIONS)
    pool = await connect.pool(empty_database, app="torture-live")
    yield pool
    await pool.close()


@pytest.mark.kafka
async def test_killed_at_every_event_of_a_recorded_workflow_every_fold_is_the_servers_state(
    kafka_bootstrap: str, empty_database: str, pool: Any, valkey: LocalValkey
) -> None:
    bus = KafkaBus(kafka_bootstrap)
    if not await bus.partitions(topics.EVENTS):
        await topics_for(bus)
    source = Source(pool, bus, await bus.producer(), f"kill-{uuid4().hex[:8]}", await bus.partitions(topics.EVENTS))
    events: list[Event] = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    trace_id = events[0]["trace_id"]
    environment = {"HANDRAIL_KAFKA": kafka_bootstrap, "HANDRAIL_POSTGRES_DSN": empty_database}
    process = Process({**environment, "HANDRAIL_REDIS_URL": valkey.url, "HANDRAIL_TENANT": source.tenant})
    folds = [Fold(trace_id) for _ in range(5)]
    redis = bootstrap.connect_redis(valkey.url)
    try:
        for seq, event in enumerate(events, 1):
            await source.both([event])
            await process.start()
            clients = [await Visitor(process.port).events(trace_id, fold.position) for fold in folds]
            for fold, client in zip(folds, clients, strict=True):
                await wait_until(
                    lambda fold=fold, client=client, seq=seq: fold.take(client) or fold.view.cursor >= seq,
                    description=f"event {seq} is there", timeout_s=60,
                )  # fmt: skip
            if seq % 3 == 0:
                await redis.flushall()
            await process.end(signal.SIGKILL)
        await process.start()

        async def shown() -> bool:
            state = await read_state(redis, source.tenant, trace_id)
            return state is not None and canonical(json.loads(state)) == folded(events)

        # A client makes the workflow watched; what Redis lost comes back by itself or with the next projection.
        assert (await Visitor(process.port).events(trace_id, folds[0].position)).status == 204
        await source.publish(events[-1:])
        await wait_until(shown, description="Redis shows the end", timeout_s=60)
    finally:
        await process.end(signal.SIGKILL)
        await redis.aclose()
        await bus.close()
    for fold in folds:
        assert canonical(fold.view.state()) == folded(events)
        assert fold.order == list(range(1, len(events) + 1))


class Reader:
    """A good client on a bad network: connects to either address, gives up on silence, goes on from where it is."""

    def __init__(self, number: int, trace_id: str, ports: list[int]) -> None:
        self.fold = Fold(trace_id)
        self.connections = 0
        self._random = random.Random(number)
        self._trace_id, self._ports = trace_id, ports

    async def read(self, until: int) -> None:
        while self.fold.view.cursor < until:
            with suppress(OSError, EOFError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(SILENCE_S):
                    visitor = Visitor(self._random.choice(self._ports))
                    client = await visitor.events(self._trace_id, self.fold.position)
                self.connections += 1
                try:
                    await self._follow(client, until)
                finally:
                    await client.close()
            await asyncio.sleep(self._random.uniform(0.01, 0.1))

    async def _follow(self, client: Wire, until: int) -> None:
        heard, loop = 0, asyncio.get_running_loop()
        deadline = loop.time() + SILENCE_S
        while not client.closed and self.fold.view.cursor < until:
            self.fold.take(client)
            if len(client.body) > heard:
                heard, deadline = len(client.body), loop.time() + SILENCE_S
            if loop.time() > deadline:
                return
            await asyncio.sleep(0.02)
        self.fold.take(client)


async def healed(proxy: TcpProxy) -> None:
    """No fault any more. What was swallowed would have been sent again by TCP: such connections end with the hole."""
    if proxy.down.black_hole:
        await proxy.cut()
    proxy.down.black_hole, proxy.down.limit_bytes = False, None
    proxy.down.delay_s = proxy.down.jitter_s = 0.0


async def fault(chance: random.Random, proxies: list[TcpProxy], redis: Any, fired: Counter[str]) -> None:
    """One of the things that networks and caches do."""
    what = chance.choice(["cut", "delay", "black hole", "half a frame", "flush", "heal", "heal"])
    proxy = chance.choice(proxies)
    match what:
        case "cut":
            await proxy.cut()
        case "delay":
            proxy.down.delay_s, proxy.down.jitter_s = 0.01, 0.05
        case "black hole":
            proxy.down.black_hole = True
        case "half a frame":
            proxy.down.limit_bytes = chance.randint(1, 3000)
        case "flush":
            await redis.flushall()
        case _:
            for one in proxies:
                await healed(one)
    fired[what] += 1


async def test_two_replicas_behind_a_network_that_cuts_delays_and_swallows(pool: Any, valkey: LocalValkey) -> None:
    chance, fired = random.Random(2026), Counter[str]()
    events = random_journal(7, trace_id="bad-network", max_events=400)
    while len(events) < 200:
        events = random_journal(chance.randrange(10_000), trace_id="bad-network", max_events=400)
    bus = MemoryBus()
    await topics_for(bus)
    common: dict[str, Any] = {"pool": pool, "bus": bus, "redis_url": valkey.url, "tenant": "bad", "ping_s": 0.5}
    redis = bootstrap.connect_redis(valkey.url)
    async with running(**common) as one, running(**common) as two:
        proxies = [await TcpProxy("127.0.0.1", rig.port, seed=n).start() for n, rig in enumerate((one, two))]
        await one.source.both(events[:1])
        readers = [Reader(n, "bad-network", [proxy.port for proxy in proxies]) for n in range(20)]
        async with asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(reader.read(len(events)))
            for event in events[1:]:
                await one.source.write([event])
                if chance.random() < 0.9:  # the bus loses some: they come from the journal
                    await one.source.publish([event])
                if chance.random() < 0.15:
                    await fault(chance, proxies, redis, fired)
                await asyncio.sleep(0.03)
            for proxy in proxies:
                await healed(proxy)
        for proxy in proxies:
            await proxy.stop()
    await redis.aclose()
    await bus.close()
    for reader in readers:
        assert canonical(reader.fold.view.state()) == folded(events)
    assert all(fired[what] for what in ("cut", "delay", "black hole", "half a frame", "flush")), fired
    assert sum(reader.connections for reader in readers) > 2 * len(readers)


def many_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard > 0 else wanted, hard))


async def test_a_crowd_that_is_cut_off_again_and_again_has_no_hole_and_asks_postgres_nothing(
    pool: Any, valkey: LocalValkey
) -> None:
    many_files(6 * CROWD + 500)
    asked = 0

    class Counting:
        def acquire(self, **options: Any) -> Any:
            nonlocal asked
            asked += 1
            return pool.acquire(**options)

        def __getattr__(self, name: str) -> Any:
            return getattr(pool, name)

    bus = MemoryBus()
    await topics_for(bus)
    story = Story("crowd")
    story.accepted()
    while len(story.events) < 40 * (ROUNDS + 1):
        story.add("RESULT_IGNORED", node_id="a", attempt=1, reason="late")
    settings: dict[str, Any] = {"recheck_s": 3600.0, "start_timeout_s": 120.0}
    async with running(pool=Counting(), bus=bus, redis_url=valkey.url, tenant="crowd", **settings) as rig:
        proxy = await TcpProxy("127.0.0.1", rig.port, seed=3).start()
        await rig.source.both(story.events[:40])
        folds = [Fold("crowd") for _ in range(CROWD)]
        before = None
        for turn in range(ROUNDS + 1):
            visitor = Visitor(proxy.port)
            clients = await asyncio.gather(*(visitor.events("crowd", fold.position) for fold in folds))
            if turn:
                await rig.source.publish(story.events[40 * turn : 40 * turn + 40])
            want = 40 * turn + 40
            await wait_until(
                lambda clients=clients, want=want: all(c.ids[-1:] == [want] for c in clients),
                description=f"everybody has event {want}", timeout_s=240,
            )  # fmt: skip
            if before is None:
                before = asked
            for fold, client in zip(folds, clients, strict=True):
                fold.take(client)
            await proxy.cut()
            await visitor.close()
        assert asked == before
        await proxy.stop()
    await bus.close()
    for fold in folds:
        assert fold.order == list(range(1, len(story.events) + 1))


async def test_connections_by_the_thousand_leak_neither_tasks_nor_files(pool: Any, valkey: LocalValkey) -> None:
    many_files(5000)
    bus = MemoryBus()
    await topics_for(bus)
    async with running(pool=pool, bus=bus, redis_url=valkey.url, tenant="leaks", grace_s=3600.0) as rig:
        story = Story("running")
        story.accepted()
        ended = Story("ended")
        ended.accepted()
        ended.ended()
        await rig.source.both(story.events)
        await rig.source.both(ended.events)
        paths = ["/workflows/running/events", "/workflows/running/events?format=agui", "/workflows/ended/events"]
        paths += ["/inbox/events", "/events?trace_id=running", "/workflows/nobody/events"]
        await some_connections(rig, paths, 300)
        tasks, files = len(asyncio.all_tasks()), psutil.Process().num_fds()
        done = 0
        while done < CONNECTS:
            await some_connections(rig, paths, 1000)
            done += 1000
        await wait_until(lambda: len(rig.notifier.hub) == 0, description="the hub is empty", timeout_s=60)
        await wait_until(lambda: len(asyncio.all_tasks()) <= tasks + 5, description="no task is left", timeout_s=60)
        await wait_until(lambda: psutil.Process().num_fds() <= files + 20, description="no file is left", timeout_s=60)
    await bus.close()


async def test_short_workflows_that_were_watched_leave_nothing_in_memory(
    pool: Any, valkey: LocalValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "VIEWS", 20)
    bus = MemoryBus()
    await topics_for(bus)

    def kept() -> Counter[str]:
        gc.collect()
        every = (type(one) for one in gc.get_objects())
        names = {Watched, Ring, WorkflowView, Bundle, Track, Client}
        return Counter(kind.__name__ for kind in every if kind in names)

    async with running(pool=pool, bus=bus, redis_url=valkey.url, tenant="short", grace_s=0.2) as rig:

        async def watched(number: int) -> None:
            story = Story(f"short-{number}")
            story.accepted()
            story.ended()
            await rig.source.both(story.events[:1])
            one = story.events[0]["trace_id"]
            paths = [f"/workflows/{one}/events", f"/workflows/{one}/events?format=agui", f"/events?trace_id={one}"]
            visitor = Visitor(rig.port)
            client = await visitor.open(paths[number % 3])
            await rig.source.both(story.events[1:])
            await wait_until(
                lambda: any("COMPLETED" in f.data or "FINISHED" in f.data for f in client.frames),
                description="its end is seen", timeout_s=60,
            )  # fmt: skip
            await visitor.close()

        for begin in range(0, 600, 20):
            await asyncio.gather(*(watched(number) for number in range(begin, begin + 20)))
        await wait_until(lambda: not len(rig.notifier.rings) and not len(rig.notifier.hub), description="nobody looks")
        # The projection keeps so many views on purpose, and a loop at rest still has the last that it worked on.
        await wait_until(lambda: kept().total() < 150, description="what is kept is bounded", timeout_s=60)
    await bus.close()


async def some_connections(rig: Rig, paths: list[str], count: int) -> None:
    """Opens and leaves so many, 50 at a time; every third leaves without having read a byte."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, ("127.0.0.1", rig.port))
            path = paths[number % len(paths)]
            await loop.sock_sendall(sock, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            if number % 3:
                assert await loop.sock_recv(sock, 4096)
        finally:
            sock.close()

    for begin in range(0, count, 50):
        await asyncio.gather(*(one(number) for number in range(begin, min(begin + 50, count))))
