"""One sentence why a workflow is not moving, and the facts behind it."""

from __future__ import annotations

from typing import Any

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.model import iso
from handrail_engine.state import NodeState, WorkflowState

_WAITING = (
    N.SCHEDULED,
    N.IN_PROGRESS,
    N.RETRYING,
    N.DEAD_LETTERED,
    N.AWAITING_HUMAN,
    N.COMPENSATING,
    N.COMPENSATION_FAILED,
)


def explain(s: WorkflowState, now_ms: int) -> dict[str, Any]:
    """`{"sentence", "status", "facts": [{"node_id"?, "waiting_for", …}]}`. Facts are oldest first, at most 100."""
    facts = [_pause_fact(p.data, now_ms) for p in s.pauses.values()]
    facts.extend(_node_fact(s, n, now_ms) for n in s.nodes.values() if n.state in _WAITING)
    facts = facts[:100]
    return {"trace_id": s.trace_id, "status": s.status.value, "sentence": _sentence(s, facts), "facts": facts}


def _pause_fact(p: dict[str, Any], now_ms: int) -> dict[str, Any]:
    return {
        "waiting_for": "person",
        "pause_id": p["pause_id"],
        "node_id": p["node_id"],
        "kind": p["kind"],
        "since": p["at"],
        "claimed_by": p["claimed_by"],
        "expires_at": p["expires_at"],
        "options": [r["action_id"] for r in p["available_resolutions"]],
    }


def _node_fact(s: WorkflowState, n: NodeState, now_ms: int) -> dict[str, Any]:
    undo = n.state in (N.COMPENSATING, N.COMPENSATION_FAILED)
    attempt = n.undo.attempt if undo else n.attempt
    retry_ms = n.undo.retry_ms if undo else n.retry_ms
    fact: dict[str, Any] = {"node_id": n.spec.id, "agent": n.spec.agent, "state": n.state.value, "attempt": attempt}
    if retry_ms is not None:
        fact |= {"waiting_for": "retry", "retry_at": iso(retry_ms), "held": s.held}
    elif n.state is N.SCHEDULED or (n.state is N.COMPENSATING and not n.undo.claimed):
        fact |= {
            "waiting_for": "worker",
            "since": iso(n.scheduled_ms),
            "for_s": round((now_ms - n.scheduled_ms) / 1000, 1),
        }
    elif n.state in (N.IN_PROGRESS, N.COMPENSATING):
        since = n.started_ms if n.started_ms is not None else n.scheduled_ms
        fact |= {
            "waiting_for": "agent",
            "worker": n.worker,
            "since": iso(since),
            "for_s": round((now_ms - since) / 1000, 1),
        }
    elif n.state is N.DEAD_LETTERED:
        fact |= {"waiting_for": "dead letter"}
    else:
        fact |= {"waiting_for": "person"}
    return fact


def _sentence(s: WorkflowState, facts: list[dict[str, Any]]) -> str:
    if s.ended:
        return f"It has ended: {s.status}."
    if not s.exists:
        return "It is accepted and waits for an orchestrator to take it up."
    for f in facts:
        if f["waiting_for"] == "person" and "pause_id" in f:
            where = f" at {f['node_id']}" if f["node_id"] else ""
            who = f", claimed by {f['claimed_by']}" if f["claimed_by"] else ""
            more = f" ({len(s.pauses)} pauses are open)" if len(s.pauses) > 1 else ""
            return f"It waits for a person{where} since {f['since']}{who}; the options are {', '.join(f['options'])}.{more}"
    if not facts:
        return "Nothing is out and nothing is due: it is about to go on."
    return _node_sentence(s, facts[0], len(facts))


def _node_sentence(s: WorkflowState, f: dict[str, Any], count: int) -> str:
    node = s.nodes[f["node_id"]]
    doing = "Undoing" if node.state in (N.COMPENSATING, N.COMPENSATION_FAILED) else "Node"
    limit = (
        node.undo.round_from + node.spec.undoing.retry.max_attempts
        if doing == "Undoing" and node.spec.undoing
        else node.max_attempts
    )
    rest = f" ({count - 1} more are under way)" if count > 1 else ""
    which = f"{doing} {f['node_id']}"
    match f["waiting_for"]:
        case "retry":
            return f"{which} waits for retry {f['attempt'] + 1}/{limit} at {f['retry_at']}.{rest}"
        case "worker":
            return f"{which} was sent {f['for_s']} s ago and no worker of {f['agent']} has claimed it yet.{rest}"
        case "agent":
            who = f" by {f['worker']}" if f["worker"] else ""
            return f"{which}, attempt {f['attempt']}/{limit}, is being worked on{who} for {f['for_s']} s.{rest}"
        case _:
            return f"{which} was dead-lettered and is about to ask for a person.{rest}"
