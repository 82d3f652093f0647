"""Wires the agents service. `build` for whoever has the engines already."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from handrail_agents import catalog
from handrail_agents.adapters.clock import Clock
from handrail_agents.adapters.ledger import PostgresLedger
from handrail_agents.adapters.quarantine import PostgresQuarantine
from handrail_agents.adapters.registry import Registry
from handrail_agents.catalog.planner import ModelPlanner, plan_settings
from handrail_agents.drivers import faust_app
from handrail_agents.drivers.bus import BusDriver
from handrail_agents.loading import distinct, load
from handrail_agents.runtime.answers import Answers
from handrail_agents.runtime.service import AgentsService, Driver
from handrail_agents.runtime.worker import Worker
from handrail_agents.settings import AgentsSettings
from handrail_contracts.topics import task_topic
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.errors import Misconfigured
from handrail_runtime.ports import Bus
from handrail_sdk.agent import Agent
from handrail_sdk.ai import EndpointModel, ModelScorer, endpoint_from
from handrail_sdk.failures import DefinitionError
from handrail_simulators import World, ensure

if TYPE_CHECKING:
    from handrail_store.connect import Pool


def build(
    settings: AgentsSettings,
    *,
    bus: Bus,
    pool: Pool,
    tenant: str = "default",
    partitions: int = 24,
    agents: Sequence[Agent] | None = None,
) -> AgentsService:
    """The agents service on engines that the caller owns and closes; the database is migrated. Without `agents` it runs
    those that the settings load and the catalog, for which the simulators' tables must exist (`simulators`). Nothing
    happens before `start`. Raises Misconfigured."""
    worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    if agents is None:
        shipped = _catalog(settings, pool, tenant) if settings.catalog else []
        agents = distinct([*shipped, *load(settings.load)])
        if not agents:
            raise Misconfigured(
                "HANDRAIL_AGENTS__LOAD: Expected an agent to run, but neither it nor the catalog has one."
            )
    clock = Clock(pool)
    answers = Answers(bus, partitions, worker)
    ledger = PostgresLedger(pool, worker)
    hands = Worker(
        agents,
        ledger=ledger,
        answers=answers,
        clock=clock,
        quarantine=PostgresQuarantine(pool, bus, tenant),
        slots=settings.slots,
        short_s=settings.short_ms / 1000,
    )
    return AgentsService(
        agents,
        bus=bus,
        partitions=partitions,
        worker=hands,
        answers=answers,
        ledger=ledger,
        registry=Registry(pool, tenant, agents),
        clock=clock,
        driver=_driver(settings, bus, [task_topic(a.name) for a in agents], hands),
        drain_s=settings.drain_s,
    )


def _catalog(settings: AgentsSettings, pool: Pool, tenant: str) -> list[Agent]:
    """The agents that ship. Where the environment names an endpoint for models, those that think ask it."""
    world = World(pool, tenant)
    try:
        endpoint = endpoint_from()
        if endpoint is None:
            return catalog.agents(world, delay_ms=settings.demo_delay_ms)
        model = EndpointModel(endpoint)
        budget, allowed = plan_settings()
        maker = ModelPlanner(endpoint, Registry(pool, tenant, ()).known, budget, allowed)
    except DefinitionError as e:
        raise Misconfigured(str(e)) from e
    return catalog.agents(world, delay_ms=settings.demo_delay_ms, model=model, scorer=ModelScorer(model), maker=maker)


def _driver(settings: AgentsSettings, bus: Bus, names: list[str], worker: Worker) -> Driver:
    """Faust where the bus is Kafka and Faust is installed (or asked for); else a plain member of the group."""
    wanted = settings.driver == "faust" or (settings.driver == "auto" and faust_app.available())
    if isinstance(bus, KafkaBus) and wanted:
        return faust_app.FaustDriver(bus.bootstrap, settings.group, names, worker)
    if settings.driver == "faust":
        raise Misconfigured(
            "Expected Kafka for HANDRAIL_AGENTS__DRIVER=faust, but the bus is another. Set bus, or auto."
        )
    return BusDriver(bus, settings.group, names, worker)


async def simulators(pool: Pool) -> None:
    """Makes the tables of the simulated world, which the catalog's agents act on. Idempotent."""
    await ensure(pool)
