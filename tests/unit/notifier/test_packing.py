"""Packed by hiredis or by the client itself: the same bytes, for every kind of connection."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import DataError

from handrail_notifier.adapters.packing import packed

URLS = ("redis://localhost:1", "rediss://localhost:1", "unix:///tmp/nobody.sock")
COMMANDS: tuple[tuple[Any, ...], ...] = (
    ("GET", "k"),
    ("CONFIG GET", "maxmemory"),
    (b"SCRIPT LOAD", b"return 1" * 2_000),
    ("EVALSHA", "a" * 40, 2, "k", "\u00e9", b"\x00\xff\r\n", 1, -5, 1.5, b"", ""),
    ("SET", memoryview(b"abc"), bytearray(b"q")),
)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: str(c[0]))
def test_the_bytes_are_those_of_the_client(url: str, command: tuple[Any, ...]) -> None:
    plain = Redis.from_url(url).connection_pool.make_connection()
    ours = packed(Redis.from_url(url)).connection_pool.make_connection()
    assert isinstance(ours, type(plain))
    assert b"".join(ours.pack_command(*command)) == b"".join(plain.pack_command(*command))
    assert b"".join(ours.pack_commands([command] * 3)) == b"".join(plain.pack_commands([command] * 3))


@pytest.mark.parametrize("wrong", [None, True, object()])
def test_what_is_no_argument_is_refused(wrong: object) -> None:
    connection: Any = packed(Redis.from_url(URLS[0])).connection_pool.make_connection()
    with pytest.raises(DataError):
        connection.pack_command("SET", "k", wrong)
