"""A task record becomes a task, or belongs into quarantine."""

from __future__ import annotations

import math
from typing import NamedTuple

from handrail_contracts.codec import Undecodable, decode
from handrail_contracts.model import ms_of
from handrail_contracts.tasks import Task
from handrail_runtime.ports import Record

_MOST = 2**31 - 1
_KEY_BYTES = 2_000
"""What an index of PostgreSQL takes, with room to spare."""


class Order(NamedTuple):
    """A task as read, with its bound for starting (milliseconds since 1970 UTC)."""

    task: Task
    start_before_ms: int


def read(record: Record) -> Order:
    """The task of a record. Raises Undecodable for anything that could not be worked on."""
    _, task = decode(record.topic, record.headers, record.value)
    if not isinstance(task, Task):
        raise Undecodable(f"Expected a task topic, but the record came from {record.topic!r}.")
    if not 1 <= task.attempt <= _MOST:
        raise Undecodable(f"Expected an attempt from 1 to {_MOST}, but it is {task.attempt}.")
    for key in (task.effect_key, task.do_key or ""):
        if "\0" in key or len(key.encode()) > _KEY_BYTES:
            raise Undecodable(f"Expected keys of at most {_KEY_BYTES} bytes without NUL, but one is not.")
    if not (0 < task.lease_s < math.inf and 0 < task.start_to_close_s < math.inf):
        raise Undecodable("Expected lease_s and start_to_close_s above 0, but one is not.")
    try:
        return Order(task, ms_of(task.start_before))
    except (ValueError, OverflowError) as e:
        raise Undecodable("Expected start_before as RFC 3339 with a zone, but it is not.") from e
