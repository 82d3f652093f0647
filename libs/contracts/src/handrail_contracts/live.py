"""The live view as it lies in Redis: names, layout, and how the state is put together again. Pure; the IO is the caller's.

Two keys per workflow, one hash tag, so that one script may touch both:

    hr:{tenant/trace_id}:view     hash
        seq       the cursor
        base      JSON: trace_id, blueprint, intent, input, labels, created_at     written by the first event
        meta      JSON: status, output, reason, updated_at                         written by every event
        n:<id>    `<place> <JSON>`: a node and its place in plan order
        p:<id>    `<seq> <JSON>`: an open pause and the event that opened it
    hr:{tenant/trace_id}:stream   stream, ids `<seq>-0`, fields t (event_type) and d (the event as on the wire)

Writing costs O(what the event touches): `LiveView.apply` says which fields. Reading is one HGETALL and a join of
bytes: no JSON is parsed to answer `GET /workflows/{trace_id}/state`. Both keys expire a day after the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from handrail_contracts.events import TERMINAL_EVENTS, EventType
from handrail_contracts.view import WorkflowView

STREAM_EVENTS = 1000
"""About so many of the newest events are kept in the stream, and that many go into `history`."""
ENDED_TTL_S = 24 * 3600
EPOCH_KEY = "hr:epoch"
"""Drawn at random by whoever finds it missing; another value than remembered means that Redis was emptied."""


def view_key(tenant: str, trace_id: str) -> str:
    """The hash of a workflow."""
    return f"hr:{{{tenant}/{trace_id}}}:view"


def stream_key(tenant: str, trace_id: str) -> str:
    """The stream of a workflow's newest events."""
    return f"hr:{{{tenant}/{trace_id}}}:stream"


class Delta(NamedTuple):
    """What events change in the hash, besides `seq`. `ended`: the keys may expire from now on."""

    seq: int
    fields: dict[str, bytes]
    removed: tuple[str, ...]
    ended: bool


class LiveView:
    """A WorkflowView that knows which fields of the hash each event touches."""

    __slots__ = ("_base_touched", "_ended", "_nodes_touched", "_pauses_touched", "_places", "view")

    def __init__(self, view: WorkflowView) -> None:
        self.view = view
        self._places = {node_id: place for place, node_id in enumerate(view.nodes)}
        self._base_touched = self._ended = False
        self._nodes_touched: dict[str, None] = {}
        self._pauses_touched: dict[str, None] = {}

    def fold(self, event: Mapping[str, Any]) -> bool:
        """Folds one event in; what to write is told by the next `changes`. Answers and raises as `WorkflowView.apply`."""
        view = self.view
        open_before = tuple(view.pauses) if view.pauses else ()
        if not view.apply(event):
            return False
        match event["event_type"]:
            case EventType.NODE_STATE_CHANGED:
                if event["node_id"] in view.nodes:
                    self._nodes_touched[event["node_id"]] = None
            case EventType.WORKFLOW_PLANNED | EventType.NODES_ADDED:
                for node in event["nodes"]:
                    self._places.setdefault(node["id"], len(self._places))
                    self._nodes_touched[node["id"]] = None
            case EventType.WORKFLOW_PAUSED_HITL | EventType.PAUSE_UPDATED | EventType.MESSAGE_ADDED:
                if event["pause_id"] in view.pauses:
                    self._pauses_touched[event["pause_id"]] = None
            case _:
                self._pauses_touched.update((pause_id, None) for pause_id in open_before if pause_id not in view.pauses)
        if view.cursor == 1 or event["event_type"] == EventType.WORKFLOW_ACCEPTED:
            self._base_touched = True
        self._ended = event["event_type"] in TERMINAL_EVENTS
        return True

    def changes(self) -> Delta:
        """What to write for all events that were folded in since the last call: each field once, as it is now."""
        view = self.view
        fields = {"meta": self._meta()}
        for node_id in self._nodes_touched:
            fields[f"n:{node_id}"] = self._node(node_id)
        removed: list[str] = []
        for pause_id in self._pauses_touched:
            if pause_id in view.pauses:
                fields[f"p:{pause_id}"] = self._pause(pause_id)
            else:
                removed.append(f"p:{pause_id}")
        if self._base_touched:
            fields["base"] = self._base()
        self._base_touched = False
        self._nodes_touched, self._pauses_touched = {}, {}
        return Delta(view.cursor, fields, tuple(removed), self._ended)

    def apply(self, event: Mapping[str, Any]) -> Delta | None:
        """Folds one event in and answers what to write; None for one that was applied before. Raises as
        `WorkflowView.apply` does."""
        return self.changes() if self.fold(event) else None

    def whole(self) -> Delta:
        """Every field: what a rebuild writes."""
        fields = {"base": self._base(), "meta": self._meta()}
        for node_id in self.view.nodes:
            fields[f"n:{node_id}"] = self._node(node_id)
        for pause_id in self.view.pauses:
            fields[f"p:{pause_id}"] = self._pause(pause_id)
        return Delta(self.view.cursor, fields, (), self.view.ended)

    def _base(self) -> bytes:
        view = self.view
        return to_json(
            {
                "trace_id": view.trace_id,
                "blueprint": view.blueprint,
                "intent": view.intent,
                "input": view.input,
                "labels": view.labels,
                "created_at": view.created_at,
            }
        )

    def _meta(self) -> bytes:
        view = self.view
        return to_json(
            {"status": view.status, "output": view.output, "reason": view.reason, "updated_at": view.updated_at}
        )

    def _node(self, node_id: str) -> bytes:
        return b"%d %b" % (self._places[node_id], to_json(self.view.nodes[node_id]))

    def _pause(self, pause_id: str) -> bytes:
        pause = self.view.pauses[pause_id]
        return b"%d %b" % (pause["seq"], to_json(pause))


def state_json(fields: Mapping[bytes, bytes]) -> bytes | None:
    """The state of CONTRACT section 3 without `history`, as JSON, from the whole hash; None where there is none (or not
    enough of one to trust)."""
    cursor, base, meta = fields.get(b"seq"), fields.get(b"base"), fields.get(b"meta")
    if cursor is None or base is None or meta is None:
        return None
    nodes = _in_order(value for name, value in fields.items() if name.startswith(b"n:"))
    pauses = _in_order(value for name, value in fields.items() if name.startswith(b"p:"))
    parts = (base[:-1], b",", meta[1:-1], b',"cursor":"', cursor, b'","nodes":[', nodes, b'],"pauses":[', pauses, b"]}")
    return b"".join(parts)


def view_of(fields: Mapping[bytes, bytes]) -> WorkflowView | None:
    """The view that goes on from the whole hash; None as `state_json`."""
    state = state_json(fields)
    return None if state is None else WorkflowView.from_state(from_json(state))


def with_history(state: bytes, trace_id: str, events: Iterable[bytes], *, truncated: bool) -> bytes:
    """Adds `history` to a state: `events` as on the wire, oldest first, the last of them the state's cursor.
    `truncated`: there were older ones."""
    more = b',"history_truncated":true,"history_next":"/workflows/%b/journal?after=0"' % trace_id.encode()
    return b"".join((state[:-1], b',"history":[', b",".join(events), b"]", more if truncated else b"", b"}"))


def _in_order(values: Iterable[bytes]) -> bytes:
    placed = [value.partition(b" ") for value in values]
    placed.sort(key=lambda parts: int(parts[0]))
    return b",".join([parts[2] for parts in placed])
