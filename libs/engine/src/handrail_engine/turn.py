"""One turn of `decide`: rows are emitted one by one, each folded at once, so that the next rule sees what the last one did.

`decide` advances the state that it is given: after it the state is the one that has these rows. That is safe because
states are a cache of the journal: the owner drops a state whose rows did not commit, the gateway asks its questions of a
state folded for that purpose. (A copy per turn would cost O(nodes) per transition.)
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from handrail_contracts.events import MAX_EVENT_BYTES, EventType, NodeStatus
from handrail_contracts.model import iso
from handrail_contracts.plan import ResolutionKind
from handrail_contracts.tasks import DeadLetter
from handrail_engine import payloads
from handrail_engine.evolve import evolve
from handrail_engine.inputs import Decision, Now
from handrail_engine.outgoing import Dispatch, outgoing
from handrail_engine.state import NodeState, Row, WorkflowState

Message = Dispatch | DeadLetter
_MOVED = EventType.NODE_STATE_CHANGED.value
_NAMES = {status: status.value for status in NodeStatus}
_TAKES_ALONG = (ResolutionKind.RETRY, ResolutionKind.SKIP, ResolutionKind.MARK)


class EventTooLarge(ValueError):
    """A row that no event can carry: it would hold up all that is published behind it."""


@dataclass(slots=True)
class Turn:
    """What a turn has decided so far. `queue` holds nodes that may have become ready: a worklist, never recursion."""

    state: WorkflowState
    now: Now
    rows: list[Row] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    blobs: list[tuple[str, bytes]] = field(default_factory=list)  # digest, body
    queue: deque[str] = field(default_factory=deque)
    put_off: list[NodeState] = field(default_factory=list)  # due, until a pause that this turn opens holds them
    at: str = ""
    places: dict[str, int] = field(default_factory=dict)  # what was taken when the turn began

    def __post_init__(self) -> None:
        self.at = iso(self.now.ms)
        if self.now.room:
            self.places = dict(self.state.places)

    def emit(self, type_: EventType, meta: dict[str, Any] | None = None, **data: Any) -> Row:
        """Appends one row and folds it. Keys of `data` are the event's own. Raises EventTooLarge: a wall, for what an event is made
        of has been made to fit before (`carried`, `fitting`)."""
        s, name = self.state, type_.value
        event = {"event_type": name, "trace_id": s.trace_id, "seq": s.seq + 1, "at": self.at, **data}
        if not payloads.is_small(event) and (took := len(payloads.encoded(event))) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"Expected at most {MAX_EVENT_BYTES} bytes in an event, but {name} has {took}.")
        return self._append(name, meta, event)

    def move(self, node: NodeState, to: NodeStatus, meta: dict[str, Any] | None = None, **data: Any) -> Row:
        """Emits NODE_STATE_CHANGED; `attempt` defaults to the node's."""
        s = self.state
        moved = {
            "event_type": _MOVED,
            "trace_id": s.trace_id,
            "seq": s.seq + 1,
            "at": self.at,
            "node_id": node.spec.id,
            "from": _NAMES[node.state],
            "to": _NAMES[to],
            "attempt": node.attempt,
            **data,
        }
        return self._append(_MOVED, meta, moved)

    def _append(self, type_: str, meta: dict[str, Any] | None, data: dict[str, Any]) -> Row:
        s = self.state
        row = Row(s.seq + 1, type_, data, meta, self.now.ms)
        evolve(s, row)
        self.rows.append(row)
        self.messages.extend(outgoing(s, row))
        return row

    def ready_again(self, node: NodeState) -> None:
        """Its dependants may be ready now."""
        self.queue.extend(self.state.children[node.spec.id])

    def taken_along(self, kind: ResolutionKind, d: Decision) -> Decision:
        """The decision with an input that its event can carry; arguments and replies stay as they are, they are read here."""
        return replace(d, input=self.carried(d.input)) if kind in _TAKES_ALONG and d.input is not None else d

    def fitting(self, members: dict[str, Any], most: int) -> dict[str, Any]:
        """What an event carries of these members: the largest as references until all take at most `most` bytes."""
        shown, kept = payloads.fitting(self.state.trace_id, members, most)
        self.blobs.extend(kept)
        return shown

    def carried(self, value: Any) -> Any:
        """What an event carries of this value: itself, or a reference where it is large. The value is stored with the rows."""
        if payloads.is_small(value):
            return value
        body = payloads.encoded(value)
        if len(body) <= payloads.ALONE_BYTES:
            return value
        mark, stored = payloads.reference(self.state.trace_id, body)
        self.blobs.append((mark, body))
        return payloads.with_fields(stored, value)
