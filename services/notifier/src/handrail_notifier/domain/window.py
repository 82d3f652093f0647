"""The newest frames of a feed, encoded once, and the pieces that clients take of them.

Promise: a cursor that only ever takes what `after` gives it gets every frame once, in order, without a hole, or is told
that it cannot.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

MAX_PIECE_BYTES = 64 * 1024
"""A piece is at most this long, or one frame: what one client may have waiting in its send buffer."""
_PIECES = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames that follow a cursor, joined; `cursor` is the position after them."""

    body: bytes
    cursor: int


@dataclass(frozen=True, slots=True)
class Cold:
    """The frames after this cursor are not in memory (any more)."""


class Window:
    """Frames `base + 1` to `head`, at most `max_frames` of them and about `max_bytes` (one frame is always kept)."""

    __slots__ = ("_frames", "_max_bytes", "_max_frames", "_pieces", "head", "size_bytes")

    def __init__(self, head: int, frames: list[bytes], *, max_frames: int, max_bytes: int) -> None:
        self.head = head
        self._frames = deque(frames)
        self.size_bytes = sum(map(len, frames))
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._pieces: dict[int, Piece] = {}
        self._trim()

    @property
    def base(self) -> int:
        """The cursor before the oldest frame that is here."""
        return self.head - len(self._frames)

    def push(self, frame: bytes) -> None:
        """The next frame."""
        self.head += 1
        self._frames.append(frame)
        self.size_bytes += len(frame)
        self._pieces.clear()
        self._trim()

    def skip(self) -> None:
        """The next position has no frame; what was here before is forgotten."""
        self.head += 1
        self._frames.clear()
        self.size_bytes = 0
        self._pieces.clear()

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor; None at the head. The same piece object for all clients at that cursor."""
        behind = self.head - cursor
        if behind <= 0:
            return None
        piece = self._pieces.get(cursor)
        if piece is not None:
            return piece
        return Cold() if behind > len(self._frames) else self._join(cursor, behind)

    def frames_after(self, cursor: int) -> list[bytes] | None:
        """The frames that follow a cursor, one by one; None where they are not all here."""
        behind = self.head - cursor
        if behind > len(self._frames):
            return None
        return [self._frames[i] for i in range(len(self._frames) - max(behind, 0), len(self._frames))]

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
        while len(frames) > self._max_frames or (self.size_bytes > self._max_bytes and len(frames) > 1):
            self.size_bytes -= len(frames.popleft())
