"""Valkey without Docker, and the stand-in for machines that it has no binary for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from tests.engines import refusal, running

from handrail.engines import valkey
from handrail.engines.errors import (
    EngineStartFailed,
)
from handrail.engines.valkey import LocalValkey


@pytest.fixture(params=["real", "stand-in"])
def valkey_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "stand-in":
        monkeypatch.setattr(valkey, "_program", lambda: None)
    return str(request.param)


async def test_valkey_has_what_the_view_needs(valkey_kind: str, tmp_path: Path) -> None:
    async with running(LocalValkey, tmp_path) as server, redis.asyncio.Redis.from_url(server.url) as client:
        assert server.real is (valkey_kind == "real")
        script = "redis.call('HSET', KEYS[1], 'n', ARGV[1]); return redis.call('XADD', KEYS[2], '7-0', 'k', 'v')"
        assert await client.eval(script, 2, "{t}h", "{t}s", 1) == b"7-0"
        assert await client.hgetall("{t}h") == {b"n": b"1"}
        assert [id_ for id_, _ in await client.xrange("{t}s")] == [b"7-0"]
        await server.flush()
        assert await client.dbsize() == 0


@pytest.mark.parametrize("mode", ["fast", "kill"])
async def test_valkey_restarts_on_the_same_address(valkey_kind: str, mode: Any, tmp_path: Path) -> None:
    async with running(LocalValkey, tmp_path) as server:
        url = server.url
        await server.restart(mode)
        assert server.url == url
        async with redis.asyncio.Redis.from_url(url) as client:
            assert await client.ping()


@pytest.mark.parametrize(("aof", "kept"), [(True, b"1"), (False, None)])
async def test_valkey_keeps_its_keys_only_when_asked_to(aof: bool, kept: bytes | None, tmp_path: Path) -> None:
    async with running(LocalValkey, tmp_path, aof=aof, port=0) as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.set("key", "1")
        await server.restart("kill")
        async with redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.get("key") == kept


async def test_valkey_tells_why_it_would_not_start(tmp_path: Path) -> None:
    line = await refusal(LocalValkey.start(tmp_path, settings={"no-such-setting": "1"}), EngineStartFailed)
    assert "Bad directive" in line


async def test_valkey_has_an_end_to_its_memory_and_forgets_what_nobody_reads(tmp_path: Path) -> None:
    async with running(LocalValkey, tmp_path) as server, redis.asyncio.Redis.from_url(server.url) as client:
        limits = await client.config_get("maxmemory*")
        assert (limits["maxmemory"], limits["maxmemory-policy"]) == ("268435456", "allkeys-lru")
