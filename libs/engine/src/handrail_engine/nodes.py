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
from handrail_engine import appended, budgets, compensation, gates, pauses, planning, room, talk
from handrail_engine.evidence import shown, told
from handrail_engine.inputs import Rejection
from handrail_engine.leases import claim, must_close_ms
from handrail_engine.lifecycle import OPEN
from handrail_engine.marks import ignored_mark, listed_mark
from handrail_engine.outgoing import look_up, unusable_inputs
from handrail_engine.references import MISSING, dig, holds
from handrail_engine.reported import times_of
from handrail_engine.retry import may_retry, wait_s
from handrail_engine.state import NodeState
from handrail_engine.turn import Turn

_NO_MORE = "the budget is used up, and nothing more is begun"


def consider(t: Turn, node: NodeState) -> None:
    """Dispatches the node if it is its turn: all dependencies settled, nothing held back, its condition met."""
    s = t.state
    if node.state is not N.PENDING or node.waiting or s.leaves(node) or s.held:
        return
    if s.no_more:
        leave_out(t, node, _NO_MORE)
        return
    if node.by is not None and appended.outdated(s, node):
        leave_out(t, node, f"{node.by[0]} ran again and did not append it again")
        return
    dead = dead_source(t, node)
    if s.off and node.spec.when is None and any(s.nodes[d].off for d in node.spec.depends_on):
        skip(t, node, "its branch was not taken", meta={"off": True})
    elif dead is not None:
        skip(t, node, f"needs the output of {dead}, which was skipped")
    elif node.spec.when is not None and not holds(node.spec.when, look_up(s, node, node.spec.when["ref"])):
        skip(t, node, "its condition does not hold")
    else:
        _begin(t, node)


def admit(t: Turn) -> bool:
    """Begins the node that has waited longest for room that there is now; False when there is none."""
    node = room.next_up(t)
    if node is None:
        return False
    if node.state is N.RETRYING:
        retry_due(t, node)
    else:
        consider(t, node)
    return True


def dead_source(t: Turn, node: NodeState) -> str | None:
    """The id of a skipped node whose output this one cannot live without, or None: nothing stands in for it, or what does
    lacks what is read here. What was rolled back and left has no output any more."""
    for ref, may_miss in node.spec.refs.values():
        if ref.node_id is not None and not may_miss:
            source = t.state.nodes[ref.node_id]
            if source.state is N.COMPLETE:
                continue
            lacks = source.state is N.SKIPPED and dig(source.output, ref.path) is MISSING
            if ((source.output is None or lacks) and not source.spec.optional) or source.state in (
                N.CANCELLED,
                N.COMPENSATED,
            ):
                return ref.node_id
    return None


def skip(t: Turn, node: NodeState, reason: str, output: Any = None, meta: dict[str, Any] | None = None) -> None:
    """Settles the node as SKIPPED; a substitute output stands in for its own."""
    more = {} if output is None else {"output": output}
    t.move(node, N.SKIPPED, meta, reason=reason, finished_at=t.at, **more)
    t.ready_again(node)


def leave_out(t: Turn, node: NodeState, reason: str) -> None:
    """Skips what waits for its turn, or for its next attempt."""
    if node.state is N.RETRYING:
        t.move(node, N.AWAITING_HUMAN)
    skip(t, node, reason)


def dispatch(t: Turn, node: NodeState, **meta: Any) -> None:
    """Sends the next attempt, if it can be sent; what may have happened is looked up first, where it can be. Waits for no room."""
    if _open_doubt(node) is EffectClass.QUERYABLE and "doubt" not in meta:
        meta["look_up"] = True
    if _can_be_sent(t, node, meta):
        _send(t, node, meta)


def _begin(t: Turn, node: NodeState) -> None:
    """Sends the next attempt once no gate stops it and there is room. The gate comes first: a person can answer meanwhile,
    and what waits for room is judged again when it has it. What may have happened, as came to light since the last attempt
    ended, is looked up first, or a person is asked."""
    doubt = _open_doubt(node)
    if doubt is EffectClass.UNSAFE:
        t.move(node, N.AWAITING_HUMAN)
        pauses.open_ambiguous(t, node)
        return
    meta: dict[str, Any] = {"look_up": True} if node.look_up or doubt is EffectClass.QUERYABLE else {}
    if _can_be_sent(t, node, meta) and not room.full(t, node):
        _send(t, node, meta)


