"""An agent asks for a person: the pause it opens, what is said while the person has the conversation, and how it is given back.

While an escalation is open its agent says nothing that anybody would be shown: `say` withholds it. What is said after the
pause was handed back belongs to that pause's conversation still, as long as no later escalation of the node is open.
"""

from __future__ import annotations

import json
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.pauses import PauseKind
from handrail_contracts.tasks import Escalation, Failure, Result
from handrail_engine import nodes, pauses, planning
from handrail_engine.evidence import MESSAGE_CHARS, clip
from handrail_engine.inputs import Decision, Outside, Rejection, Say, Start
from handrail_engine.reported import times_of
from handrail_engine.state import NodeState, PauseState, WorkflowState
from handrail_engine.turn import Turn

OUTSIDE_AGENT, OUTSIDE_ACTION, OUTSIDE_NODE = "outside", "conversation", "conversation"
QUIET_S = 86_400.0
"""A conversation that was handed back to an agent outside ends by itself after so long."""
TEXT_CHARS = 20_000
SHOWN_BYTES, CARRIED_BYTES = 48 * 1024, 256 * 1024
"""What a pause shows, beside evidence and metadata, and what a task carries of a conversation: the newest lines that fit. All of
it stands in the journal."""
AGENT, OPERATOR, SYSTEM = "agent", "operator", "system"


def escalated(t: Turn, node: NodeState, r: Result) -> None:
    """The agent asks for a person. It has stopped speaking; what it knew goes with the pause."""
    e = r.escalation
    if e is None or not e.reason.strip():
        wrong = Failure(code="invalid-result", message="The agent escalated without a reason.")
        nodes.failed(t, node, wrong, False, {}, r.outcome.value)
        return
    times = {"finished_at": t.at, **times_of(t, node, r)}
    t.move(node, N.AWAITING_HUMAN, {"outcome": "escalated"}, **times)
    _open(t, node, e)


def open_outside(t: Turn, c: Start, outside: Outside) -> None:
    """An escalation with no workflow behind it becomes one: a single node, at work outside, whose agent asks for a person.

    The id of its pause was given out before: it does not depend on what is journaled here.
    """
    planning.announce(t, [_outside_node()], None)
    node = t.state.nodes[OUTSIDE_NODE]
    _hand_to_outside(t, node)
    t.move(node, N.AWAITING_HUMAN, {"outcome": "escalated"}, finished_at=t.at)
    _open(t, node, outside.escalation, pause_id=outside.pause_id, callback=outside.callback_url)


def _outside_node() -> dict[str, Any]:
    return {
        "id": OUTSIDE_NODE,
        "agent": OUTSIDE_AGENT,
        "action": OUTSIDE_ACTION,
        "outside": True,
        "timeouts": {"start_to_close_s": QUIET_S},
    }


def _hand_to_outside(t: Turn, node: NodeState, **meta: Any) -> None:
    """Nothing is sent: the agent outside has the conversation in hand already, or finds it under its pause."""
    nodes.dispatch(t, node, **meta)
    t.move(node, N.IN_PROGRESS, worker=OUTSIDE_AGENT, started_at=t.at)


def _open(t: Turn, node: NodeState, e: Escalation, *, pause_id: str | None = None, callback: str | None = None) -> None:
    named: dict[str, Any] = {"pause_id": pause_id} if pause_id is not None else {}
    pauses.open_pause(
        t,
        PauseKind.ESCALATION,
        node,
        reason=clip(e.reason.strip(), MESSAGE_CHARS),
        callback=callback,
        context_snapshot=t.fitting(e.metadata or pauses.context_of(t, node), pauses.CONTEXT_BYTES),
        summary=clip(e.summary, MESSAGE_CHARS) or None,
        transcript=newest(lines_of(e.transcript, t.at)),
        **named,
    )
    if e.handover_message and e.handover_message.strip():
        opened = next(reversed(t.state.pauses.values()))
        _add(t, opened.pause_id, SYSTEM, clip(e.handover_message, TEXT_CHARS), None, opened.callback)


