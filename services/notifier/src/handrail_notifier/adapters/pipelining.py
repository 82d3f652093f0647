"""Many scripts in one go. The client's own pipeline makes a timeout and five coroutines for each answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as NoAnswer

_ARMED_ANEW = 20
"""So many times in `socket_timeout` at most: each time costs as much as reading two answers."""


async def answers(client: Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """What Redis says to each command, what it refuses as a ResponseError in its place. No command may answer nil.

    As in the client's pipeline, Redis has `socket_timeout` for each answer (here less a twentieth), and a connection that
    gave none is closed. Raises RedisError.
    """
    pool: Any = client.connection_pool
    connection = await pool.get_connection()
    try:
        await connection.send_packed_command([part for c in commands for part in connection.pack_command(*c)])
        return await _read(connection, len(commands))
    finally:
        await pool.release(connection)


async def _read(connection: Any, count: int) -> list[Any]:
    found: list[Any] = []
    timeout_s, now = connection.socket_timeout, asyncio.get_running_loop().time
    armed = now()
    try:
        async with asyncio.timeout(timeout_s) as limit:
            while len(found) < count:
                try:
                    answer = await connection.read_response(timeout=math.inf)
                except ResponseError as e:
                    answer = e
                if answer is None:  # asked without a timeout, the client makes this of the kernel's ETIMEDOUT
                    raise TimeoutError
                found.append(answer)
                if timeout_s is not None and now() - armed > timeout_s / _ARMED_ANEW:
                    armed = now()
                    limit.reschedule(armed + timeout_s)
    except TimeoutError as e:
        await connection.disconnect(nowait=True)
        raise NoAnswer("Expected an answer from Redis, but none came in time.") from e
    return found
