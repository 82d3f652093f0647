"""`decide(state, input, now) -> Decided | Rejection`: what follows. The table of who answers which input is `_answer`."""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple, assert_never

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.events import WorkflowStatus
from handrail_contracts.model import iso
from handrail_contracts.pauses import PauseKind
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter, Heartbeat, Outcome, Result, TaskKind
from handrail_engine import budgets, compensation, foreign, gates, nodes, pauses, planning, room, talk, unclaimed
from handrail_engine.inputs import Cancel, Claim, Decision, Input, Now, PanicPause, Rejection, Say, Start, Wake
from handrail_engine.leases import claim
from handrail_engine.lifecycle import OPEN
from handrail_engine.marks import ignored_mark
from handrail_engine.outgoing import dead_letter_for
from handrail_engine.references import MISSING, dig, parse, resolve
from handrail_engine.standing import incomplete_reason
from handrail_engine.state import (
    DEADLINE_TIMER,
    PAUSE_TIMER,
    REMIND_TIMER,
    ROOM_TIMER,
    NodeState,
    Row,
    WorkflowState,
    due_ms,
)
from handrail_engine.turn import Message, Turn


class Decided(NamedTuple):
    """Rows to append, in order, and messages to send once they are committed. Both may be empty. `blobs` (digest, body)
    are what the rows refer to."""

    rows: list[Row]
    messages: list[Message]
    blobs: list[tuple[str, bytes]]


def decide(s: WorkflowState, what: Input, now: Now) -> Decided | Rejection:
    """What follows from `what`. Afterwards `s` has the rows (see `turn.py`); a Rejection leaves it as it was.

    Duplicates are Rejections. Raises only on a bug or on a journal that this code did not write.
    """
    if s.ended:
        return Rejection("ended", f"the workflow is {s.status}")
    if s.exists == isinstance(what, Start):
        return (
            Rejection("duplicate", "the workflow exists")
            if s.exists
            else Rejection("unknown-workflow", "it was never started")
        )
    t = Turn(s, now)
    rejection = _answer(t, what)
    admits = s.crowded and isinstance(what, Wake)  # time may have made room
    if rejection is not None and not (t.rows or t.messages or t.put_off or admits):
        return rejection
    budgets.check(t)
    for node in t.put_off:
        s.arm(node)
    _drain(t)
    while compensation.over(t):
        budgets.check(t)  # what runs again begins no sooner than anything else
        _drain(t)
    _finish(t)
    if rejection is not None and not (t.rows or t.messages):
        return rejection
    return Decided(t.rows, t.messages, t.blobs)


def _answer(t: Turn, what: Input) -> Rejection | None:
    s = t.state
    match what:
        case Result():
            if what.node_id not in s.nodes:
                return Rejection("unknown-node", f"{what.node_id[:80]!r} is not in this plan")
            undo = what.kind is TaskKind.COMPENSATE and s.nodes[what.node_id].spec.undo_of is None
            return compensation.answered(t, what) if undo else nodes.answered(t, what)
        case Wake():
            return _wake(t)
        case Start():
            return _start(t, what)
        case Decision():
            return pauses.decide_pause(t, what)
        case DeadLetter():
            return _dead_letter(t, what)
        case PanicPause():
            if any(p.kind == PauseKind.MANUAL for p in s.pauses.values()):
                return Rejection("already-paused", "a manual pause is open")
            return pauses.open_manual(t, what.comment)
        case Cancel():
            return _cancel(t, what)
        case Claim():
            if what.pause_id not in s.pauses:
                return Rejection("stale-pause", "the pause is not open")
            t.emit(
                T.PAUSE_UPDATED, pause_id=what.pause_id, claimed_by=what.claimed_by, claimed_until=what.claimed_until
            )
        case Say():
            return talk.say(t, what)
        case _:
            assert_never(what)
    return None


def _start(t: Turn, c: Start) -> None:
    planning_first = c.nodes is None and c.outside is None
    status = WorkflowStatus.PLANNING if planning_first else WorkflowStatus.ACCEPTED
    accepted: dict[str, Any] = {
        "intent": c.intent,
        "blueprint": c.blueprint,
        "input": t.carried(c.input),
        "labels": c.labels,
        "status": status.value,
    }
    if c.deadline_s is not None:
        accepted["deadline_at"] = iso(t.now.ms + int(c.deadline_s * 1000))
    t.emit(T.WORKFLOW_ACCEPTED, {"actor": c.actor} if c.actor is not None else None, **accepted)
    if c.outside is not None:
        talk.open_outside(t, c, c.outside)
    elif c.nodes is None:
        planning.add(t, [planning.plan_node(c)], None)
        t.queue.append(planning.PLAN_NODE)
    else:
        planning.announce(t, c.nodes, c.output, c.budget)


def _drain(t: Turn) -> None:
    """Follows up on what the rows so far made possible, until nothing more is: a worklist, never recursion."""
    s = t.state
    planning.adopt_plan(t)
    while t.queue or s.undo_ready or (s.crowded and nodes.admit(t)):
        if t.queue:
            nodes.consider(t, s.nodes[t.queue.popleft()])
        elif s.undo_ready:
            compensation.advance_ready(t)


