"""What a button would do; why a workflow is not moving."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_engine.evolve import fold
from handrail_engine.explain import explain
from handrail_engine.inputs import Claim
from handrail_engine.preview import preview
from unit.engine.checks import through_json
from unit.engine.plans import ABORT, PRUNE, RETRY, SKIP
from unit.engine.saga import Saga, node

EFFECT = {"effect_class": "idempotent"}


def shown(s: Saga, action_id: str, input: Any = None) -> dict[str, Any]:
    copy = fold("t", "w", [through_json(r) for r in s.rows])
    return preview(copy, s.pause["pause_id"], action_id, input, s.now_ms)


def failed(*, second_pause: bool = False) -> Saga:
    s = Saga(
        node("a", **EFFECT),
        node("b", "a", resolutions=[RETRY, SKIP, ABORT, PRUNE], pause_scope="branch"),
        node("needs", "b", inputs={"x": {"$from": "nodes.b.output.x"}}),
        node("between", "b"),
        node("far", "between", inputs={"x": {"$from": "nodes.b.output.x"}}),
        node("lives", "b", inputs={"x": {"$from": "nodes.b.output.x", "default": 0}}),
    )
    return s.ok("a").exhaust("b")


def test_a_preview_names_what_changes_and_what_is_skipped_along() -> None:
    s = failed()
    seen = shown(s, "RES_SKIP")
    assert seen["status_after"] == "RUNNING"
    assert {"node_id": "needs", "from": "PENDING", "to": "SKIPPED"} in seen["nodes"]
    assert {"node_id": "lives", "from": "PENDING", "to": "SCHEDULED"} in seen["nodes"]
    assert seen["skipped"] == ["b", "needs", "far"], "far is not reached at once, but it cannot run any more"
    assert seen["undo"] == []


def test_a_substitute_output_saves_those_that_read_no_more_than_it_has() -> None:
    assert shown(failed(), "RES_SKIP", {"x": 1})["skipped"] == ["b"]


def test_a_preview_of_an_abort_lists_the_undos_in_order() -> None:
    seen = shown(failed(), "RES_ABORT_SAGA")
    assert (seen["status_after"], seen["undo"]) == ("COMPENSATING", ["a"])
    assert {"node_id": "b", "from": "AWAITING_HUMAN", "to": "CANCELLED"} in seen["nodes"]


def test_a_preview_of_a_partial_rollback() -> None:
    seen = shown(failed(), "RES_PRUNE")
    assert seen["undo"] == []
    assert {c["node_id"] for c in seen["nodes"]} == {"b", "needs", "between", "far", "lives"}


def test_a_preview_of_what_is_not_there_is_refused() -> None:
    s = failed()
    with pytest.raises(LookupError):
        shown(s, "RES_HAPPENED")
    with pytest.raises(LookupError):
        preview(s.state, "p0", "RES_SKIP", None, s.now_ms)


# explain


def sentence(s: Saga) -> str:
    said = explain(s.state, s.now_ms)
    assert said["trace_id"] == "w" and said["status"] == s.status
    return said["sentence"]


def test_it_waits_for_a_worker() -> None:
    s = Saga(node("a")).wait(4)
    assert sentence(s) == "Node a was sent 4.0 s ago and no worker of bot has claimed it yet."


def test_it_is_being_worked_on() -> None:
    s = Saga(node("a"), node("b")).started("a").wait(2)
    assert sentence(s) == "Node a, attempt 1/3, is being worked on by w1 for 2.0 s. (1 more are under way)"


def test_it_waits_for_a_retry() -> None:
    s = Saga(node("a")).fails("a")
    assert sentence(s) == "Node a waits for retry 2/3 at 2027-01-15T08:00:01.000Z."


def test_it_waits_for_its_dead_letter() -> None:
    s = Saga(node("a")).fails("a", retryable=False)
    assert sentence(s) == "Node a was dead-lettered and is about to ask for a person."


def test_it_waits_for_a_person_and_says_who_has_claimed_it() -> None:
    s = Saga(node("a"), node("b")).exhaust("a")
    assert sentence(s) == (
        "It waits for a person at a since 2027-01-15T08:00:02.000Z; the options are RES_RETRY, RES_SKIP, RES_ABORT_SAGA."
    )
    s.do(Claim(s.pause["pause_id"], "ada", "2027-01-15T09:00:00.000Z"))
    assert "claimed by ada" in sentence(s)
    s.panic()
    assert "(2 pauses are open)" in sentence(s)


def test_it_is_undoing() -> None:
    s = Saga(node("a", **EFFECT), node("z")).ok("a").cancel()
    assert sentence(s) == "Undoing a was sent 0.0 s ago and no worker of bot has claimed it yet."
    s.started("a").wait(1)
    assert sentence(s) == "Undoing a, attempt 1/3, is being worked on by w1 for 1.0 s."


def test_it_has_ended_or_has_not_begun() -> None:
    from handrail_engine.state import WorkflowState

    assert sentence(Saga(node("a")).ok("a")) == "It has ended: COMPLETED."
    assert explain(WorkflowState("t", "w"), 0)["sentence"].startswith("It is accepted")
