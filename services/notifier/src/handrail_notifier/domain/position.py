"""Where a client wants to go on, and what it gets: CONTRACT section 4, stream rules."""

from __future__ import annotations

import re
from dataclasses import dataclass

WINDOW = 1000
"""A position further behind the head than this many events is answered with a snapshot."""

_POSITION = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_DIGITS = re.compile(r"[1-9][0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Over:
    """The workflow has ended and the client has all of it: 204."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Send what follows `cursor`."""

    cursor: int


@dataclass(frozen=True, slots=True)
class Reset:
    """Say `reset` with this reason, then the snapshot, then go on behind it."""

    reason: str


Opening = Over | GoOn | Reset

MALFORMED = Reset("malformed-position")
AHEAD = Reset("ahead-of-stream")
BEHIND = Reset("too-far-behind")


def opening(position: str, head: int, *, ended: bool) -> Opening:
    """What a client that asks for `position` (as it came, unchecked) gets from a stream whose last event is `head`."""
    if _POSITION.fullmatch(position) is None:
        # A number too long to be one of ours is still a number: past the end of what is over there is nothing to say.
        if _DIGITS.fullmatch(position) is None:
            return MALFORMED
        return Over() if ended else AHEAD
    cursor = int(position)
    if cursor >= head and ended:
        return Over()
    if cursor > head:
        return AHEAD
    return GoOn(cursor) if head - cursor <= WINDOW else BEHIND
