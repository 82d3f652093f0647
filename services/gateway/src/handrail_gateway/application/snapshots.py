"""`GET /workflows/{trace_id}/state`: always the journal as it stands, folded from where the last question left off.

A view that was asked for before is kept, and brought up to date by the events since; the answer is never older than the
request. Views that were kept are bounded by the size of their answers. Beyond `FEW` missing events the projection in
Redis is asked first, where there is one: it may be old, the journal completes it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from handrail_contracts.view import WorkflowView
from handrail_gateway.application.faults import Unavailable, workflow_not_found
from handrail_gateway.application.ports import Row, Views

FEW = 500
PORTION = 2_000
HISTORY = 1_000
KEPT_BYTES = 64 * 1024 * 1024


class Projection(Protocol):
    """Snapshots that somebody else folds."""

    async def state(self, tenant: str, trace_id: str) -> dict[str, Any] | None:
        """A state of any age, or None; never raises for trouble of its own."""
        ...


@dataclass(slots=True)
class _Kept:
    view: WorkflowView
    born: int
    encoded: bytes | None = None


class Snapshots:
    """Answers states of one tenant."""

    def __init__(
        self, views: Views, tenant: str, projection: Projection | None = None, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._views, self._tenant, self._projection = views, tenant, projection
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._size, self._limit = 0, kept_bytes

    @property
    def kept(self) -> int:
        """How many views are in memory."""
        return len(self._kept)

    async def state(self, trace_id: str) -> bytes:
        """The state as encoded JSON, without history. Raises Refusal workflow-not-found, StoreFault."""
        kept = self._kept.get(trace_id)
        after, born = (kept.view.cursor, kept.born) if kept is not None else (0, None)
        rows = await self._views.events_after(self._tenant, trace_id, after, FEW, born)
        if not rows and kept is None:
            return await self._accepted(trace_id)
        kept = await self._folded(trace_id, kept, rows, more=len(rows) == FEW)
        return self._encoded(trace_id, kept)

    async def with_history(self, trace_id: str) -> bytes:
        """The state with its newest 1,000 events, as they were journaled; `cursor` is the last of them."""
        for _ in range(5):
            rows = await self._views.newest_events(self._tenant, trace_id, HISTORY)
            if not rows:
                state = await self._accepted(trace_id)
                return state[:-1] + b',"history":[]}'
            kept = await self._folded(trace_id, self._kept.get(trace_id), rows, more=False)
            if kept.view.cursor == rows[-1]["seq"]:
                return _joined(self._encoded(trace_id, kept), trace_id, rows)
            # Another request has brought the view further than our rows reach.
        raise Unavailable("The workflow moves too fast.")

    async def _accepted(self, trace_id: str) -> bytes:
        order = await self._views.started(self._tenant, trace_id)
        if order is None:
            raise workflow_not_found(trace_id)
        return orjson.dumps(WorkflowView.accepted(trace_id, *order).state())

    async def _folded(self, trace_id: str, kept: _Kept | None, rows: list[Row], *, more: bool) -> _Kept:
        """The view with `rows` folded in, a hole before them filled, and with `more` everything after them."""
        if kept is None:
            kept = _Kept(await self._begin(trace_id, rows, more), rows[0]["born"])
        while rows and kept.view.cursor < rows[0]["seq"] - 1:
            self._apply(kept, await self._portion(trace_id, kept), rows[0]["seq"])
        self._apply(kept, rows)
        while more:
            rows = await self._portion(trace_id, kept)
            self._apply(kept, rows)
            more = len(rows) == PORTION
        self._keep(trace_id, kept)
        return kept

    async def _portion(self, trace_id: str, kept: _Kept) -> list[Row]:
        return await self._views.events_after(self._tenant, trace_id, kept.view.cursor, PORTION, kept.born)

    async def _begin(self, trace_id: str, rows: list[Row], more: bool) -> WorkflowView:
        if (more or rows[0]["seq"] > 1) and self._projection is not None:
            state = await self._projection.state(self._tenant, trace_id)
            # One that is ahead of the journal belongs to another database.
            if state is not None and (more or int(state["cursor"]) <= rows[-1]["seq"]):
                return WorkflowView.from_state(state)
        return WorkflowView(trace_id)

    @staticmethod
    def _apply(kept: _Kept, rows: list[Row], before: int | None = None) -> None:
        for row in rows:
            if before is not None and row["seq"] >= before:
                break
            if row["seq"] > kept.view.cursor:
                kept.encoded = None
                kept.view.apply(orjson.loads(row["data"]))

    def _encoded(self, trace_id: str, kept: _Kept) -> bytes:
        if kept.encoded is None:
            kept.encoded = orjson.dumps(kept.view.state())
            self._keep(trace_id, kept)
        return kept.encoded

    def _keep(self, trace_id: str, kept: _Kept) -> None:
        self._size -= self._sizes.pop(trace_id, 0)
        self._kept[trace_id] = kept
        self._kept.move_to_end(trace_id)
        # A view in memory takes about four times the bytes of its JSON.
        size = 5 * len(kept.encoded) if kept.encoded is not None else 4_000
        self._sizes[trace_id] = size
        self._size += size
        while self._size > self._limit and len(self._kept) > 1:
            oldest, _ = self._kept.popitem(last=False)
            self._size -= self._sizes.pop(oldest)


def _joined(state: bytes, trace_id: str, rows: list[Row]) -> bytes:
    history = b",".join([row["data"] for row in rows])
    if rows[0]["seq"] == 1:
        return b"".join((state[:-1], b',"history":[', history, b"]}"))
    rest = b'],"history_truncated":true,"history_next":' + orjson.dumps(f"/workflows/{trace_id}/journal?after=0") + b"}"
    return b"".join((state[:-1], b',"history":[', history, rest))
