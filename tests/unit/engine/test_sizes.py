"""10,000 nodes in four shapes: accepted, run and rolled back with work that grows with what a step affects, not with the plan.

Times are printed (`pytest -s`), never asserted; what is asserted is counted: walks over all nodes, and look-ups of nodes.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from handrail_contracts.plan import EffectClass, Plan
from handrail_contracts.tasks import Outcome, Result, TaskKind
from handrail_engine import appended
from handrail_engine.decide import Decided, decide
from handrail_engine.evolve import fold
from handrail_engine.explain import explain
from handrail_engine.inputs import Cancel, Now, Start, Wake
from handrail_engine.outgoing import Dispatch
from handrail_engine.plan import compile_plan, validate
from handrail_engine.state import NodeState, WorkflowState
from unit.engine.plans import BACK
from unit.engine.saga import T0, AnyAgent, Saga, node

SIZE = 10_000
Shape = list[dict[str, Any]]


def count(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[None]:
    """Grows by one with every call of this function."""
    calls: list[None] = []
    real = getattr(module, name)

    def counted(*args: Any) -> Any:
        calls.append(None)
        return real(*args)

    monkeypatch.setattr(module, name, counted)
    return calls


def chain() -> Shape:
    return [node(f"n{i}", *([f"n{i - 1}"] if i else []), effect_class="idempotent") for i in range(SIZE)]


def star() -> Shape:
    """9,999 nodes and one that waits for all of them and reads all their outputs."""
    leaves = [node(f"n{i}", effect_class="idempotent") for i in range(SIZE - 1)]
    reads = {n["id"]: {"$from": f"nodes.{n['id']}.output"} for n in leaves}
    return [*leaves, node("hub", *(n["id"] for n in leaves), inputs=reads)]


def layered() -> Shape:
    rng = random.Random(1)
    nodes: Shape = []
    for layer in range(100):
        for i in range(100):
            parents = [f"n{layer - 1}_{p}" for p in rng.sample(range(100), 9)] if layer else []
            nodes.append(node(f"n{layer}_{i}", *parents, effect_class="idempotent"))
    return nodes


def scattered() -> Shape:
    rng = random.Random(2)
    nodes: Shape = []
    for i in range(SIZE):
        parents = {f"n{rng.randrange(i)}" for _ in range(rng.randint(0, 5))} if i else set()
        reads = {p: {"$from": f"nodes.{p}.output.x", "default": None} for p in sorted(parents)}
        nodes.append(node(f"n{i}", *sorted(parents), inputs=reads, effect_class="idempotent"))
    return nodes


class Counting(dict[str, NodeState]):
    """The nodes of a state, counting how they are reached."""

    walks = 0
    reads = 0

    def __getitem__(self, key: str) -> NodeState:
        self.reads += 1
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()

    def values(self) -> Any:
        self.walks += 1
        return super().values()

    def items(self) -> Any:
        self.walks += 1
        return super().items()


def state() -> tuple[WorkflowState, Counting]:
    s = WorkflowState("t", "w")
    s.nodes = Counting()
    return s, s.nodes


def answer(task: Dispatch) -> Result:
    return Result(
        kind=TaskKind.EXECUTE if task.kind is TaskKind.CANCEL else task.kind,
        trace_id="w",
        node_id=task.node_id,
        attempt=task.attempt,
        effect_key=task.effect_key,
        outcome=Outcome.OK,
        output={"x": 1},
    )


def give(s: WorkflowState, what: Any, now: Now) -> list[Dispatch]:
    decided = decide(s, what, now)
    assert isinstance(decided, Decided)
    return [m for m in decided.messages if isinstance(m, Dispatch) and m.kind is not TaskKind.CANCEL]


SHAPES = [chain, star, layered, scattered]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
def test_ten_thousand_nodes(shape: Any) -> None:
    raw = {"nodes": shape()}
    at = time.perf_counter()
    plan = Plan.model_validate(raw)
    parsed = time.perf_counter()
    assert validate(plan, AnyAgent()) == []
    nodes = compile_plan(plan, AnyAgent())["nodes"]
    compiled = time.perf_counter()
    edges = sum(len(n.get("depends_on", ())) for n in nodes)
    now = Now(T0)
    s, counting = state()
    decided = decide(s, Start(None, None, {}, {}, nodes), now)
    assert isinstance(decided, Decided)
    started = time.perf_counter()
    rows = list(decided.rows)
    work = [m for m in decided.messages if isinstance(m, Dispatch)]

    counting.walks = counting.reads = 0
    slowest, steps = 0.0, 0
    while work:
        task = work.pop()
        began = time.perf_counter()
        decided = decide(s, answer(task), now)
        slowest = max(slowest, time.perf_counter() - began)
        steps += 1
        assert isinstance(decided, Decided)
        rows.extend(decided.rows)
        work.extend(m for m in decided.messages if isinstance(m, Dispatch))
    done = time.perf_counter()
    assert s.status.value == "COMPLETED" and steps == SIZE
    assert counting.walks <= 5, "a walk over all nodes belongs to the end, not to a step"
    assert counting.reads <= 8 * (SIZE + edges), f"{counting.reads} look-ups of {SIZE} nodes and {edges} edges"

    began = time.perf_counter()
    again = fold("t", "w", rows)
    folded = time.perf_counter()
    assert again.status == s.status and again.seq == s.seq
    print(
        f"\n{shape.__name__}: {edges} edges, parse {parsed - at:.2f} s, validate and compile {compiled - parsed:.2f} s, "
        f"accept {started - compiled:.2f} s, {SIZE} answers {done - started:.2f} s "
        f"({(done - started) / SIZE * 1e6:.0f} us each, slowest {slowest * 1e3:.1f} ms), fold {folded - began:.2f} s"
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda f: f.__name__)
def test_a_rollback_of_ten_thousand_nodes(shape: Any) -> None:
    plan = Plan.model_validate({"nodes": [*shape(), node("last", timeouts={"schedule_to_start_s": 9_999})]})
    nodes = compile_plan(plan, AnyAgent())["nodes"]
    s, counting = state()
    now = Now(T0)
    decided = decide(s, Start(None, None, {}, {}, nodes), now)
    assert isinstance(decided, Decided)
    work = [m for m in decided.messages if isinstance(m, Dispatch) and m.node_id != "last"]
    while work:
        decided = decide(s, answer(work.pop()), now)
        assert isinstance(decided, Decided)
        work.extend(m for m in decided.messages if isinstance(m, Dispatch))
    began = time.perf_counter()
    decided = decide(s, Cancel(), now)
    aborted = time.perf_counter()
    assert isinstance(decided, Decided)
    size = max(len(str(r.data)) for r in decided.rows)
    assert size < 256 * 1024, f"a row of {size} characters"
    counting.walks = counting.reads = 0
    work = [m for m in decided.messages if isinstance(m, Dispatch) and m.kind is TaskKind.COMPENSATE]
    steps = 0
    while work:
        decided = decide(s, answer(work.pop()), now)
        steps += 1
        assert isinstance(decided, Decided)
        work.extend(m for m in decided.messages if isinstance(m, Dispatch) and m.kind is TaskKind.COMPENSATE)
    done = time.perf_counter()
    assert s.status.value == "COMPENSATED"
    edges = sum(len(n.get("depends_on", ())) for n in nodes)
    assert counting.walks <= 5
    assert counting.reads <= 8 * (SIZE + edges)
    print(
        f"\n{shape.__name__}: abort {aborted - began:.2f} s, {steps} undos {done - aborted:.2f} s, longest row {size}"
    )


def test_many_nodes_that_are_appended_again_after_others_are_put_in_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = count(monkeypatch, appended, "rearrange")
    many = [f"x{i}" for i in range(300)]
    s = Saga(
        node("p", savepoint=True),
        node("y", "p", may_add_nodes=300),
        node("w", "y", resolutions=[BACK], effect_class="idempotent"),
        *(node(f"n{i}", "w") for i in range(2_000)),
        large=True,
    )
    s.ok("p").answer("y", Outcome.OK, nodes=[node(k, "y", "w") for k in many])
    s.exhaust("w").press("RES_BACK")
    s.ok("y", undo=True)
    orders.clear()
    s.answer("y", Outcome.OK, nodes=[node(k, "y") for k in many])
    assert s.states["x299"] == "SCHEDULED"
    rows = sum(r.type == "NODES_ADDED" for r in s.last)
    assert len(orders) == 2 * rows, "once a row, by the state and by whoever folds beside it"


def test_wakes_and_heartbeats_touch_only_what_is_due() -> None:
    s, counting = state()
    plan = Plan.model_validate({"nodes": [node(f"n{i}") for i in range(2_000)]})
    give(s, Start(None, None, {}, {}, compile_plan(plan, AnyAgent())["nodes"]), Now(T0))
    for i in range(1_000):
        give(
            s,
            answer(
                Dispatch(
                    kind=TaskKind.EXECUTE,
                    tenant="t",
                    trace_id="w",
                    node_id=f"n{i}",
                    agent="bot",
                    action="act",
                    attempt=1,
                    max_attempts=3,
                    effect_key=f"t/w/n{i}/1",
                    effect_class=EffectClass.PURE,
                    inputs={},
                    start_before="",
                )
            ),
            Now(T0),
        )
    counting.walks = counting.reads = 0
    decide(s, Wake(), Now(T0 + 9_999))
    assert (counting.walks, counting.reads) == (0, 0)
    decide(s, Wake(), Now(T0 + 10_000))
    assert counting.walks == 0 and counting.reads <= 4 * 2_000
    assert len(s.timers) <= 2 * 2_000


def test_many_moves_of_one_node_do_not_fill_the_heap() -> None:
    s, _ = state()
    retry = {"max_attempts": 1000, "backoff": "fixed", "initial_delay_s": 1, "jitter": "none"}
    plan = Plan.model_validate({"nodes": [node("a", retry=retry)]})
    now = T0
    tasks = give(s, Start(None, None, {}, {}, compile_plan(plan, AnyAgent())["nodes"]), Now(now))
    for _ in range(900):
        failed = answer(tasks[-1]).model_copy(update={"outcome": Outcome.FAILED, "output": None})
        decide(s, failed, Now(now))
        now += 1_000
        decided = decide(s, Wake(), Now(now))
        assert isinstance(decided, Decided)
        tasks = [m for m in decided.messages if isinstance(m, Dispatch)]
    assert len(s.timers) < 20


def test_memory_of_ten_thousand_nodes() -> None:
    nodes = compile_plan(Plan.model_validate({"nodes": layered()}), AnyAgent())["nodes"]
    tracemalloc.start()
    s = WorkflowState("t", "w")
    decided = decide(s, Start(None, None, {}, {}, nodes), Now(T0))
    assert isinstance(decided, Decided)
    del decided
    used, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"\nlayered: state {used / 2**20:.0f} MiB, peak {peak / 2**20:.0f} MiB")
    assert used < 100 * 2**20


def test_fifty_thousand_nodes_are_refused_with_the_limit_named() -> None:
    plan = Plan.model_construct(nodes=[Plan.model_validate({"nodes": [node("a")]}).nodes[0]] * 50_000, output=None)
    found = validate(plan, AnyAgent())
    assert [p.code for p in found] == ["dag-too-large"]
    assert "10000" in found[0].message and "50000" in found[0].message


def test_a_large_workflow_can_be_explained() -> None:
    s, _ = state()
    nodes = compile_plan(Plan.model_validate({"nodes": star()}), AnyAgent())["nodes"]
    give(s, Start(None, None, {}, {}, nodes), Now(T0))
    said = explain(s, T0 + 1_000)
    assert len(said["facts"]) == 100