def _open_doubt(node: NodeState) -> EffectClass | None:
    """The effect class of a node that may have acted, as far as nobody knows; None where there is no doubt."""
    return node.spec.effect_class if node.in_doubt and node.attempt else None


def _can_be_sent(t: Turn, node: NodeState, meta: dict[str, Any]) -> bool:
    """False: no gate lets it pass, or its inputs are none (then it has failed for good). A look-up changes nothing and passes
    every gate."""
    wrong = None if meta.get("sets") else unusable_inputs(t.state, node)
    if wrong is not None:
        exhausted(t, node, {}, {"finished_at": t.at, "error": told(wrong)})
        return False
    return bool(meta.get("look_up")) or gates.admits(t, node, meta)


def _send(t: Turn, node: NodeState, meta: dict[str, Any]) -> None:
    """The row of a dispatch. What undoes it is registered in the same row (DESIGN section 4, Compensation)."""
    s = t.state
    full: dict[str, Any] = {"key": s.key(node, meta.get("generation", node.generation)), **meta}
    if node.spec.undoing is not None:
        full["undo"] = node.spec.undoing.action
    if places := room.limited(t, node):
        full["places"] = places
    attempt = node.attempt + 1
    if node.attempt and node.attempt == node.round_from:
        full["round"] = True
    fresh = full.get("round") or attempt == 1
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
    generation = t.state.generation_of(node, r.effect_key)
    if generation is None:
        return Rejection("unknown-key", "it answers under an effect key that this node never had")
    if node.state not in OPEN or r.attempt != node.attempt or generation != node.generation:
        return _not_current(t, node, r, generation)
    match r.outcome:
        case Outcome.STARTED:
            return _started(t, node, r)
        case Outcome.OK:
            _succeeded(t, node, r)
        case Outcome.FAILED | Outcome.IN_DOUBT:
            error = r.error or Failure(code="UNKNOWN", message="The agent gave no reason.")
            failed(t, node, error, r.outcome is Outcome.IN_DOUBT, times_of(t, node, r), r.outcome.value)
        case Outcome.CANCELLED:
            _cancelled(t, node, r)
        case Outcome.ESCALATED if t.state.leaves(node):
            _cancelled(t, node, r)  # it is out of its depth and has not acted
        case Outcome.ESCALATED:
            talk.escalated(t, node, r)
        case Outcome.PROPOSED if t.state.leaves(node):
            _cancelled(t, node, r)
        case Outcome.PROPOSED:
            gates.proposed(t, node, r)
    return None


def _started(t: Turn, node: NodeState, r: Result) -> Rejection | None:
    if node.state is N.IN_PROGRESS:
        claim(node, t.now.ms)
        return Rejection("duplicate", "the attempt is claimed already")
    times = {"worker": None, "started_at": t.at, **times_of(t, node, r)}
    t.move(node, N.IN_PROGRESS, worker=times["worker"], started_at=times["started_at"])
    return None


def _succeeded(t: Turn, node: NodeState, r: Result) -> None:
    s = t.state
    meta: dict[str, Any] = {"outcome": "ok"}
    times = {"finished_at": t.at, **times_of(t, node, r)}
    if not s.leaves(node) and (r.nodes or not s.planned):
        wrong = planning.refused(s, node, r)
        if wrong is not None:
            failed(t, node, wrong, True, times, r.outcome.value)
            return
        if not s.planned:
            meta["plan"] = planning.plan_of(r)
        elif kept := appended.kept(s, r.nodes or ()):
            meta["kept"] = kept
    t.move(node, N.COMPLETE, meta, output=r.output, **times)
    if s.leaves(node):
        compensation.advance(t, node)
    else:
        if r.nodes and s.planned:
            planning.append(t, node, r.nodes)
        t.ready_again(node)


