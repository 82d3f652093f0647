"""Tickets in Redis, shared by all replicas: gone with a flush, then the page simply orders another."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError

from handrail_notifier.application.ports import Unavailable

PREFIX = "handrail:ticket:"
AT_ONCE = 8
"""A herd waits its turn here: with more at once the pool of connections, which all share, would refuse."""


class RedisTickets:
    """Implements `application.tickets.TicketStore`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def put(self, digest: str, grant: str, lifetime_s: float) -> None:
        """As the port says."""
        try:
            async with self._turns:
                await self._redis.set(PREFIX + digest, grant, px=max(1, round(lifetime_s * 1000)))
        except RedisError as e:
            raise Unavailable(f"Expected Redis to answer, but: {type(e).__name__}.") from e

    async def take(self, digest: str) -> str | None:
        """As the port says."""
        try:
            async with self._turns:
                found = await self._redis.getdel(PREFIX + digest)
        except RedisError as e:
            raise Unavailable(f"Expected Redis to answer, but: {type(e).__name__}.") from e
        return found.decode() if isinstance(found, bytes) else found
