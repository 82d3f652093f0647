"""The ring of one watched workflow: its view folded up to `head`, and the newest frames, encoded once.

Clients are cursors on it and own nothing: whoever is slow loses his place, not our memory. Promise: a cursor that only
ever takes what `after` gives it sees every `seq` once, rising, without a hole, or is told to reset.

The frames of `base + 1` to `head` are here. The window promised to clients (`WINDOW` events) may reach further back
than `base` when frames are large or were not loaded: such a cursor is `Cold` and is served from the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from handrail_contracts.view import WorkflowView
from handrail_notifier.domain.position import WINDOW

MAX_RING_BYTES = 8 * 1024 * 1024
MAX_PIECE_BYTES = 64 * 1024
"""A piece is at most this long, or one frame: what one client may have waiting in its send buffer."""
_PIECES = 32


class Offered(Enum):
    """What became of an event that came from the bus or the journal."""

    TAKEN = auto()
    DUPLICATE = auto()
    GAP = auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames that follow a cursor, joined; `cursor` is the position after them."""

    body: bytes
    cursor: int


@dataclass(frozen=True, slots=True)
class Cold:
    """The frames after this cursor are in the journal only."""


@dataclass(frozen=True, slots=True)
class Lost:
    """This cursor is further behind than the window: reset."""


class Ring:
    """See the module. `view` may stand anywhere; `frames` are those of the last `len(frames)` events up to it."""

    __slots__ = ("_bytes", "_frames", "_max_bytes", "_pieces", "view")

    def __init__(
        self, view: WorkflowView, frames: list[bytes] | None = None, *, max_bytes: int = MAX_RING_BYTES
    ) -> None:
        self.view = view
        self._frames: deque[bytes] = deque(frames or ())
        self._bytes = sum(map(len, self._frames))
        self._max_bytes = max_bytes
        self._pieces: dict[int, Piece] = {}
        self._trim()

    @property
    def head(self) -> int:
        """The `seq` of the newest event."""
        return self.view.cursor

    @property
    def base(self) -> int:
        """The cursor before the oldest frame that is here."""
        return self.view.cursor - len(self._frames)

    @property
    def ended(self) -> bool:
        """True once the terminal event is in."""
        return self.view.ended

    @property
    def size_bytes(self) -> int:
        """What the frames hold."""
        return self._bytes

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
            self._frames.append(frame)
            self._bytes += len(frame)
            self._pieces.clear()
            self._trim()
        return verdict

    def fold(self, event: Mapping[str, Any]) -> Offered:
        """As `take` for an old event whose frame nobody will want: the frames begin behind it."""
        verdict = self.judge(event["seq"])
        if verdict is Offered.TAKEN:
            self.view.apply(event)
            self._frames.clear()
            self._bytes = 0
            self._pieces.clear()
        return verdict

    def after(self, cursor: int) -> Piece | Cold | Lost | None:
        """What follows a cursor; None at the head. The same piece object for all clients at that cursor."""
        behind = self.view.cursor - cursor
        if behind <= 0:
            return None
        piece = self._pieces.get(cursor)
        if piece is not None:
            return piece
        if behind > WINDOW:
            return Lost()
        if behind > len(self._frames):
            return Cold()
        return self._join(cursor, behind)

    def _join(self, cursor: int, behind: int) -> Piece:
        frames = self._frames
        parts: list[bytes] = []
        length = 0
        for i in range(len(frames) - behind, len(frames)):
            length += len(frames[i])
            if parts and length > MAX_PIECE_BYTES:
                break
            parts.append(frames[i])
        piece = Piece(b"".join(parts), cursor + len(parts))
        if len(self._pieces) >= _PIECES:
            self._pieces.clear()
        self._pieces[cursor] = piece
        return piece

    def _trim(self) -> None:
        frames = self._frames
        while len(frames) > WINDOW or (self._bytes > self._max_bytes and len(frames) > 1):
            self._bytes -= len(frames.popleft())
