"""One watched workflow: its ring, and how clients are told what the ring says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from prometheus_client import Counter
from pydantic_core import to_json

from handrail_contracts.events import WorkflowStatus
from handrail_contracts.ids import workflow_key
from handrail_contracts.tasks import Progress
from handrail_notifier.application.ports import Frames, Key, Row
from handrail_notifier.domain.position import BEHIND, Opening, opening
from handrail_notifier.domain.ring import Lost, Offered, Ring
from handrail_notifier.domain.window import Cold, Piece
from handrail_runtime.telemetry import counter

MAX_PROGRESS = 64
"""News of at most so many nodes wait for the next time that the clients are woken; newer news replace older ones."""


class Watched:
    """A feed of one workflow. `seen` is the highest `seq` that the bus has shown: the ring owes its clients that much.

    `loading`: the journal is being read, live events only raise `seen` meanwhile; `settled` when it is not. `catching_up`:
    somebody waits for where the journal stands. `owed`: where it stood at the last check. `tainted`: load afresh. `broken`:
    it cannot be served. `holders` are those who need it.
    """

    def __init__(self, key: Key, frames: Frames) -> None:
        self.key = key
        self.record_key = workflow_key(*key).encode()
        self.ring: Ring | None = None
        self.born = 0
        self.seen = 0
        self.loading = False
        self.settled = asyncio.Event()
        self.catching_up: asyncio.Task[None] | None = None
        self.owed = 0
        self.tainted = False
        self.broken = False
        self.holders = 0
        self.idle_since = 0.0
        self.readings: dict[int, asyncio.Task[Piece]] = {}
        self._published_ms = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.frames = frames
        self._progress: dict[str, bytes] = {}
        self._reset: tuple[int, str, Piece] | None = None

    @property
    def ended(self) -> bool:
        """The terminal event is in the ring."""
        return self.ring is not None and self.ring.ended

    @property
    def head(self) -> int:
        """The `seq` of the newest event in the ring."""
        return self.ring.head if self.ring is not None else 0

    def offer(self, row: Row, event: Mapping[str, Any], published_ms: int) -> Offered:
        """Takes a live event if it is the next; a gap is remembered in `seen`. An event that cannot be folded taints the
        ring (it is loaded afresh) and counts as a gap. `published_ms` is the bus's time, for measuring only."""
        ring = self.ring
        self._published_ms = published_ms
        if row.seq > self.seen:
            self.seen = row.seq
        if ring is None or self.loading:
            return Offered.GAP
        verdict = ring.judge(row.seq)
        if verdict is Offered.TAKEN:
            try:
                return ring.take(event, self.frames.event(row.seq, row.type, row.data))
            except (KeyError, TypeError, AttributeError, ValueError):
                self.tainted = True
                return Offered.GAP
        return verdict

    def open(self, position: str) -> Opening:
        """What a client at `position` gets, as far as the ring goes: `Rings.opening` knows what is ahead of the workflow."""
        return opening(position, self.head, ended=self.ended)

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor: frames, or a reset with the snapshot where the cursor is too old."""
        if self.ring is None:
            return None
        found = self.ring.after(cursor)
        if isinstance(found, Lost):
            resets().labels(BEHIND.reason).inc()
            return self.reset(BEHIND.reason)
        return found

    def frames_after(self, cursor: int) -> list[bytes] | None:
        """The frames that follow a cursor, one by one; None where they are not all in memory."""
        return self.ring.frames_after(cursor) if self.ring is not None else []

    def snapshot(self) -> bytes:
        """The state at the head as a frame without an id, for a stream that has none."""
        assert self.ring is not None
        return self.frames.snapshot(None, to_json(self.ring.view.state()))

    def reset(self, reason: str) -> Piece:
        """`reset` and `snapshot` at the head; encoded once per head, however many ask."""
        ring = self.ring
        assert ring is not None
        if self._reset is None or self._reset[:2] != (ring.head, reason):
            trace_id = self.key[1]
            state = to_json(ring.view.state())
            body = self.frames.reset(reason, f"/workflows/{trace_id}/state") + self.frames.snapshot(ring.head, state)
            self._reset = (ring.head, reason, Piece(body, ring.head))
        return self._reset[2]

    def farewell(self) -> bytes:
        """The last frame after the terminal event."""
        return self.frames.end(str(self.ring.view.status if self.ring is not None else WorkflowStatus.COMPLETED))

    def piece_of(self, rows: list[Row]) -> Piece:
        """Rows of the journal as frames, for a cursor that the ring cannot serve."""
        return Piece(b"".join(self.frames.event(row.seq, row.type, row.data) for row in rows), rows[-1].seq)

    def add_progress(self, progress: Progress) -> bool:
        """Keeps news until the clients are woken; False when nobody may hear it (any more)."""
        if self.ring is None or self.ended or not self.holders:
            return False
        if progress.node_id not in self._progress and len(self._progress) >= MAX_PROGRESS:
            return False
        shown = progress.model_dump(exclude={"tenant"}, exclude_none=True)
        self._progress[progress.node_id] = self.frames.progress(to_json(shown))
        return True

    @property
    def published_ms(self) -> int:
        """The bus's time of the newest live event that was not asked for yet."""
        return self._published_ms

    def take_published_ms(self) -> int:
        """The bus's time of the newest live event, once."""
        published, self._published_ms = self._published_ms, 0
        return published

    def take_news(self) -> bytes:
        """The kept news, once."""
        if not self._progress:
            return b""
        news = b"".join(self._progress.values())
        self._progress.clear()
        return news


def resets() -> Counter:
    """How often clients had to be told to begin again."""
    return counter("sse_resets", "Streams that had to begin with a snapshot", ["reason"])
