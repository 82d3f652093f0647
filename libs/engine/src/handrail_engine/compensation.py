"""Winding down: an abort with undo, a failure or a cancel without. Attempts that are out drain first; then, in reverse,
each node's undo starts when the undos of all its dependants have settled; independent ones run in parallel.

Never: compensating what provably did not run, counting a failed undo as done, ending while a claimed effect is open.
"""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import NODES_PER_EVENT, WorkflowStatus
from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.ids import dead_letter_id
from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass, ResolutionKind
from handrail_contracts.tasks import Failure, Outcome, Result
from handrail_engine import pauses
from handrail_engine.evolve import claim, ignored_mark, needs_undo
from handrail_engine.inputs import Decision, Rejection
from handrail_engine.lifecycle import OPEN
from handrail_engine.retry import delay_s
from handrail_engine.state import NodeState, WorkflowState
from handrail_engine.turn import Turn

_IDLE = frozenset({N.PENDING, N.RETRYING, N.DEAD_LETTERED, N.AWAITING_HUMAN})


def begin(t: Turn, end: WorkflowStatus, reason: str | None) -> None:
    """Starts winding down towards `end`; with COMPENSATED everything that may stand is undone first."""
    s = t.state
    if s.ending is not None:
        return
    pauses.supersede_all(t)
    undo = end is WorkflowStatus.COMPENSATED
    ordered = sorted((n for n in s.nodes.values() if n.state is N.COMPLETE), key=lambda n: -n.ended_seq) if undo else []
    maybe = (
        [n for n in s.nodes.values() if n.state not in (N.COMPLETE, N.SKIPPED, N.PENDING) and _may_stand(n)]
        if undo
        else []
    )
    listed = [n for n in (*maybe, *ordered) if n.spec.undoing is not None]
    wait = _undo_dependencies(s, {n.spec.id for n in listed}) if listed else {}
    shown = [{"node_id": n.spec.id, "depends_on": wait[n.spec.id]} for n in listed[:NODES_PER_EVENT]]
    scope = "workflow" if undo else "none"
    t.emit(T.WORKFLOW_COMPENSATING, {"end": end.value, "undo": undo}, scope=scope, nodes=shown, reason=reason)
    for node in list(s.nodes.values()):
        pure = node.spec.effect_class is EffectClass.PURE
        if node.state in _IDLE or (node.state in OPEN and pure):
            t.move(node, N.CANCELLED, {"outcome": "cancelled"}, reason="the workflow is ending", finished_at=t.at)
    for node in ordered:
        advance(t, node)
    advance_all(t)


def _may_stand(n: NodeState) -> bool:
    return n.spec.effect_class is not EffectClass.PURE and (n.state in OPEN or n.in_doubt)


def _undo_dependencies(s: WorkflowState, undoing: set[str]) -> dict[str, list[str]]:
    """For each node to be undone, the nearest dependants that are undone too: their undos come first."""
    nearest: dict[str, dict[str, None]] = {}
    for node_id in reversed(list(s.nodes)):  # compiled plans are in topological order, so dependants come before
        found: dict[str, None] = {}
        for child in s.children[node_id]:
            if child in undoing:
                found[child] = None
            else:
                found.update(nearest[child])
        nearest[node_id] = found
    return {k: list(v) for k, v in nearest.items() if k in undoing}


def drained(t: Turn, node: NodeState) -> None:
    """An attempt that was out when the winding down began has ended."""
    advance(t, node)


def advance_all(t: Turn) -> None:
    """Looks at every node that could start its undo, latest completion first."""
    s = t.state
    if s.ending is None or not s.ending.undo or s.held:
        return
    for node in sorted(s.nodes.values(), key=lambda n: -n.ended_seq):
        advance(t, node)


def advance(t: Turn, node: NodeState) -> None:
    """Starts the node's undo if it is its turn, then whatever that makes possible. Iterative."""
    s = t.state
    work = [node]
    while work:
        n = work.pop()
        if s.ending is None or not s.ending.undo or s.ending.stopped or s.held:
            return
        if n.undo.settled or n.undo.waiting or n.state in OPEN or not needs_undo(n):
            continue
        if n.spec.undoing is not None:
            dispatch_undo(t, n)
            continue
        stands = n.spec.irreversible and (n.state is N.COMPLETE or n.in_doubt)
        t.move(n, N.NOT_REVERSIBLE if stands else N.NOTHING_TO_UNDO, finished_at=t.at)
        work.extend(_released(s, n))


def _released(s: WorkflowState, node: NodeState) -> list[NodeState]:
    """Nodes whose undo may start now that this one's has settled: its dependencies, through those that need none."""
    found: list[NodeState] = []
    work, seen = list(node.spec.depends_on), set[str]()
    while work:
        dep = work.pop()
        if dep in seen:
            continue
        seen.add(dep)
        parent = s.nodes[dep]
        if parent.undo.settled:
            work.extend(parent.spec.depends_on)
        elif parent.undo.waiting == 0:
            found.append(parent)
    return sorted(found, key=lambda n: n.ended_seq)


def dispatch_undo(t: Turn, node: NodeState, **meta: Any) -> None:
    """Sends the next attempt of the node's undo."""
    attempt = node.undo.attempt + 1
    if attempt == 1:
        meta["round"] = True
    order = meta.get("order", node.undo.order)
    key = f"{t.state.do_key(node)}/undo/{order}"
    t.move(node, N.COMPENSATING, {"dispatch": True, "key": key, **meta}, attempt=attempt)


