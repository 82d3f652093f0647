"""Memory that was freed goes back to the machine, and a process that has none left is told from input that takes too much.

glibc keeps what lies below the highest block in use. After large buffers were let go an orchestrator held 262 MB of heap with
28 MB of it in use; `malloc_trim` gives the pages back (malloc_trim(3), mallinfo2(3)).
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Iterator
from typing import ClassVar

import orjson
import structlog

_log = structlog.get_logger(__name__)
EVERY_S = 30.0
WORTH_BYTES = 32 * 1024 * 1024
ENOUGH_BYTES = 64 * 1024 * 1024
"""More than any one record or workflow takes in its making."""
_NO_BUFFER = "Not enough memory"
"""How orjson begins to say so, as if what it reads were no JSON."""


class _Mallinfo2(ctypes.Structure):
    """As in malloc.h: ten numbers, of which `fordblks` are the free bytes in the heap."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


class Heap:
    """The C library's heap, where that is glibc 2.33 or newer; `of_this_process` answers None elsewhere."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._info, self._trim = libc.mallinfo2, libc.malloc_trim
        self._info.restype = _Mallinfo2
        self._trim.argtypes = [ctypes.c_size_t]

    @classmethod
    def of_this_process(cls) -> Heap | None:
        """Finds it."""
        try:
            return cls(ctypes.CDLL(None))
        except (AttributeError, OSError, TypeError):
            return None

    def free_bytes(self) -> int:
        """What was freed and is kept."""
        return int(self._info().fordblks)

    def trim(self) -> None:
        """Gives whole pages back."""
        self._trim(0)


def ran_out(error: BaseException) -> bool:
    """Whether `error` says that this process has no memory left, and so nothing of what it was working on.

    Whoever sets bad input aside raises such an error on: the process ends, and another one meets the same input with memory.
    False also where there is memory enough: then it was the input that asked for too much.
    """
    if not any(_asked_in_vain(link) for link in _links(error)):  # asyncpg, for one, says that its argument is invalid
        return False
    try:
        bytearray(ENOUGH_BYTES)
    except MemoryError:
        return True
    return False


def _links(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, each once: one that was raised from itself has no end."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__


def _asked_in_vain(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (
        isinstance(error, orjson.JSONDecodeError) and error.msg.startswith(_NO_BUFFER)
    )


async def keep_small(heap: Heap | None, *, every_s: float = EVERY_S, worth_bytes: int = WORTH_BYTES) -> None:
    """Until it is cancelled: looks every `every_s` seconds and trims where more than `worth_bytes` are kept for nothing."""
    while heap is not None:
        await asyncio.sleep(every_s)
        kept = heap.free_bytes()
        if kept > worth_bytes:
            heap.trim()
            _log.debug("memory_given_back", kept=kept, left=heap.free_bytes())
