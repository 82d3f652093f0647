"""A state written down, so that a long journal need not be folded whole: `thaw(freeze(s))` is the state that its rows give.

Only what follows from the journal is kept. What an owner knows beyond it (leases, sends, wake-ups, who waits for room) is left
out, as a fold leaves it out: `decide.renew` makes it anew. A snapshot belongs to one `FOLD_VERSION`; one of another is no
snapshot. Fields that hold what a fresh node, pause or workflow has are not written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

from handrail_contracts.events import NodeStatus, WorkflowStatus
from handrail_contracts.plan import PauseScope
from handrail_engine.leases import claim, sent
from handrail_engine.spec import node_spec
from handrail_engine.state import Ending, NodeState, PauseState, Undo, WorkflowState

Codec = tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]
Written = list[tuple[str, Any, Callable[[Any], Any] | None]]
Read = dict[str, Callable[[Any], Any] | None]
Table = tuple[Written, Read]


def freeze(s: WorkflowState) -> dict[str, Any]:
    """The state as plain JSON. Expects one whose rows are all stored. What it holds is shared with `s`: write it down before
    anything else happens to `s`."""
    out = _written(s, _WORKFLOW)
    out["nodes"] = [_frozen_node(n) for n in s.nodes.values()]
    out["pauses"] = [_written(p, _PAUSE) for p in s.pauses.values()]
    if s.ending is not None:
        e = s.ending
        members = None if e.members is None else sorted(e.members)
        out["ending"] = [e.end, members, sorted(e.again), e.reason, e.stopped]
    return out


def thaw(tenant: str, trace_id: str, frozen: dict[str, Any]) -> WorkflowState:
    """The state that `freeze` was given, as a fold of its rows gives it. Raises on anything that `freeze` did not write."""
    s = WorkflowState(tenant, trace_id)
    _read(s, frozen, _WORKFLOW)
    for written in frozen["nodes"]:
        _add(s, written)
    for p in frozen["pauses"]:
        pause = PauseState(p["pause_id"], p["kind"], p["node_id"], PauseScope(p["scope"]), p["data"])
        _read(pause, p, _PAUSE)
        s.pauses[pause.pause_id] = pause
    if "ending" in frozen:
        end, members, again, reason, stopped = frozen["ending"]
        ends = None if end is None else WorkflowStatus(end)
        s.ending = Ending(ends, None if members is None else frozenset(members), frozenset(again), reason, stopped)
    return s


def _frozen_node(n: NodeState) -> dict[str, Any]:
    out = _written(n, _NODE)
    out["spec"] = n.spec.compiled
    undo = _written(n.undo, _UNDO)
    if undo:
        out["undo"] = undo
    if n.live is not None:
        out["out"] = True
    return out


def _add(s: WorkflowState, written: dict[str, Any]) -> None:
    spec = node_spec(written["spec"], s.nodes)
    node = s.nodes[spec.id] = NodeState(spec, len(s.nodes), written["waiting"])
    _read(node, written, _NODE)
    if "undo" in written:
        _read(node.undo, written["undo"], _UNDO)
    s.children.setdefault(spec.id, [])
    for dep in spec.depends_on:
        s.children.setdefault(dep, []).append(spec.id)
    if "out" in written:
        node.live = sent(node.scheduled_ms, node.limits.schedule_to_start_s)
        if node.state is NodeStatus.IN_PROGRESS or (node.state is NodeStatus.COMPENSATING and node.undo.claimed):
            claim(node, node.scheduled_ms)


def _written(of: Any, table: Table) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, default, write in table[0]:
        value = getattr(of, name)
        if value != default:
            out[name] = value if write is None else write(value)
    return out


def _read(into: Any, written: dict[str, Any], table: Table) -> None:
    reads = table[1]
    for name, value in written.items():
        if name in reads:
            read = reads[name]
            setattr(into, name, value if read is None else read(value))


def _table(of: type, left_out: frozenset[str], **codecs: Codec) -> Table:
    """Every field of a state but those: a new one is written without being named here."""
    written: Written = []
    reads: Read = {}
    for f in fields(of):
        if f.name in left_out:
            continue
        default: Any = object()  # always written
        if f.default is not MISSING:
            default = f.default
        elif f.default_factory is not MISSING:
            default = f.default_factory()
        write, reads[f.name] = codecs.get(f.name, (None, None))
        written.append((f.name, default, write))
    return written, reads


_OWNERS = frozenset({"live", "armed_ms", "crowded", "timers", "undo_ready", "room_at"})
_ELSEWHERE = frozenset({"tenant", "trace_id", "nodes", "children", "pauses", "ending", "spec", "index", "undo"})
_NAMES: Codec = (lambda d: {str(k): v for k, v in d.items()}, None)
_PAIRS: Codec = (lambda d: list(d.items()), lambda pairs: dict(map(tuple, pairs)))
_SET: Codec = (sorted, set)
_TUPLE: Codec = (list, tuple)

_WORKFLOW = _table(WorkflowState, _OWNERS | _ELSEWHERE, status=(None, WorkflowStatus), counts=_NAMES)
_NODE = _table(
    NodeState,
    _OWNERS | _ELSEWHERE,
    state=(None, NodeStatus),
    closed=_PAIRS,
    ignored=_SET,
    dead_letter=_TUPLE,
    by=_TUPLE,
    places=_TUPLE,
)
_UNDO = _table(Undo, frozenset[str]())
_PAUSE = _table(PauseState, frozenset[str](), scope=(None, PauseScope))