def answered(t: Turn, r: Result) -> Rejection | None:
    """An agent's answer to an undo."""
    s = t.state
    node = s.nodes[r.node_id]
    current = node.state is N.COMPENSATING and node.live is not None and r.attempt == node.undo.attempt
    if not current or r.effect_key != s.undo_key(node):
        return _not_current(t, node, r)
    known = {"started_at": r.started_at, "finished_at": r.finished_at or t.at, "worker": r.worker}
    times: dict[str, Any] = {k: v for k, v in known.items() if v is not None}
    match r.outcome:
        case Outcome.STARTED:
            if node.undo.claimed:
                claim(node, t.now.ms)
                return Rejection("duplicate", "the undo is claimed already")
            t.move(node, N.COMPENSATING, attempt=r.attempt, started_at=r.started_at or t.at, worker=r.worker)
        case Outcome.OK:
            nothing = isinstance(r.output, dict) and r.output.get("nothing_to_undo") is True
            t.move(node, N.NOTHING_TO_UNDO if nothing else N.COMPENSATED, attempt=r.attempt, **times)
            for n in _released(s, node):
                advance(t, n)
        case _:
            error = r.error or Failure(code=r.outcome.value, message="The undo did not succeed.")
            undo_failed(t, node, error, times)
    return None


def _not_current(t: Turn, node: NodeState, r: Result) -> Rejection | None:
    mark = ignored_mark(r.attempt, f"undo-{r.outcome.value}")
    done = any(a["attempt"] == r.attempt for a in node.undo.attempts)
    if (
        r.outcome is Outcome.STARTED
        or r.attempt > node.undo.attempt
        or mark in node.ignored
        or (done and r.outcome is not Outcome.OK)
    ):
        return Rejection("stale-undo", f"undo attempt {r.attempt} is not open")
    if node.state in (N.COMPENSATED, N.NOTHING_TO_UNDO):
        return Rejection("duplicate", "the undo has ended already")
    meta = {"outcome": f"undo-{r.outcome.value}"}
    t.emit(T.RESULT_IGNORED, meta, node_id=node.spec.id, attempt=r.attempt, reason="late")
    return None


def undo_failed(t: Turn, node: NodeState, error: Failure, times: dict[str, Any]) -> None:
    """An undo attempt failed, or nobody knows. An undo is idempotent by contract, so both are tried again."""
    undoing = node.spec.undoing
    assert undoing is not None
    s = t.state
    done = node.undo.attempt - node.undo.round_from
    info = {"code": error.code, "message": error.message, "evidence": error.evidence}
    data: dict[str, Any] = {"attempt": node.undo.attempt, "finished_at": t.at, **times, "error": info}
    retryable = error.retryable and error.code not in undoing.retry.non_retryable_errors
    if retryable and done < undoing.retry.max_attempts:
        wait = error.retry_after_s
        if wait is None:
            wait = delay_s(undoing.retry, done, s.trace_id, f"{node.spec.id}/undo", node.undo.attempt)
        t.move(node, N.COMPENSATING, retry_at=iso(t.now.ms + int(wait * 1000)), **data)
        return
    t.move(node, N.COMPENSATION_FAILED, **data)
    letter = dead_letter_id(s.tenant, s.trace_id, s.seq + 1)
    meta = {"pause": True, "undo": True}
    t.emit(T.TASK_DEAD_LETTERED, meta, node_id=node.spec.id, attempts=list(node.undo.attempts), dead_letter_id=letter)


def claim_lost(t: Turn, node: NodeState) -> None:
    """The agent that was undoing fell silent or ran too long."""
    name = node.spec.agent
    undo_failed(t, node, Failure(code="lease-expired", message=f"{name} fell silent while undoing {node.spec.id}."), {})


def give_up(t: Turn, node: NodeState) -> None:
    """While winding down: an attempt that nobody claimed can no longer start, so nothing happened."""
    t.move(node, N.CANCELLED, {"outcome": "given-up"}, reason="nobody had started it", finished_at=t.at)
    drained(t, node)


def decided(t: Turn, node: NodeState, kind: ResolutionKind, d: Decision) -> None:
    """A person answered a failed undo."""
    match kind:
        case ResolutionKind.RETRY:
            dispatch_undo(t, node, round=True)
        case ResolutionKind.MARK:
            t.move(
                node,
                N.COMPENSATED,
                attempt=node.undo.attempt,
                reason=f"undone by hand, says {d.actor}",
                finished_at=t.at,
            )
            for n in _released(t.state, node):
                advance(t, n)
        case ResolutionKind.ACCEPT:
            for n in _released(t.state, node):
                advance(t, n)
        case _:
            pass  # stop: evolve has marked the ending, nothing new starts


def late_success(t: Turn, node: NodeState) -> None:
    """A success nobody waits for any more. If the node was undone or given up meanwhile, its effect is undone (again)."""
    s = t.state
    undone = node.state in (N.COMPENSATED, N.NOTHING_TO_UNDO) or (node.state is N.CANCELLED and not needs_undo(node))
    if s.ending is None or not s.ending.undo or not undone or node.spec.undoing is None:
        return
    if node.spec.effect_class is EffectClass.PURE and node.undo.order == 0 and node.undo.attempt == 0:
        return
    dispatch_undo(t, node, order=node.undo.order + 1, round=True)


def finished(s: WorkflowState) -> bool:
    """True when the winding down has nothing left to wait for."""
    if s.ending is None or s.out or s.pauses or any(n.dead_letter for n in s.nodes.values()):
        return False
    if not s.ending.undo:
        return True
    if s.ending.stopped:
        return all(n.state is not N.COMPENSATING or n.live is None for n in s.nodes.values())
    return s.undo_unsettled == 0
