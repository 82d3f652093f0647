"""Many clients and bad ones: herds, slow readers, shutdown, age, replicas, and a notifier that is killed at every event."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import RedisError
from tests.journals import Event, Story, canonical, random_journal
from tests.notifier_rig import PARTITIONS, Fold, Rig, running, topics_for
from tests.waiting import wait_until

from handrail.engines.valkey import LocalValkey
from handrail_contracts import live
from handrail_contracts.view import WorkflowView
from handrail_notifier.entrypoints import consumer
from handrail_runtime.bus_memory import MemoryBus
from handrail_runtime.telemetry import registry
from handrail_runtime.testing import TcpProxy
from handrail_store import connect, migrate

TENANT = "clients"
ROUTES = pytest.mark.parametrize("route", ["direct", "asgi"])


class CountingPool:
    """An asyncpg pool that counts how often it is asked for a connection, and refuses while `away`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.taken = 0
        self.away = False

    def acquire(self, **options: Any) -> Any:
        self.taken += 1
        if self.away:
            raise OSError("Expected PostgreSQL, but it is away.")
        return self._pool.acquire(**options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-clients")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def bus() -> AsyncGenerator[MemoryBus]:
    bus = MemoryBus()
    await topics_for(bus)
    yield bus
    await bus.close()


@pytest.fixture
def start(pool: Any, bus: MemoryBus, redis_url: str) -> Callable[..., Any]:
    """Call it for a notifier; keyword arguments as `running`."""

    @asynccontextmanager
    async def started(**more: Any) -> AsyncGenerator[Rig]:
        async with running(**{"pool": pool, "bus": bus, "redis_url": redis_url, "tenant": TENANT, **more}) as rig:
            rig.source.pool = pool
            yield rig

    return started


@pytest.fixture(autouse=True)
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The readers look up more often, so that starting and stopping many notifiers takes no time."""
    monkeypatch.setattr(consumer, "READ_S", 0.05)


def metric(name: str, **labels: str) -> float:
    return registry().get_sample_value(name, labels) or 0.0


def state_of(events: list[Event]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())


def steps(trace_id: str, events: int, *, size: int = 0) -> Story:
    story = Story(trace_id)
    story.accepted()
    while len(story.events) < events:
        story.add("RESULT_IGNORED", node_id="a", attempt=1, reason="late", pad="x" * size)
    return story


@ROUTES
async def test_pings_come_with_the_time_and_without_an_id(start: Any, route: str) -> None:
    async with start(route=route, ping_s=0.15) as rig:
        await rig.source.both(steps(f"ping-{route}", 2).events)
        client = await rig.events(f"ping-{route}")
        await wait_until(lambda: len(client.named("ping")) >= 3, description="three pings")
        assert all(frame.id is None and frame.json["at"].endswith("Z") for frame in client.named("ping"))


@ROUTES
async def test_at_shutdown_everybody_is_told_when_to_come_back(start: Any, route: str) -> None:
    async with start(route=route) as rig:
        await rig.source.both(steps(f"bye-{route}", 3).events)
        clients = [await rig.events(f"bye-{route}") for _ in range(20)]
        await wait_until(lambda: all(client.ids == [1, 2, 3] for client in clients), description="all are served")
        stopping = asyncio.create_task(rig.notifier.hub.drain())
        await wait_until(lambda: all(client.closed for client in clients), description="all are let go")
        await stopping
        refused = await rig.events(f"bye-{route}")
        assert (refused.status, refused.headers["retry-after"]) == (503, "2")
        assert (await rig.open("/readyz")).status == 503
    for client in clients:
        assert not client.cut
        assert (client.events[-1].event, client.events[-1].id, client.events[-1].json) == ("bye", None, {})
    retries = [client.retries[-1] for client in clients]
    assert all(1000 <= retry <= 5000 for retry in retries)
    assert len(set(retries)) > 10


@ROUTES
async def test_an_old_stream_is_closed_with_bye(start: Any, route: str) -> None:
    async with start(route=route, ping_s=0.15, max_age_s=0.5) as rig:
        await rig.source.both(steps(f"age-{route}", 2).events)
        client = await rig.events(f"age-{route}")
        await wait_until(lambda: client.closed, description="the stream is closed")
        assert client.events[-1].event == "bye"
        assert not client.cut


@ROUTES
async def test_a_herd_with_positions_is_served_from_memory(start: Any, pool: Any, route: str) -> None:
    counting = CountingPool(pool)
    story = steps(f"herd-{route}", 900)
    async with start(route=route, pool=counting, recheck_s=3600.0) as rig:
        await rig.source.both(story.events)
        first = await rig.events(story.trace_id)
        await wait_until(lambda: len(first.ids) == 900, description="the ring is warm")
        before = counting.taken
        herd = await asyncio.gather(*(rig.events(story.trace_id, n * 3) for n in range(300)))
        await wait_until(lambda: all(client.ids[-1:] == [900] for client in herd), description="the herd is served")
        assert counting.taken == before
    for n, client in enumerate(herd):
        assert client.ids == list(range(n * 3 + 1, 901))


async def test_a_stream_that_redis_lost_is_read_from_the_journal_once_and_not_per_client(start: Any, pool: Any) -> None:
    counting = CountingPool(pool)
    story = steps("stream-lost", 700)
    async with start(pool=counting, recheck_s=3600.0) as rig:
        await rig.source.both(story.events)
        await projected(rig, ["stream-lost"], 700)
        await rig.redis.delete(live.stream_key(TENANT, "stream-lost"))
        first = await rig.events("stream-lost", 10)
        await wait_until(lambda: first.ids == list(range(11, 701)), description="the first client is served")
        before = counting.taken
        herd = await asyncio.gather(*(rig.events("stream-lost", n) for n in range(50)))
        await wait_until(lambda: all(client.ids[-1:] == [700] for client in herd), description="the herd is served")
        assert counting.taken == before


async def test_a_redis_that_swallows_everything_holds_nobody_up_for_long(start: Any, tmp_path: Path) -> None:
    valkey = await LocalValkey.start(tmp_path, port=0)
    assert valkey.port is not None
    proxy = await TcpProxy("127.0.0.1", valkey.port).start()
    async with start(redis_url=f"redis://127.0.0.1:{proxy.port}/0") as rig:
        for name in ("hole-1", "hole-2"):
            await rig.source.both(steps(name, 3).events)
        await projected(rig, ["hole-1", "hole-2"], 3)
        proxy.up.black_hole = proxy.down.black_hole = True
        for name in ("hole-1", "hole-2"):
            client = await rig.events(name)
            await wait_until(lambda client=client: client.ids == [1, 2, 3], description="it comes from the journal")
        more = steps("hole-1", 5).events[3:]
        await rig.source.both(more)
        proxy.up.black_hole = proxy.down.black_hole = False
        await proxy.cut()
        await projected(rig, ["hole-1"], 5)
    await proxy.stop()
    await valkey.stop()


async def test_rings_that_start_together_ask_the_journal_together(start: Any, pool: Any) -> None:
    counting = CountingPool(pool)
    async with start(pool=counting) as rig:
        names = [f"together-{i}" for i in range(60)]
        for name in names:
            await rig.source.both(steps(name, 3).events)
        await projected(rig, names, 3)
        before = counting.taken
        clients = await asyncio.gather(*(rig.events(name) for name in names))
        await wait_until(lambda: all(client.ids == [1, 2, 3] for client in clients), description="all are served")
        assert counting.taken - before <= 20


async def test_a_workflow_nobody_watches_is_forgotten_after_the_grace_time(start: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(consumer, "SWEEP_S", 0.05)
    async with start(grace_s=0.2) as rig:
        await rig.source.both(steps("grace", 3).events)
        client = await rig.events("grace")
        await wait_until(lambda: len(rig.notifier.rings) == 1 and client.ids, description="it is watched")
        await client.close()
        await wait_until(lambda: len(rig.notifier.rings) == 0, description="it is forgotten")
        again = await rig.events("grace")
        await wait_until(lambda: again.ids == [1, 2, 3], description="it is back when asked for")


async def test_a_workflow_that_was_just_left_is_still_in_memory(start: Any) -> None:
    async with start(grace_s=60) as rig:
        await rig.source.both(steps("soon", 3).events)
        client = await rig.events("soon")
        await wait_until(lambda: client.ids == [1, 2, 3], description="it is watched")
        await client.close()
        await wait_until(lambda: len(rig.notifier.hub) == 0, description="nobody watches")
        rig.notifier.rings.sweep()
        assert len(rig.notifier.rings) == 1


@ROUTES
async def test_a_client_that_reads_nothing_is_evicted_and_nobody_else_notices(start: Any, route: str) -> None:
    async with start(route=route, ping_s=0.3, send_timeout_s=3.0) as rig:
        story = steps(f"slow-{route}", 400, size=50_000)
        await rig.source.both(story.events[:1])
        good = await rig.events(story.trace_id)
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, ("127.0.0.1", rig.port))
        request = f"GET /workflows/{story.trace_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await loop.sock_sendall(slow, request.encode())
        await wait_until(lambda: len(rig.notifier.hub) == 2, description="both are connected")
        before = metric("handrail_sse_evictions_total")
        for begin in range(1, 400, 50):
            await rig.source.both(story.events[begin : begin + 50])
        await wait_until(lambda: len(good.ids) == 400, description="the good client has all")
        await wait_until(lambda: len(rig.notifier.hub) == 1, description="the slow client is evicted", timeout_s=30)
        assert metric("handrail_sse_evictions_total") == before + 1
        assert good.ids == list(range(1, 401))
        slow.close()


@ROUTES
async def test_a_client_that_pauses_goes_on_where_it_was(start: Any, route: str) -> None:
    async with start(route=route) as rig:
        story = steps(f"pauses-{route}", 300, size=20_000)
        await rig.source.both(story.events[:1])
        proxy = await TcpProxy("127.0.0.1", rig.port).start()
        client = await rig.events(story.trace_id, port=proxy.port)
        await wait_until(lambda: client.ids == [1], description="it is connected")
        proxy.down.delay_s = 0.01
        for begin in range(1, 300, 30):
            await rig.source.both(story.events[begin : begin + 30])
        await wait_until(lambda: client.ids[-1:] == [300], description="it has all")
        assert client.ids == list(range(1, 301))
        await client.close()
        await proxy.stop()


@ROUTES
async def test_events_too_large_for_memory_come_from_the_journal(start: Any, route: str) -> None:
    async with start(route=route) as rig:
        story = steps(f"cold-{route}", 60, size=250_000)
        await rig.source.both(story.events)
        first = await rig.events(story.trace_id)
        await wait_until(lambda: len(first.ids) == 60, description="the first client has all")
        (watched,) = rig.notifier.rings.watched()
        assert watched.ring is not None
        assert watched.ring.base > 0, "Expected more than fits into the ring."
        second = await rig.events(story.trace_id, 2)
        await wait_until(lambda: second.ids[-1:] == [60], description="the second client has all")
        assert first.ids == list(range(1, 61))
        assert second.ids == list(range(3, 61))


@ROUTES
async def test_small_steps_from_the_journal_follow_each_other(start: Any, route: str) -> None:
    async with start(route=route, recheck_s=3600) as rig:
        story = steps(f"steps-{route}", 300)
        await rig.source.both(story.events[:1])
        first = await rig.events(story.trace_id)
        await wait_until(lambda: first.ids == [1], description="the ring is there")
        (watched,) = rig.notifier.rings.watched()
        window: Any = watched.ring._window  # pyright: ignore[reportPrivateUsage, reportOptionalMemberAccess]  a ring that forgets at once
        window._max_bytes = 500
        await rig.source.both(story.events[1:])
        await wait_until(lambda: first.ids[-1:] == [300], description="the first client has all")
        second = await rig.events(story.trace_id, 7)
        await wait_until(lambda: second.ids[-1:] == [300], description="the second client has all")
        assert second.ids == list(range(8, 301))


async def test_without_the_journal_running_streams_go_on_and_new_ones_are_put_off(start: Any, pool: Any) -> None:
    counting = CountingPool(pool)
    story, other = steps("no-journal", 9), steps("no-journal-other", 3)
    async with start(pool=counting, start_timeout_s=2.0) as rig:
        await rig.source.both(story.events[:3])
        await rig.source.both(other.events)
        client = await rig.events("no-journal")
        await wait_until(lambda: client.ids == [1, 2, 3], description="the stream runs")
        counting.away = True
        await rig.source.both(story.events[3:5])
        await wait_until(lambda: client.ids[-1:] == [5], description="the stream goes on")
        refused = await rig.events("no-journal-other")
        await wait_until(lambda: refused.closed, description="the refusal")
        assert (refused.status, json.loads(refused.body)["type"]) == (503, "/problems/unavailable")
        assert refused.headers["retry-after"]
        await rig.source.write(story.events[5:])
        await rig.source.publish(story.events[7:])
        counting.away = False
        await wait_until(lambda: client.ids == list(range(1, 10)), description="the gap is filled once it can be")
        again = await rig.events("no-journal-other")
        await wait_until(lambda: again.ids == [1, 2, 3], description="new streams start again")


async def test_what_the_bus_lost_is_fetched_from_the_journal(start: Any) -> None:
    async with start(recheck_s=0.1) as rig:
        story = steps("lost", 5)
        await rig.source.both(story.events[:2])
        client = await rig.events("lost")
        await wait_until(lambda: client.ids == [1, 2], description="the stream runs")
        await rig.source.write(story.events[2:])
        await wait_until(lambda: client.ids == [1, 2, 3, 4, 5], description="the lost events arrive")


async def test_more_streams_than_allowed_are_put_off(start: Any) -> None:
    async with start(max_streams=2) as rig:
        await rig.source.both(steps("limit", 2).events)
        clients = [await rig.events("limit") for _ in range(3)]
        assert [client.status for client in clients] == [200, 200, 503]
        await clients[0].close()
        await wait_until(lambda: len(rig.notifier.hub) == 1, description="one has left")
        assert (await rig.events("limit")).status == 200


async def test_two_replicas_serve_the_same_stream(start: Any) -> None:
    events = random_journal(41, trace_id="replicas", max_events=50)
    async with start() as one, start() as two:
        await one.source.both(events[:20])
        fold = Fold("replicas")
        for turn, rig in enumerate([one, two, one, two]):
            client = await rig.events("replicas", fold.position)
            upto = 20 + 10 * min(turn, 2)
            await one.source.both(events[upto : upto + 10]) if turn < 2 else None
            want = min(30 + 10 * turn, 40)
            await wait_until(
                lambda client=client, want=want: fold.take(client) or fold.view.cursor == want, description="served"
            )
            await client.close()
        assert canonical(fold.view.state()) == state_of(events[:40])
        assert fold.order == list(range(1, 41))


@ROUTES
async def test_a_notifier_killed_at_every_event_leaves_no_client_with_a_hole(start: Any, route: str) -> None:
    events = random_journal(51, trace_id=f"killed-{route}", max_events=25)
    folds = [Fold(f"killed-{route}") for _ in range(3)]
    port = 0
    for seq in range(1, len(events) + 1):
        async with start(route=route) as rig:
            assert rig.port != port
            port = rig.port
            before, after = events[seq - 1 : seq], events[seq : seq + 1]
            if seq == 1:
                await rig.source.both(before)
            clients = [await rig.events(f"killed-{route}", fold.position) for fold in folds]
            if after:
                await rig.source.both(after)
            want = min(seq + 1, len(events))
            for fold, client in zip(folds, clients, strict=True):
                if client.status == 204:
                    continue
                await wait_until(
                    lambda fold=fold, client=client, want=want: fold.take(client) or fold.view.cursor == want,
                    description=f"event {want} is there",
                )
    for fold in folds:
        assert canonical(fold.view.state()) == state_of(events)
        assert fold.order == list(range(1, len(events) + 1))


async def test_connections_leave_nothing_behind(start: Any) -> None:
    async with start() as rig:
        await rig.source.both(steps("coming-and-going", 3).events)
        stay = await rig.events("coming-and-going")
        await wait_until(lambda: stay.ids == [1, 2, 3], description="the ring is warm")
        tasks = len(asyncio.all_tasks())
        for _ in range(10):
            clients = await asyncio.gather(*(rig.events("coming-and-going") for _ in range(30)))
            for client in clients:
                await client.close()
        await wait_until(lambda: len(rig.notifier.hub) == 1, description="the hub has one client left")
        await wait_until(lambda: len(asyncio.all_tasks()) <= tasks, description="no task is left")
        assert metric("handrail_sse_clients") == 1


async def projected(rig: Rig, names: list[str], upto: int) -> None:
    async def all_there() -> bool:
        try:
            seqs = [await rig.redis.hget(live.view_key(TENANT, name), "seq") for name in names]  # type: ignore[misc]
        except RedisError:
            return False
        return all(seq == str(upto).encode() for seq in seqs)

    await wait_until(all_there, description="Redis shows all")
