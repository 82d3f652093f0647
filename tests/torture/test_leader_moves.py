"""Partitions change their leaders, and the agents' group its coordinator, every few hundred ms under the whole engine.

Two orchestrators and an agents service on librdkafka's mock cluster of three brokers (whose groups have one member) and on a
real PostgreSQL. On the mock a moved partition answers for a while as one that does not exist: sends are refused, reads fail,
hints are lost. Nothing may be lost for good, nothing doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from handrail_agents import bootstrap as agents
from handrail_agents.catalog.simulator import simulator
from handrail_agents.settings import AgentsSettings
from handrail_contracts import topics
from handrail_orchestrator import bootstrap as orchestrator
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.telemetry import registry
from handrail_runtime.topic_plan import topic_plan
from handrail_simulators import World
from tests.engines import fresh_database
from tests.mock_kafka import MockKafka
from tests.torture.checker.invariants import judge
from tests.torture.lab import Lab, P, working
from tests.waiting import wait_until

BROKERS = 3
MOVES = 80
FAULTS = frozenset({"leader", "no leader", "coordinator", "send failed"})
TOPICS = {name: n for name, (n, _) in topic_plan(P, [*topics.TOPICS, topics.tasks("simulator")]).items()}

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]


@pytest_asyncio.fixture
async def cluster() -> AsyncGenerator[MockKafka]:
    """A mock cluster of this test's own, with every topic made."""
    mock = await MockKafka.start(brokers=BROKERS)
    try:
        for topic, partitions in TOPICS.items():
            await mock.create_topic(topic, partitions)
        yield mock
    finally:
        await mock.stop()


class Mover:
    """Moves partitions between brokers, one at a time; some have no leader at all for longer than a send waits."""

    def __init__(self, cluster: MockKafka, rng: Random) -> None:
        self._cluster, self._rng = cluster, rng
        self.moved: Counter[str] = Counter()
        self._orphan: tuple[str, int] | None = None
        self._moves_left = 0

    async def adopt(self) -> None:
        """The partition without a leader gets one."""
        if self._orphan is not None:
            await self._cluster.set_leader(*self._orphan, self._rng.randint(1, BROKERS))
            self._orphan = None

    async def move(self) -> None:
        """Some partition gets another leader, or none; or the group gets another coordinator."""
        self._moves_left -= 1
        if self._moves_left < 0:
            await self.adopt()
        topic, partitions = self._rng.choice(list(TOPICS.items()))
        p, dice = self._rng.randrange(partitions), self._rng.random()
        if dice < 0.1:
            await self._cluster.set_coordinator(AgentsSettings().group, self._rng.randint(1, BROKERS))
            self.moved["coordinator"] += 1
        elif dice < 0.5 and self._orphan is None:
            topic = self._rng.choice((topics.EVENTS, topics.RESULTS, topics.task_topic("simulator")))
            p = self._rng.randrange(TOPICS[topic])
            await self._cluster.set_leader(topic, p, -1)
            self._orphan, self._moves_left = (topic, p), self._rng.choice((0, 10))
            self.moved["no leader"] += 1
        elif (topic, p) != self._orphan:
            await self._cluster.set_leader(topic, p, self._rng.randint(1, BROKERS))
            self.moved["leader"] += 1


async def test_leaders_that_move_under_running_workflows_lose_and_double_nothing(
    postgres_server: str, cluster: MockKafka, tmp_path: Path
) -> None:
    it = Lab(await fresh_database(postgres_server), cluster.bootstrap, tmp_path, seed=11)
    await it.prepare()
    replaced = int(registry().get_sample_value("handrail_bus_producers_replaced_total") or 0)
    mover = Mover(cluster, it.rng)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(it.end)

        def bus() -> KafkaBus:
            made = KafkaBus(cluster.bootstrap, fetch_max_wait_ms=5, ack_s=1.0, quiet_s=0.5)
            stack.push_async_callback(made.close)
            return made

        hands = [simulator(World(it.pool, "default"))]
        services: list[Any] = [
            agents.build(AgentsSettings(driver="bus"), bus=bus(), pool=it.pool, partitions=P, agents=hands),
            *(
                orchestrator.build(
                    OrchestratorSettings(lease_s=2.0, seen_s=2.5, poll_s=0.2), bus=bus(), pool=it.pool, partitions=P
                )
                for _ in range(2)
            ),
        ]
        for service in services:
            await stack.enter_async_context(working(service))
        await it.registered()
        over = asyncio.Event()
        load = asyncio.create_task(it.load(over, every_s=0.3))
        await wait_until(lambda: len(it.names) > 3, description="work is under way", timeout_s=60)
        for _ in range(MOVES):
            await mover.move()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(load), it.rng.uniform(0.1, 0.4))  # moments: these are the point
        await mover.adopt()
        over.set()
        await load
        moved = mover.moved
        moved["send failed"] = int(registry().get_sample_value("handrail_bus_producers_replaced_total") or 0) - replaced
        judge(await it.history(faults=moved, expected_faults=FAULTS))
        print(f"{dict(moved)} moves, {len(it.names)} workflows")
