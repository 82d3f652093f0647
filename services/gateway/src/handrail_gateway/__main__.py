"""`python -m handrail_gateway`: the gateway as a process of its own, on Kafka."""

from __future__ import annotations

from typing import cast

from handrail_gateway.bootstrap import build
from handrail_gateway.settings import GatewaySettings
from handrail_runtime import crashpoints, logging
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.lifecycle import main, serve
from handrail_runtime.settings import EngineSettings, load_all


async def run() -> int:
    """Reads the settings, serves until a signal, answers the exit code."""
    settings, engines = cast("tuple[GatewaySettings, EngineSettings]", load_all(GatewaySettings, EngineSettings))
    logging.configure("gateway", engines.log_level)
    crashpoints.arm()
    bus = KafkaBus(engines.kafka)
    try:
        return await serve(build(settings, engines, bus=bus))
    finally:
        await bus.close()


if __name__ == "__main__":
    main(run)
