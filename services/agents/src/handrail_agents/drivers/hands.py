"""What a driver gives task records to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from handrail_runtime.ports import Record


class Hands(Protocol):
    """Takes records as fast as there is room."""

    @property
    def room(self) -> int:
        """How many records may be offered now."""
        ...

    async def wait_for_room(self) -> None:
        """Returns when there is room."""
        ...

    def offer(self, record: Record, taken: Callable[[], None]) -> None:
        """Takes a record; never raises, never waits. Calls `taken` once it may be acknowledged."""
        ...
