"""What operators follow: the open pauses of all workflows, folded from events, and the newest frames.

Events of different workflows come in no particular order, those of one in the order of their `seq`; what was seen
before is dropped by that. Bounded: the newest `OPEN` pauses are kept, and the newest `FRAMES` frames.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from handrail_contracts.events import TERMINAL_EVENTS, EventType
from handrail_notifier.domain.window import Cold, Piece, Window

OPEN = 500
FRAMES = 1000
MAX_BYTES = 8 * 1024 * 1024
_WORKFLOWS = 10_000

KINDS: frozenset[str] = frozenset(
    {EventType.WORKFLOW_PAUSED_HITL, EventType.PAUSE_UPDATED, EventType.MESSAGE_ADDED, EventType.HITL_RESOLVED}
) | frozenset(map(str, TERMINAL_EVENTS))
"""Types that can change the inbox."""


class Inbox:
    """`pauses` are the open ones (the payload of the event, claims as they are now), oldest first."""

    __slots__ = ("_pauses", "_seen", "_window", "truncated")

    def __init__(self, pauses: Iterable[Mapping[str, Any]], head: int = 0, *, truncated: bool = False) -> None:
        self._pauses: OrderedDict[str, dict[str, Any]] = OrderedDict((p["pause_id"], dict(p)) for p in pauses)
        self._seen: OrderedDict[str, int] = OrderedDict()
        self._window = Window(head, [], max_frames=FRAMES, max_bytes=MAX_BYTES)
        self.truncated = truncated
        for pause in self._pauses.values():
            self._seen[pause["trace_id"]] = max(self._seen.get(pause["trace_id"], 0), pause["seq"])
        self._trim()

    @property
    def head(self) -> int:
        """The cursor behind the newest frame. Means nothing outside of this process."""
        return self._window.head

    @property
    def pauses(self) -> list[dict[str, Any]]:
        """The open ones, newest first."""
        return list(reversed(self._pauses.values()))

    def fold(self, event: Mapping[str, Any]) -> bool:
        """Takes an event of one of `KINDS`; False when it was seen before or changes nothing that was shown. Raises
        KeyError, TypeError or AttributeError on what is not such an event; then nothing has changed."""
        trace_id, seq = event["trace_id"], event["seq"]
        if seq <= self._seen.get(trace_id, 0) or not self._apply(event["event_type"], event):
            return False
        self._seen[trace_id] = seq
        self._seen.move_to_end(trace_id)
        self._trim()
        return True

    def push(self, frame: bytes) -> None:
        """The frame of an event that `fold` took."""
        self._window.push(frame)

    def after(self, cursor: int) -> Piece | Cold | None:
        """What follows a cursor; Cold when that is gone."""
        return self._window.after(cursor)

    def _apply(self, kind: str, event: Mapping[str, Any]) -> bool:
        if kind in TERMINAL_EVENTS:
            gone = [pid for pid, pause in self._pauses.items() if pause["trace_id"] == event["trace_id"]]
            for pause_id in gone:
                del self._pauses[pause_id]
            return bool(gone)
        pause_id = event["pause_id"]
        pause = self._pauses.get(pause_id)
        if kind == EventType.WORKFLOW_PAUSED_HITL:
            self._pauses[pause_id] = dict(event)
        elif kind == EventType.HITL_RESOLVED:
            self._pauses.pop(pause_id, None)
        elif pause is not None and kind == EventType.PAUSE_UPDATED:
            pause.update((f, event[f]) for f in ("claimed_by", "claimed_until", "reminded_at") if f in event)
        elif pause is not None and kind == EventType.MESSAGE_ADDED:
            said = {k: event[k] for k in ("role", "text", "at", "withheld") if k in event}
            pause["transcript"] = [*(pause.get("transcript") or []), said]
        return True

    def _trim(self) -> None:
        while len(self._pauses) > OPEN:
            self._pauses.popitem(last=False)
            self.truncated = True
        while len(self._seen) > _WORKFLOWS:
            self._seen.popitem(last=False)
