"""Attempts for tests of what handles them."""

from __future__ import annotations

import time
from typing import Any

from handrail_agents.runtime.attempt import Attempt, Stage
from handrail_contracts.tasks import Task
from handrail_sdk.agent import Agent

agent = Agent("tester")


@agent.task()
async def act(inputs: dict[str, Any]) -> Any:
    return inputs


def task(key: str = "default/t/n/0", **fields: Any) -> Task:
    """A task of the tester."""
    given: dict[str, Any] = {
        "trace_id": "t",
        "node_id": "n",
        "agent": "tester",
        "action": "act",
        "attempt": 1,
        "max_attempts": 3,
        "effect_key": key,
        "effect_class": "idempotent",
        "start_before": "2026-11-21T12:00:00Z",
        **fields,
    }
    return Task(**given)


def attempt(*, running: bool = False, definition: Any = act, taken: list[str] | None = None, **fields: Any) -> Attempt:
    """An attempt, as `offer` makes it, or as it stands when its function has begun. `taken` gets its key at hand-off."""
    made = task(**fields)
    a = Attempt(
        made,
        0,
        definition,
        lambda: taken.append(made.effect_key) if taken is not None else None,
        lambda *_: None,
    )
    if running:
        a.stage, a.started_at = Stage.RUNNING, time.monotonic()
    return a