def _finish(t: Turn) -> None:
    s = t.state
    if s.ended:
        return
    if s.ending is not None:
        if compensation.finished(s):
            end = _how_it_ended(s)
            _end(t, end, incomplete_reason(s) if end is WorkflowStatus.COMPENSATION_INCOMPLETE else s.ending.reason)
    elif s.unsettled == 0 and not s.pauses and not s.letters:
        if not s.planned:
            _end(t, WorkflowStatus.FAILED, "There is no plan.")
            return
        skipped = s.counts.get(N.COMPLETE, 0) < len(s.nodes)
        _end(t, WorkflowStatus.COMPLETED_WITH_SKIPS if skipped else WorkflowStatus.COMPLETED, None)


def _how_it_ended(s: WorkflowState) -> WorkflowStatus:
    assert s.ending is not None and s.ending.end is not None
    if s.ending.end is not WorkflowStatus.COMPENSATED:
        return s.ending.end
    stands = s.counts.get(N.COMPENSATION_FAILED, 0) + s.counts.get(N.NOT_REVERSIBLE, 0)
    if stands or s.ending.stopped:
        return WorkflowStatus.COMPENSATION_INCOMPLETE
    return WorkflowStatus.COMPENSATED


END_EVENTS = {
    WorkflowStatus.COMPLETED: T.WORKFLOW_COMPLETED,
    WorkflowStatus.COMPLETED_WITH_SKIPS: T.WORKFLOW_COMPLETED,
    WorkflowStatus.COMPENSATED: T.WORKFLOW_COMPENSATED,
    WorkflowStatus.COMPENSATION_INCOMPLETE: T.WORKFLOW_COMPENSATION_INCOMPLETE,
    WorkflowStatus.FAILED: T.WORKFLOW_FAILED,
    WorkflowStatus.CANCELLED: T.WORKFLOW_CANCELLED,
}


def _end(t: Turn, status: WorkflowStatus, reason: str | None) -> None:
    s = t.state
    done = status in (WorkflowStatus.COMPLETED, WorkflowStatus.COMPLETED_WITH_SKIPS)
    totals = {k.lower(): v for k, v in sorted(s.counts.items()) if v}
    totals = {"nodes": len(s.nodes), **totals}
    output = t.carried(_output(s)) if done else None
    t.emit(END_EVENTS[status], status=status.value, output=output, reason=reason, totals=totals)


def _output(s: WorkflowState) -> Any:
    """The output mapping, else the outputs of the sinks under their node ids."""
    if s.output_mapping is None:
        plan = planning.PLAN_NODE if s.planner else None
        return {k: n.output for k, n in s.nodes.items() if not s.children[k] and k != plan}

    def look_up(text: str) -> Any:
        ref = parse(text, s.nodes)
        return dig(s.input if ref.node_id is None else s.nodes[ref.node_id].output, ref.path)

    found = resolve(s.output_mapping, look_up)
    return None if found is MISSING else found


def _cancel(t: Turn, c: Cancel) -> Rejection | None:
    if t.state.ends:
        return compensation.go_on(t, c)
    end = WorkflowStatus.COMPENSATED if c.compensate else WorkflowStatus.CANCELLED
    compensation.begin(t, end, c.reason, outcome="cancelled")
    return None


def _dead_letter(t: Turn, d: DeadLetter) -> Rejection | None:
    s = t.state
    node = s.nodes.get(d.node_id or "")
    if node is None:
        return Rejection("unknown-node", "the dead letter names no node of this plan")
    if d.dead_letter_id is not None:
        if node.dead_letter is None or node.dead_letter[0] != d.dead_letter_id:
            return Rejection("duplicate", "its pause was opened already")
        pauses.open_failure(t, node)
        return None
    return foreign.arrived(t, node, d)


def _wake(t: Turn) -> Rejection | None:
    s, now = t.state, t.now.ms
    while s.timers and s.timers[0][0] <= now and not s.ended:
        at, name = heapq.heappop(s.timers)
        if name == DEADLINE_TIMER:
            if s.deadline_ms is not None and s.deadline_ms <= now:
                pauses.open_deadline(t)
        elif name == ROOM_TIMER:
            s.room_at = None
            if s.crowded:
                room.look_again(s, now)
        elif name.startswith(PAUSE_TIMER):
            pause = s.pauses.get(name[len(PAUSE_TIMER) :])
            if pause is not None and pause.expires_ms is not None and pause.expires_ms <= now:
                pauses.expire(t, pause)
        elif name.startswith(REMIND_TIMER):
            pause = s.pauses.get(name[len(REMIND_TIMER) :])
            if pause is not None and pause.remind_ms == at:
                pauses.remind(t, pause)
        else:
            node = s.nodes[name]
            if node.armed_ms != at:
                continue  # an earlier entry has taken its place
            node.armed_ms = None
            due = due_ms(s, node)
            if due is not None and due <= now:
                _node_due(t, node)
                due = due_ms(s, node)
            if due is not None and due <= now:
                t.put_off.append(node)
            else:
                s.arm(node)
    return Rejection("nothing-due") if not t.rows and not t.messages else None


