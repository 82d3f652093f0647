"""The live view in Redis (layout: `handrail_contracts.live`), written by two scripts that keep `seq` dense.

One script per event, pipelined: `seq <= last` is a duplicate, `seq = last + 1` is written, anything else is a gap and
changes nothing. The other replaces a whole workflow, if that raises `seq`. Both may be repeated without harm, so a
batch whose answer was lost is simply sent again. A script that fails has written nothing: what can be refused
(XADD, by an id that is not newer or by a full memory) comes first.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from handrail_contracts.live import (
    ENDED_TTL_S,
    EPOCH_KEY,
    STREAM_EVENTS,
    Delta,
    state_json,
    stream_key,
    view_key,
)
from handrail_notifier.adapters.pipelining import answers
from handrail_notifier.application.ports import Key, Row, Snapshot, Unavailable, Write, Written

# Events that follow each other, and what all of them change. Answers how many of them were there already, -1 for a gap.
# KEYS view, stream; ARGV first seq, ttl (0: none), how many events, how many fields, event_type, event, …, field, value, …,
# removed field, …
_EVENTS = """
local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
local first, count, fields = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
if first > last + 1 then return -1 end
local known = last + 1 - first
if known >= count then return count end
for i = known, count - 1 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', %(max)d, (first + i) .. '-0', 't', ARGV[5 + 2 * i], 'd', ARGV[6 + 2 * i])
end
local from = 5 + 2 * count
local upto = from - 1 + 2 * fields
for i = from, upto, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, upto)))
end
redis.call('HSET', KEYS[1], 'seq', string.format('%%d', first + count - 1))
if #ARGV > upto then redis.call('HDEL', KEYS[1], unpack(ARGV, upto + 1)) end
if ARGV[2] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return known
"""
# KEYS view, stream; ARGV seq, ttl, how many fields, field, value, …, seq, event_type, event, …
_REBUILD = """
local last = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
if tonumber(ARGV[1]) <= last then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
local upto = 3 + 2 * tonumber(ARGV[3])
for i = 4, upto, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 999, upto)))
end
redis.call('HSET', KEYS[1], 'seq', ARGV[1])
for i = upto + 1, #ARGV, 3 do
  redis.call('XADD', KEYS[2], ARGV[i] .. '-0', 't', ARGV[i + 1], 'd', ARGV[i + 2])
end
if ARGV[2] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return 1
"""
_SCRIPTS = (_EVENTS.replace("%(max)d", str(STREAM_EVENTS)).replace("%%", "%"), _REBUILD)
_READ_TOGETHER = 16


async def read_state(redis: Redis, tenant: str, trace_id: str) -> bytes | None:
    """The state of a workflow as JSON, without `history`, by one HGETALL; None where Redis has none. Raises RedisError."""
    fields = await cast("Awaitable[dict[bytes, bytes]]", redis.hgetall(view_key(tenant, trace_id)))
    return state_json(fields)


class RedisView:
    """Implements `ports.LiveStore`. The client must not decode responses and should have socket timeouts."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sha: tuple[str, str] | None = None

    async def hashes(self, keys: Sequence[Key]) -> list[Mapping[bytes, bytes]]:
        """As the port says."""
        found: list[Mapping[bytes, bytes]] = []
        try:
            for begin in range(0, len(keys), _READ_TOGETHER):
                pipe = self._redis.pipeline(transaction=False)
                for key in keys[begin : begin + _READ_TOGETHER]:
                    pipe.hgetall(view_key(*key))
                found += await pipe.execute()
        except RedisError as e:
            raise _unavailable(e) from e
        return found

    async def snapshots(self, keys: Sequence[Key]) -> list[Snapshot]:
        """As the port says."""
        found: list[Snapshot] = []
        try:
            for begin in range(0, len(keys), _READ_TOGETHER):
                pipe = self._redis.pipeline(transaction=True)
                for key in keys[begin : begin + _READ_TOGETHER]:
                    pipe.hgetall(view_key(*key))
                    pipe.xrevrange(stream_key(*key), count=STREAM_EVENTS)
                answers = await pipe.execute()
                found += [
                    Snapshot(fields, [_row(entry) for entry in reversed(entries)])
                    for fields, entries in zip(answers[::2], answers[1::2], strict=True)
                ]
        except RedisError as e:
            raise _unavailable(e) from e
        return found

    async def write(self, writes: Sequence[Write]) -> list[int | None]:
        """As the port says."""
        try:
            answers = await self._run(writes)
            if any(isinstance(answer, NoScriptError) for answer in answers):
                self._sha = None
                answers = await self._run(writes)
        except RedisError as e:
            raise _unavailable(e) from e
        return [_known(answer) for answer in answers]

    async def rebuild(self, key: Key, whole: Delta, newest: Sequence[Row]) -> Written:
        """As the port says."""
        args: list[str | bytes | int] = [whole.seq, ENDED_TTL_S if whole.ended else 0, len(whole.fields)]
        for name, value in whole.fields.items():
            args += (name, value)
        for row in newest:
            args += (row.seq, row.type, row.data)
        try:
            sha = (await self._load())[1]
            try:
                answer = await self._evalsha(sha, key, args)
            except NoScriptError:
                self._sha = None
                answer = await self._evalsha((await self._load())[1], key, args)
        except RedisError as e:
            raise _unavailable(e) from e
        return Written(answer)

    async def epoch(self) -> str:
        """As the port says."""
        try:
            mark: Any = await self._redis.get(EPOCH_KEY)
            if mark is None:
                await self._redis.set(EPOCH_KEY, secrets.token_hex(8), nx=True)
                mark = await self._redis.get(EPOCH_KEY)
        except RedisError as e:
            raise _unavailable(e) from e
        return (mark or b"").decode()

    async def _evalsha(self, sha: str, key: Key, args: Sequence[str | bytes | int]) -> int:
        names = view_key(*key), stream_key(*key)
        return await cast("Awaitable[int]", self._redis.evalsha(sha, 2, *names, *args))  # pyright: ignore[reportArgumentType]  the stub says str, bytes and int are sent as well

    async def _run(self, writes: Sequence[Write]) -> list[Any]:
        sha = (await self._load())[0]
        commands: list[list[Any]] = []
        for key, rows, delta in writes:
            args: list[Any] = ["EVALSHA", sha, 2, view_key(*key), stream_key(*key)]
            args += (rows[0].seq, ENDED_TTL_S if delta.ended else 0, len(rows), len(delta.fields))
            for row in rows:
                args += (row.type, row.data)
            for name, value in delta.fields.items():
                args += (name, value)
            args += delta.removed
            commands.append(args)
        return await answers(self._redis, commands)

    async def _load(self) -> tuple[str, str]:
        if self._sha is None:
            one, two = [str(await self._redis.script_load(script)) for script in _SCRIPTS]
            self._sha = (one, two)
        return self._sha


def _known(answer: Any) -> int | None:
    """How many events of a write were there already; None where the workflow has to be replaced."""
    if not isinstance(answer, RedisError):
        return None if answer < 0 else answer
    if isinstance(answer, ResponseError) and not isinstance(answer, (OutOfMemoryError, ReadOnlyError)):
        return None  # what lies there is not what we wrote
    raise _unavailable(answer) from answer


def _row(entry: tuple[bytes, dict[bytes, bytes]]) -> Row:
    entry_id, fields = entry
    return Row(int(entry_id.partition(b"-")[0]), fields[b"t"].decode(), fields[b"d"])


def _unavailable(e: Exception) -> Unavailable:
    return Unavailable(f"Expected Redis to answer, but: {type(e).__name__}.")
