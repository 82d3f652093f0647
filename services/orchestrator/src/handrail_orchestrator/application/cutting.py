"""A row that is too large for the bus, as it goes out all the same: what is large in it is left to the journal.

No event is made as large as that (`Turn.emit`); journals from before may hold one, and a topic may be made narrower.
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from handrail_engine.payloads import stand_in
from handrail_runtime.ports import Outgoing

_LARGE, _DEEP = 4 * 1024, 4


def cut_down(message: Outgoing) -> Outgoing:
    """The record of an event with each large value in it replaced by `{"$ref", "bytes", "preview"}`, which leads to its row."""
    event = orjson.loads(message.value or b"{}")
    at = f"/workflows/{event['trace_id']}/journal?after={event['seq'] - 1}&limit=1"
    return message._replace(value=orjson.dumps(_cut(event, at, 0)))


def _cut(value: Any, at: str, depth: int) -> Any:
    """Objects and lists near the surface keep their shape, for whoever reads an event counts on it."""
    body = orjson.dumps(value)
    if len(body) <= _LARGE:
        return value
    if depth < _DEEP and isinstance(value, dict):
        return {k: _cut(v, at, depth + 1) for k, v in cast("dict[str, Any]", value).items()}
    if depth < _DEEP and isinstance(value, list):
        return [_cut(v, at, depth + 1) for v in cast("list[Any]", value)]
    return stand_in(at, body)
