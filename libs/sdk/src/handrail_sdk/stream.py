"""The gapless stream of one workflow: snapshot, then events, over as many connections as it takes.

The position is the `seq` of the last event that was applied, held here and sent as `Last-Event-ID`; nothing depends on
what a server remembers. Whatever comes twice is dropped by its `seq`; whatever is missing is fetched from the journal.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

from handrail_contracts.view import Gap, WorkflowView
from handrail_sdk.calls import Calls, path
from handrail_sdk.client_errors import Unexpected
from handrail_sdk.connection import Connection, Reconnecting

_PAGE = 1000


class Update(NamedTuple):
    """One step: what came, and the view after it.

    `event` is an event of CONTRACT section 4, or `{"event_type": "snapshot", "trace_id", "seq"}` where the view was
    replaced as a whole, or `{"event_type": "progress", …}` where progress was asked for. `view` is the living view:
    the next step changes it.
    """

    event: Mapping[str, Any]
    view: WorkflowView


class Stream(Reconnecting[Update]):
    """Follows one workflow to its end. `after` None begins with a snapshot; a number begins after that `seq`, and then
    every later event is yielded exactly once, from the journal where the stream skipped it."""

    def __init__(
        self,
        calls: Calls,
        trace_id: str,
        *,
        after: int | None,
        progress: bool,
        on_connection: Callable[[Connection], None] | None,
    ) -> None:
        super().__init__(calls, on_connection)
        self._trace_id = trace_id
        self._after = after
        self._progress = progress
        self.view = WorkflowView(trace_id)

    async def updates(self) -> AsyncGenerator[Update]:
        """Every step until the workflow has ended."""
        if self._after is None:
            yield await self._snapshot()
        elif self._after > 0:
            await self._fold_up_to(self._after)
        async with aclosing(self.follow()) as steps:
            async for step in steps:
                yield step

    def route(self) -> str:
        """See Reconnecting."""
        return path("workflows", self._trace_id, "events")

    def ticket(self) -> dict[str, Any]:
        """See Reconnecting."""
        return {"trace_id": self._trace_id}

    def position(self) -> str:
        """See Reconnecting."""
        return str(self.view.cursor)

    def done(self) -> bool:
        """See Reconnecting."""
        return self.view.ended

    async def over(self) -> AsyncGenerator[Update]:
        """See Reconnecting."""
        if self.view.ended:
            return
        async for step in self._from_journal():
            yield step
        if not self.view.ended:
            yield await self._snapshot()

    async def take(self, kind: str, data: dict[str, Any]) -> AsyncGenerator[Update]:
        """See Reconnecting."""
        if kind == "progress":
            if self._progress:
                yield Update({**data, "event_type": "progress"}, self.view)
            return
        async for step in self._take_snapshot(data) if kind == "snapshot" else self._take_event(data):
            yield step

    async def _take_event(self, event: dict[str, Any]) -> AsyncGenerator[Update]:
        try:
            applied = self._apply(event)
        except Gap:
            async for step in self._from_journal():
                yield step
            try:
                applied = self._apply(event)
            except Gap:
                yield await self._snapshot()
                return
        if applied:
            yield Update(event, self.view)

    async def _take_snapshot(self, state: dict[str, Any]) -> AsyncGenerator[Update]:
        cursor = _cursor(state)
        if self._after is not None and cursor > self.view.cursor:
            async for step in self._from_journal():
                yield step
            if self.view.cursor >= cursor:
                return
        # Where every event is asked for, an older state has nothing: what follows it was yielded already.
        if cursor > self.view.cursor or (self._after is None and cursor != self.view.cursor):
            yield self._replace(state)

    async def _from_journal(self) -> AsyncGenerator[Update]:
        while True:
            events = await self._journal(self.view.cursor)
            for event in events:
                try:
                    if self._apply(event):
                        yield Update(event, self.view)
                except Gap:  # the beginning was archived: the snapshot has it
                    return
            if len(events) < _PAGE:
                return

    async def _fold_up_to(self, seq: int) -> None:
        while self.view.cursor < seq:
            events = [e for e in await self._journal(self.view.cursor) if e["seq"] <= seq]
            if not events:
                break
            self.view.apply_all(events)

    async def _journal(self, after: int) -> list[dict[str, Any]]:
        page = await self._calls.get(path("workflows", self._trace_id, "journal"), {"after": after, "limit": _PAGE})
        return page["items"]

    async def _snapshot(self) -> Update:
        return self._replace(await self._calls.get(path("workflows", self._trace_id, "state")))

    def _replace(self, state: dict[str, Any]) -> Update:
        try:
            self.view = WorkflowView.from_state(state)
        except (KeyError, TypeError, ValueError) as e:
            raise Unexpected("Expected the state of a workflow, but a part of it is missing or of another type.") from e
        return Update({"event_type": "snapshot", "trace_id": self._trace_id, "seq": self.view.cursor}, self.view)

    def _apply(self, event: dict[str, Any]) -> bool:
        try:
            return self.view.apply(event)
        except (KeyError, TypeError, AttributeError) as e:
            raise Unexpected("Expected an event of a workflow, but a part of it is missing or of another type.") from e


def _cursor(state: dict[str, Any]) -> int:
    try:
        return int(state["cursor"])
    except (KeyError, TypeError, ValueError) as e:
        raise Unexpected("Expected a snapshot with a cursor, but it has none.") from e
