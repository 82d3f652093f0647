"""Events into Redis: O(1) per event, one script each, pipelined per batch; whatever does not fit is rebuilt from the journal."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence

import structlog

from handrail_contracts import live
from handrail_contracts.codec import Undecodable
from handrail_contracts.view import Gap, WorkflowView
from handrail_notifier.application.ports import (
    WRITTEN_TOGETHER,
    Journal,
    Key,
    LiveStore,
    Quarantine,
    Row,
    Write,
    Written,
)
from handrail_notifier.application.records import EventRecord, parse_event, read_event
from handrail_runtime.ports import Record
from handrail_runtime.telemetry import counter

_log = structlog.get_logger(__name__)

VIEWS = 5_000
NODES = 200_000
PAGE = 250
REBUILDS_AT_ONCE = 4
_UNFOLDABLE = (KeyError, TypeError, AttributeError, ValueError)


class Projection:
    """Keeps Redis at the newest event of every workflow. One instance per consumer; calls must not overlap.

    Views of the workflows under way are kept in memory (bounded by their number and by their nodes); one that is
    missing or turns out stale is taken from Redis, else from the journal.
    """

    def __init__(self, journal: Journal, store: LiveStore, quarantine: Quarantine, bus_id: str) -> None:
        self._journal, self._store, self._quarantine, self._bus_id = journal, store, quarantine, bus_id
        self._views: OrderedDict[Key, live.LiveView] = OrderedDict()
        self._nodes = 0
        self._events = counter("projection_events", "Events for Redis, by what became of them", ["outcome"])

    async def apply(self, records: Sequence[Record]) -> None:
        """Brings a batch into Redis; returns when all of it is there. Idempotent: after Unavailable the same batch (or
        one that overlaps it) is given again."""
        events = await self._read(records)
        await self._load_missing(events)
        writes: list[Write] = []
        stale: dict[Key, None] = {}
        duplicates = 0
        runs: dict[Key, list[EventRecord]] = {}
        for record in events:
            runs.setdefault(record.key, []).append(record)
        for key, run in runs.items():
            for begin in range(0, len(run), WRITTEN_TOGETHER):
                part = run[begin : begin + WRITTEN_TOGETHER]
                write, whole = self._fold(key, part)
                if write is not None:
                    writes.append(write)
                if not whole:
                    stale[key] = None
                    break
                duplicates += len(part) - (len(write.rows) if write is not None else 0)
        if duplicates:
            self._events.labels("duplicate").inc(duplicates)
        try:
            for key in await self._write(writes):
                stale[key] = None
            for key in stale:
                await self._rebuild(key)
        except BaseException:
            # The views are ahead of Redis now. They must not make a duplicate of what has to be given again.
            for record in events:
                self._forget(record.key)
            raise
        self._shrink()

    async def rebuild(self, keys: Sequence[Key]) -> None:
        """Writes workflows from the journal where Redis has less: after it was emptied. Raises Unavailable."""
        left = list(keys)

        async def some() -> None:
            while left:
                await self._replace(left.pop())

        done = await asyncio.gather(*(some() for _ in range(REBUILDS_AT_ONCE)), return_exceptions=True)
        for failure in done:
            if failure is not None:
                raise failure

    async def _read(self, records: Sequence[Record]) -> list[EventRecord]:
        events: list[EventRecord] = []
        for record in records:
            try:
                events.append(read_event(record))
            except Undecodable as e:
                place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                _log.warning("record_quarantined", reason=e.reason, **place)
                await self._quarantine.put(record, self._bus_id, e.reason)
                self._events.labels("quarantined").inc()
        return events

    async def _load_missing(self, events: Sequence[EventRecord]) -> None:
        # A workflow whose first event is in this batch needs nothing; if Redis has it already, the script says so.
        missing = dict.fromkeys(e.key for e in events if e.key not in self._views and e.row.seq != 1)
        begun = {e.key for e in events if e.row.seq == 1}
        wanted = [key for key in missing if key not in begun]
        if not wanted:
            return
        for key, fields in zip(wanted, await self._store.hashes(wanted), strict=True):
            view = live.view_of(fields)
            if view is not None:
                self._keep(key, live.LiveView(view))

    def _fold(self, key: Key, records: Sequence[EventRecord]) -> tuple[Write | None, bool]:
        """What to write for records of one workflow; False where the workflow has to be rebuilt besides."""
        view = self._views.get(key)
        if view is None:
            view = live.LiveView(WorkflowView(key[1]))
            self._keep(key, view)
        else:
            self._views.move_to_end(key)
        nodes = len(view.view.nodes)
        rows: list[Row] = []
        whole = True
        try:
            for record in records:
                if view.fold(record.event):
                    rows.append(record.row)
        except Gap:
            whole = False
        except _UNFOLDABLE:
            return None, False  # it may be half folded in: nothing that the view says is to be trusted
        finally:
            self._nodes += len(view.view.nodes) - nodes
        return (Write(key, rows, view.changes()) if rows else None), whole

    async def _write(self, writes: list[Write]) -> list[Key]:
        if not writes:
            return []
        done = known = 0
        gaps: dict[Key, int] = {}
        for write, there in zip(writes, await self._store.write(writes), strict=True):
            if there is None:
                gaps[write.key] = gaps.get(write.key, 0) + len(write.rows)
            else:
                known += there
                done += len(write.rows) - there
        for outcome, count in ((Written.DONE, done), (Written.DUPLICATE, known), (Written.GAP, sum(gaps.values()))):
            if count:
                self._events.labels(outcome.name.lower()).inc(count)
        return list(gaps)

    async def _rebuild(self, key: Key) -> None:
        self._forget(key)
        view = await self._replace(key)
        if view is not None:
            self._keep(key, view)

    async def _replace(self, key: Key) -> live.LiveView | None:
        head = (await self._journal.heads([key])).get(key)
        view, newest = live.LiveView(WorkflowView(key[1])), deque[Row](maxlen=live.STREAM_EVENTS)
        while head is not None and (rows := await self._journal.page(key, head.born, view.view.cursor, PAGE)):
            try:
                view.view.apply_all(parse_event(row.data) for row in rows)
            except (Undecodable, Gap, *_UNFOLDABLE) as e:
                _log.error("journal_not_foldable", trace_id=key[1], kind=type(e).__name__)
                return None
            newest.extend(rows)
        if view.view.cursor == 0:
            return None
        view = live.LiveView(view.view)
        written = await self._store.rebuild(key, view.whole(), newest)
        self._events.labels("rebuilt" if written is Written.DONE else "rebuilt_by_another").inc()
        return view

    def _keep(self, key: Key, view: live.LiveView) -> None:
        self._forget(key)
        self._views[key] = view
        self._nodes += len(view.view.nodes)

    def _forget(self, key: Key) -> None:
        view = self._views.pop(key, None)
        if view is not None:
            self._nodes -= len(view.view.nodes)

    def _shrink(self) -> None:
        while len(self._views) > VIEWS or (self._nodes > NODES and self._views):
            _, view = self._views.popitem(last=False)
            self._nodes -= len(view.view.nodes)
