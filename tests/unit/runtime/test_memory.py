"""Freed memory leaves the process, even below a block that stays."""

from __future__ import annotations

import asyncio
import ctypes
from pathlib import Path

import pytest

from handrail_runtime.memory import Heap, keep_small
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
