"""Runs a task in a test, without a broker: the same validation, the same failures, a context that you may set."""

from __future__ import annotations

import itertools
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from handrail_contracts.model import Json
from handrail_sdk.context import Context
from handrail_sdk.task import TaskDefinition

_numbers = itertools.count(1)


def context(task: TaskDefinition[Any], *, undoing: bool = False, **fields: Any) -> Context:
    """A context as the runtime would make it: attempt 1 of 3, in a workflow of its own. `fields` replace single ones."""
    trace_id = fields.pop("trace_id", f"test-{next(_numbers)}")
    node_id = fields.pop("node_id", task.action)
    tenant = fields.pop("tenant", "default")
    do_key = f"{tenant}/{trace_id}/{node_id}/0"
    made: dict[str, Any] = {
        "tenant": tenant,
        "trace_id": trace_id,
        "node_id": node_id,
        "agent": task.agent.name,
        "action": task.action,
        "attempt": 1,
        "max_attempts": 3,
        "effect_key": f"{do_key}/undo/0" if undoing else do_key,
        "do_key": do_key if undoing else None,
        **fields,
    }
    return Context(**made)


async def call(task: TaskDefinition[Any], inputs: Any = None, ctx: Context | None = None, **fields: Any) -> Json:
    """Runs the task once and gives its output as the workflow would see it (JSON-able). `fields` set the context's.

    Raises what the runtime would see: Fail, Escalated, Proposed, or the task's own exception (which would mean doubt).
    """
    return await task.run(_plain(inputs), ctx or context(task, **fields))


async def undo(
    task: TaskDefinition[Any], inputs: Any = None, output: Any = None, ctx: Context | None = None, **fields: Any
) -> Json:
    """Runs the task's compensation once. `output` None: it is unknown whether and how the task ended."""
    given = output.model_dump(mode="json", by_alias=True) if isinstance(output, BaseModel) else output
    return await task.undo(_plain(inputs), given, ctx or context(task, undoing=True, **fields))


async def look_up(task: TaskDefinition[Any], inputs: Any = None, ctx: Context | None = None, **fields: Any) -> Json:
    """Runs the task's look-up once. Raises Fail with the code NOT_FOUND when the effect did not happen."""
    return await task.look_up(_plain(inputs), ctx or context(task, **fields))


def _plain(inputs: Any) -> dict[str, Any]:
    if inputs is None:
        return {}
    if isinstance(inputs, BaseModel):
        return inputs.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return to_jsonable_python(inputs)
