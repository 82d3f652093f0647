"""The notifier as a process of its own on a real Kafka: started, killed, restarted, and asked to stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from tests.journals import canonical, random_journal
from tests.notifier_rig import PARTITIONS, Process, Source, Visitor, Wire, topics_for
from tests.waiting import wait_until

from handrail_contracts import topics
from handrail_contracts.view import WorkflowView
from handrail_notifier import bootstrap
from handrail_notifier.adapters.redis_view import read_state
from handrail_runtime.bus_kafka import KafkaBus
from handrail_store import connect, migrate

pytestmark = pytest.mark.kafka


@pytest_asyncio.fixture(loop_scope="session")
async def source(kafka_bootstrap: str, empty_database: str) -> AsyncGenerator[Source]:
    bus = KafkaBus(kafka_bootstrap)
    if not await bus.partitions(topics.EVENTS):
        await topics_for(bus)
    count = await bus.partitions(topics.EVENTS)
    await migrate.upgrade(empty_database, PARTITIONS)
    pool = await connect.pool(empty_database, app="test-kafka")
    yield Source(pool, bus, await bus.producer(), f"kafka-{uuid4().hex[:8]}", count)
    await pool.close()
    await bus.close()


@pytest_asyncio.fixture(loop_scope="session")
async def process(source: Source, kafka_bootstrap: str, empty_database: str, redis_url: str) -> AsyncGenerator[Process]:
    process = Process(
        {
            "HANDRAIL_KAFKA": kafka_bootstrap,
            "HANDRAIL_POSTGRES_DSN": empty_database,
            "HANDRAIL_REDIS_URL": redis_url,
            "HANDRAIL_TENANT": source.tenant,
        }
    )
    await process.start()
    yield process
    await process.end(signal.SIGKILL)


async def test_events_reach_clients_and_redis_and_a_stop_says_bye(
    source: Source, process: Process, redis_url: str
) -> None:
    events = random_journal(65, trace_id="on-kafka", max_events=40)
    await source.both(events[:10])
    client = await Visitor(process.port).events("on-kafka")
    await wait_until(lambda: client.ids == list(range(1, 11)), description="the first ten")
    for event in events[10:30]:
        await source.both([event])
    await wait_until(lambda: client.ids == list(range(1, 31)), description="thirty")
    redis = bootstrap.connect_redis(redis_url)

    async def shown() -> bool:
        state = await read_state(redis, source.tenant, "on-kafka")
        return state is not None and canonical(json.loads(state)) == state_of(events[:30])

    await wait_until(shown, description="Redis shows event 30")
    await redis.aclose()
    assert await process.end(signal.SIGTERM) == 0
    await wait_until(lambda: client.closed, description="the stream is closed")
    assert client.events[-1].event == "bye"
    assert not client.cut


async def test_a_notifier_that_is_killed_leaves_no_client_with_a_hole(source: Source, process: Process) -> None:
    events = random_journal(66, trace_id="killed", max_events=40)
    view, position = WorkflowView("killed"), "0"
    await source.both(events[:5])
    for turn in range(4):
        client = await Visitor(process.port).events("killed", position)
        upto = 5 + 5 * turn
        await wait_until(lambda client=client, upto=upto: reached(client, upto), description=f"event {upto}")
        view.apply_all(frame.json for frame in client.events)
        position = str(view.cursor)
        await process.end(signal.SIGKILL)
        await wait_until(lambda client=client: client.closed, description="the client notices")
        await source.both(events[upto : upto + 5])
        await process.start()
    assert canonical(view.state()) == state_of(events[:20])


async def test_redis_shows_everything_while_notifiers_come_and_are_killed(
    source: Source, process: Process, redis_url: str
) -> None:
    drawn = {f"shared-{i}": random_journal(70 + i, trace_id=f"shared-{i}", max_events=40) for i in range(40)}
    journals = dict([(trace_id, events) for trace_id, events in drawn.items() if len(events) >= 25][:12])
    assert len(journals) == 12
    redis = bootstrap.connect_redis(redis_url)
    other = Process(process._environment)

    async def shown(upto: int) -> bool:
        states = [await read_state(redis, source.tenant, trace_id) for trace_id in journals]
        found = [None if state is None else canonical(json.loads(state)) for state in states]
        return found == [state_of(events[:upto]) for events in journals.values()]

    async def more(first: int, last: int) -> None:
        for i in range(first, last):
            for events in journals.values():
                await source.both(events[i : i + 1])
        await wait_until(lambda: shown(last), description=f"Redis shows event {last} of each", timeout_s=60)

    try:
        await more(0, 6)
        await asyncio.gather(other.start(), more(6, 12))
        await more(12, 15)
        await process.end(signal.SIGKILL)
        await more(15, 20)
        await process.start()
        await asyncio.gather(other.end(signal.SIGTERM), more(20, 25))
    finally:
        if other.child is not None:
            await other.end(signal.SIGKILL)
        await redis.aclose()


async def test_with_kafka_settings_that_are_wrong_it_says_so_and_exits_with_78(process: Process) -> None:
    environment = {**os.environ, "HANDRAIL_KAFKA": "nonsense", "HANDRAIL_NOTIFIER__PING_S": "-1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "handrail_notifier", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await child.communicate()
    assert child.returncode == 78
    assert "HANDRAIL_KAFKA" in said.decode()
    assert "HANDRAIL_NOTIFIER__PING_S" in said.decode()


async def test_a_port_that_is_taken_is_told_in_one_line(process: Process) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "handrail_notifier", env=process._environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await child.communicate()
    assert child.returncode == 78
    assert f"Expected the port {process.port}" in said.decode()


def reached(client: Wire, upto: int) -> bool:
    assert client.status == 200
    return client.ids[-1:] == [upto]


def state_of(events: list[dict[str, Any]]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())
