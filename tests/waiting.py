"""Waiting for a condition, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any


async def wait_until(
    condition: Callable[[], object | Awaitable[object]], *, description: str, timeout_s: float = 30.0
) -> None:
    """Return when `condition` (plain or async) answers true; fail with `description` after `timeout_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert loop.time() < deadline, f"Expected within {timeout_s:g} s: {description}"
        await asyncio.sleep(0.02)


def nothing_moves(state: dict[str, Any]) -> bool:
    """Whether no step is under way in a workflow's state: while one waits for a person, those of other branches may be."""
    return not any(n["state"] in ("SCHEDULED", "IN_PROGRESS") for n in state["nodes"])
