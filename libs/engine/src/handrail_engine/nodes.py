"""The first life of a node: when it is dispatched, what its agent's answers mean, when it is tried again, when it gives up."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus as W
from handrail_contracts.ids import dead_letter_id
from handrail_contracts.model import iso
from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import EffectClass, OnExhausted
from handrail_contracts.tasks import Failure, Outcome, Result
from handrail_engine import compensation, pauses
from handrail_engine.evolve import claim, ignored_mark
from handrail_engine.inputs import Rejection
from handrail_engine.lifecycle import OPEN
from handrail_engine.outgoing import look_up
from handrail_engine.references import holds
from handrail_engine.retry import delay_s
from handrail_engine.state import NodeState
from handrail_engine.turn import Turn


def consider(t: Turn, node: NodeState) -> None:
    """Dispatches the node if it is its turn: all dependencies settled, nothing held back, its condition met."""
    s = t.state
    if node.state is not N.PENDING or node.waiting or s.ending is not None or s.held:
        return
    dead = dead_source(t, node)
    if dead is not None:
        skip(t, node, f"needs the output of {dead}, which was skipped")
    elif node.spec.when is not None and not holds(node.spec.when, look_up(s, node, node.spec.when["ref"])):
        skip(t, node, "its condition does not hold")
    else:
        dispatch(t, node)


def dead_source(t: Turn, node: NodeState) -> str | None:
    """The id of a skipped node whose output this one cannot live without, or None."""
    for _, ref, may_miss in node.spec.refs:
        if ref.node_id is not None and not may_miss:
            source = t.state.nodes[ref.node_id]
            if source.state is N.SKIPPED and source.output is None and not source.spec.optional:
                return ref.node_id
    return None


def skip(t: Turn, node: NodeState, reason: str, output: Any = None) -> None:
    """Settles the node as SKIPPED; a substitute output stands in for its own."""
    more = {} if output is None else {"output": output}
    t.move(node, N.SKIPPED, reason=reason, finished_at=t.at, **more)
    t.ready_again(node)


def dispatch(t: Turn, node: NodeState, **meta: Any) -> None:
    """Sends the next attempt. What undoes it is registered in the same row (DESIGN section 4, Compensation)."""
    s = t.state
    generation = meta.get("generation", node.generation)
    key = f"{s.tenant}/{s.trace_id}/{node.spec.id}/{generation}"
    full: dict[str, Any] = {"key": key, **meta}
    if node.spec.undoing is not None:
        full["undo"] = node.spec.undoing.action
    attempt = node.attempt + 1
    fresh = meta.get("round") or attempt == 1
    t.move(
        node,
        N.SCHEDULED,
        full,
        attempt=attempt,
        max_attempts=(attempt - 1 if fresh else node.round_from) + node.spec.retry.max_attempts,
    )


def answered(t: Turn, r: Result) -> Rejection | None:
    """An agent's answer to an execution or a look-up."""
    node = t.state.nodes[r.node_id]
    if node.state not in OPEN or r.attempt != node.attempt or r.effect_key != t.state.do_key(node):
        return _not_current(t, node, r)
    match r.outcome:
        case Outcome.STARTED:
            return _started(t, node, r)
        case Outcome.OK:
            _succeeded(t, node, r)
        case Outcome.FAILED | Outcome.IN_DOUBT:
            error = r.error or Failure(code="UNKNOWN", message="The agent gave no reason.")
            failed(t, node, error, r.outcome is Outcome.IN_DOUBT, _times(r))
        case Outcome.CANCELLED:
            _cancelled(t, node, r)
        case Outcome.ESCALATED:
            pauses.escalate(t, node, r)
        case Outcome.PROPOSED:
            error = Failure(
                code="GATES_MISSING",
                message="The agent proposed an action, and gates are not configured.",
                retryable=False,
            )
            failed(t, node, error, False, _times(r))
    return None


def _times(r: Result) -> dict[str, Any]:
    times = {"worker": r.worker, "started_at": r.started_at, "finished_at": r.finished_at, "usage": r.usage}
    return {k: v for k, v in times.items() if v is not None}


def _started(t: Turn, node: NodeState, r: Result) -> Rejection | None:
    if node.state is N.IN_PROGRESS:
        claim(node, t.now.ms)
        return Rejection("duplicate", "the attempt is claimed already")
    t.move(node, N.IN_PROGRESS, worker=r.worker, started_at=r.started_at or t.at)
    return None


def _succeeded(t: Turn, node: NodeState, r: Result) -> None:
    t.move(node, N.COMPLETE, {"outcome": "ok"}, output=r.output, **{"finished_at": t.at, **_times(r)})
    if t.state.ending is not None:
        compensation.drained(t, node)
    else:
        t.ready_again(node)


def _cancelled(t: Turn, node: NodeState, r: Result) -> None:
    """The agent stopped before anything happened. Outside an abort that is a definite failure."""
    if t.state.ending is None:
        failed(
            t, node, r.error or Failure(code="CANCELLED", message="The agent stopped the attempt."), False, _times(r)
        )
        return
    t.move(node, N.CANCELLED, {"outcome": "cancelled"}, **{"finished_at": t.at, **_times(r)})
    compensation.drained(t, node)


