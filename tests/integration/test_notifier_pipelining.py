"""Many commands in one go: what is answered, and what becomes of a connection whose answers do not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import DataError, NoScriptError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

from handrail.engines.valkey import LocalValkey
from handrail_notifier.adapters.packing import packed
from handrail_notifier.adapters.pipelining import answers

TIMEOUT_S = 2.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
INCR = [["INCR", "n"]] * 4


@pytest_asyncio.fixture(loop_scope="session")
async def redis(tmp_path: Path) -> AsyncGenerator[Redis]:
    server = await LocalValkey.start(tmp_path)
    async with packed(Redis.from_url(server.url, socket_timeout=TIMEOUT_S)) as client:
        yield client
    await server.stop()


async def test_refusals_stand_among_the_answers_in_order(redis: Redis) -> None:
    script = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    sha = str(await redis.script_load(script))
    commands = [
        ["EVALSHA", sha, 1, "n", 2],
        ["EVALSHA", "0" * 40, 1, "n", 2],
        ["LPUSH", "n", "x"],
        ["EVALSHA", sha, 1, "n", "three"],
        *[["EVALSHA", sha, 1, "n", 1]] * 500,
    ]
    first, unknown, wrong, refused, *rest = await answers(redis, commands)
    assert (first, rest) == (2, list(range(3, 503)))
    assert isinstance(unknown, NoScriptError)
    assert all(isinstance(e, ResponseError) for e in (wrong, refused))
    assert await answers(redis, []) == []


async def test_what_is_no_argument_is_refused_and_nothing_is_sent(redis: Redis) -> None:
    with pytest.raises(DataError):
        await answers(redis, [["SET", "k", "v"], ["SET", "k", None]])
    assert await redis.exists("k") == 0


async def served(talk: Talk) -> tuple[asyncio.Server, Redis]:
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    quiet: Any = {"lib_name": None, "lib_version": None}  # says nothing of itself when it connects
    client = Redis.from_url(f"redis://127.0.0.1:{port}", protocol=2, socket_timeout=TIMEOUT_S, **quiet)
    return server, packed(client)


async def asked(reader: asyncio.StreamReader) -> None:
    """Reads what `INCR` sends."""
    for _ in INCR:
        await reader.readuntil(b"n\r\n")


async def test_slow_answers_have_the_timeout_each() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        for i in range(4):
            await asyncio.sleep(TIMEOUT_S * 0.4)
            writer.write(b":%d\r\n" % i)
        writer.close()

    server, client = await served(slowly)
    async with server, client:
        assert await answers(client, INCR) == [0, 1, 2, 3]


async def test_a_connection_that_gave_too_few_answers_is_closed() -> None:
    calls = 0

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await asked(reader)
        writer.write(b":1\r\n:2\r\n" if calls == 1 else b":7\r\n:7\r\n:7\r\n:7\r\n")
        await reader.read()
        writer.close()

    server, client = await served(half)
    async with server, client:
        with pytest.raises(NoAnswer):
            await answers(client, INCR)
        assert await answers(client, INCR) == [7, 7, 7, 7]
    assert calls == 2


async def test_whoever_stops_waiting_leaves_no_answers_to_the_next() -> None:
    sent = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        if sent.is_set():
            writer.write(b":7\r\n" * len(INCR))
        sent.set()
        await reader.read()
        writer.close()

    server, client = await served(late)
    async with server, client:
        waiting = asyncio.create_task(answers(client, INCR))
        await sent.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await answers(client, INCR) == [7, 7, 7, 7]


async def test_a_server_that_goes_is_told_as_a_lost_connection() -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b":1\r\n")
        writer.close()

    server, client = await served(leave)
    async with server, client:
        with pytest.raises(Gone):
            await answers(client, INCR)
