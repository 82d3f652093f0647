"""`python -m handrail.demo_gateway`: the gateway of a deployment in which the simulators run, with their ledger to look at."""

from __future__ import annotations

from typing import Any, cast

import handrail_simulators as simulators
from handrail_gateway.bootstrap import build
from handrail_gateway.settings import GatewaySettings
from handrail_runtime import crashpoints, logging
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.lifecycle import main, serve
from handrail_runtime.settings import EngineSettings, load_all
from handrail_store import connect


async def run() -> int:
    """Reads the settings, serves until a signal, answers the exit code."""
    settings, engines = cast("tuple[GatewaySettings, EngineSettings]", load_all(GatewaySettings, EngineSettings))
    logging.configure("gateway", engines.log_level)
    crashpoints.arm()
    bus = KafkaBus(engines.kafka, client_id="handrail-gateway")
    dsn = engines.postgres_dsn.get_secret_value()
    pool = await connect.pool(dsn, app="handrail-simulators", max_size=2)

    async def ledger(tenant: str, trace_id: str) -> list[dict[str, Any]]:
        return await simulators.ledger(pool, tenant, trace_id)

    try:
        await simulators.ensure(pool)
        return await serve(build(settings, engines, bus=bus, ledger=ledger))
    finally:
        await bus.close()
        pool.terminate()


if __name__ == "__main__":
    main(run)