def _not_current(t: Turn, node: NodeState, r: Result) -> Rejection | None:
    """A late, repeated or conflicting answer: journaled once, never applied; an effect that it reveals is undone."""
    if r.outcome is Outcome.STARTED:
        return Rejection("stale-start", f"attempt {r.attempt} is over")
    if r.attempt > node.attempt:
        return Rejection("unknown-attempt", f"attempt {r.attempt} was never sent")
    if node.closed.get(r.attempt) == r.outcome.value:
        return Rejection("duplicate", f"attempt {r.attempt} was answered already")
    mark = ignored_mark(r.attempt, r.outcome.value)
    if mark in node.ignored:
        return Rejection("duplicate", f"attempt {r.attempt} was ignored already")
    by_time = node.closed.get(r.attempt) in ("lease-expired", "given-up", None)
    why = "superseded" if r.attempt < node.attempt else "late" if by_time else "conflict"
    t.emit(T.RESULT_IGNORED, {"outcome": r.outcome.value}, node_id=node.spec.id, attempt=r.attempt, reason=why)
    if r.outcome is Outcome.OK:
        compensation.late_success(t, node)
    return None


def failed(
    t: Turn, node: NodeState, error: Failure, doubt: bool, times: dict[str, Any], outcome: str | None = None
) -> None:
    """An attempt ended without success. `doubt`: nobody knows whether it had its effect."""
    spec, s = node.spec, t.state
    doubt = doubt and spec.effect_class is not EffectClass.PURE
    meta: dict[str, Any] = {"outcome": outcome or ("in_doubt" if doubt else "failed")}
    if doubt:
        meta["doubt"] = True
    info = {"code": error.code, "message": error.message, "evidence": error.evidence}
    data = {"finished_at": t.at, **times, "error": info}
    if s.ending is not None:
        t.move(node, N.CANCELLED, meta, **data)
        compensation.drained(t, node)
        return
    if node.look_up and not doubt and error.code == "NOT_FOUND":
        _retry(t, node, {**meta, "doubt": False}, data, 0.0)  # it provably did not happen: the next attempt may act
        return
    if doubt and spec.effect_class is EffectClass.UNSAFE:
        t.move(node, N.AWAITING_HUMAN, meta, **data)
        pauses.open_ambiguous(t, node)
        return
    done = node.attempt - node.round_from
    budget = spec.retry.total_timeout_s
    wait = (
        error.retry_after_s
        if error.retry_after_s is not None
        else delay_s(spec.retry, done, s.trace_id, spec.id, node.attempt)
    )
    if (doubt or node.look_up) and spec.effect_class is EffectClass.QUERYABLE:
        meta["look_up"] = True
        started = node.started_ms if node.started_ms is not None else t.now.ms
        wait = max(wait, (started + spec.timeouts.start_to_close_s * 1000 - t.now.ms) / 1000)
    in_budget = budget is None or t.now.ms + wait * 1000 <= node.round_ms + budget * 1000
    retryable = (error.retryable or doubt) and error.code not in spec.retry.non_retryable_errors
    if retryable and done < spec.retry.max_attempts and in_budget:
        _retry(t, node, meta, data, wait)
    else:
        exhausted(t, node, meta, data)


def _retry(t: Turn, node: NodeState, meta: dict[str, Any], data: dict[str, Any], wait_s: float) -> None:
    due = t.now.ms + int(wait_s * 1000)
    t.move(node, N.RETRYING, meta, retry_at=iso(due), **data)
    if due <= t.now.ms:
        retry_due(t, node)


def retry_due(t: Turn, node: NodeState) -> None:
    """The wait is over: the next attempt, unless a pause holds everything back."""
    if not t.state.held:
        dispatch(t, node, **({"look_up": True} if node.look_up else {}))


def exhausted(t: Turn, node: NodeState, meta: dict[str, Any], data: dict[str, Any]) -> None:
    """No attempts are left (or none may follow): dead-letter the task, then what the node says."""
    then = node.spec.on_exhausted
    t.move(node, N.DEAD_LETTERED, meta, **data)
    letter = dead_letter_id(t.state.tenant, t.state.trace_id, t.state.seq + 1)
    pause = then is OnExhausted.PAUSE
    t.emit(
        T.TASK_DEAD_LETTERED,
        {"pause": pause},
        node_id=node.spec.id,
        attempts=list(node.attempts),
        dead_letter_id=letter,
    )
    why = f"{node.spec.id} failed: {data['error']['message'] or data['error']['code']}"
    match then:
        case OnExhausted.PAUSE:
            pass  # the record returning from the dead-letter topic opens the pause, or the wake-up in 2 s
        case OnExhausted.SKIP:
            skip(t, node, "its attempts are used up")
        case OnExhausted.COMPENSATE:
            compensation.begin(t, W.COMPENSATED, why)
        case OnExhausted.FAIL:
            compensation.begin(t, W.FAILED, why)


def claim_lost(t: Turn, node: NodeState) -> None:
    """A claimed attempt fell silent, or ran too long: it counts as an attempt, and its effect is in doubt."""
    limits = node.spec.timeouts
    started = node.started_ms if node.started_ms is not None else t.now.ms
    if t.now.ms >= started + limits.start_to_close_s * 1000 + 2000:
        code, text = "start-to-close", f"{node.spec.agent} did not finish within {limits.start_to_close_s:g} s."
    else:
        code, text = "lease-expired", f"{node.spec.agent} fell silent: no heartbeat for {limits.lease_s:g} s."
    times = {"started_at": iso(started), **({"worker": node.worker} if node.worker else {})}
    failed(t, node, Failure(code=code, message=text), True, times, outcome="lease-expired")


def no_agent(t: Turn, node: NodeState) -> None:
    """Nobody claims this agent's tasks: a person should know. The attempt can no longer start, so nothing happened."""
    patience = node.spec.timeouts.schedule_to_start_s
    text = f"no agent of type {node.spec.agent} for {patience:g} s"
    error = {"code": "no-agent", "message": text, "evidence": None}
    t.move(node, N.AWAITING_HUMAN, {"outcome": "given-up"}, error=error, finished_at=t.at)
    pauses.open_pause(t, PauseKind.FAILURE, node)
