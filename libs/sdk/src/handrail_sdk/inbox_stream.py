"""The inbox, live: which pauses are open over all workflows, from a snapshot and what opens, changes and closes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, NamedTuple

from handrail_contracts.events import TERMINAL_EVENTS, EventType
from handrail_sdk.calls import Calls
from handrail_sdk.client_errors import Unexpected
from handrail_sdk.connection import Connection, Reconnecting

_CLAIM = ("claimed_by", "claimed_until", "reminded_at")


class InboxUpdate(NamedTuple):
    """One step: what came (`{"event_type": "snapshot"}` at the beginning of each connection), and the open pauses after
    it, newest first. `truncated`: there are more than the server keeps for this."""

    event: Mapping[str, Any]
    pauses: list[dict[str, Any]]
    truncated: bool


class InboxStream(Reconnecting[InboxUpdate]):
    """Follows the inbox for ever."""

    def __init__(self, calls: Calls, on_connection: Callable[[Connection], None] | None) -> None:
        super().__init__(calls, on_connection)
        self._pauses: dict[str, dict[str, Any]] = {}
        self._truncated = False

    def route(self) -> str:
        """See Reconnecting."""
        return "/inbox/events"

    def ticket(self) -> dict[str, Any]:
        """See Reconnecting."""
        return {"inbox": True}

    def position(self) -> None:
        """See Reconnecting: there are no ids, each connection begins with a snapshot."""

    def done(self) -> bool:
        """See Reconnecting."""
        return False

    async def over(self) -> AsyncGenerator[InboxUpdate]:
        """See Reconnecting: it has no end."""
        return
        yield  # a generator, though an empty one

    async def take(self, kind: str, data: dict[str, Any]) -> AsyncGenerator[InboxUpdate]:
        """See Reconnecting."""
        event = data
        if kind == "snapshot":
            self._replace(data)
            event = {"event_type": "snapshot"}
        elif not self._fold(kind, data):
            return
        yield InboxUpdate(event, list(reversed(self._pauses.values())), self._truncated)

    def _replace(self, data: dict[str, Any]) -> None:
        try:
            self._pauses = {pause["pause_id"]: pause for pause in reversed(data["items"])}
        except (KeyError, TypeError) as e:
            raise Unexpected("Expected the open pauses in a snapshot, but it has none.") from e
        self._truncated = bool(data.get("truncated"))

    def _fold(self, kind: str, event: dict[str, Any]) -> bool:
        pause_id = str(event.get("pause_id"))
        if kind == EventType.WORKFLOW_PAUSED_HITL:
            self._pauses.pop(pause_id, None)
            self._pauses[pause_id] = event
            return True
        if kind == EventType.HITL_RESOLVED:
            return self._pauses.pop(pause_id, None) is not None
        if kind in TERMINAL_EVENTS:
            gone = [p["pause_id"] for p in self._pauses.values() if p["trace_id"] == event.get("trace_id")]
            for each in gone:
                del self._pauses[each]
            return bool(gone)
        pause = self._pauses.get(pause_id)
        if pause is None:
            return False
        if kind == EventType.PAUSE_UPDATED:
            self._pauses[pause_id] = {**pause, **{f: event[f] for f in _CLAIM if f in event}}
            return True
        if kind == EventType.MESSAGE_ADDED:
            said = {"role": event.get("role"), "text": event.get("text"), "at": event.get("at")}
            self._pauses[pause_id] = {**pause, "transcript": [*(pause.get("transcript") or []), said]}
            return True
        return False
