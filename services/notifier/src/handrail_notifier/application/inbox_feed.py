"""The feed of `/inbox/events`: begun when the first operator looks, from PostgreSQL; then kept by what comes on the bus.

There are no ids: a client that comes back gets a snapshot. One that falls too far behind, or that was connected while
the bus was interrupted, gets `reset` and a snapshot. Between the snapshot and the events that were under way at that
moment a pause may show for an instant after it was closed; its `HITL_RESOLVED` follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from pydantic_core import to_json

from handrail_contracts.codec import Undecodable
from handrail_contracts.envelope import STRUCTURED, TYPE_PREFIX, header
from handrail_notifier.application.ports import Frames, OpenPauses, Unavailable
from handrail_notifier.application.records import EventRecord, read_event
from handrail_notifier.domain.inbox import KINDS, OPEN, Inbox
from handrail_notifier.domain.window import Cold, Piece
from handrail_runtime.ports import Record

_log = structlog.get_logger(__name__)

STATE = "/inbox?state=open"
WAITING = 5_000
"""So many records wait while the pauses are being read; with more it is begun again."""
_CE_TYPES = frozenset(f"{TYPE_PREFIX}{kind.lower()}.v1".encode() for kind in KINDS)


class InboxFeed:
    """A feed for the hub, without ids and without end. `hold` before following it, `release` after."""

    ended = False
    broken = False

    def __init__(
        self, pauses: OpenPauses, frames: Frames, *, tenant: str, changed: Callable[[InboxFeed], None], grace_s: float
    ) -> None:
        self._pauses, self.frames, self._changed = pauses, frames, changed
        self._tenant, self._grace_s = tenant, grace_s
        self._inbox: Inbox | None = None
        self._turn = asyncio.Lock()
        self._waiting: list[Record] | None = None
        self._holders = 0
        self._idle_since = 0.0
        self._published_ms = 0
        self._snapshot: tuple[int, bytes] | None = None

    @property
    def active(self) -> bool:
        """Somebody looks (or did a moment ago): records are wanted."""
        return self._inbox is not None or self._waiting is not None

    @property
    def head(self) -> int:
        """The cursor of a client that has everything."""
        return self._inbox.head if self._inbox is not None else 0

    async def hold(self) -> None:
        """Makes it ready to be followed. Raises Unavailable."""
        self._holders += 1
        try:
            async with self._turn:
                if self._inbox is None:
                    await self._load()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """One fewer."""
        self._holders -= 1
        self._idle_since = time.monotonic()

    def sweep(self) -> None:
        """Forgets everything when nobody looked for the grace time."""
        if not self._holders and self._inbox is not None and time.monotonic() - self._idle_since > self._grace_s:
            self._inbox = self._snapshot = None

    async def reload(self) -> None:
        """Begins again, since events may have been missed. Raises Unavailable."""
        async with self._turn:
            if self._inbox is not None:
                await self._load()
                self._changed(self)

    def offer(self, record: Record) -> None:
        """Any record of `handrail.events`; what does not concern operators is dropped by its headers, undecoded."""
        if not self._concerns(record):
            return
        if self._waiting is not None:
            if len(self._waiting) <= WAITING:
                self._waiting.append(record)
        elif self._take(record):
            self._published_ms = record.timestamp_ms
            self._changed(self)

    def opening(self) -> Piece:
        """The snapshot, encoded once per head."""
        assert self._inbox is not None
        head = self._inbox.head
        if self._snapshot is None or self._snapshot[0] != head:
            state = to_json({"items": self._inbox.pauses, "truncated": self._inbox.truncated})
            self._snapshot = (head, self.frames.snapshot(None, state))
        return Piece(self._snapshot[1], head)

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor: frames, or a reset with the snapshot where the cursor is too old."""
        found = self._inbox.after(cursor) if self._inbox is not None else None
        if type(found) is not Cold:
            return found
        snapshot = self.opening()
        return Piece(self.frames.reset("too-far-behind", STATE) + snapshot.body, snapshot.cursor)

    def farewell(self) -> bytes:
        """It has no end."""
        return b""

    def take_news(self) -> bytes:
        """It has no ephemeral frames."""
        return b""

    def take_published_ms(self) -> int:
        """The bus's time of the newest live event, once."""
        published, self._published_ms = self._published_ms, 0
        return published

    async def _load(self) -> None:
        head = self._inbox.head + 1 if self._inbox is not None else 0
        self._waiting = []
        try:
            pauses = await self._pauses.open_pauses(OPEN + 1)
        except BaseException:
            self._waiting = None
            raise
        waiting, self._waiting = self._waiting, None
        if len(waiting) > WAITING:
            raise Unavailable("Expected to read the open pauses faster than they change, but it took too long.")
        # A head behind all cursors: whoever was connected has to begin again too.
        self._inbox = Inbox(pauses[-OPEN:], head, truncated=len(pauses) > OPEN)
        self._snapshot = None
        for record in waiting:
            self._take(record)

    def _concerns(self, record: Record) -> bool:
        kind = header(record.headers, "ce_type")
        if kind is None:
            return (header(record.headers, "content-type") or b"").startswith(STRUCTURED)
        return kind in _CE_TYPES

    def _take(self, record: Record) -> bool:
        inbox = self._inbox
        try:
            found: EventRecord = read_event(record)
            if inbox is None or found.key[0] != self._tenant or found.row.type not in KINDS:
                return False
            if not inbox.fold(found.event):
                return False
        except (Undecodable, KeyError, TypeError, AttributeError) as e:
            _log.info("record_skipped", action="inbox", offset=record.offset, kind=type(e).__name__)
            return False
        inbox.push(self.frames.event(None, found.row.type, found.row.data))
        return True