def _cancelled(t: Turn, node: NodeState, r: Result) -> None:
    """The agent stopped before anything happened. Outside an abort that is a definite failure."""
    if not t.state.leaves(node):
        error = r.error or Failure(code="CANCELLED", message="The agent stopped the attempt.")
        failed(t, node, error, False, times_of(t, node, r), r.outcome.value)
        return
    t.move(node, N.CANCELLED, {"outcome": r.outcome.value}, **{"finished_at": t.at, **times_of(t, node, r)})
    compensation.advance(t, node)


def _not_current(t: Turn, node: NodeState, r: Result, generation: int) -> Rejection | None:
    """A late, repeated or conflicting answer: journaled once, never applied; an effect that it reveals is not forgotten."""
    if not 1 <= r.attempt <= node.attempt:
        return Rejection("unknown-attempt", f"attempt {r.attempt} was never sent")
    closed = node.closed.get(r.attempt)
    pure = node.spec.effect_class is EffectClass.PURE
    if r.outcome is Outcome.STARTED and (pure or closed != "given-up"):
        return Rejection("stale-start", f"attempt {r.attempt} is over")
    if closed == r.outcome.value and not _contradicts(node, r):
        return Rejection("duplicate", f"attempt {r.attempt} was answered already")
    if r.outcome is Outcome.CANCELLED and closed == Outcome.FAILED.value:
        return Rejection(
            "duplicate", f"attempt {r.attempt} had failed: its effect key is closed, as it was asked to be"
        )
    if ignored_mark(r.attempt, r.outcome.value) in node.ignored:
        return Rejection("duplicate", f"attempt {r.attempt} was ignored already")
    by_time = closed in ("lease-expired", "given-up", None)
    why = "superseded" if r.attempt < node.attempt else "late" if by_time else "conflict"
    meta: dict[str, Any] = {"outcome": r.outcome.value}
    # It did run: `ok` says so, and so does any sign of life of an attempt that was taken for never started.
    ran = r.outcome is Outcome.OK or (closed == "given-up" and r.outcome in (Outcome.STARTED, Outcome.IN_DOUBT))
    reveals = ran and not pure and node.state is not N.COMPLETE
    if reveals and generation == node.generation:
        meta["doubt"] = True
        if compensation.unseen(t.state, node):
            meta["again"] = True
    t.emit(T.RESULT_IGNORED, meta, node_id=node.spec.id, attempt=r.attempt, reason=why)
    given_up_on = node.state in _LEFT_BEHIND and not t.state.leaves(node) and not t.state.ends
    if ran and not pure and (generation != node.generation or given_up_on):
        _old_effect(t, node, r)
    elif reveals:
        compensation.advance(t, node)
    return None


def _contradicts(node: NodeState, r: Result) -> bool:
    """True when the attempt was answered with the same word before, but with another content."""
    if r.outcome is Outcome.OK:
        return node.state is N.COMPLETE and r.attempt == node.attempt and r.output != node.output
    if r.outcome is not Outcome.FAILED or r.error is None:
        return False
    first = next((a["error"] for a in node.attempts if a["attempt"] == r.attempt), None)
    now = told(r.error)
    return first is not None and (first["code"], first["message"]) != (now["code"], now["message"])


_LEFT_BEHIND = frozenset({N.CANCELLED, N.COMPENSATED, N.NOTHING_TO_UNDO})


def _old_effect(t: Turn, node: NodeState, r: Result) -> None:
    """An effect, or the sign of one, under a key that was left behind (a person said that it did not happen, it was rolled
    back, or nobody seemed to have begun it): nobody undoes it any more, so its key goes onto the list of dead letters, once."""
    if listed_mark(r.effect_key) in node.ignored:
        return
    letter = dead_letter_id(t.state.tenant, t.state.trace_id, t.state.seq + 1)
    attempts = [a for a in node.attempts if a["attempt"] == r.attempt]
    meta = {"pause": False, "late_effect": r.effect_key}
    t.emit(T.TASK_DEAD_LETTERED, meta, node_id=node.spec.id, attempts=attempts, dead_letter_id=letter)