def _node_due(t: Turn, node: NodeState) -> None:
    live, now = node.live, t.now.ms
    if live is not None and live.lease_until is not None:
        (compensation.claim_lost if node.state is N.COMPENSATING else nodes.claim_lost)(t, node)
    elif live is not None:
        unclaimed.look(t, node)
    elif node.dead_letter is not None:
        pauses.open_failure(t, node)
    elif node.state is N.RETRYING:
        nodes.retry_due(t, node)
    elif node.spec.outside and node.state is N.IN_PROGRESS:
        talk.quiet(t, node)
    elif (
        node.state is N.COMPENSATING
        and node.undo.retry_ms is not None
        and node.undo.retry_ms <= now
        and not t.state.held
    ):
        compensation.dispatch_undo(t, node)


def adopt(s: WorkflowState, now: Now) -> list[Message]:
    """What must be sent again when the bus lost its log: every open attempt as unclaimed, unless a policy stops it by now,
    every dead letter not yet back.

    Changes only what the owner knows (leases); journals nothing.
    """
    t = Turn(s, now)
    for node in s.nodes.values():
        if node.live is not None and node.live.lease_until is None:
            if s.leaves(node) and node.state in OPEN:
                node.live.cancels = 0  # the old bus took the cancel with it
                unclaimed.ask_to_stop(t, node)
            elif node.state in OPEN and gates.outdated(t, node):
                node.live.cancels = 0
                node.live.look_at = max(now.ms, node.live.start_before)
            else:
                unclaimed.resend(t, node)
            s.arm(node)
        if node.dead_letter is not None:
            undo = node.state is N.COMPENSATION_FAILED
            t.messages.append(dead_letter_for(s, node, node.dead_letter[0], undo=undo))
    return t.messages


def renew(s: WorkflowState, now: Now) -> None:
    """A new owner starts every lease afresh: it cannot know which heartbeats it missed, nor which sends the old one made.
    Timers are set anew."""
    s.timers.clear()
    s.room_at = None
    for node in s.nodes.values():
        live, node.armed_ms = node.live, None
        if live is not None and live.lease_until is not None:
            claim(node, now.ms)
        elif live is not None:
            live.look_at = max(live.look_at, now.ms + 1_000)
            live.start_before = max(live.start_before, unclaimed.window_end(node, now.ms))
        s.arm(node)
    room.recrowd(s, now.ms)
    if s.deadline_ms is not None:
        heapq.heappush(s.timers, (s.deadline_ms, DEADLINE_TIMER))
    for p in s.pauses.values():
        if p.expires_ms is not None:
            heapq.heappush(s.timers, (p.expires_ms, PAUSE_TIMER + p.pause_id))
        if p.remind_ms is not None:
            heapq.heappush(s.timers, (p.remind_ms, REMIND_TIMER + p.pause_id))


def heard(s: WorkflowState, beat: Heartbeat, now: Now) -> bool:
    """A heartbeat: the lease of the open attempt runs anew. False when it belongs to no attempt that is open.

    One for an attempt whose claim was never heard of is a claim too (the `started` was lost): it may not be taken for
    one that nobody has begun. See `begun_by`.
    """
    node = s.nodes.get(beat.node_id)
    if node is None or not _current(s, node, beat):
        return False
    claim(node, now.ms)
    s.arm(node)
    return True


def begun_by(s: WorkflowState, beat: Heartbeat) -> Result | None:
    """The `started` that a heartbeat stands for, to be fed in, so that the journal knows what a lease alone would forget with its
    owner: the claim of the open attempt, or the sign of life of one that was taken for never begun. None where the journal
    knows it already. Changes nothing."""
    node = s.nodes.get(beat.node_id)
    if node is None:
        return None
    undo = node.state is N.COMPENSATING
    if _current(s, node, beat):
        known = node.undo.claimed if undo else node.state is not N.SCHEDULED
    else:
        told = ignored_mark(beat.attempt, Outcome.STARTED.value) in node.ignored
        known = told or node.closed.get(beat.attempt) != "given-up" or node.spec.effect_class is EffectClass.PURE
        undo = False
    if known:
        return None
    kind = TaskKind.COMPENSATE if undo else TaskKind.EXECUTE
    return Result(**beat.model_dump(exclude_unset=True), kind=kind, outcome=Outcome.STARTED)


def _current(s: WorkflowState, node: NodeState, beat: Heartbeat) -> bool:
    """True when the beat is of the attempt that is out."""
    undo = node.state is N.COMPENSATING
    attempt, key = (node.undo.attempt, s.undo_key(node)) if undo else (node.attempt, s.do_key(node))
    return node.live is not None and beat.attempt == attempt and beat.effect_key == key
