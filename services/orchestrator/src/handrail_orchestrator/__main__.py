"""`python -m handrail_orchestrator`: an orchestrator on Kafka, settings from the environment."""

from __future__ import annotations

from handrail_orchestrator.bootstrap import build
from handrail_orchestrator.settings import OrchestratorSettings
from handrail_runtime import crashpoints, logging
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.lifecycle import main, serve
from handrail_runtime.settings import EngineSettings, load
from handrail_store import connect


async def run() -> int:
    """Serves until a signal; answers the exit code."""
    engines, settings = load(EngineSettings), load(OrchestratorSettings)
    logging.configure("orchestrator", engines.log_level)
    crashpoints.arm()
    bus = KafkaBus(engines.kafka, client_id="handrail-orchestrator")
    dsn = engines.postgres_dsn.get_secret_value()
    pool = await connect.pool(dsn, app="handrail-orchestrator", max_size=settings.connections)
    try:
        service = build(settings, bus=bus, pool=pool, tenant=engines.tenant, partitions=engines.partitions)
        return await serve(service, host=settings.host, port=settings.port)
    finally:
        await bus.close()
        pool.terminate()


if __name__ == "__main__":
    main(run)
