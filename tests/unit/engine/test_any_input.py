"""Whatever decodes may come, in any order: `decide` never raises, and every property of a step holds."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from handrail_contracts.model import iso
from handrail_contracts.plan import EffectClass
from handrail_contracts.tasks import DeadLetter, Escalation, Failure, Outcome, ProposedAction, Result, TaskKind
from handrail_engine.admission import admit
from handrail_engine.inputs import Cancel, Claim, Decision, Input, PanicPause, Say, Wake
from unit.engine.plans import ABORT, BACK, PRUNE, RETRY, RETRY_SETS, SKIP
from unit.engine.saga import T0, AnyAgent, Saga, node

NODES = ("a", "b", "c", "d", "nobody", "", "plan")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
times = st.none() | st.sampled_from(
    ["", "now", iso(T0), iso(T0 + 10**9), "1970-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]
)
floats = st.floats(allow_nan=True, allow_infinity=True)
failures = st.none() | st.builds(
    Failure, code=st.text(max_size=8), message=st.text(max_size=8), evidence=json_values, retryable=st.booleans(), retry_after_s=st.none() | floats
)  # fmt: skip
keys = st.sampled_from(
    ["t/w/a/1", "t/w/b/1", "t/w/c/1", "t/w/d/1", "t/w/a/2", "t/w/a/1/undo/0", "t/w/b/1/undo/0", "", "x"]
)
added = st.none() | st.lists(
    json_values.filter(lambda v: isinstance(v, dict))
    | st.fixed_dictionaries(
        {"id": st.sampled_from(["x", "a", "y"]), "agent": st.just("bot"), "action": st.just("act")}
    ),
    max_size=3,
)
results = st.builds(
    Result,
    kind=st.sampled_from(TaskKind),
    trace_id=st.just("w"),
    node_id=st.sampled_from(NODES),
    attempt=st.integers(-1, 4),
    effect_key=keys,
    outcome=st.sampled_from(Outcome),
    output=json_values,
    error=failures,
    escalation=st.none() | st.builds(Escalation, reason=st.text(max_size=5)),
    proposed=st.none() | st.builds(ProposedAction, action=st.just("x")),
    nodes=added,
    worker=st.none() | st.text(max_size=3),
    started_at=times,
    finished_at=times,
)
letters = st.builds(
    DeadLetter,
    trace_id=st.just("w"),
    node_id=st.none() | st.sampled_from(NODES),
    dead_letter_id=st.none() | st.text(max_size=3),
    reason=st.text(max_size=3),
    error=failures,
    task=st.none() | st.just({"x": 1}),
)
orders = st.sampled_from([Cancel(), Cancel(False), PanicPause(), Wake(), Wake(), Wake()])
ACTIONS = [
    "RES_RETRY",
    "RES_SET",
    "RES_SKIP",
    "RES_ABORT_SAGA",
    "RES_BACK",
    "RES_PRUNE",
    "RES_RESUME",
    "RES_CLOSE",
    "RES_NO",
]
presses = st.tuples(st.integers(0, 3), st.sampled_from(ACTIONS), json_values)
steps = st.lists(st.tuples(st.integers(0, 90_000), results | letters | orders | presses), max_size=25)


def story(effect: EffectClass) -> Saga:
    own = {"resolutions": [RETRY, RETRY_SETS, SKIP, ABORT, BACK, PRUNE]}
    return Saga(
        node("a", effect_class=effect, may_add_nodes=1, **own),
        node("b", "a", effect_class=effect, pause_scope="branch", savepoint=True, **own),
        node("c", "a", effect_class=effect, on_exhausted="skip"),
        node("d", "b", "c", inputs={"x": {"$from": "nodes.b.output.x"}}),
        deadline_s=200,
    )


@settings(max_examples=400, database=None)
@given(st.sampled_from(EffectClass), st.booleans(), steps)
def test_whatever_comes_is_answered(effect: EffectClass, planner: bool, what: list[tuple[int, Any]]) -> None:
    s = Saga(intent="do it") if planner else story(effect)
    for wait_ms, item in what:
        s.now_ms += wait_ms
        s.do(_input(s, item))


def _input(s: Saga, item: Any) -> Input:
    if isinstance(item, tuple):
        index, action, value = item
        open_ = list(s.state.pauses)
        pause_id = open_[index] if index < len(open_) else "p0"
        if action == "RES_NO":
            return Say(pause_id, "operator", "hello") if index else Claim(pause_id, "ada", iso(s.now_ms))
        return Decision(pause_id, action, value)
    return admit(s.state, item, AnyAgent()) if isinstance(item, Result) else item


def test_the_order_of_independent_answers_does_not_matter() -> None:
    """F9: the same answers in any order lead to the same end."""
    ends: set[str] = set()
    for order in permutations("bcde"):
        s = Saga(node("a"), *(node(k, "a") for k in "bcde"), node("z", *"bcde")).ok("a")
        for k in order:
            s.ok(k, output=k)
        s.ok("z")
        ends.add(str([s.status, sorted(s.states.items()), [s[k].output for k in "abcdez"]]))
    assert len(ends) == 1


def test_the_order_of_answers_of_a_rollback_does_not_matter() -> None:
    ends: set[str] = set()
    for seed in range(30):
        s = Saga(*(node(k, effect_class="idempotent") for k in "abcd"), node("z", *"abcd", effect_class="idempotent"))
        s.ok(*"abcd").ok("z") if seed % 2 else s.ok(*"abcd")
        if s.state.ended:
            continue
        s.cancel()
        rng = Random(seed)
        while not s.state.ended:
            out = [k for k in s.states if s[k].live is not None]
            s.ok(rng.choice(out)) if out else s.wait(60)
        ends.add(str([s.status, sorted(s.states.items())]))
    assert len(ends) == 1


def test_long_texts_of_agents_are_cut() -> None:
    s = Saga(node("a"))
    error = Failure(code="c" * 10_000, message="m" * 2_000_000, retryable=False)
    s.answer("a", Outcome.FAILED, error=error, worker="w" * 10_000)
    assert max(len(str(r.data)) for r in s.rows) < 20_000


def test_many_attempts_with_large_evidence_fit_into_an_event() -> None:
    s = Saga(node("a", retry={"max_attempts": 200, "initial_delay_s": 0}), large=True)
    for _ in range(200):
        s.answer("a", Outcome.FAILED, error=Failure(code="E", message="e", evidence="x" * 40_000))
    s.wait(2)
    assert s.status == "PAUSED_HITL"
    assert max(len(str(r.data)) for r in s.rows) < 200_000
    assert len(s["a"].attempts) <= 100
    assert s.pause["attempts"][-1]["attempt"] == 200
