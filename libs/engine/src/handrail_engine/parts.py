"""Long lists are told in parts: at most 200 items, and never more than an event may carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from handrail_contracts.events import NODES_PER_EVENT

PART_BYTES = 160 * 1024
"""So much of ids goes into one event at most, well below the 256 KiB that an event may have."""
_Item = TypeVar("_Item")


def parts(items: Iterable[_Item], bytes_of: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """The items in order, in lists that fit into one event: at most 200, and no more bytes than an event may carry."""
    part: list[_Item] = []
    room = PART_BYTES
    for item in items:
        size = bytes_of(item)
        if part and (len(part) == NODES_PER_EVENT or size > room):
            yield part
            part, room = [], PART_BYTES
        part.append(item)
        room -= size
    if part:
        yield part


def edge_bytes(ids: Iterable[str]) -> int:
    """How many bytes these ids take in the JSON of an event."""
    return sum(len(i.encode()) + i.count('"') + i.count("\\") + 3 for i in ids)
