"""The replay of a late effect: an undo of one workflow's effect, run as another workflow."""

from __future__ import annotations

import json

from handrail_contracts.codec import encode
from handrail_contracts.tasks import Outcome, Result, TaskKind
from handrail_engine.decide import Decided, decide
from handrail_engine.evolve import fold
from handrail_engine.inputs import Decision, Now, Start, Wake
from handrail_engine.late import undo_plan
from handrail_engine.outgoing import Dispatch, late_effect
from handrail_engine.state import Row, WorkflowState
from unit.engine.saga import T0, Saga, node

EFFECT = {"effect_class": "idempotent"}


def letter(**more: object) -> dict[str, object]:
    """An effect that came to light after the end, as its dead letter is kept."""
    s = Saga(node("a", inputs={"sku": {"$from": "input.sku"}}, **EFFECT, **more), input={"sku": {"$from": "text"}})
    s.exhaust("a").press("RES_SKIP")
    task = s.sent()[0]
    late = Result(trace_id="w", node_id="a", attempt=1, effect_key=task.effect_key, outcome=Outcome.OK)
    found = late_effect(s.state, late)
    assert found is not None
    return json.loads(encode(found))


def answer(task: Dispatch, outcome: Outcome, **more: object) -> Result:
    fields = {"kind": task.kind, "trace_id": "u", "node_id": task.node_id, "attempt": task.attempt}
    return Result(**fields, effect_key=task.effect_key, outcome=outcome, **more)


class Undo:
    """The workflow that the replay starts."""

    def __init__(self) -> None:
        self.s, self.now, self.rows, self.tasks = WorkflowState("t", "u"), T0, list[Row](), list[Dispatch]()
        self.do(Start("undo", None, {}, {}, undo_plan(letter())))

    def do(self, what: object) -> None:
        decided = decide(self.s, what, Now(self.now))  # type: ignore[arg-type]
        assert isinstance(decided, Decided), decided
        self.rows += decided.rows
        self.tasks += [m for m in decided.messages if isinstance(m, Dispatch)]


def test_the_undo_closes_the_late_effects_key_under_a_key_of_its_own_with_its_inputs() -> None:
    u = Undo()
    (task,) = u.tasks
    assert task.kind is TaskKind.COMPENSATE and task.do_key == "t/w/a/1" and task.effect_key == "t/u/a/1"
    assert task.inputs == {"sku": {"$from": "text"}}, "what looks like a reference in a value is a value"
    assert task.output is None, "the agent's ledger knows what the effect answered"
    u.do(answer(task, Outcome.STARTED))
    u.do(answer(task, Outcome.OK, output={"undone": True}))
    assert u.s.status == "COMPLETED"
    assert fold("t", "u", u.rows).facts() == u.s.facts()


def test_it_is_tried_again_under_its_key_and_then_asks_a_person() -> None:
    u = Undo()
    for _ in range(3):
        u.do(answer(u.tasks[-1], Outcome.IN_DOUBT))
        while not u.s.pauses and u.s.next_wake() is not None and u.tasks[-1].attempt == u.s.nodes["a"].attempt:
            u.now = max(u.now, u.s.next_wake() or 0)
            before = len(u.tasks)
            u.do(Wake())
            if len(u.tasks) > before:
                break
    assert {t.effect_key for t in u.tasks} == {"t/u/a/1"} and [t.attempt for t in u.tasks] == [1, 2, 3]
    (pause,) = u.s.pauses.values()
    assert [r["action_id"] for r in pause.data["available_resolutions"]] == ["RES_RETRY", "RES_SKIP"]
    u.do(Decision(pause.pause_id, "RES_RETRY"))
    assert u.tasks[-1].attempt == 4 and u.tasks[-1].kind is TaskKind.COMPENSATE


def test_an_effect_without_an_undo_is_left_to_a_person() -> None:
    assert undo_plan(letter(compensation="none")) is None
    assert undo_plan(letter(irreversible=True)) is None
    assert undo_plan({"kind": "late_effect"}) is None
