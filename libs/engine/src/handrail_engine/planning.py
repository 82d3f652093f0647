"""How nodes come into a workflow: with its start, from the planner agent, or appended by a node that may.

The application validates and compiles what an agent hands in (`plan.validate_added`, `plan.compile_plan`) before it asks
`decide`; what is checked here is the second wall, so that no answer can make a journal that does not fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handrail_contracts.events import EventType as T
from handrail_contracts.events import NodeStatus as N
from handrail_contracts.plan import MAX_NODES
from handrail_contracts.tasks import Failure, Result
from handrail_engine import appended, compensation
from handrail_engine.inputs import Start
from handrail_engine.outline import edges, outline, shape, summary
from handrail_engine.parts import edge_bytes, parts
from handrail_engine.references import FROM, BadReference, parse, walk
from handrail_engine.rollback import given_up
from handrail_engine.spec import node_spec
from handrail_engine.state import NodeState, WorkflowState
from handrail_engine.turn import Turn

PLANNER_AGENT, PLANNER_ACTION, PLAN_NODE = "planner", "plan", "plan"
_PLAN_RESOLUTIONS = [
    {"action_id": "RES_RETRY", "display_text": "Plan again", "kind": "retry", "style": "primary"},
    {"action_id": "RES_ABORT_SAGA", "display_text": "Abort", "kind": "compensate", "style": "danger"},
]


def plan_node(c: Start) -> dict[str, Any]:
    """The node that makes the plan: an ordinary one, so its retries, dead letters and pauses are ordinary too."""
    return {
        "id": PLAN_NODE,
        "agent": PLANNER_AGENT,
        "action": PLANNER_ACTION,
        "inputs": {"intent": c.intent, "input": c.input},
        "resolutions": _PLAN_RESOLUTIONS,
    }


def announce(
    t: Turn, nodes: list[dict[str, Any]], output: dict[str, Any] | None, budget: dict[str, float] | None = None
) -> None:
    """Emits WORKFLOW_PLANNED with the first nodes, NODES_ADDED with the rest, before any dispatch."""
    known = outline(nodes)
    cut = parts(nodes, _bytes) if known is None else iter((nodes,))
    first = next(cut)
    t.emit(
        T.WORKFLOW_PLANNED,
        {"nodes": first, **({"output": output} if output else {}), **({"budget": budget} if budget else {})},
        nodes=[summary(n) for n in first] if known is None else known.summaries,
        node_count=len(nodes),
        edge_count=edges(nodes) if known is None else known.edges,
        plan_digest=shape(nodes) if known is None else known.digest,
    )
    for part in cut:
        add(t, part, None)
    t.queue.extend(n["id"] for n in nodes if not t.state.nodes[n["id"]].waiting)


def add(t: Turn, part: list[dict[str, Any]], by: str | None, members: Sequence[str] = ()) -> None:
    """Emits NODES_ADDED for one part of a plan. `members` belong from now on to what is being rolled back."""
    meta = {"nodes": part, **({"members": members} if members else {})}
    t.emit(T.NODES_ADDED, meta, nodes=[_shown(t.state, n) for n in part], by=by)


def _shown(s: WorkflowState, c: dict[str, Any]) -> dict[str, Any]:
    """A node as it enters the view: the attempts of one that comes again go on counting."""
    known = s.nodes.get(c["id"])
    return summary(c) if known is None else {**summary(c), "attempt": known.attempt}


def append(t: Turn, node: NodeState, nodes: list[dict[str, Any]]) -> None:
    """Adds what the node's agent appended; a new node that names no dependency comes after the node that made it. One that
    comes after what is being rolled back, to run again, is part of that: as if it had been there when the rollback began."""
    known = t.state.nodes
    placed = [
        appended.placed(n, node.spec.id) for n in nodes if n["id"] not in known or known[n["id"]].state is N.PENDING
    ]
    for part in parts(placed, _bytes):
        joins = _joins(t.state, part)
        add(t, part, node.spec.id, joins)
        for node_id in joins:
            if known[node_id].state is N.PENDING:
                compensation.leave(t, known[node_id], compensation.ROLLED_BACK)
    t.queue.extend(n["id"] for n in placed if not t.state.nodes[n["id"]].waiting)


def _joins(s: WorkflowState, nodes: list[dict[str, Any]]) -> list[str]:
    """Which of these come after something that is being rolled back, directly or not; and what there is that comes after
    one of them, where it is one that comes again."""
    members = s.ending.members if s.ending is not None else None
    if not members:
        return []
    written = {n["id"]: n["depends_on"] for n in nodes}
    after: dict[str, list[str]] = {}
    for node_id, depends_on in written.items():
        for d in depends_on:
            after.setdefault(d, []).append(node_id)
    found: dict[str, None] = {}
    work = [k for k, depends_on in written.items() if not members.isdisjoint(depends_on)]
    while work:
        k = work.pop()
        if k not in found:
            found[k] = None
            work.extend(after.get(k, ()))
            work.extend(c for c in s.children.get(k, ()) if c not in written and c not in members)
    return [*(k for k in written if k in found), *(k for k in s.nodes if k in found and k not in written)]


def adopt_plan(t: Turn) -> None:
    """Takes up the planner's plan once no pause is open."""
    s = t.state
    if s.plan is not None and not s.pauses and not s.ends:
        announce(t, s.plan["nodes"], s.plan.get("output"))


