"""What the use cases need of the bus: a way to nudge owners, and one to put records back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from handrail_gateway.application.ports import Command


class Nudges(Protocol):
    """Tells owners that there are commands. Best effort: never blocks, never raises."""

    def nudge(self, commands: Sequence[Command]) -> None:
        """Sends soon, with others; drops when too much waits (the owner polls)."""
        ...


class Requeue(Protocol):
    """Puts records back onto their topics."""

    async def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """Sends one record and waits for its acknowledgement. Raises Unavailable."""
        ...
