"""A topic of real Kafka is deleted and made anew while two orchestrators hold its partitions: every workflow ends all the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from handrail.engines.kafka import LocalKafka
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
from tests.torture.checker.invariants import judge
from tests.torture.lab import Lab, P, working
from tests.waiting import wait_until

pytestmark = [pytest.mark.torture, pytest.mark.kafka, pytest.mark.timeout(600)]


def _adopted() -> float:
    return registry().get_sample_value("handrail_bus_adoptions_total") or 0.0


async def test_results_whose_topic_is_made_anew_are_adopted_and_every_workflow_ends(
    postgres_server: str, broker: LocalKafka, tmp_path: Path
) -> None:
    it = Lab(await fresh_database(postgres_server), broker.bootstrap_servers, tmp_path, seed=17)
    await it.prepare()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(it.end)

        def bus() -> KafkaBus:
            made = KafkaBus(broker.bootstrap_servers, ack_s=3.0, quiet_s=2.0)
            stack.push_async_callback(made.close)
            return made

        settings = OrchestratorSettings(lease_s=2.0, seen_s=2.5, poll_s=0.2, bus_check_s=1.0)
        services: list[Any] = [
            agents.build(
                AgentsSettings(driver="bus"), bus=bus(), pool=it.pool, partitions=P,
                agents=[simulator(World(it.pool, "default"))],
            ),
            *(orchestrator.build(settings, bus=bus(), pool=it.pool, partitions=P) for _ in range(2)),
        ]  # fmt: skip
        for service in services:
            await stack.enter_async_context(working(service))
        await it.registered()
        over = asyncio.Event()
        load = asyncio.create_task(it.load(over, every_s=0.2))
        ended = "SELECT count(*) FROM handrail.workflow WHERE ended_at IS NOT NULL"

        async def under_way() -> bool:
            return await it.pool.fetchval(ended) > 3

        await wait_until(under_way, description="results have been read", timeout_s=60)
        before = _adopted()
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        stack.push_async_callback(admin.close)
        await admin.delete_topics([topics.RESULTS])
        plan = {topics.RESULTS: topic_plan(P)[topics.RESULTS]}
        maker = bus()

        async def made_anew() -> bool:
            return topics.RESULTS not in await admin.list_topics() or bool(await maker.ensure_topics(plan))

        await wait_until(made_anew, description="the topic is gone", timeout_s=60)
        await maker.ensure_topics(plan)
        await wait_until(lambda: _adopted() > before, description="the new log is adopted", timeout_s=120)
        n = len(it.names)
        await wait_until(lambda: len(it.names) > n + 5, description="work goes on", timeout_s=60)
        over.set()
        await load
        judge(await it.history(adopted=True))
        print(f"{_adopted() - before:.0f} partitions adopted, {len(it.names)} workflows")