def _bytes(c: dict[str, Any]) -> int:
    return 400 + edge_bytes((c["id"], *c.get("depends_on", ())))


def plan_of(r: Result) -> dict[str, Any]:
    """What the planner answered, as it is kept until it is taken up. Its output may carry the plan's output mapping."""
    said = r.output.get("output") if isinstance(r.output, dict) else None
    return {"nodes": r.nodes, **({"output": said} if isinstance(said, dict) and said else {})}


def refused(s: WorkflowState, node: NodeState, r: Result) -> Failure | None:
    """Why the nodes of this answer may not be added, or None."""
    nodes = r.nodes or []
    if not s.planned:
        if not nodes:
            return Failure(code="no-plan", message="The planner answered without a plan.")
        return _misfit(s, node, nodes, plan_of(r).get("output"))
    quota = node.spec.may_add_nodes
    if len(nodes) > quota:
        text = f"Expected at most {quota} appended nodes, but the agent answered {len(nodes)}."
        return Failure(code="too-many-nodes", message=text, retryable=False)
    return _misfit(s, node, nodes, None)


def gone(s: WorkflowState, node_id: str, dep: str) -> str | None:
    """Why a node may not be appended after this one of the workflow, or None."""
    node = s.nodes.get(dep)
    if node is None or not given_up(s, node):
        return None
    return f"Expected a node that is not given up, but {node_id[:80]!r} depends on {dep[:80]!r}, which is rolled back."


def _misfit(s: WorkflowState, maker: NodeState, nodes: list[dict[str, Any]], output: Any) -> Failure | None:
    known: dict[str, Any] = dict.fromkeys(s.nodes)
    seen: set[str] = set()
    try:
        ids = {n["id"] for n in nodes}
        if len(s.nodes) + len(ids - s.nodes.keys()) > MAX_NODES:
            return Failure(code="dag-too-large", message=f"Expected at most {MAX_NODES} nodes in all.", retryable=False)
        for n in nodes:
            if n["id"] in seen:
                return Failure(
                    code="duplicate-node", message=f"Expected each id once, but found {n['id'][:80]!r} twice."
                )
            if n["id"] in s.nodes and (why := appended.unlike(s, maker, n, ids)):
                return Failure(code="duplicate-node", message=why)
            if not seen.issuperset(ids.intersection(n.get("depends_on", ()))):
                return Failure(
                    code="dag-cycle", message=f"Expected what {n['id'][:80]!r} depends on to come before it."
                )
            seen.add(n["id"])
            node_spec(n, known)
            if not known.keys() >= set(n.get("depends_on", ())):
                return Failure(code="unknown-dependency", message=f"Node {n['id'][:80]!r} depends on an unknown node.")
            if why := next((w for d in n.get("depends_on", ()) if (w := gone(s, n["id"], d))), None):
                return Failure(code="unknown-dependency", message=why)
            known[n["id"]] = None
        if appended.closes_a_cycle(s, nodes):
            return Failure(code="dag-cycle", message="Expected a DAG, but one of the nodes comes after itself.")
        for _, r in walk(output):
            parse(r[FROM], known)
    except (BadReference, KeyError, TypeError, ValueError, AttributeError) as e:
        return Failure(code="invalid-plan", message=f"The nodes cannot be read: {type(e).__name__}.")
    return None
