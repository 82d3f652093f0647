"""Freed memory leaves the process, even below a block that stays."""

from __future__ import annotations

import asyncio
import ctypes
from pathlib import Path

import orjson
import pytest

from handrail_runtime import memory
from handrail_runtime.memory import Heap, keep_small, ran_out
from handrail_runtime.testing import wait_until

needs_glibc = pytest.mark.skipif(Heap.of_this_process() is None, reason="no glibc here")
MIB = 1024 * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@needs_glibc
async def test_what_lies_below_a_block_in_use_is_given_back() -> None:
    heap = Heap.of_this_process()
    assert heap is not None
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    blocks = [libc.malloc(64 * 1024) for _ in range(1600)]
    for block in blocks:
        ctypes.memset(block, 1, 64 * 1024)
    pin = libc.malloc(64 * 1024)
    for block in blocks:
        libc.free(block)
    try:
        assert heap.free_bytes() > 64 * MIB
        before = _resident()
        keeping = asyncio.create_task(keep_small(heap, every_s=0.01))
        await wait_until(lambda: _resident() < before - 64 * MIB, description="the pages are gone")
        keeping.cancel()
    finally:
        libc.free(pin)


async def test_without_such_a_heap_there_is_nothing_to_do() -> None:
    await asyncio.wait_for(keep_small(None), 10)


def test_only_a_process_without_memory_has_run_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ran_out(MemoryError("an input that asks for too much"))
    assert not ran_out(ValueError())
    monkeypatch.setattr(memory, "ENOUGH_BYTES", 2**62)  # as if there were none
    assert ran_out(MemoryError())
    assert not ran_out(ValueError())
    with pytest.raises(orjson.JSONDecodeError) as no_json:
        orjson.loads(b"{")
    assert not ran_out(no_json.value)
    # as an orchestrator met it under RLIMIT_AS
    with pytest.raises(ValueError, match="invalid input") as wrapped:
        try:
            raise MemoryError
        except MemoryError:
            raise ValueError("invalid input for query argument $10")  # noqa: B904  as asyncpg does
    assert ran_out(wrapped.value)
    itself = ValueError()
    itself.__cause__ = itself  # what `raise translated(e) from e` makes of an error that stays as it is
    assert not ran_out(itself)
    assert ran_out(orjson.JSONDecodeError("Not enough memory to allocate buffer for parsing", "", 0))
