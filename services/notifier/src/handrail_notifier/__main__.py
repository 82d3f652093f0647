"""`python -m handrail_notifier`: the notifier as a process of its own, settings from the environment."""

from __future__ import annotations

from typing import cast

from handrail_notifier import bootstrap
from handrail_notifier.entrypoints.server import Listening
from handrail_notifier.outbound.settings import ChannelSettings
from handrail_notifier.settings import NotifierSettings
from handrail_runtime import crashpoints, lifecycle
from handrail_runtime.bus_kafka import KafkaBus
from handrail_runtime.logging import configure
from handrail_runtime.settings import EngineSettings, load_all
from handrail_store.connect import pool as connect_pool


async def main() -> int:
    """Runs until SIGTERM or SIGINT; answers the exit code."""
    engines, own, channels = cast(
        "tuple[EngineSettings, NotifierSettings, ChannelSettings]",
        load_all(EngineSettings, NotifierSettings, ChannelSettings),
    )
    configure("notifier", engines.log_level)
    crashpoints.arm()
    bus = KafkaBus(engines.kafka, client_id="handrail-notifier")
    redis = bootstrap.connect_redis(engines.redis_url.get_secret_value())
    pool = await connect_pool(engines.postgres_dsn.get_secret_value(), app="handrail-notifier", max_size=8)
    try:
        service = bootstrap.build(
            own,
            bus=bus,
            pool=pool,
            redis=redis,
            tenant=engines.tenant,
            origins=engines.origins(),
            channels=channels,
        )
        return await lifecycle.serve(Listening(service, own.host, own.port))
    finally:
        await bus.close()
        await redis.aclose()
        await pool.close()


if __name__ == "__main__":
    lifecycle.main(main)
