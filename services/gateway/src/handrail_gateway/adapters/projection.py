"""Snapshots that the notifier has folded into Redis. Redis is a view: any trouble with it means that there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from handrail_contracts.live import state_json, view_key

_PATIENCE_S = 0.5

_log = structlog.get_logger(__name__)


class RedisProjection:
    """The `Projection` port. The client must not decode responses."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def state(self, tenant: str, trace_id: str) -> dict[str, Any] | None:
        """See the port."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                fields = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(view_key(tenant, trace_id)))
            encoded = state_json(fields)
            return None if encoded is None else orjson.loads(encoded)
        except (RedisError, OSError, TimeoutError, ValueError, KeyError) as e:
            _log.info("projection_missed", kind=type(e).__name__)
            return None

    async def close(self) -> None:
        """Lets go of the connections. Idempotent."""
        await self._redis.aclose()
