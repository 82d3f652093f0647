"""Memory that was freed goes back to the machine.

glibc keeps what lies below the highest block in use. After large buffers were let go an orchestrator held 262 MB of heap with
28 MB of it in use; `malloc_trim` gives the pages back (malloc_trim(3), mallinfo2(3)).
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import ClassVar

import structlog

_log = structlog.get_logger(__name__)
EVERY_S = 30.0
WORTH_BYTES = 32 * 1024 * 1024


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


async def keep_small(heap: Heap | None, *, every_s: float = EVERY_S, worth_bytes: int = WORTH_BYTES) -> None:
    """Until it is cancelled: looks every `every_s` seconds and trims where more than `worth_bytes` are kept for nothing."""
    while heap is not None:
        await asyncio.sleep(every_s)
        kept = heap.free_bytes()
        if kept > worth_bytes:
            heap.trim()
            _log.debug("memory_given_back", kept=kept, left=heap.free_bytes())