def lines_of(raw: list[dict[str, Any]], at: str) -> list[dict[str, Any]]:
    """A transcript as an agent wrote it, as `{role, text, at}` per line; what is no text is shown as JSON."""
    found: list[dict[str, Any]] = []
    for line in raw:
        said = line.get("text", line.get("content", ""))
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        role, when = line.get("role"), line.get("at")
        shown = {
            "role": clip(role, 64) if isinstance(role, str) and role else "user",
            "text": clip(text, TEXT_CHARS),
            "at": when if isinstance(when, str) and len(when) <= 64 else at,
        }
        if isinstance(line.get("$ref"), str):
            shown["$ref"] = line["$ref"]
        found.append(shown)
    return found


def newest(lines: list[dict[str, Any]], room: int = SHOWN_BYTES) -> list[dict[str, Any]]:
    """The newest lines that fit, oldest first; a line of the system says how many were left out."""
    kept = 0
    for line in reversed(lines):
        room -= 64 + len(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if room < 0:
            break
        kept += 1
    left = len(lines) - kept
    if not left:
        return lines
    at = lines[left]["at"] if kept else lines[-1]["at"]
    return [{"role": SYSTEM, "text": f"{left} earlier lines are not shown here.", "at": at}, *lines[left:]]


def say(t: Turn, what: Say) -> Rejection | None:
    """Somebody speaks. What an agent says while a person has the conversation is written down and withheld: it was accepted
    when the agent still had the word, and the person has taken over since."""
    s = t.state
    pause = s.pauses.get(what.pause_id)
    node_id = pause.node_id if pause is not None else s.talks.get(what.pause_id)
    if pause is None and what.pause_id not in s.talks:
        return Rejection("stale-pause", "there is no such conversation")
    withheld = what.role == AGENT and held_by_person(s, node_id)
    callback = pause.callback if pause is not None else None
    _add(t, what.pause_id, what.role, what.text, what.actor, callback, withheld=withheld)
    return None


def held_by_person(s: WorkflowState, node_id: str | None) -> bool:
    """True while a person has the conversation of this node."""
    return any(p.kind == PauseKind.ESCALATION and p.node_id == node_id for p in s.pauses.values())


def _add(
    t: Turn, pause_id: str, role: str, text: str, actor: str | None, callback: str | None, *, withheld: bool = False
) -> None:
    data: dict[str, Any] = {"pause_id": pause_id, "role": role, "text": text, "actor": actor}
    if withheld:
        data["withheld"] = True
    told = callback is not None and role in (OPERATOR, SYSTEM)
    t.emit(T.MESSAGE_ADDED, {"callback": callback} if told else None, **data)


def respond(t: Turn, pause: PauseState, d: Decision) -> None:
    """What a person answers with a button is said in the conversation before the pause closes."""
    if pause.kind == PauseKind.ESCALATION and isinstance(d.input, str):
        _add(t, pause.pause_id, OPERATOR, d.input, d.actor, pause.callback)


def closed(t: Turn, node: NodeState, response: str | None) -> None:
    """The person is done: the node is complete with what was answered."""
    t.move(node, N.COMPLETE, {"outcome": "ok"}, output=t.carried({"response": response}), finished_at=t.at)
    t.ready_again(node)


def said(pause: PauseState) -> list[dict[str, Any]]:
    """What an agent that gets the word again is told of a conversation."""
    return newest([line for line in pause.data["transcript"] or () if not line.get("withheld")], CARRIED_BYTES)


def hand_back(t: Turn, node: NodeState, pause: PauseState) -> None:
    """The agent has the word again, with all that was said meanwhile."""
    conversation = said(pause)
    if node.spec.outside:
        _hand_to_outside(t, node, round=True, conversation=conversation)
    else:
        pauses.retry(t, node, None, conversation=conversation)


def quiet(t: Turn, node: NodeState) -> None:
    """Nobody has come back to a conversation outside: it is over."""
    closed(t, node, None)
