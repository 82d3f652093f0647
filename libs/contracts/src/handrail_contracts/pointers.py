"""JSON pointers, by which every problem says where a fault is (RFC 6901)."""

from __future__ import annotations

from typing import TypeAlias

from handrail_contracts.problems import QUOTE_CHARS

Trail: TypeAlias = "tuple[Trail, object] | None"
"""How a walk came to a value: the trail of what holds it, and its name or place in there; None at the top. A walk keeps this of
each value and makes a pointer of the few that it tells of: names are a stranger's, and as long as he likes."""


def escaped(part: object) -> str:
    """A member's name, or an item's place, as a part of a pointer."""
    return str(part).replace("~", "~0").replace("/", "~1")


def told(part: object) -> str:
    """The same for a problem: no more of a name than is quoted of any input."""
    name = str(part)
    return escaped(name if len(name) <= QUOTE_CHARS else f"{name[:QUOTE_CHARS]}…")


def told_of(trail: Trail, at: str = "") -> str:
    """The pointer of a trail; `at` leads to where the walk began."""
    parts: list[str] = []
    while trail is not None:
        trail, part = trail
        parts.append(told(part))
    return "/".join([at, *reversed(parts)])
