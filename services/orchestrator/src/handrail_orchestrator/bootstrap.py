"""Wires an orchestrator. `build` for whoever has the engines already."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

from handrail_orchestrator.adapters.blueprint_files import blueprint_files
from handrail_orchestrator.adapters.policy_files import policy_files
from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_orchestrator.application.planning import load_blueprints
from handrail_orchestrator.application.ruling import load_policies
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime.ports import Bus
from handrail_runtime.topic_plan import topic_plan

if TYPE_CHECKING:
    from handrail_store.connect import Pool


def build(
    settings: OrchestratorSettings, *, bus: Bus, pool: Pool, tenant: str = "default", partitions: int = 24
) -> Orchestrator:
    """An orchestrator on engines that the caller owns and closes; the database is migrated. Nothing happens before `start`."""
    member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    store = PostgresStore(pool, member, tenant, settings.lease_s)

    async def prepare() -> None:
        await bus.ensure_topics(topic_plan(partitions))
        await load_blueprints(store, blueprint_files(settings.blueprints_dir))
        await load_policies(store, policy_files(settings.policies_dir))

    return Orchestrator(
        store,
        bus,
        tenant,
        partitions,
        seen_s=settings.seen_s,
        batch=settings.batch,
        poll_s=settings.poll_s,
        cached_nodes=settings.cached_nodes,
        adopt_foreign=settings.on_foreign_bus == "adopt",
        bus_check_s=settings.bus_check_s,
        prepare=prepare,
    )
