"""Winding down: an abort with undo, a failure or a cancel without. Attempts that are out drain first; then, in reverse,
each node's undo starts when the undos of all its dependants have settled; independent ones run in parallel.

Never: compensating what provably did not run, counting a failed undo as done, ending while a claimed effect is open.
"""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus
from handrail_contracts.ids import dead_letter_id, undo_key
from handrail_contracts.model import iso
from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import EffectClass, ResolutionKind
from handrail_contracts.tasks import Failure, Outcome, Result
from handrail_engine import pauses, room
from handrail_engine.evidence import shown, told
from handrail_engine.inputs import Cancel, Decision, Rejection
from handrail_engine.leases import claim
from handrail_engine.lifecycle import OPEN
from handrail_engine.marks import ignored_mark
from handrail_engine.parts import edge_bytes, parts
from handrail_engine.reported import times_of
from handrail_engine.retry import may_retry, wait_s
from handrail_engine.rollback import needs_undo, runs_again
from handrail_engine.state import NodeState, WorkflowState
from handrail_engine.turn import Turn
from handrail_engine.undo_list import after_savepoints, subtree, undo_list

_IDLE = frozenset({N.PENDING, N.RETRYING, N.DEAD_LETTERED, N.AWAITING_HUMAN})
ROLLED_BACK = "it is rolled back"


def begin(t: Turn, end: WorkflowStatus, reason: str | None, outcome: str = "superseded") -> None:
    """Starts winding down towards `end`; with COMPENSATED everything that may stand is undone first. `outcome` is how the
    open pauses are closed. A partial rollback that is under way becomes part of it."""
    s = t.state
    if s.ends:
        return
    pauses.close_all(t, outcome)
    undo = end is WorkflowStatus.COMPENSATED
    meta: dict[str, Any] = {"end": end.value, "undo": undo}
    _announce(t, meta, "workflow" if undo else "none", list(undo_list(s, None)) if undo else [], reason)
    _wind_down(t, "the workflow is ending")


def go_on(t: Turn, c: Cancel) -> Rejection | None:
    """A cancel of what winds down already: what somebody has paused by hand meanwhile goes on. What asks about an undo stays."""
    held = [p for p in t.state.pauses.values() if p.kind == PauseKind.MANUAL]
    if not held:
        return Rejection("already-ending", "the workflow is winding down")
    for pause in held:
        pauses.close(t, pause, "cancelled", None, c.actor, channel=c.channel, comment=c.comment)
    if not t.state.pauses:
        t.emit(T.WORKFLOW_RESUMED, status=WorkflowStatus.COMPENSATING.value)
    pauses.release(t)
    return None


def begin_part(t: Turn, node: NodeState, scope: str, reason: str) -> None:
    """Rolls a part back: with `subtree` the node and all that depends on it, which the workflow then goes on without; with
    `savepoint` all that comes after the nearest savepoints before it, which then runs again under new keys."""
    s = t.state
    if scope == "subtree":
        roots, members = [node.spec.id], subtree(s, [node.spec.id])
    else:
        roots, members = after_savepoints(s, node)
    pauses.close_all(t, "superseded", members)
    meta: dict[str, Any] = {"undo": True, "members": sorted(members)}
    if scope == "savepoint":
        meta["again"] = meta["members"]
    _announce(t, meta, f"{scope}:{','.join(roots) or 'start'}", list(undo_list(s, members)), reason)
    _wind_down(t, ROLLED_BACK)


def _announce(t: Turn, meta: dict[str, Any], scope: str, undos: list[dict[str, Any]], reason: str | None) -> None:
    cut = list(parts(undos, lambda n: 64 + edge_bytes((n["node_id"], *n["depends_on"])))) or [[]]
    for part in cut:
        t.emit(T.WORKFLOW_COMPENSATING, meta, scope=scope, nodes=part, reason=reason)
        meta = {}


def _wind_down(t: Turn, why: str) -> None:
    """What is not out ends here; what is out and has no effect is not waited for."""
    s = t.state
    for node in [n for n in s.nodes.values() if s.leaves(n)]:
        if node.state in _IDLE:
            leave(t, node, why)
        elif node.state in OPEN and node.spec.effect_class is EffectClass.PURE:
            t.move(node, N.CANCELLED, {"outcome": "given-up"}, reason=why, finished_at=t.at)
    advance_all(t)


def leave(t: Turn, node: NodeState, why: str) -> None:
    """Ends the first life of a node that is not out."""
    t.move(node, N.CANCELLED, {"outcome": "cancelled"}, reason=why, finished_at=t.at)


