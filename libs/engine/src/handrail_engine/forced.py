"""The end of a workflow that the rules cannot handle, after a person gave it up: made from its rows alone, for they may not
fold. It ends FAILED; every pause that is open is closed, nothing is undone, and its reason names what stands. One without any
row was never started: nothing stands, so it ends as any cancel of it would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus
from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter
from handrail_engine.decide import END_EVENTS
from handrail_engine.inputs import GiveUp
from handrail_engine.lifecycle import OPEN
from handrail_engine.outgoing import late_effect_id, late_letter
from handrail_engine.rollback import needs_undo
from handrail_engine.state import Row, WorkflowState

_NAMED = 20
_STANDS = frozenset({N.COMPLETE, N.COMPENSATION_FAILED, N.NOT_REVERSIBLE})


@dataclass(frozen=True, slots=True)
class Forced:
    """Rows to append, the state of what has ended so (it has no nodes), and the places that it had taken."""

    rows: list[Row]
    state: WorkflowState
    places: dict[str, int]


@dataclass(slots=True)
class _Known:
    """What rows say without being folded."""

    created_ms: int
    nodes: dict[str, str] = field(default_factory=dict)  # its newest state
    out: dict[str, tuple[str, ...]] = field(default_factory=dict)  # whose attempt is out: its places
    pauses: dict[str, Row] = field(default_factory=dict)


def force_end(tenant: str, trace_id: str, rows: Sequence[Row], order: GiveUp, why: str, now_ms: int) -> Forced:
    """The end of the workflow that has these rows; `why` is what the rules stumbled over."""
    known = _known(rows, now_ms)
    seq = rows[-1].seq if rows else 0
    written: list[Row] = []

    def emit(type_: T, meta: dict[str, Any] | None = None, **data: Any) -> None:
        nonlocal seq
        seq += 1
        body: dict[str, Any] = {"event_type": type_.value, "trace_id": trace_id, "seq": seq, "at": iso(now_ms), **data}
        written.append(Row(seq, type_.value, body, meta, now_ms))

    for pause_id, row in known.pauses.items():
        callback = (row.meta or {}).get("callback")
        said = {"action_id": None, "actor": order.actor, "channel": order.channel, "comment": order.comment}
        node_id = row.data.get("node_id")
        meta = {"callback": callback} if callback is not None else None
        emit(T.HITL_RESOLVED, meta, pause_id=pause_id, outcome="cancelled", node_id=node_id, input=None, **said)
    counts = dict(Counter(known.nodes.values()))
    totals = {"nodes": len(known.nodes), **{k.lower(): v for k, v in sorted(counts.items())}}
    end, reason = WorkflowStatus.FAILED, _reason(known, order, why)
    if not rows:
        end = WorkflowStatus.COMPENSATED if order.compensate else WorkflowStatus.CANCELLED
        reason, scope = order.reason, "workflow" if order.compensate else "none"
        meta = {"end": end.value, "undo": order.compensate}
        emit(T.WORKFLOW_COMPENSATING, meta, scope=scope, nodes=[], reason=reason)
    emit(END_EVENTS[end], status=end.value, output=None, reason=reason, totals=totals)
    state = WorkflowState(tenant, trace_id, end, seq, exists=True, ended=True, counts=counts)
    state.created_ms, state.updated_ms = known.created_ms, now_ms
    return Forced(written, state, dict(Counter(key for taken in known.out.values() for key in taken)))


def doubtful(s: WorkflowState) -> list[DeadLetter]:
    """What may have happened, nobody knows, and nobody will ask about any more: a dead letter each, for a person."""
    return [
        late_letter(s, n, s.do_key(n), late_effect_id(s.do_key(n), n.attempt))
        for n in s.nodes.values()
        if n.spec.effect_class is not EffectClass.PURE
        and n.attempt
        and (n.state is N.IN_PROGRESS or n.in_doubt or (n.state is not N.COMPLETE and needs_undo(n)))
    ]


def _known(rows: Sequence[Row], now_ms: int) -> _Known:
    known = _Known(rows[0].at_ms if rows else now_ms)
    for row in rows:
        d, meta = row.data, row.meta or {}
        match row.type:
            case T.WORKFLOW_PLANNED | T.NODES_ADDED:
                known.nodes.update({str(c["id"]): N.PENDING.value for c in meta.get("nodes", ())})
            case T.NODE_STATE_CHANGED:
                _moved(known, d, meta)
            case T.WORKFLOW_PAUSED_HITL:
                known.pauses[d["pause_id"]] = row
            case T.HITL_RESOLVED:
                known.pauses.pop(d["pause_id"], None)
            case _:
                pass
    return known


def _moved(known: _Known, d: dict[str, Any], meta: dict[str, Any]) -> None:
    """As `room.moved` counts places, without a state."""
    node_id, to = d["node_id"], d["to"]
    known.nodes[node_id] = to
    over = "finished_at" in d or "error" in d
    if to in OPEN or (to == N.COMPENSATING and (meta.get("dispatch") or not over)):
        known.out[node_id] = tuple(meta.get("places") or known.out.get(node_id, ()))
    else:
        known.out.pop(node_id, None)


def _reason(known: _Known, order: GiveUp, why: str) -> str:
    said = f"{order.reason.rstrip('. ')}. The rules could not wind it down ({why.rstrip('. ')}), so nothing was undone."
    stands = [k for k, state in known.nodes.items() if state in _STANDS]
    maybe = [k for k in known.out if known.nodes[k] in (N.IN_PROGRESS, N.COMPENSATING)]
    if stands:
        said += f" Left standing: {_names(stands)}."
    if maybe:
        said += f" Under way, outcome unknown: {_names(maybe)}."
    return said


def _names(ids: list[str]) -> str:
    return ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
