"""The ring of one watched workflow: its view folded up to `head`, and the newest frames, encoded once.

Clients are cursors on it and own nothing: whoever is slow loses his place, not our memory. Promise: a cursor that only
ever takes what `after` gives it sees every `seq` once, rising, without a hole, or is told to reset.

The frames of `base + 1` to `head` are here. The window promised to clients (`WINDOW` events) may reach further back
than `base` when frames are large or were not loaded: such a cursor is `Cold` and is served from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from handrail_contracts.view import WorkflowView
from handrail_notifier.domain.position import WINDOW
from handrail_notifier.domain.window import Cold, Piece, Window

MAX_RING_BYTES = 8 * 1024 * 1024


class Offered(Enum):
    """What became of an event that came from the bus or the journal."""

    TAKEN = auto()
    DUPLICATE = auto()
    GAP = auto()


@dataclass(frozen=True, slots=True)
class Lost:
    """This cursor is further behind than the window: reset."""


class Ring:
    """See the module. `view` may stand anywhere; `frames` are those of the last `len(frames)` events up to it."""

    __slots__ = ("_window", "view")

    def __init__(
        self, view: WorkflowView, frames: list[bytes] | None = None, *, max_bytes: int = MAX_RING_BYTES
    ) -> None:
        self.view = view
        self._window = Window(view.cursor, frames or [], max_frames=WINDOW, max_bytes=max_bytes)

    @property
    def head(self) -> int:
        """The `seq` of the newest event."""
        return self.view.cursor

    @property
    def base(self) -> int:
        """The cursor before the oldest frame that is here."""
        return self._window.base

    @property
    def ended(self) -> bool:
        """True once the terminal event is in."""
        return self.view.ended

    @property
    def size_bytes(self) -> int:
        """What the frames hold."""
        return self._window.size_bytes

    def judge(self, seq: int) -> Offered:
        """What `take` or `fold` would do with this `seq`."""
        head = self.view.cursor
        if seq == head + 1:
            return Offered.TAKEN
        return Offered.DUPLICATE if seq <= head else Offered.GAP

    def take(self, event: Mapping[str, Any], frame: bytes) -> Offered:
        """Folds the next event in and keeps its frame. A duplicate or a gap changes nothing. Raises as
        `WorkflowView.apply` does; the ring is to be thrown away then."""
        verdict = self.judge(event["seq"])
        if verdict is Offered.TAKEN:
            self.view.apply(event)
            self._window.push(frame)
        return verdict

    def fold(self, event: Mapping[str, Any]) -> Offered:
        """As `take` for an old event whose frame nobody will want: the frames begin behind it."""
        verdict = self.judge(event["seq"])
        if verdict is Offered.TAKEN:
            self.view.apply(event)
            self._window.skip()
        return verdict

    def after(self, cursor: int) -> Piece | Cold | Lost | None:
        """What follows a cursor; None at the head. The same piece object for all clients at that cursor."""
        found = self._window.after(cursor)
        return Lost() if type(found) is Cold and self.view.cursor - cursor > WINDOW else found

    def frames_after(self, cursor: int) -> list[bytes] | None:
        """The frames that follow a cursor, one by one; None where they are not all here."""
        return self._window.frames_after(cursor)
