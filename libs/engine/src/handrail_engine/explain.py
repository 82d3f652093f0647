"""One sentence why a workflow is not moving, and the facts behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handrail_contracts.events import NodeStatus as N
from handrail_contracts.model import iso, ms_of
from handrail_engine.room import keys
from handrail_engine.state import NodeState, WorkflowState

BEHIND = 1_000
"""So many journal rows that are not on the bus yet are worth telling; a few always are on their way."""


@dataclass(frozen=True, slots=True)
class Around:
    """What is known beyond the workflow. `owned`: an orchestrator has its partition `p`; `behind`: journal rows of that
    partition that are not on the bus yet; `orders`: what people ordered and is not applied yet, as {kind, since_ms, actor,
    action_id}; `silent`: agent -> when its last worker was seen (RFC 3339), of those that have none; `limits` and
    `taken`: places by agent and by agent/action."""

    owned: bool = True
    p: int | None = None
    behind: int = 0
    orders: tuple[Mapping[str, Any], ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)


_WAITING = (
    N.SCHEDULED,
    N.IN_PROGRESS,
    N.RETRYING,
    N.DEAD_LETTERED,
    N.AWAITING_HUMAN,
    N.COMPENSATING,
    N.COMPENSATION_FAILED,
)


def explain(s: WorkflowState, now_ms: int, around: Around | None = None) -> dict[str, Any]:
    """`{"sentence", "status", "facts": [{"node_id"?, "waiting_for", …}]}`: what waits for people or for Handrail itself first,
    then nodes, oldest first; at most 100."""
    around = around or Around()
    facts: list[dict[str, Any]] = []
    if not s.ended:
        pauses = [_pause_fact(p.data, now_ms) for p in s.pauses.values()]
        outside = _outside(now_ms, around)
        # who has pressed a button waits for what applies it; until then it is the pause that waits
        facts.extend((*outside, *pauses) if around.orders else (*pauses, *outside))
        facts.extend(_node_fact(s, n, now_ms, around) for n in s.nodes.values() if _waits(s, n))
    facts = facts[:_MOST]
    return {"trace_id": s.trace_id, "status": s.status.value, "sentence": _sentence(s, facts), "facts": facts}


_MOST = 100


def _waits(s: WorkflowState, n: NodeState) -> bool:
    """True for a node that something can be said of: begun, or ready and waiting for room. The others wait for these."""
    ready = n.state is N.PENDING and not n.waiting and not s.held and not s.leaves(n) and s.planned
    return n.state in _WAITING or ready


def _outside(now_ms: int, a: Around) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = []
    if not a.owned:
        facts.append({"waiting_for": "orchestrator", "partition": a.p})
    for o in a.orders:
        waited = max(0.0, round((now_ms - o["since_ms"]) / 1000, 1))
        about = {k: o[k] for k in ("action_id", "actor") if o.get(k)}
        facts.append({"waiting_for": "order", "kind": o["kind"], "since": iso(o["since_ms"]), "for_s": waited, **about})
    if a.behind >= BEHIND:
        facts.append({"waiting_for": "bus", "partition": a.p, "behind": a.behind})
    return facts


def _pause_fact(p: dict[str, Any], now_ms: int) -> dict[str, Any]:
    claimed = p["claimed_by"] is not None and (p["claimed_until"] is None or ms_of(p["claimed_until"]) > now_ms)
    return {
        "waiting_for": "person",
        "pause_id": p["pause_id"],
        "node_id": p["node_id"],
        "kind": p["kind"],
        "since": p["at"],
        "claimed_by": p["claimed_by"] if claimed else None,
        "claimed_until": p["claimed_until"] if claimed else None,
        "expires_at": p["expires_at"],
        "on_expiry": p["on_expiry"],
        "options": [r["action_id"] for r in p["available_resolutions"]],
    }


def _node_fact(s: WorkflowState, n: NodeState, now_ms: int, a: Around) -> dict[str, Any]:
    undo = n.state in (N.COMPENSATING, N.COMPENSATION_FAILED)
    attempt = n.undo.attempt if undo else n.attempt
    retry_ms = n.undo.retry_ms if undo else n.retry_ms
    fact: dict[str, Any] = {"node_id": n.spec.id, "agent": n.spec.agent, "state": n.state.value, "attempt": attempt}
    if then := _then(s, n):
        fact["then"] = then
    due = n.state is N.PENDING or (n.state is N.RETRYING and retry_ms is not None and retry_ms <= now_ms)
    if due and not s.held and (places := _places(n, a)):
        fact |= {"waiting_for": "room", **places}
    elif retry_ms is not None:
        fact |= {"waiting_for": "retry", "retry_at": iso(retry_ms), "held": s.held}
        fact["because"] = ((n.undo.error if undo else n.error) or {}).get("code")
    elif n.state is N.PENDING:
        fact |= {"waiting_for": "its turn"}
    elif n.state is N.SCHEDULED or (n.state is N.COMPENSATING and not n.undo.claimed):
        fact |= {
            "waiting_for": "worker",
            "since": iso(n.scheduled_ms),
            "for_s": round((now_ms - n.scheduled_ms) / 1000, 1),
        }
        if n.spec.agent in a.silent:
            patience = n.scheduled_ms + int(n.limits.schedule_to_start_s * 1000)
            fact |= {"last_seen": a.silent[n.spec.agent], "asks_a_person_at": iso(patience)}
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


def _then(s: WorkflowState, n: NodeState) -> list[str]:
    """The first nodes that wait for this one."""
    if n.state in (N.COMPENSATING, N.COMPENSATION_FAILED) or s.leaves(n):
        return []
    return [k for k in s.children[n.spec.id] if s.nodes[k].state is N.PENDING][:10]


def _places(n: NodeState, a: Around) -> dict[str, Any] | None:
    """The limit that leaves no room for the node, None when none does (any more)."""
    for key in keys(n):
        if key in a.limits and a.taken.get(key, 0) >= a.limits[key]:
            return {"limit": key, "max_in_flight": a.limits[key], "in_flight": a.taken[key]}
    return None


def _sentence(s: WorkflowState, facts: list[dict[str, Any]]) -> str:
    if s.ended:
        return f"It has ended: {s.status}."
    if not s.exists and not (facts and facts[0]["waiting_for"] == "orchestrator"):
        return "It is accepted and waits for an orchestrator to take it up."
    if not facts:
        return "Nothing is out and nothing is due: it is about to go on."
    first = facts[0]
    match first["waiting_for"]:
        case "orchestrator":
            return (
                f"No orchestrator owns its partition {first['partition']}: nothing moves until one is started"
                " (or, after a crash, until the old one's lease has run out)."
            )
        case "order":
            what = {"decide": "a decision", "cancel": "a cancel", "pause": "a pause"}.get(first["kind"], first["kind"])
            pressed = f" ({first['action_id']})" if first.get("action_id") else ""
            by = f" by {first['actor']}" if first.get("actor") else ""
            return f"It is about to apply {what}{pressed}{by}, stored {first['for_s']} s ago."
        case "bus":
            return f"The bus lags: {first['behind']} events of its partition are stored and not published yet."
        case "person" if "pause_id" in first:
            return _pause_sentence(s, first)
        case _:
            return _node_sentence(s, first, len(facts))


def _pause_sentence(s: WorkflowState, f: dict[str, Any]) -> str:
    where = f" at {f['node_id']}" if f["node_id"] else ""
    who = f", claimed by {f['claimed_by']} until {f['claimed_until']}" if f["claimed_by"] else ""
    else_ = f"; at {f['expires_at']} {f['on_expiry']} is pressed by itself" if f["expires_at"] else ""
    more = f" ({len(s.pauses)} pauses are open)" if len(s.pauses) > 1 else ""
    options = ", ".join(f["options"])
    return f"It waits for a person{where} since {f['since']}{who}; the options are {options}{else_}.{more}"


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
    if f.get("then"):
        others = ", ".join(f["then"][:3]) + (" and more" if len(f["then"]) > 3 else "")
        rest = f" {others} wait{'s' if len(f['then']) == 1 else ''} for it.{rest}"
    match f["waiting_for"]:
        case "retry":
            because = f" after {f['because']}" if f.get("because") else ""
            return f"{which} waits for retry {f['attempt'] + 1}/{limit} at {f['retry_at']}{because}.{rest}"
        case "room":
            whose = f"{f['limit']} has {f['in_flight']} of {f['max_in_flight']} attempts in flight"
            return f"{which} is ready, but {whose} (max_in_flight) over all workflows.{rest}"
        case "its turn":
            return f"{which} is ready and about to be sent.{rest}"
        case "worker" if "last_seen" in f:
            asked = f"a person is asked at {f['asks_a_person_at']}"
            return f"{which} was sent {f['for_s']} s ago, but no worker of {f['agent']} lives (last seen {f['last_seen']}); {asked}.{rest}"
        case "worker":
            return f"{which} was sent {f['for_s']} s ago and no worker of {f['agent']} has claimed it yet.{rest}"
        case "agent":
            who = f" by {f['worker']}" if f["worker"] else ""
            return f"{which}, attempt {f['attempt']}/{limit}, is being worked on{who} for {f['for_s']} s.{rest}"
        case _:
            return f"{which} was dead-lettered and is about to ask for a person.{rest}"
