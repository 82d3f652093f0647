"""What a plan may be, and what it is compiled to. Linear in nodes and edges, iterative throughout."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from handrail_contracts.pauses import DEFAULT_RESOLUTIONS, PauseKind, misfit
from handrail_contracts.plan import (
    EFFECT_ORDER,
    MAX_EDGES,
    MAX_NODES,
    SHORTEST_LEASE_S,
    Compensation,
    EffectClass,
    Node,
    Plan,
    Resolution,
    RetryPolicy,
    Timeouts,
)
from handrail_engine import references
from handrail_engine.parts import PART_BYTES, edge_bytes
from handrail_engine.taint import Taint, gate_problem, mark_tainted

Registry = Mapping[tuple[str, str], Mapping[str, Any]]
"""(agent, action) -> manifest, as table `agent` holds it."""


MOST_PROBLEMS = 1_000
DECLARED_BYTES = 24 * 1024
"""So much a node may declare of its buttons, of its gate, of the context of its pauses."""


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """One fault of a plan: a problem code, a JSON pointer into the plan, one sentence."""

    code: str
    pointer: str
    message: str


def validate(
    plan: Plan,
    registry: Registry,
    *,
    input_schema: Mapping[str, Any] | None = None,
    known: Collection[str] = frozenset[str](),
    again: Collection[str] = frozenset[str](),
) -> list[PlanProblem]:
    """Every fault of the plan, `MOST_PROBLEMS` at most, in document order within its kind; empty when it may run.

    `registry` names the agents ever seen. `input_schema` lets references to unknown top-level inputs be refused when it
    allows no additional properties. `known` are nodes of a running workflow that this plan is added to: its nodes may
    depend on them, and read those that they depend on. Of these, `again` may be written anew.
    """
    if not plan.nodes:
        return [PlanProblem("empty-dag", "/nodes", "Expected at least one node, but the plan has none.")]
    edges = sum(len(n.depends_on) for n in plan.nodes)
    if len(plan.nodes) > MAX_NODES:
        return [
            PlanProblem(
                "dag-too-large", "/nodes", f"Expected at most {MAX_NODES} nodes, but the plan has {len(plan.nodes)}."
            )
        ]
    if edges > MAX_EDGES:
        return [
            PlanProblem("dag-too-large", "/nodes", f"Expected at most {MAX_EDGES} edges, but the plan has {edges}.")
        ]
    problems = [*_duplicates(plan, known, again), *_dependencies(plan, known)]
    if not problems:
        problems.extend(_cycle(plan))
    if problems:
        return problems
    found = (_agents(plan, registry), _policies(plan, registry), _references(plan, input_schema, known))
    return list(islice(chain.from_iterable(found), MOST_PROBLEMS))


def _duplicates(plan: Plan, known: Collection[str], again: Collection[str]) -> Iterator[PlanProblem]:
    seen: dict[str, str] = {}
    for i, node in enumerate(plan.nodes):
        key = unicodedata.normalize("NFKC", node.id).casefold()
        if node.id in known and node.id not in again:
            yield PlanProblem(
                "duplicate-node", f"/nodes/{i}/id", f"Expected a new id, but {node.id!r} is a node of this workflow."
            )
        if key in seen:
            yield PlanProblem(
                "duplicate-node",
                f"/nodes/{i}/id",
                f"Expected each id once, but {node.id!r} and {seen[key]!r} are the same.",
            )
        seen[key] = node.id


def _dependencies(plan: Plan, known: Collection[str]) -> Iterator[PlanProblem]:
    ids = {n.id for n in plan.nodes}
    for i, node in enumerate(plan.nodes):
        took = edge_bytes(node.depends_on) if len(node.depends_on) > 100 else 0
        if took > PART_BYTES:
            yield PlanProblem(
                "dag-too-large",
                f"/nodes/{i}/depends_on",
                f"Expected ids of at most {PART_BYTES} bytes in one depends_on, but {node.id!r} has {took}. Use shorter ids.",
            )
        for j, dep in enumerate(node.depends_on):
            at = f"/nodes/{i}/depends_on/{j}"
            if dep == node.id:
                yield PlanProblem(
                    "dag-cycle", at, f"Expected a DAG, but {node.id} depends on itself: {node.id} → {node.id}."
                )
            elif dep not in ids and dep not in known:
                yield PlanProblem(
                    "unknown-dependency", at, f"Expected a node of this plan, but {node.id!r} depends on {dep!r}."
                )


def topological(nodes: Sequence[Node]) -> list[int]:
    """Indices in an order in which every node comes after what it depends on (of these nodes); shorter than `nodes` when
    there is a cycle."""
    index = {n.id: i for i, n in enumerate(nodes)}
    waiting = [0] * len(nodes)
    children: list[list[int]] = [[] for _ in nodes]
    for i, n in enumerate(nodes):
        for dep in set(n.depends_on):
            if dep in index:
                children[index[dep]].append(i)
                waiting[i] += 1
    order = [i for i, w in enumerate(waiting) if w == 0]
    for i in order:
        for c in children[i]:
            waiting[c] -= 1
            if waiting[c] == 0:
                order.append(c)
    return order


def _cycle(plan: Plan) -> Iterator[PlanProblem]:
    order = topological(plan.nodes)
    if len(order) == len(plan.nodes):
        return
    stuck = set(range(len(plan.nodes))) - set(order)
    index = {n.id: i for i, n in enumerate(plan.nodes)}
    # every stuck node has a stuck dependency, so walking dependencies must come back
    at, seen = min(stuck), dict[int, int]()
    path: list[int] = []
    while at not in seen:
        seen[at] = len(path)
        path.append(at)
        at = next(index[d] for d in plan.nodes[at].depends_on if index.get(d) in stuck)
    loop = [*path[seen[at] :], at]
    names = " → ".join(plan.nodes[i].id for i in reversed(loop[:20]))
    yield PlanProblem("dag-cycle", f"/nodes/{loop[0]}/depends_on", f"Expected a DAG, but there is a cycle: {names}.")


def _agents(plan: Plan, registry: Registry) -> Iterator[PlanProblem]:
    for i, node in enumerate(plan.nodes):
        manifest = registry.get((node.agent, node.action))
        if manifest is None:
            yield PlanProblem(
                "unknown-agent",
                f"/nodes/{i}/agent",
                f"Expected an agent that has registered, but {node.agent!r} with action {node.action!r} was never seen.",
            )
            continue
        declared = node.compensation.action if isinstance(node.compensation, Compensation) else None
        if declared is not None and registry.get((node.agent, declared)) is None:
            yield PlanProblem(
                "unknown-agent",
                f"/nodes/{i}/compensation/action",
                f"Expected an action that has registered, but {node.agent!r} with action {declared!r} was never seen.",
            )
        floor = EffectClass(manifest.get("effect_class", EffectClass.PURE))
        wanted = node.effect_class or floor
        if EFFECT_ORDER[wanted] < EFFECT_ORDER[floor]:
            yield PlanProblem(
                "effect-class-lowered",
                f"/nodes/{i}/effect_class",
                f"Expected {floor} or stricter, but {node.id!r} says {wanted}.",
            )
        undoable = manifest.get("compensatable", False) or node.irreversible or node.compensation == "none"
        if wanted != EffectClass.PURE and not undoable:
            yield PlanProblem(
                "compensation-missing",
                f"/nodes/{i}/compensation",
                f"Expected a compensation, or compensation: none, because {node.id!r} has a side effect ({wanted}).",
            )


def _too_large(node: Node, at: str) -> Iterator[PlanProblem]:
    """What a pause shows of a node goes into one event."""
    for name in ("resolutions", "gate", "context"):
        if not getattr(node, name):
            continue
        declared = node.model_dump_json(include={name}, exclude_unset=True)
        if (took := len(declared.encode())) > DECLARED_BYTES:
            text = f"Expected at most {DECLARED_BYTES} bytes of {name}, but {node.id!r} has {took}."
            yield PlanProblem("validation", f"{at}/{name}", text)


def _policies(plan: Plan, registry: Registry) -> Iterator[PlanProblem]:
    for i, node in enumerate(plan.nodes):
        at = f"/nodes/{i}"
        retry, timeouts = node.retry, node.timeouts
        if node.gate is not None and (wrong := gate_problem(node.gate)) is not None:
            yield PlanProblem("validation", f"{at}/gate{wrong[0]}", wrong[1])
        given = retry is not None and "initial_delay_s" in retry.model_fields_set
        if retry and given and retry.total_timeout_s and retry.initial_delay_s > retry.total_timeout_s:
            yield PlanProblem(
                "invalid-retry-policy",
                f"{at}/retry/initial_delay_s",
                "Expected a delay below total_timeout_s, but it is longer.",
            )
        given = timeouts is not None and "lease_s" in timeouts.model_fields_set
        if timeouts and given and timeouts.lease_s > timeouts.start_to_close_s:
            yield PlanProblem(
                "invalid-retry-policy",
                f"{at}/timeouts/lease_s",
                "Expected a lease below start_to_close_s, but it is longer.",
            )
        yield from _too_large(node, at)
        offered = [r.action_id for r in node.resolutions or ()]
        if len(set(offered)) < len(offered):
            yield PlanProblem("validation", f"{at}/resolutions", "Expected each action_id once, but one stands twice.")
        for j, button in enumerate(node.resolutions or ()):
            if (unfit := misfit(button)) is not None:
                yield PlanProblem("validation", f"{at}/resolutions/{j}/{unfit[0]}", unfit[1])
        if node.expiry and not offered:
            offered = _offered(registry.get((node.agent, node.action)) or {})
        if node.expiry and node.expiry.action_id not in offered:
            yield PlanProblem(
                "validation",
                f"{at}/expiry/action_id",
                f"Expected one of {', '.join(offered)}, but found {node.expiry.action_id[:80]!r}.",
            )


def _offered(manifest: Mapping[str, Any]) -> list[str]:
    """The buttons that pauses of a node without its own can offer: its agent's, else the usual ones for a failure; and the
    usual ones of whatever else a node can ask."""
    own = [Resolution.model_validate(r) for r in manifest.get("resolutions") or ()]
    usual = (PauseKind.GATE, PauseKind.ESCALATION, PauseKind.AMBIGUOUS)
    shown = [
        *(r for kind in usual for r in DEFAULT_RESOLUTIONS[kind]),
        *(own or DEFAULT_RESOLUTIONS[PauseKind.FAILURE]),
    ]
    return list(dict.fromkeys(r.action_id for r in shown))


def _references(plan: Plan, input_schema: Mapping[str, Any] | None, known: Collection[str]) -> Iterator[PlanProblem]:
    ids = {n.id: i for i, n in enumerate(plan.nodes)}
    readable = ids if not known else {**dict.fromkeys(known, -1), **ids}
    ancestors: list[int] | None = None
    closed: set[str] | None = None
    if input_schema is not None and input_schema.get("additionalProperties") is False:
        closed = set(input_schema.get("properties", {}))
    for i, node in enumerate(plan.nodes):
        direct = set(node.depends_on)
        found = [(p, r[references.FROM]) for p, r in references.walk(node.inputs, f"/nodes/{i}/inputs")]
        if node.when is not None:
            found.append((f"/nodes/{i}/when/ref", node.when.ref))
        found.extend(_of_diff(node, f"/nodes/{i}/gate/diff"))
        for pointer, text in found:
            try:
                ref = references.parse(text, readable)
            except references.BadReference as e:
                yield PlanProblem("invalid-reference", pointer, str(e))
                continue
            if ref.node_id is None:
                if closed is not None and ref.path and ref.path[0] not in closed:
                    yield PlanProblem(
                        "invalid-reference",
                        pointer,
                        f"Expected an input of the schema, but found {ref.path[0][:80]!r}.",
                    )
            elif ref.node_id not in ids and ref.node_id not in direct:
                yield PlanProblem(
                    "invalid-reference",
                    pointer,
                    f"Expected {ref.node_id!r} in depends_on of {node.id!r}, but it is not.",
                )
            elif ref.node_id not in direct:
                ancestors = ancestors if ancestors is not None else _ancestors(plan.nodes)
                if not ancestors[i] >> ids[ref.node_id] & 1:
                    yield PlanProblem(
                        "invalid-reference", pointer, f"Expected a node before {node.id!r}, but {ref.node_id!r} is not."
                    )
    for pointer, r in references.walk(plan.output, "/output"):
        try:
            references.parse(r[references.FROM], ids)
        except references.BadReference as e:
            yield PlanProblem("invalid-reference", pointer, str(e))


def _of_diff(node: Node, at: str) -> Iterator[tuple[str, str]]:
    """What a gate's diff reads besides the arguments. What is no reference at all is the gate's own fault (`gate_problem`)."""
    diff = node.gate.diff if node.gate is not None else None
    for side, values in (("before", diff.before), ("after", diff.after)) if diff is not None else ():
        for pointer, reference in references.walk(values, f"{at}/{side}"):
            text = reference[references.FROM]
            if isinstance(text, str) and text.startswith(("input.", "nodes.")):
                yield pointer, text


def _ancestors(nodes: Sequence[Node]) -> list[int]:
    """One bitset per node: bit j is set when node j comes before it."""
    index = {n.id: i for i, n in enumerate(nodes)}
    bits = [0] * len(nodes)
    for i in topological(nodes):
        for dep in nodes[i].depends_on:
            if dep not in index:
                continue
            j = index[dep]
            bits[i] |= bits[j] | 1 << j
    return bits


def compile_plan(
    plan: Plan, registry: Registry, *, known: Mapping[str, Taint] | None = None, tainted: bool = False
) -> dict[str, Any]:
    """The plan with every manifest default merged in, as the journal keeps it: `{"nodes": […], "output": …}`.

    Explicit node fields win. Fields that hold the engine's own default are left out. Nodes keep their order where it is
    topological already, else they are put into one that is. Expects a plan without problems. `known` are nodes that these may
    depend on; `tainted`: whoever wrote this plan has seen content from outside.
    """
    nodes = plan.nodes
    seen: set[str] = set()
    for node in nodes:
        if not seen.issuperset(node.depends_on):
            nodes = [nodes[i] for i in topological(nodes)]
            break
        seen.add(node.id)
    compiled = [_compile_node(n, registry[n.agent, n.action]) for n in nodes]
    mark_tainted(compiled, known or {}, all_=tainted)
    budget = {"budget": plan.budget.model_dump(exclude_none=True)} if plan.budget is not None else {}
    return {"nodes": compiled, "output": plan.output, **budget}


def _compile_node(node: Node, manifest: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {"id": node.id, "agent": node.agent, "action": node.action}
    if node.depends_on:
        out["depends_on"] = list(dict.fromkeys(node.depends_on))
    if node.inputs:
        out["inputs"] = node.inputs
    given = node.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=_OWN_FIELDS)
    out.update(given)
    retry = _merged(RetryPolicy, manifest.get("retry"), node.retry)
    timeouts = _with_lease_inside(_merged(Timeouts, manifest.get("timeouts"), node.timeouts))
    if retry:
        out["retry"] = retry
    if timeouts:
        out["timeouts"] = timeouts
    effect = node.effect_class or EffectClass(manifest.get("effect_class", EffectClass.PURE))
    if effect != EffectClass.PURE:
        out["effect_class"] = effect.value
    if node.compensation == "none":
        out["compensation"] = "none"
    elif manifest.get("compensatable") and not node.irreversible:
        declared = node.compensation
        out["compensation"] = declared.model_dump(mode="json", exclude_unset=True) if declared else {}
    for name in ("context", "resolutions", "output_schema"):
        if name not in out and manifest.get(name):
            out[name] = manifest[name]
    if manifest.get("untrusted"):
        out["untrusted"] = True  # a plan may say so of more nodes, never take it back
    if effect != EffectClass.PURE and manifest.get("proposal"):
        out["proposal"] = manifest["proposal"]
    if ("gate" in out or "proposal" in out) and manifest.get("input_schema"):
        out["args_schema"] = manifest["input_schema"]
    if node.optional and "on_exhausted" not in given:
        out["on_exhausted"] = "skip"
    return out


_OWN_FIELDS = {"id", "agent", "action", "depends_on", "inputs", "retry", "timeouts", "effect_class", "compensation"}


def _merged(
    model: type[RetryPolicy] | type[Timeouts], manifest: Mapping[str, Any] | None, node: RetryPolicy | Timeouts | None
) -> dict[str, Any]:
    fields = dict(manifest or {})
    if node is not None:
        fields.update(node.model_dump(mode="json", exclude_unset=True))
    return model.model_validate(fields).model_dump(mode="json", exclude_defaults=True) if fields else {}


def _with_lease_inside(timeouts: dict[str, Any]) -> dict[str, Any]:
    """A lease that nobody chose for this node (the default, the manifest's) is no longer than the attempt may take."""
    limits = Timeouts.model_validate(timeouts)
    if limits.lease_s <= limits.start_to_close_s:
        return timeouts
    return {**timeouts, "lease_s": max(limits.start_to_close_s, SHORTEST_LEASE_S)}
