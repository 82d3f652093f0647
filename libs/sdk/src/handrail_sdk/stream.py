"""The gapless stream of one workflow: snapshot, then events, over as many connections as it takes.

The position is the `seq` of the last event that was applied, held here and sent as `Last-Event-ID`; nothing depends on
what a server remembers. Whatever comes twice is dropped by its `seq`; whatever is missing is fetched from the journal.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import httpx2
from pydantic_core import from_json

from handrail_contracts.view import Gap, WorkflowView
from handrail_sdk.calls import CONNECT_TIMEOUT_S, Calls, path, refusal
from handrail_sdk.client_errors import Problem, Unexpected, Unreachable

_SILENCE_S = 40.0
"""The server pings every 15 s; longer silence means that the connection is dead, whatever TCP believes."""
_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 30.0
_PAGE = 1000


class Update(NamedTuple):
    """One step: what came, and the view after it.

    `event` is an event of CONTRACT section 4, or `{"event_type": "snapshot", "trace_id", "seq"}` where the view was
    replaced as a whole, or `{"event_type": "progress", …}` where progress was asked for. `view` is the living view:
    the next step changes it.
    """

    event: Mapping[str, Any]
    view: WorkflowView


@dataclass(frozen=True, slots=True)
class Connection:
    """News of the connection: `live`, or `waiting` for `delay_s` before try number `attempt`, because of `reason`."""

    state: Literal["live", "waiting"]
    attempt: int = 0
    delay_s: float = 0.0
    reason: str = ""


class Stream:
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
        self._calls = calls
        self._trace_id = trace_id
        self._after = after
        self._progress = progress
        self._tell = on_connection or (lambda _: None)
        self._base_s = _FIRST_RETRY_S
        self._floor_s = 0.0
        self._failures = 0
        self._reason = ""
        self.view = WorkflowView(trace_id)

    async def updates(self) -> AsyncGenerator[Update]:
        """Every step until the workflow has ended. Reconnects for ever. Raises Problem for what waiting does not cure."""
        if self._after is None:
            yield await self._snapshot()
        elif self._after > 0:
            await self._fold_up_to(self._after)
        while not self.view.ended:
            try:
                async with aclosing(self._one_connection()) as steps:
                    async for step in steps:
                        yield step
                        if self.view.ended:
                            return
            except (Unreachable, Problem) as e:
                if not e.retriable:
                    raise
                self._floor_s = (e.retry_after or 0.0) if isinstance(e, Problem) else 0.0
                self._reason = e.reason if isinstance(e, Unreachable) else e.detail
            await self._pause_before_next_try()

    async def _one_connection(self) -> AsyncGenerator[Update]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.view.cursor)}
        timeout = httpx2.Timeout(_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        self._reason = "the server closed the stream"
        async with self._calls.stream(path("workflows", self._trace_id, "events"), headers, timeout) as response:
            if response.status_code == 204:
                # Over, and this position is at or past the end: whatever the view lacks stands in the journal.
                async for step in self._catch_up():
                    yield step
                return
            if response.status_code != 200:
                raise await refusal(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Unexpected(f"Expected an event stream from {response.request.url}, but the answer is not one.")
            self._tell(Connection("live"))
            async with aclosing(self._frames(response)) as steps:
                async for step in steps:
                    yield step

    async def _frames(self, response: httpx2.Response) -> AsyncGenerator[Update]:
        # No limit on a frame: the snapshot of ten thousand nodes is one.
        source = httpx2.EventSource(response, max_event_size=None)
        async for frame in source:
            if frame.retry is not None:
                self._base_s = frame.retry / 1000
            match frame.event:
                case "message" | "reset":
                    continue
                case "ping":
                    self._failures = 0
                case "bye":
                    self._reason = "the server is shutting down"
                    return
                case "end":
                    if not self.view.ended:
                        async for step in self._catch_up():
                            yield step
                    return
                case "progress":
                    if self._progress:
                        yield Update({**_object(frame.data), "event_type": "progress"}, self.view)
                case "snapshot":
                    self._failures = 0
                    async for step in self._take_snapshot(_object(frame.data)):
                        yield step
                case _:
                    async for step in self._take_event(_object(frame.data)):
                        self._failures = 0
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
        if cursor != self.view.cursor:
            yield self._replace(state)

    async def _catch_up(self) -> AsyncGenerator[Update]:
        async for step in self._from_journal():
            yield step
        if not self.view.ended:
            yield await self._snapshot()

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

    async def _pause_before_next_try(self) -> None:
        delay = min(self._base_s * 2 ** min(self._failures, 10), _LONGEST_RETRY_S) * random.uniform(0.5, 1.0)
        delay += self._floor_s
        self._floor_s = 0.0
        self._failures += 1
        self._tell(Connection("waiting", self._failures, delay, self._reason))
        await asyncio.sleep(delay)


def _cursor(state: dict[str, Any]) -> int:
    try:
        return int(state["cursor"])
    except (KeyError, TypeError, ValueError) as e:
        raise Unexpected("Expected a snapshot with a cursor, but it has none.") from e


def _object(data: str) -> dict[str, Any]:
    try:
        value = from_json(data)
    except ValueError as e:
        raise Unexpected("Expected JSON in a frame of the stream, but the data is not JSON.") from e
    if not isinstance(value, dict):
        raise Unexpected("Expected a JSON object in a frame of the stream, but the data is not one.")
    return value
