"""How fast the demo runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

QUICK_RETRIES: dict[str, Any] = {"retries": 3, "backoff": "fixed", "delay": "400ms", "jitter": False}
"""Three attempts that a watcher sees and that are over within seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`delay_ms` is what each task of the demo takes at least."""

    delay_ms: int

    async def breath(self) -> None:
        """Waits the delay."""
        if self.delay_ms:
            await asyncio.sleep(self.delay_ms / 1000)
