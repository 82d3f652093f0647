"""`max_in_flight` over real Kafka and PostgreSQL: two orchestrators share the places, one goes and another comes meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from handrail.engines.kafka import LocalKafka
from handrail_agents import bootstrap as agents
from handrail_agents.settings import AgentsSettings
from handrail_orchestrator import bootstrap as orchestrator
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime.bus_kafka import KafkaBus
from handrail_sdk.agent import Agent
from handrail_sdk.context import Context
from handrail_simulators import World
from tests.engines import fresh_database
from tests.torture.checker.invariants import judge
from tests.torture.lab import Lab, P, working
from tests.waiting import wait_until

LIMIT = 3
WORKFLOWS = 10

pytestmark = [pytest.mark.torture, pytest.mark.kafka, pytest.mark.timeout(600)]


class Narrow:
    """An agent that says how many attempts it had in hand at once, over all of its workers."""

    def __init__(self, world: World) -> None:
        self.open = self.most = self.done = 0
        self.agent = Agent("narrow", max_in_flight=LIMIT)

        @self.agent.task(effect="idempotent", retries=30, delay=0.1)
        async def act(inputs: dict[str, Any], ctx: Context) -> Any:
            self.open += 1
            self.most = max(self.most, self.open)
            try:
                for _ in range(500):  # until it was seen that so many may be open at once, or five seconds
                    if self.most >= LIMIT:
                        break
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.03)
                return await world.ledger.do(ctx, inputs)
            finally:
                self.open -= 1
                self.done += 1

        @act.compensate
        async def undo(inputs: dict[str, Any], answer: Any, ctx: Context) -> None:
            await world.ledger.undo(ctx)


async def test_two_orchestrators_on_kafka_never_have_more_in_flight_than_allowed(
    postgres_server: str, broker: LocalKafka, tmp_path: Path
) -> None:
    it = Lab(await fresh_database(postgres_server), broker.bootstrap_servers, tmp_path, seed=13)
    await it.prepare()
    narrow = Narrow(World(it.pool, "default"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(it.end)

        def bus() -> KafkaBus:
            made = KafkaBus(broker.bootstrap_servers)
            stack.push_async_callback(made.close)
            return made

        def owner() -> Any:
            settings = OrchestratorSettings(lease_s=2.0, seen_s=2.5, poll_s=0.1)
            return orchestrator.build(settings, bus=bus(), pool=it.pool, partitions=P)

        def hands() -> Any:
            settings = AgentsSettings(driver="bus")
            return agents.build(settings, bus=bus(), pool=it.pool, partitions=P, agents=[narrow.agent])

        async def owners() -> int:
            return await it.pool.fetchval("SELECT count(DISTINCT owner) FROM handrail.partition")

        async def two() -> bool:
            return await owners() == 2

        for service in (hands(), hands(), owner()):
            await stack.enter_async_context(working(service))
        await it.registered(("narrow", "act"))
        async with working(owner()):
            await wait_until(two, description="two own partitions", timeout_s=60)
            for i in range(WORKFLOWS):
                await it.order(f"w{i}", [_node("a"), _node("b", "a"), _node("c", "a"), _node("d", "b", "c")])
            await wait_until(lambda: narrow.done > 10, description="work is under way", timeout_s=120)
        await stack.enter_async_context(working(owner()))  # one has gone, in the midst of it; another comes
        h = await it.history()
        judge(h)
        assert narrow.most == LIMIT, "as many as allowed, and never more"
        assert narrow.done >= 4 * WORKFLOWS
        assert all(w.status == "COMPLETED" for w in h.workflows)
        taken = await it.pool.fetch("SELECT key, taken FROM handrail.place")
        assert taken and all(r["taken"] == 0 for r in taken)
        print(f"{WORKFLOWS} workflows, {narrow.done} attempts, never more than {narrow.most} at once")


def _node(id_: str, *after: str) -> dict[str, Any]:
    return {"id": id_, "agent": "narrow", "action": "act", "depends_on": list(after), "inputs": {"n": id_}}