def over(t: Turn) -> bool:
    """Ends a partial rollback whose undos have all ended: its nodes run again, or the rest goes on without them."""
    s = t.state
    e = s.ending
    if e is None or e.end is not None or s.undo_unsettled:
        return False
    status = WorkflowStatus.PAUSED_HITL if s.pauses else WorkflowStatus.RUNNING
    t.emit(T.WORKFLOW_RESUMED, {"rolled_back": True}, status=status.value)
    for node in [n for n in s.nodes.values() if n.spec.id in e.again and runs_again(n)]:
        fresh = dict.fromkeys(("output", "error", "worker", "started_at", "finished_at"))
        t.move(node, N.PENDING, reason="rolled back to a savepoint", **fresh)
    pauses.release(t)
    return True


def advance_all(t: Turn) -> None:
    """Looks at every node that could start its undo, latest completion first."""
    s = t.state
    if s.ending is None or s.held:
        return
    for node in sorted((n for n in s.nodes.values() if s.undoes(n)), key=lambda n: -n.ended_seq):
        advance(t, node)


def advance_ready(t: Turn) -> None:
    """Looks at the nodes whose dependants' undos have all settled since the last look, latest completion first."""
    s = t.state
    ready = [s.nodes[k] for k in s.undo_ready]
    s.undo_ready.clear()
    for node in sorted(ready, key=lambda n: -n.ended_seq):
        advance(t, node)


def advance(t: Turn, node: NodeState) -> None:
    """Starts the node's undo if it is its turn and there is something to undo."""
    s, undo = t.state, node.undo
    if not s.undoes(node) or (s.ending and s.ending.stopped) or s.held or undo.waiting or node.state in OPEN:
        return
    if undo.again:
        if node.state in _ENDED:
            _start_undo(t, node, order=undo.order + 1, round=True)
    elif not undo.settled and needs_undo(node):
        _start_undo(t, node)


_ENDED = frozenset({N.COMPENSATED, N.NOTHING_TO_UNDO, N.CANCELLED, N.SKIPPED})


def _start_undo(t: Turn, node: NodeState, **meta: Any) -> None:
    if node.spec.undoing is not None:
        dispatch_undo(t, node, **meta)
    else:
        t.move(node, N.NOT_REVERSIBLE if node.spec.irreversible else N.NOTHING_TO_UNDO, finished_at=t.at)


def unseen(s: WorkflowState, node: NodeState) -> bool:
    """True when an effect of the node that comes to light now is one that no undo has seen: it has to be undone (again)."""
    if not s.undoes(node):
        return False
    if node.state in (N.CANCELLED, N.SKIPPED):
        return node.undo.settled
    if node.state is N.COMPENSATION_FAILED:
        return not node.undo.settled  # else a person left it standing
    return node.spec.undoing is not None and node.state in (N.COMPENSATING, N.COMPENSATED, N.NOTHING_TO_UNDO)


def dispatch_undo(t: Turn, node: NodeState, **meta: Any) -> None:
    """Sends the next attempt of the node's undo."""
    attempt = node.undo.attempt + 1
    if attempt == 1:
        meta["round"] = True
    if places := room.limited(t, node):
        meta["places"] = places
    key = undo_key(t.state.do_key(node), meta.get("order", node.undo.order))
    t.move(node, N.COMPENSATING, {"dispatch": True, "key": key, **meta}, attempt=attempt)


def answered(t: Turn, r: Result) -> Rejection | None:
    """An agent's answer to an undo."""
    s = t.state
    node = s.nodes[r.node_id]
    current = node.state is N.COMPENSATING and node.live is not None and r.attempt == node.undo.attempt
    if not current or r.effect_key != s.undo_key(node):
        return _not_current(t, node, r)
    times: dict[str, Any] = {"finished_at": t.at, **times_of(t, node, r)}
    times.pop("usage", None)
    match r.outcome:
        case Outcome.STARTED:
            if node.undo.claimed:
                claim(node, t.now.ms)
                return Rejection("duplicate", "the undo is claimed already")
            started, worker = times.get("started_at", t.at), times.get("worker")
            t.move(node, N.COMPENSATING, attempt=r.attempt, started_at=started, worker=worker)
        case Outcome.OK:
            nothing = isinstance(r.output, dict) and r.output.get("nothing_to_undo") is True
            t.move(node, N.NOTHING_TO_UNDO if nothing else N.COMPENSATED, attempt=r.attempt, **times)
            advance(t, node)
        case _:
            error = r.error or Failure(code=r.outcome.value, message="The undo did not succeed.")
            undo_failed(t, node, error, r.outcome is Outcome.IN_DOUBT, times)
    return None


