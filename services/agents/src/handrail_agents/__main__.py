"""`python -m handrail_agents`: the catalog's agents on Kafka, settings from the environment."""

from __future__ import annotations

from typing import cast

from handrail_agents import bootstrap
from handrail_agents.settings import AgentsSettings
from handrail_runtime import crashpoints, lifecycle, logging
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.settings import EngineSettings, load_all
from handrail_store import connect


async def run() -> int:
    """Serves until a signal; answers the exit code."""
    engines, settings = cast("tuple[EngineSettings, AgentsSettings]", load_all(EngineSettings, AgentsSettings))
    logging.configure("agents", engines.log_level)
    crashpoints.arm()
    bus = KafkaBus(engines.kafka, client_id="handrail-agents")
    pool = await connect.pool(
        engines.postgres_dsn.get_secret_value(), app="handrail-agents", max_size=settings.connections
    )
    try:
        await bootstrap.simulators(pool)
        service = bootstrap.build(settings, bus=bus, pool=pool, tenant=engines.tenant, partitions=engines.partitions)
        return await lifecycle.serve(service, host=settings.host, port=settings.port)
    finally:
        await bus.close()
        pool.terminate()


if __name__ == "__main__":
    lifecycle.main(run)
