"""What a button would do; why a workflow is not moving."""

from __future__ import annotations

from typing import Any

import pytest

from handrail_engine.evolve import fold
from handrail_engine.explain import Around, explain
from handrail_engine.given import given
from handrail_engine.inputs import Cancel, Claim, PanicPause, Rejection
from handrail_engine.preview import preview, preview_order
from unit.engine.checks import through_json
from unit.engine.plans import ABORT, PRUNE, RETRY, RETRY_SETS, SKIP
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


def undo_failed() -> Saga:
    once = {"compensation": {"retry": {"max_attempts": 1}}}
    s = Saga(node("x", **EFFECT), node("a", "x", **EFFECT, **once), node("i", **EFFECT), node("z"))
    s.ok("x").ok("i").ok("a").cancel()
    return s.fails("a", "NO").wait(2)


@pytest.mark.parametrize(
    ("action_id", "undo", "stays"),
    [
        ("RES_RETRY", ["a", "x"], []),
        ("RES_MARK_UNDONE", ["x"], []),
        ("RES_ACCEPT", ["x"], ["a"]),
        ("RES_STOP", [], ["x", "a"]),
    ],
)
def test_a_preview_within_a_rollback_says_what_goes_on_and_what_stays(
    action_id: str, undo: list[str], stays: list[str]
) -> None:
    s = undo_failed()
    seen = shown(s, action_id, "called the vendor" if action_id == "RES_MARK_UNDONE" else None)
    assert (seen["undo"], seen["standing"], seen["status_after"]) == (undo, stays, "COMPENSATING")
    s.press(action_id, "called the vendor" if action_id == "RES_MARK_UNDONE" else None)
    for node_id in undo:
        s.ok(node_id)
    s.ok("i")
    stand = {k for k, state in s.states.items() if state in ("COMPENSATION_FAILED", "COMPLETE")}
    assert stand - {"z"} == set(stays), "as it was said"


def test_a_preview_of_a_pause_within_a_rollback_undoes_nothing() -> None:
    seen = ordered(undo_failed(), PanicPause())
    assert (seen["undo"], seen["standing"]) == ([], [])


def test_an_irreversible_step_is_told_as_standing_beforehand() -> None:
    s = Saga(node("a", **EFFECT), node("wire", irreversible=True, **EFFECT), node("z")).ok("a").ok("wire")
    seen = ordered(s, Cancel())
    assert (seen["undo"], seen["standing"]) == (["a"], ["wire"])
    assert ordered(s, Cancel(compensate=False))["standing"] == [], "nothing is rolled back"


def test_a_preview_of_what_is_not_there_is_refused() -> None:
    s = failed()
    with pytest.raises(LookupError):
        shown(s, "RES_HAPPENED")
    with pytest.raises(LookupError):
        preview(s.state, "p0", "RES_SKIP", None, s.now_ms)


def ordered(s: Saga, order: PanicPause | Cancel) -> dict[str, Any]:
    copy = fold("t", "w", [through_json(r) for r in s.rows])
    seen = preview_order(copy, order, s.now_ms)
    assert not isinstance(seen, Rejection), seen
    return seen


def two_of_four_done() -> Saga:
    s = Saga(node("a", **EFFECT), node("b", "a", **EFFECT), node("c", "a", **EFFECT), node("d", "c"))
    return s.ok("a").ok("b").started("c")


def test_a_preview_of_the_panic_button_names_what_runs_on() -> None:
    seen = ordered(two_of_four_done(), PanicPause())
    assert (seen["action_id"], seen["status_after"]) == ("pause", "PAUSED_HITL")
    assert (seen["nodes"], seen["undo"], seen["under_way"]) == ([], [], ["c"])


@pytest.mark.parametrize("compensate", [True, False])
def test_a_preview_of_a_cancel_is_what_the_cancel_then_does(compensate: bool) -> None:
    s = two_of_four_done()
    seen = ordered(s, Cancel(compensate=compensate))
    before = {k: n.state.value for k, n in s.state.nodes.items()}
    s.do(Cancel(compensate=compensate))
    done = [
        {"node_id": k, "from": before[k], "to": n.state.value}
        for k, n in s.state.nodes.items()
        if n.state.value != before[k]
    ]
    assert seen["nodes"] == done and {"node_id": "d", "from": "PENDING", "to": "CANCELLED"} in done
    assert seen["under_way"] == ["c"], "it is told to stop and waited for"
    assert set(seen["undo"]) == ({"a", "b", "c"} if compensate else set()), "what may stand is undone"
    assert seen["status_after"] == s.status


def test_an_order_that_would_do_nothing_says_why() -> None:
    s = two_of_four_done()
    s.panic()
    seen = preview_order(fold("t", "w", [through_json(r) for r in s.rows]), PanicPause(), s.now_ms)
    assert isinstance(seen, Rejection) and seen.reason == "already-paused"


# inputs