def _not_current(t: Turn, node: NodeState, r: Result) -> Rejection | None:
    mark = ignored_mark(r.attempt, f"undo-{r.outcome.value}")
    orders = range(node.undo.order + 1)
    if not any(r.effect_key == undo_key(t.state.do_key(node), o) for o in orders):
        return Rejection("unknown-key", "it answers under an undo key that this node never had")
    ended = next((a for a in node.undo.attempts if a["attempt"] == r.attempt), None)
    if ended is not None and (ended["error"] is None or r.outcome is not Outcome.OK):
        return Rejection("duplicate", f"undo attempt {r.attempt} has ended already")
    if r.outcome is Outcome.STARTED or not 1 <= r.attempt <= node.undo.attempt or mark in node.ignored:
        return Rejection("stale-undo", f"undo attempt {r.attempt} is not open")
    if node.state in (N.COMPENSATED, N.NOTHING_TO_UNDO):
        return Rejection("duplicate", "the undo has ended already")
    meta = {"outcome": f"undo-{r.outcome.value}"}
    t.emit(T.RESULT_IGNORED, meta, node_id=node.spec.id, attempt=r.attempt, reason="late")
    return None


def undo_failed(t: Turn, node: NodeState, error: Failure, doubt: bool, times: dict[str, Any]) -> None:
    """An undo attempt failed, or nobody knows. An undo is idempotent by contract, so both are tried again."""
    undoing = node.spec.undoing
    assert undoing is not None
    s = t.state
    done = node.undo.attempt - node.undo.round_from
    data: dict[str, Any] = {"attempt": node.undo.attempt, "finished_at": t.at, **times, "error": told(error)}
    stopped = s.ending is not None and s.ending.stopped
    wait = wait_s(undoing.retry, error, done, s.trace_id, f"{node.spec.id}/undo", node.undo.attempt)
    again = may_retry(undoing.retry, error, done, node.undo.round_ms, t.now.ms, wait, doubt=doubt)
    if again and not stopped:
        t.move(node, N.COMPENSATING, retry_at=iso(t.now.ms + int(wait * 1000)), **data)
        return
    t.move(node, N.COMPENSATION_FAILED, **data)
    if stopped:
        return
    letter = dead_letter_id(s.tenant, s.trace_id, s.seq + 1)
    meta = {"pause": True, "undo": True}
    t.emit(T.TASK_DEAD_LETTERED, meta, node_id=node.spec.id, attempts=shown(node.undo.attempts), dead_letter_id=letter)


def claim_lost(t: Turn, node: NodeState) -> None:
    """The agent that was undoing fell silent or ran too long."""
    text = f"{node.spec.agent} fell silent while undoing {node.spec.id}."
    times = {"started_at": iso(node.started_ms)} if node.started_ms is not None else {}
    undo_failed(t, node, Failure(code="lease-expired", message=text), True, times)


def no_agent(t: Turn, node: NodeState) -> None:
    """Nobody claims the undo: a person should know. It can no longer start, so the effect stands as it stood."""
    patience = node.limits.schedule_to_start_s
    text = f"no agent of type {node.spec.agent} for {patience:g} s"
    error = {"code": "no-agent", "message": text, "evidence": None}
    t.move(node, N.COMPENSATION_FAILED, attempt=node.undo.attempt, error=error, finished_at=t.at)
    if not (t.state.ending and t.state.ending.stopped):
        pauses.open_pause(t, PauseKind.COMPENSATION_FAILURE, node)


def give_up(t: Turn, node: NodeState) -> None:
    """While winding down: an attempt that nobody claimed can no longer start, so nothing happened."""
    t.move(node, N.CANCELLED, {"outcome": "given-up"}, reason="nobody had started it", finished_at=t.at)
    advance(t, node)


def decided(t: Turn, node: NodeState, kind: ResolutionKind, d: Decision) -> None:
    """A person answered a failed undo. `accept` and `stop` are folded from the row that closes the pause."""
    match kind:
        case ResolutionKind.RETRY:
            dispatch_undo(t, node, round=True)
        case ResolutionKind.MARK:
            said = f"undone by hand, says {d.actor}"
            attempt = node.undo.attempt
            t.move(node, N.COMPENSATED, {"by_hand": True}, attempt=attempt, reason=said, finished_at=t.at)
        case ResolutionKind.STOP:
            _stop(t)
        case _:
            pass


def _stop(t: Turn) -> None:
    """A person said enough: what is out may still answer, nothing new starts."""
    for node in list(t.state.nodes.values()):
        if node.state is N.COMPENSATING and node.live is None:
            t.move(node, N.COMPENSATION_FAILED, attempt=node.undo.attempt, reason="stopped by a person")


def finished(s: WorkflowState) -> bool:
    """True when the winding down has nothing left to wait for."""
    if s.ending is None or s.ending.end is None or s.out or s.pauses or s.letters:
        return False
    return s.ending.stopped or s.undo_unsettled == 0
