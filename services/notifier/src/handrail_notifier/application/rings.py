"""All watched workflows of this replica: started, filled, kept live, dropped when nobody looks.

Start of a ring: subscribe (be in the table, so that live events are noticed) → snapshot from Redis, else the journal →
the head from PostgreSQL, in one query for all rings that start together → fill up to the head → live. A live event
beyond `head + 1` fills from the journal. Nothing is buffered meanwhile: the journal is never behind the bus, so it is
enough to remember the highest `seq` seen and to read on until the ring has it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from handrail_contracts import live
from handrail_contracts.codec import Undecodable
from handrail_contracts.ids import workflow_key
from handrail_contracts.tasks import Progress
from handrail_contracts.view import WorkflowView
from handrail_notifier.application.ports import (
    Frames,
    Head,
    Journal,
    Key,
    LiveStore,
    NotFound,
    Row,
    Snapshot,
    Unavailable,
)
from handrail_notifier.application.records import EventRecord, parse_event
from handrail_notifier.application.watched import Watched
from handrail_notifier.domain.position import AHEAD, WINDOW, Opening
from handrail_notifier.domain.ring import Offered, Ring
from handrail_notifier.domain.window import Piece

_log = structlog.get_logger(__name__)

PAGE = 250
STARTS_TOGETHER = 64
RECHECKED_TOGETHER = 500
STORE_PAUSE_S = 2.0
"""After Redis did not answer, rings start without asking it for so long."""
FILLS_AT_ONCE = 4
IDLE_RINGS = 1000
IDLE_BYTES = 64 * 1024 * 1024
_RETRY_S = (0.05, 0.2, 0.5, 1.0)


class Rings:
    """See the module. `changed` is called whenever a watched workflow has something new for its clients. All in one
    event loop; `run` must be running."""

    def __init__(
        self,
        journal: Journal,
        store: LiveStore,
        frames: Frames,
        *,
        changed: Callable[[Watched], None],
        grace_s: float = 30.0,
        start_timeout_s: float = 5.0,
    ) -> None:
        self._journal, self._store, self._frames, self._changed = journal, store, frames, changed
        self._grace_s, self._start_timeout_s = grace_s, start_timeout_s
        self._table: dict[bytes, Watched] = {}
        self._wanted: dict[Watched, None] = {}
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(FILLS_AT_ONCE)
        self._cold_slots = asyncio.Semaphore(FILLS_AT_ONCE)
        self._store_after = 0.0
        self._failures = 0

    def __len__(self) -> int:
        return len(self._table)

    def watched(self) -> list[Watched]:
        """All of them, as they are now."""
        return list(self._table.values())

    def find(self, record_key: bytes | None) -> Watched | None:
        """The watched workflow that a record belongs to; None for all others, undecoded."""
        return self._table.get(record_key) if record_key is not None else None

    async def hold(self, key: Key) -> Watched:
        """The workflow, ready to be followed; give it back with `release`. Raises NotFound, Unavailable."""
        record_key = workflow_key(*key).encode()
        watched = self._table.get(record_key)
        if watched is None:
            watched = self._table[record_key] = Watched(key, self._frames)
            self._want(watched)
        watched.holders += 1
        try:
            if not watched.ready.done():
                async with asyncio.timeout(self._start_timeout_s):
                    await asyncio.shield(watched.ready)
            watched.ready.result()
        except TimeoutError as e:
            self.release(watched)
            raise Unavailable("Expected the journal to answer, but it does not.") from e
        except BaseException:
            self.release(watched)
            raise
        return watched

    async def known(self, key: Key) -> bool:
        """Whether there is such a workflow: from memory where it is watched, else from the journal. Raises Unavailable."""
        watched = self.find(workflow_key(*key).encode())
        return (watched is not None and watched.ring is not None) or key in await self._journal.heads([key])

    async def opening(self, watched: Watched, position: str) -> Opening:
        """What a client at `position` gets. Ahead of the ring is not ahead of the workflow: the position may come from `GET
        /state` or from another replica, and the bus be slow. So the ring is brought to where the journal stands before
        anybody is told to begin again; clients that ask together share that. Raises Unavailable."""
        found = watched.open(position)
        for _ in range(2):
            if found != AHEAD:
                break
            begun_for_this = watched.catching_up is None
            await self._caught_up(watched)
            found = watched.open(position)
            if begun_for_this:
                break  # one that others wait for already may have looked before this position came about
        return found

    def release(self, watched: Watched) -> None:
        """Nobody less, one fewer: the ring stays for a grace time after the last."""
        watched.holders -= 1
        if watched.holders == 0:
            watched.idle_since = time.monotonic()

    def offer(self, watched: Watched, record: EventRecord, published_ms: int) -> None:
        """A live event of a watched workflow; `published_ms` is the bus's time."""
        verdict = watched.offer(record.row, record.event, published_ms)
        if verdict is Offered.TAKEN:
            self._changed(watched)
        elif verdict is Offered.GAP and not watched.loading:
            self._want(watched)

    def offer_progress(self, watched: Watched, progress: Progress) -> None:
        """News of a watched workflow, shown to whoever looks now."""
        if watched.add_progress(progress):
            self._changed(watched)

    async def recheck(self, *, at_once: bool) -> None:
        """Compares every ring that somebody follows with the journal and fills what the bus did not bring: `at_once`
        after trouble on the bus, else what was owed already at the check before. After trouble, rings that nobody
        follows are dropped: whoever comes gets one from the journal. Raises Unavailable."""
        if at_once:
            for idle in [w for w in self._table.values() if not w.holders and not w.loading and not w.ended]:
                self._drop(idle)
        running = [w for w in self._table.values() if not w.ended and (at_once or (w.ring is not None and w.holders))]
        for begin in range(0, len(running), RECHECKED_TOGETHER):
            part = running[begin : begin + RECHECKED_TOGETHER]
            heads = await self._journal.heads([watched.key for watched in part])
            for watched in part:
                head = heads.get(watched.key)
                owed = (head.seq if head is not None else 0) if at_once else watched.owed
                if head is not None:
                    watched.owed = head.seq
                if watched.head < owed:
                    watched.seen = max(watched.seen, owed)
                    if not watched.loading:
                        self._want(watched)

    def sweep(self) -> None:
        """Drops rings that nobody looked at for the grace time, and the oldest of those beyond the bounds of memory."""
        now = time.monotonic()
        idle = [w for w in self._table.values() if not w.holders and not w.loading and w not in self._wanted]
        idle.sort(key=lambda w: w.idle_since, reverse=True)
        size = 0
        for place, watched in enumerate(idle):
            size += watched.ring.size_bytes if watched.ring is not None else 0
            if now - watched.idle_since > self._grace_s or place >= IDLE_RINGS or size > IDLE_BYTES:
                self._drop(watched)

    async def cold(self, watched: Watched, cursor: int) -> Piece:
        """What follows a cursor that is within the window but no longer in memory; clients at the same cursor share one
        reading. Raises Unavailable."""
        reading = watched.readings.get(cursor)
        if reading is None:
            reading = watched.readings[cursor] = asyncio.create_task(self._read_cold(watched, cursor), name="ring.cold")
            reading.add_done_callback(lambda done: _forget_reading(watched, cursor, done))
        return await asyncio.shield(reading)

    async def page(self, watched: Watched, after: int, limit: int) -> list[Row]:
        """Events of a watched workflow from the journal. Raises Unavailable."""
        if watched.born == 0:
            # It was only accepted when its ring began: where its rows are is known with its first event.
            head = (await self._journal.heads([watched.key])).get(watched.key)
            watched.born = head.born if head is not None else 0
        return await self._journal.page(watched.key, watched.born, after, limit)

    async def run(self) -> None:
        """Starts and fills rings until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wake.wait()
                # What is asked for while this round reads the heads is taken together by the next.
                batch = list(self._wanted)[:STARTS_TOGETHER]
                for watched in batch:
                    del self._wanted[watched]
                if not self._wanted:
                    self._wake.clear()
                try:
                    heads, snapshots = await self._look_up(batch)
                except Unavailable:
                    await self._later(batch)
                    continue
                self._failures = 0
                for watched, snapshot in zip(batch, snapshots, strict=True):
                    tasks.create_task(self._bring_up(watched, heads.get(watched.key), snapshot), name="ring.fill")

    async def _read_cold(self, watched: Watched, cursor: int) -> Piece:
        async with self._cold_slots:
            rows = await self.page(watched, cursor, PAGE // 5)
        return watched.piece_of(rows) if rows and rows[0].seq == cursor + 1 else watched.reset("not-in-journal")

    async def _caught_up(self, watched: Watched) -> None:
        if watched.catching_up is None:
            watched.catching_up = asyncio.create_task(self._catch_up(watched), name="ring.catch_up")
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await asyncio.shield(watched.catching_up)
        except TimeoutError as e:
            raise Unavailable("Expected the journal to answer, but it does not.") from e
        if watched.broken:
            raise Unavailable("Expected a journal that can be folded, but it cannot be.")

    async def _catch_up(self, watched: Watched) -> None:
        try:
            if watched.loading:
                await watched.settled.wait()
            if not watched.loading:
                self._want(watched)
            await watched.settled.wait()
        finally:
            watched.catching_up = None

    def _want(self, watched: Watched) -> None:
        watched.loading = True
        watched.settled.clear()
        self._wanted[watched] = None
        self._wake.set()

    def _drop(self, watched: Watched) -> None:
        if self._table.get(watched.record_key) is watched:
            del self._table[watched.record_key]

    async def _later(self, batch: Sequence[Watched]) -> None:
        for watched in batch:
            if watched.holders or watched.ring is not None:
                self._wanted.setdefault(watched)
            else:
                self._drop(watched)
        delay = _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1
        if self._failures == 1:
            _log.warning("journal_unavailable", action="ring_start", rings=len(batch))
        await asyncio.sleep(delay)
        if self._wanted:
            self._wake.set()

    async def _look_up(self, batch: Sequence[Watched]) -> tuple[dict[Key, Head], list[Snapshot | None]]:
        snapshots: dict[Key, Snapshot] = {}
        fresh = [watched.key for watched in batch if watched.ring is None]
        if fresh and time.monotonic() >= self._store_after:
            try:
                snapshots = dict(zip(fresh, await self._store.snapshots(fresh), strict=True))
            except Unavailable:
                self._store_after = time.monotonic() + STORE_PAUSE_S
                _log.info("redis_unavailable", action="ring_start", rings=len(fresh))
        # After the snapshots: a head read first could be older than what Redis already shows.
        heads = await self._journal.heads([watched.key for watched in batch])
        return heads, [snapshots.get(watched.key) for watched in batch]

    async def _bring_up(self, watched: Watched, head: Head | None, snapshot: Snapshot | None) -> None:
        try:
            if head is None:
                self._unknown(watched)
                return
            watched.born = head.born
            async with self._slots:
                watched.ring = await self._filled(watched, head, snapshot)
            self._settle(watched)
            if not watched.ready.done():
                watched.ready.set_result(None)
            self._changed(watched)
        except Unavailable:
            self._wanted.setdefault(watched)
            asyncio.get_running_loop().call_later(_RETRY_S[-1], self._wake.set)
        except (Undecodable, KeyError, TypeError, AttributeError, ValueError) as e:
            _log.error("journal_not_foldable", trace_id=watched.key[1], kind=type(e).__name__)
            self._drop(watched)
            watched.broken = True
            self._settle(watched)
            self._changed(watched)
            if not watched.ready.done():
                watched.ready.set_exception(Unavailable("Expected a journal that can be folded, but it cannot be."))
                watched.ready.exception()

    def _settle(self, watched: Watched) -> None:
        watched.loading = False
        watched.settled.set()

    def _unknown(self, watched: Watched) -> None:
        self._settle(watched)
        if watched.ring is None:
            self._drop(watched)
            if not watched.ready.done():
                watched.ready.set_exception(NotFound(watched.key[1]))
                watched.ready.exception()  # asked for here, so that nobody's leaving early is reported as lost
        else:
            watched.seen = watched.ring.head

    async def _from_snapshot(self, watched: Watched, head: Head, snapshot: Snapshot | None) -> Ring | None:
        view = live.view_of(snapshot.fields) if snapshot is not None and snapshot.fields else None
        if snapshot is None or view is None or view.cursor > head.seq:
            return None
        rows: list[Row] = []
        for row in reversed(snapshot.newest):
            if row.seq == view.cursor - len(rows):
                rows.append(row)
        rows.reverse()
        # What the stream in Redis lacks of the window comes from the journal now, once, and not for each client.
        before: list[Row] = []
        begin = max(0, view.cursor - WINDOW)
        while begin + len(before) < view.cursor - len(rows):
            limit = min(PAGE, view.cursor - len(rows) - begin - len(before))
            page = await self._journal.page(watched.key, head.born, begin + len(before), limit)
            if not page:
                return None
            before += page
        return Ring(view, [self._frames.event(row.seq, row.type, row.data) for row in (*before, *rows)][-WINDOW:])

    def _empty(self, watched: Watched, head: Head) -> Ring:
        return Ring(WorkflowView.accepted(watched.key[1], head.order, head.at))

    async def _filled(self, watched: Watched, head: Head, snapshot: Snapshot | None) -> Ring:
        ring = watched.ring
        if ring is None or watched.tainted:
            fresh = None if watched.tainted else await self._from_snapshot(watched, head, snapshot)
            ring = fresh or self._empty(watched, head)
            watched.tainted = False
            await asyncio.sleep(0)  # making frames takes time: the loop runs between one start and the next
        while ring.head < max(head.seq, watched.seen):
            rows = await self.page(watched, ring.head, PAGE)
            if not rows:
                # The bus spoke of an event that the journal does not have: forged, or of another database.
                _log.warning("event_not_in_journal", trace_id=watched.key[1], seq=watched.seen, head=ring.head)
                watched.seen = ring.head
                break
            self._take(ring, rows, head.seq)
            if ring is watched.ring:
                self._changed(watched)
        return ring

    def _take(self, ring: Ring, rows: Sequence[Row], target: int) -> None:
        for row in rows:
            event = parse_event(row.data)
            if row.seq <= target - WINDOW:
                ring.fold(event)
            else:
                ring.take(event, self._frames.event(row.seq, row.type, row.data))


def _forget_reading(watched: Watched, cursor: int, done: asyncio.Task[Piece]) -> None:
    watched.readings.pop(cursor, None)
    if not done.cancelled():
        done.exception()  # whoever still waits gets it; nobody may be left who does