def test_what_a_node_works_with_is_resolved_as_far_as_it_is_known() -> None:
    s = Saga(
        node("a", **EFFECT),
        node(
            "b", "a", inputs={"po": {"$from": "nodes.a.output.po"}, "n": {"$from": "input.n", "default": 3}, "k": "x"}
        ),
    )
    early = given(s.state, s.state.nodes["b"])
    assert early["inputs"] == {"po": {"$from": "nodes.a.output.po"}, "n": 3, "k": "x"}
    assert early["unresolved"] == ["nodes.a.output.po"]
    s.ok("a", output={"po": "PO-1"})
    late = given(s.state, s.state.nodes["b"])
    assert (late["inputs"], late["unresolved"]) == ({"po": "PO-1", "n": 3, "k": "x"}, [])
    assert late["inputs"] == s.sent(node_id="b")[-1].inputs


def test_what_a_person_set_is_among_the_inputs_and_named() -> None:
    s = Saga(node("a", resolutions=[RETRY_SETS, ABORT], inputs={"sku": "MBP", "url": None})).exhaust("a")
    s.press("RES_SET", "https://vendor.example")
    seen = given(s.state, s["a"])
    assert seen["overridden"] == ["url"]
    assert seen["inputs"] == s.sent(node_id="a")[-1].inputs == {"sku": "MBP", "url": "https://vendor.example"}


# explain


def sentence(s: Saga, **around: Any) -> str:
    said = explain(s.state, s.now_ms, Around(**around))
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
    assert sentence(s) == "Node a waits for retry 2/3 at 2027-01-15T08:00:01.000Z after E."


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


def test_it_names_the_nodes_that_wait_for_another() -> None:
    s = Saga(node("a"), node("b", "a"), node("c", "a"), node("z", "b")).started("a")
    assert sentence(s) == "Node a, attempt 1/3, is being worked on by w1 for 0.0 s. b, c wait for it."
    s = Saga(node("a"), node("b", "a")).fails("a")
    assert sentence(s).endswith(" after E. b waits for it.")


def test_it_says_that_no_worker_lives_and_when_a_person_is_asked() -> None:
    s = Saga(node("a", timeouts={"schedule_to_start_s": 30})).wait(4)
    assert sentence(s, silent={"bot": "2027-01-15T07:00:00.000Z"}) == (
        "Node a was sent 4.0 s ago, but no worker of bot lives (last seen 2027-01-15T07:00:00.000Z); "
        "a person is asked at 2027-01-15T08:00:30.000Z."
    )


def test_it_says_which_limit_leaves_no_room() -> None:
    s = Saga(node("a"), node("b"), room={"bot": 1})
    assert s.state_of("a", "b") == ["SCHEDULED", "PENDING"]
    said = explain(s.state, s.now_ms, Around(limits={"bot": 1}, taken={"bot": 1}))
    assert [f["waiting_for"] for f in said["facts"]] == ["worker", "room"]
    assert said["facts"][1]["max_in_flight"] == 1
    s.started("a").ok("a")
    assert s.state_of("a", "b") == ["COMPLETE", "SCHEDULED"], "the place that came back is taken at once"
    alone = Saga(node("a"), room={"bot/act": 0})
    assert sentence(alone, limits={"bot/act": 2}, taken={"bot/act": 2}) == (
        "Node a is ready, but bot/act has 2 of 2 attempts in flight (max_in_flight) over all workflows."
    )
    assert sentence(alone, limits={"bot/act": 2}, taken={"bot/act": 1}) == "Node a is ready and about to be sent."


def test_it_says_that_handrail_itself_is_late() -> None:
    s = Saga(node("a"))
    assert sentence(s, owned=False, p=3).startswith("No orchestrator owns its partition 3")
    assert sentence(s, behind=5_000) == ("The bus lags: 5000 events of its partition are stored and not published yet.")
    assert "about to apply a cancel by ana, stored 2.0 s ago" in sentence(
        s, orders=({"kind": "cancel", "since_ms": s.now_ms - 2_000, "actor": "ana", "action_id": None},)
    )
    s = Saga(node("a")).exhaust("a")
    pressed = {"kind": "decide", "since_ms": s.now_ms, "actor": "ana", "action_id": "RES_SKIP"}
    assert sentence(s, orders=(pressed,)) == "It is about to apply a decision (RES_SKIP) by ana, stored 0.0 s ago."
    assert sentence(s, owned=False, p=3).startswith("It waits for a person"), "nobody pressed anything yet"


def test_a_claim_that_is_over_is_not_told_and_a_deadline_is() -> None:
    s = Saga(node("a", expiry={"after_s": 60, "action_id": "RES_SKIP"})).exhaust("a")
    s.do(Claim(s.pause["pause_id"], "ada", "2027-01-15T08:00:03.000Z"))
    assert "claimed by ada until 2027-01-15T08:00:03.000Z" in sentence(s)
    s.wait(2)
    assert "claimed" not in sentence(s)
    assert sentence(s).endswith("; at 2027-01-15T08:01:02.000Z RES_SKIP is pressed by itself.")
