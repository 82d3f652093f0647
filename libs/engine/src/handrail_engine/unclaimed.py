"""An attempt that is out and that nobody has claimed: sent again, asked what became of it, asked to stop, and given up when
nobody can begin it any more. What was done while every word of it was lost must be asked for before it counts as never begun."""

from __future__ import annotations

from handrail_engine import compensation, gates, nodes
from handrail_engine.lifecycle import OPEN
from handrail_engine.outgoing import cancel_for, task_for
from handrail_engine.retry import GIVE_UP_AFTER_MS, RESEND_FIRST_S, resend_s, start_window_s
from handrail_engine.state import Live, NodeState
from handrail_engine.turn import Turn


def look(t: Turn, node: NodeState) -> None:
    """Nobody has claimed the attempt: send it again under the same number, or give it up once it can no longer start. What the
    policies of today would not let pass is not sent again to be begun: once nobody can, it is asked about, then taken back."""
    s, now, live = t.state, t.now.ms, node.live
    assert live is not None
    too_late = live.start_before + GIVE_UP_AFTER_MS
    doing = node.state in OPEN
    if doing and s.leaves(node):
        if live.cancels and now >= too_late:
            compensation.give_up(t, node)
        else:
            ask_to_stop(t, node)
        return
    stopped = s.ending is not None and s.ending.stopped
    if doing and not stopped and gates.outdated(t, node):
        if live.cancels and now >= too_late:
            nodes.withdraw(t, node)
        elif now < live.start_before:
            live.look_at = live.start_before
        else:
            inquire(t, node)
        return
    patience = int(node.limits.schedule_to_start_s * 1000)
    silent = now - t.now.last_claim.get(node.spec.agent, 0) >= patience
    if stopped or (silent and now >= node.scheduled_ms + patience):
        if now >= too_late:
            (nodes if doing else compensation).no_agent(t, node)
        else:
            live.look_at = too_late
        return
    resend(t, node)


def ask_to_stop(t: Turn, node: NodeState) -> None:
    """Sends a cancel for an attempt that nobody has claimed, and leaves time for the answer before it is given up."""
    live, now = node.live, t.now.ms
    assert live is not None
    _await_answer(live, now)
    t.messages.append(cancel_for(t.state, node, now))


def inquire(t: Turn, node: NodeState) -> None:
    """Asks what became of an attempt that nobody has claimed and nobody may begin any more: the same task, its window over.
    Whoever has done it, and whose words were all lost, answers."""
    assert node.live is not None
    _await_answer(node.live, t.now.ms)
    t.messages.append(task_for(t.state, node))


def resend(t: Turn, node: NodeState) -> None:
    """Sends the open attempt again: same number, same key, a fresh window to start in that ends no later than patience does.
    Once more shortly before that: whoever has done it, and whose words were all lost, is asked before it is given up."""
    live, now = node.live, t.now.ms
    assert live is not None
    patient_until = _patient_until(node)
    live.look_at = now + int(resend_s((now - node.scheduled_ms) / 1000) * 1000)
    for last in (patient_until - int(RESEND_FIRST_S * 1000), patient_until):
        if last > now:
            live.look_at = min(live.look_at, last)
    live.cancels = 0
    live.start_before = max(live.start_before, window_end(node, now))
    t.messages.append(task_for(t.state, node))


def window_end(node: NodeState, now_ms: int) -> int:
    """Until when a send at `now_ms` may be claimed. No send before it reached further, so a new owner knows that much too."""
    end = now_ms + int(start_window_s((now_ms - node.scheduled_ms) / 1000) * 1000)
    patient_until = _patient_until(node)
    return min(end, max(patient_until, now_ms + 1_000)) if patient_until > now_ms else end


def _patient_until(node: NodeState) -> int:
    return node.scheduled_ms + int(node.limits.schedule_to_start_s * 1000)


def _await_answer(live: Live, now: int) -> None:
    live.cancels += 1
    too_late = live.start_before + GIVE_UP_AFTER_MS
    live.look_at = min(now + int(resend_s(0) * 1000), max(too_late, now + GIVE_UP_AFTER_MS))