def failed(t: Turn, node: NodeState, error: Failure, doubt: bool, times: dict[str, Any], outcome: str) -> None:
    """An attempt ended without success. `doubt`: nobody knows whether it had its effect. `outcome` is the word under which
    it is closed: the agent's own, or what the clock said."""
    spec, s = node.spec, t.state
    doubt = doubt and spec.effect_class is not EffectClass.PURE
    meta: dict[str, Any] = {"outcome": outcome}
    if doubt:
        meta["doubt"] = True
    data = {"finished_at": t.at, **times, "error": told(error)}
    if s.leaves(node):
        t.move(node, N.CANCELLED, meta, **data)
        compensation.advance(t, node)
        return
    if node.look_up and not doubt and error.code == "NOT_FOUND":
        # it provably did not happen: the next attempt may act, and asking has cost none
        _retry(t, node, {**meta, "doubt": False, "uncounted": True}, data, 0.0)
        return
    if doubt and spec.effect_class is EffectClass.UNSAFE:
        t.move(node, N.AWAITING_HUMAN, meta, **data)
        pauses.open_ambiguous(t, node)
        return
    done = node.attempt - node.round_from
    wait = wait_s(spec.retry, error, done, s.trace_id, spec.id, node.attempt)
    if (doubt or node.look_up) and spec.effect_class is EffectClass.QUERYABLE:
        meta["look_up"] = True
        closes_ms = node.closes_ms if node.look_up else must_close_ms(node, t.now.ms)
        wait = max(wait, (closes_ms - t.now.ms) / 1000)
    if may_retry(spec.retry, error, done, node.round_ms, t.now.ms, wait, doubt=doubt):
        _retry(t, node, meta, data, wait)
    else:
        exhausted(t, node, meta, data)


def _retry(t: Turn, node: NodeState, meta: dict[str, Any], data: dict[str, Any], wait_s: float) -> None:
    due = t.now.ms + int(wait_s * 1000)
    t.move(node, N.RETRYING, meta, retry_at=iso(due), **data)
    if due <= t.now.ms or t.state.no_more:
        retry_due(t, node)


def retry_due(t: Turn, node: NodeState) -> None:
    """The wait is over: the next attempt, unless a pause holds everything back, or is about to, or nothing more is begun."""
    if t.state.held:
        return
    ordered = node.attempt == node.round_from  # a person wants this round, and nothing of it has been sent
    if t.state.no_more and not ordered:
        leave_out(t, node, _NO_MORE)
    elif budgets.used_up(t) is None:
        _begin(t, node)


def withdraw(t: Turn, node: NodeState) -> None:
    """Nobody has begun the attempt and nobody can any more; it does not count. The next one is judged before it is sent."""
    meta = {"outcome": "given-up", "uncounted": True}
    t.move(node, N.RETRYING, meta, retry_at=t.at, finished_at=t.at)
    if t.state.no_more:
        leave_out(t, node, _NO_MORE)
    else:
        retry_due(t, node)


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
        attempts=shown(node.attempts),
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


def forbidden(t: Turn, node: NodeState, error: dict[str, Any]) -> None:
    """A policy forbids what the node would do: it has failed for good, before anything happened."""
    exhausted(t, node, {"outcome": "forbidden"}, {"finished_at": t.at, "error": error})


def claim_lost(t: Turn, node: NodeState) -> None:
    """A claimed attempt fell silent, or ran too long: it counts as an attempt, and its effect is in doubt."""
    limits = node.spec.timeouts
    started = node.started_ms if node.started_ms is not None else t.now.ms
    if t.now.ms >= started + limits.start_to_close_s * 1000 + 2000:
        code, text = "start-to-close", f"{node.spec.agent} did not finish within {limits.start_to_close_s:g} s."
    else:
        code, text = "lease-expired", f"{node.spec.agent} fell silent: no heartbeat for {limits.lease_s:g} s."
    times = {"started_at": iso(started), **({"worker": node.worker} if node.worker else {})}
    failed(t, node, Failure(code=code, message=text), True, times, "lease-expired")


def no_agent(t: Turn, node: NodeState) -> None:
    """Nobody claims this agent's tasks: a person should know. The attempt can no longer start, so nothing happened."""
    patience = node.spec.timeouts.schedule_to_start_s
    text = f"no agent of type {node.spec.agent} for {patience:g} s"
    error = {"code": "no-agent", "message": text, "evidence": None}
    t.move(node, N.AWAITING_HUMAN, {"outcome": "given-up"}, error=error, finished_at=t.at)
    pauses.open_pause(t, PauseKind.FAILURE, node)
