"""The helpers that other tests trust."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from handrail_runtime.testing import TcpProxy, wait_until


async def test_waiting_ends_with_the_first_true_answer_plain_or_awaited() -> None:
    answers = iter([0, "", None, 7])
    assert await wait_until(lambda: next(answers), description="seven") == 7
    asked = 0

    async def third() -> bool:
        nonlocal asked
        asked += 1
        return asked == 3

    assert await wait_until(third, description="the third time") is True


async def test_waiting_in_vain_names_what_was_expected_and_the_last_answer() -> None:
    with pytest.raises(AssertionError, match=r"Expected a wonder within 0.05 s, but the last answer was \[\]"):
        await wait_until(list, description="a wonder", timeout_s=0.05)


async def test_what_the_condition_raises_passes_through() -> None:
    def broken() -> bool:
        raise LookupError("x")

    with pytest.raises(LookupError):
        await wait_until(broken, description="anything")


@asynccontextmanager
async def _echo() -> AsyncGenerator[TcpProxy]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with TcpProxy("127.0.0.1", server.sockets[0].getsockname()[1], seed=1) as proxy:
        yield proxy
    server.close()


async def _say(link: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> bytes:
    reader, writer = link
    writer.write(data)
    await writer.drain()
    return await reader.readexactly(len(data))


async def test_a_healthy_proxy_passes_everything_both_ways() -> None:
    async with _echo() as proxy:
        link = await asyncio.open_connection(proxy.host, proxy.port)
        big = bytes(range(256)) * 2000
        reading = asyncio.create_task(link[0].readexactly(len(big)))
        link[1].write(big)
        assert await reading == big
        assert proxy.accepted == proxy.answered == 1
        link[1].close()


async def test_a_cut_is_felt_by_the_client_and_the_next_connection_works() -> None:
    async with _echo() as proxy:
        link = await asyncio.open_connection(proxy.host, proxy.port)
        await wait_until(lambda: proxy.accepted == 1, description="the connection is accepted")
        assert proxy.answered == 0
        assert await _say(link, b"a") == b"a"
        assert proxy.answered == 1
        assert await proxy.cut() == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await _say(link, b"b")
        again = await asyncio.open_connection(proxy.host, proxy.port)
        assert await _say(again, b"c") == b"c"
        again[1].close()


async def test_a_black_hole_swallows_one_direction_only() -> None:
    async with _echo() as proxy:
        link = await asyncio.open_connection(proxy.host, proxy.port)
        assert await _say(link, b"a") == b"a"
        proxy.down.black_hole = True
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_say(link, b"b"), 1.0)
        proxy.down.black_hole = False
        assert await _say(link, b"c") == b"c"
        link[1].close()


async def test_a_connection_may_be_cut_in_the_middle_of_an_answer() -> None:
    async with _echo() as proxy:
        proxy.down.limit_bytes = 3
        link = await asyncio.open_connection(proxy.host, proxy.port)
        link[1].write(b"abcdef")
        try:
            got = await link[0].read()
        except ConnectionError:
            got = b""
        assert b"abc".startswith(got)


async def test_delay_holds_bytes_back() -> None:
    async with _echo() as proxy:
        link = await asyncio.open_connection(proxy.host, proxy.port)
        proxy.up.delay_s = 0.2
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await _say(link, b"a") == b"a"
        assert loop.time() - began >= 0.2
        link[1].close()


async def test_stopped_refusing_and_started_again_on_the_same_port() -> None:
    async with _echo() as proxy:
        port = proxy.port
        proxy.refusing = True
        link = await asyncio.open_connection(proxy.host, port)
        assert await link[0].read() == b""
        proxy.refusing = False
        await proxy.stop()
        await proxy.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection(proxy.host, port)
        await proxy.start()
        assert proxy.port == port
        link = await asyncio.open_connection(proxy.host, port)
        assert await _say(link, b"a") == b"a"
        link[1].close()
