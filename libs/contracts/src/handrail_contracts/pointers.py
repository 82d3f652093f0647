"""JSON pointers, by which every problem says where a fault is (RFC 6901)."""

from __future__ import annotations


def escaped(part: object) -> str:
    """A member's name, or an item's place, as a part of a pointer."""
    return str(part).replace("~", "~0").replace("/", "~1")
