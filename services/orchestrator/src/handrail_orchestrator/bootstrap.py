"""Wires an orchestrator: settings in, service out."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

from handrail_contracts.topics import TOPICS
from handrail_orchestrator.adapters.blueprint_files import blueprint_files
from handrail_orchestrator.adapters.postgres import PostgresStore
from handrail_orchestrator.application.orchestrator import Orchestrator
from handrail_orchestrator.application.planning import load_blueprints
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime.ports import Bus

if TYPE_CHECKING:
    from handrail_store.connect import Pool


def build(settings: OrchestratorSettings, *, bus: Bus, pool: Pool) -> Orchestrator:
    """An orchestrator on this bus and this database (already migrated). It closes neither: who opened them does."""
    member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    options = settings.orchestrator
    store = PostgresStore(pool, member, settings.tenant, options.lease_s)

    async def prepare() -> None:
        await bus.ensure_topics({t.name: (settings.partitions, {"retention.ms": str(t.retention_ms)}) for t in TOPICS})
        await load_blueprints(store, blueprint_files(settings.blueprints_dir))

    async def close() -> None:
        return None

    return Orchestrator(
        store,
        bus,
        settings.tenant,
        settings.partitions,
        seen_s=options.seen_s,
        batch=options.batch,
        poll_s=options.poll_s,
        cached_nodes=options.cached_nodes,
        adopt_foreign=options.on_foreign_bus == "adopt",
        prepare=prepare,
        close=close,
    )
