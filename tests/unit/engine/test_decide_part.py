"""A part is rolled back and the rest goes on: to a savepoint and on again from there, or a subtree that is given up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handrail_contracts.tasks import DeadLetter, Outcome, Result, TaskKind
from handrail_engine.admission import admit
from handrail_engine.snapshot import freeze, thaw
from unit.engine.plans import ABORT, BACK, PRUNE, SKIP
from unit.engine.saga import AnyAgent, Saga, node

EFFECT = {"effect_class": "idempotent"}
ALL = {"resolutions": [BACK, PRUNE, SKIP, ABORT]}


def undone(s: Saga) -> list[str]:
    return [m.node_id for m in s.sent(TaskKind.COMPENSATE)]


def trip() -> Saga:
    """quote (savepoint) → flight → hotel → pay; news beside it. pay has failed."""
    s = Saga(
        node("quote", savepoint=True, **EFFECT),
        node("flight", "quote", **EFFECT),
        node("hotel", "flight", **EFFECT),
        node("pay", "hotel", **ALL, **EFFECT),
        node("news"),
        node("more_news", "news"),
    )
    return s.ok("quote").ok("flight").ok("hotel", output=1).exhaust("pay")


def test_a_rollback_to_a_savepoint_undoes_what_came_after_it_and_runs_it_again_under_new_keys() -> None:
    s = trip()
    s.press("RES_BACK")
    row = next(r for r in s.last if r.type == "WORKFLOW_COMPENSATING")
    assert row.data["scope"] == "savepoint:quote"
    assert [n["node_id"] for n in row.data["nodes"]] == ["hotel", "flight"]
    assert s.status == "COMPENSATING"
    s.ok("hotel").ok("flight")
    assert s.told() == [
        "flight COMPENSATED",
        "WORKFLOW_RESUMED",
        "flight PENDING",
        "hotel PENDING",
        "pay PENDING",
        "flight SCHEDULED",
    ]
    assert (s.status, s.states["quote"]) == ("RUNNING", "COMPLETE")
    shown = s.witness.view.nodes["hotel"]
    assert (shown["state"], shown["output"], shown["finished_at"]) == ("PENDING", None, None)
    again = s.sent()[-1]
    assert (again.node_id, again.attempt, again.max_attempts, again.effect_key) == ("flight", 2, 4, "t/w/flight/2")
    s.ok("flight").ok("hotel", output=2).ok("pay").ok("news").ok("more_news")
    assert (s.status, s["hotel"].output) == ("COMPLETED", 2)


def test_what_is_not_part_of_it_goes_on_meanwhile() -> None:
    s = trip()
    s.press("RES_BACK")
    s.ok("news")
    assert s.told() == ["news COMPLETE", "more_news SCHEDULED"]


def test_a_subtree_is_given_up_and_the_rest_completes_with_skips() -> None:
    s = Saga(node("a", **EFFECT), node("b", "a", **EFFECT), node("c", "b", **ALL, **EFFECT), node("d", "c"), node("x"))
    s.ok("a").ok("b").exhaust("c")
    s.press("RES_PRUNE")
    assert s.told()[-3:] == ["c CANCELLED", "d CANCELLED", "WORKFLOW_RESUMED"]
    s.ok("x")
    assert (s.status, undone(s)) == ("COMPLETED_WITH_SKIPS", [])
    assert s.state_of("a", "b", "c", "d") == ["COMPLETE", "COMPLETE", "CANCELLED", "CANCELLED"]


def test_what_ran_in_the_subtree_is_undone() -> None:
    s = Saga(
        node("r", pause_scope="branch", retry={"max_attempts": 1}, **ALL, **EFFECT),
        node("after", "r", **EFFECT),
        node("x"),
    )
    s.started("r").wait(7)
    s.press("RES_PRUNE")
    assert undone(s) == ["r"], "its attempt is in doubt"
    s.ok("r").ok("x")
    assert (s.status, s.states["r"]) == ("COMPLETED_WITH_SKIPS", "COMPENSATED")


def test_without_a_savepoint_it_goes_back_to_the_beginning_of_that_way() -> None:
    s = Saga(node("a", **EFFECT), node("b", "a", **ALL), node("x", **EFFECT)).ok("a").ok("x").exhaust("b")
    s.press("RES_BACK")
    s.ok("a")
    assert s.told()[0] == "a COMPENSATED"
    assert (s.sent()[-1].node_id, s.states["x"]) == ("a", "COMPLETE")


def test_the_nearest_savepoint_counts() -> None:
    s = Saga(
        node("far", savepoint=True, **EFFECT),
        node("a", "far", **EFFECT),
        node("near", "a", savepoint=True, **EFFECT),
        node("b", "near", **EFFECT),
        node("c", "b", savepoint=True, **ALL),
    )
    s.ok("far").ok("a").ok("near").ok("b").exhaust("c")
    s.press("RES_BACK")
    assert undone(s) == ["b"]


def test_an_effect_that_cannot_be_undone_is_not_had_a_second_time() -> None:
    s = Saga(
        node("a", savepoint=True),
        node("mail", "a", compensation="none", **EFFECT),
        node("wire", "a", irreversible=True, **EFFECT),
        node("b", "mail", "wire", inputs={"x": {"$from": "nodes.mail.output"}}, **ALL),
    )
    s.ok("a").ok("mail", output=5).ok("wire").exhaust("b")
    s.press("RES_BACK")
    assert s.state_of("mail", "wire") == ["NOTHING_TO_UNDO", "NOT_REVERSIBLE"]
    assert (s.sent()[-1].node_id, s.sent()[-1].inputs) == ("b", {"x": 5})
    s.ok("b")
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_a_cancel_during_a_partial_rollback_takes_it_over() -> None:
    s = trip()
    s.press("RES_BACK")
    s.cancel()
    assert undone(s) == ["hotel"]
    s.ok("hotel").ok("flight")
    assert s.told()[-1] == "quote COMPENSATING"
    s.ok("quote")
    assert s.status == "COMPENSATED"
    assert undone(s) == ["hotel", "flight", "quote"]


def test_a_cancel_without_undo_lets_the_partial_rollback_finish() -> None:
    s = trip()
    s.press("RES_BACK")
    s.cancel(undo=False)
    assert s.status == "COMPENSATING"
    s.ok("hotel").ok("flight")
    assert (s.status, s.states["quote"]) == ("CANCELLED", "COMPLETE")


def test_an_abort_after_a_subtree_was_given_up_undoes_the_rest_once() -> None:
    s = Saga(node("a", **EFFECT), node("b", **EFFECT), node("c", "b", **ALL), node("z")).ok("a").ok("b").exhaust("c")
    s.press("RES_PRUNE")
    s.cancel()
    s.ok("b").ok("a")
    assert (s.status, undone(s)) == ("COMPENSATED", ["b", "a"])


def test_two_parts_are_rolled_back_at_once() -> None:
    branch = {"pause_scope": "branch", **ALL, **EFFECT}
    s = Saga(
        *(node(k, savepoint=True, **EFFECT) for k in ("p", "q")),
        *(node(k + "1", k, **EFFECT) for k in ("p", "q")),
        *(node(k + "2", k + "1", **branch) for k in ("p", "q")),
    )
    s.ok("p", "q").ok("p1", "q1").fails("p2", retryable=False).exhaust("q2")
    s.press("RES_BACK", at="p2")
    s.press("RES_PRUNE", at="q2")
    assert sorted(undone(s)) == ["p1"], "q2 never ran, q1 stays"
    s.ok("p1")
    assert s.state_of("p1", "p2", "q1", "q2") == ["SCHEDULED", "PENDING", "COMPLETE", "CANCELLED"]
    s.ok("p1").ok("p2")
    assert s.status == "COMPLETED_WITH_SKIPS"


def beside() -> Saga:
    """`p` (savepoint) → `x`, which runs; beside it `y`, which may append, and `z`."""
    part = {"pause_scope": "branch", **ALL, **EFFECT}
    s = Saga(node("p", savepoint=True, **EFFECT), node("x", "p", **part), node("y", may_add_nodes=3), node("z", **part))
    return s.ok("p").started("x", "y", "z")


def appends(s: Saga, node_id: str, *nodes: dict[str, Any]) -> Saga:
    """The node answers with these nodes, through the door that every answer takes."""
    n = s[node_id]
    key = s.state.do_key(n)
    r = Result(trace_id="w", node_id=node_id, attempt=n.attempt, effect_key=key, outcome=Outcome.OK, nodes=list(nodes))
    s.do(admit(s.state, r, AnyAgent()))
    return s


def asked_about(s: Saga, node_id: str) -> Saga:
    """A dead letter from elsewhere opens a pause of the node that runs."""
    s.letter(node_id, reason="odd")
    return s


@pytest.mark.parametrize("undone_first", [False, True])
def test_nothing_may_be_appended_after_what_was_given_up(undone_first: bool) -> None:
    s = asked_about(beside(), "x")
    s.press("RES_PRUNE", at="x")
    if undone_first:
        s.ok("x", undo=True)
        assert s.states["x"] == "COMPENSATED"
    appends(s, "y", node("n", "y", "x"))
    assert "n" not in s.states and s.states["y"] == "RETRYING"
    assert s["y"].error and "given up" in s["y"].error["message"]
    if not undone_first:
        s.ok("x", undo=True)
    s.wait(1)
    appends(s, "y", node("n", "y", "z")).ok("z").ok("n")
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_decide_refuses_too_what_comes_after_something_given_up() -> None:
    s = asked_about(beside(), "x")
    s.press("RES_PRUNE", at="x")
    s.answer("y", Outcome.OK, nodes=[node("n", "y", "x")])
    assert (s.states["y"], s["y"].error and s["y"].error["code"]) == ("RETRYING", "unknown-dependency")


def test_what_is_appended_after_something_that_runs_again_waits_for_it_and_runs_once() -> None:
    s = asked_about(beside(), "x")
    s.press("RES_BACK", at="x")
    appends(s, "y", node("n", "y", "x", inputs={"n": {"$from": "nodes.x.output"}}), node("m", "n"), node("k"))
    assert s.told()[-3:] == ["n CANCELLED", "m CANCELLED", "k SCHEDULED"]
    s.ok("x", undo=True)
    assert s.state_of("x", "n", "m") == ["SCHEDULED", "PENDING", "PENDING"]
    s.ok("x", output=2)
    assert [t.inputs for t in s.sent(node_id="n")] == [{"n": 2}]
    assert s.ok("n", "m", "k", "z").status == "COMPLETED"


def test_what_is_appended_after_something_completed_that_is_being_undone_does_not_begin_on_it() -> None:
    s = Saga(
        node("p", savepoint=True, **EFFECT),
        node("x", "p", **EFFECT),
        node("w", "x", **ALL, **EFFECT, pause_scope="branch"),
        node("y", may_add_nodes=1),
    )
    s.ok("p").ok("x", output=1).started("y").exhaust("w")
    s.press("RES_BACK", at="w")
    assert s.states["x"] == "COMPENSATING"
    appends(s, "y", node("n", "y", "x"))
    assert s.states["n"] == "CANCELLED" and not s.sent(node_id="n")
    s.ok("x", undo=True).ok("x", output=2, undo=False).ok("w", undo=False)
    assert s.states["n"] == "SCHEDULED" and s.ok("n").status == "COMPLETED"


def test_an_effect_that_stands_can_be_come_after() -> None:
    s = Saga(
        node("p", savepoint=True),
        node("x", "p", effect_class="idempotent", irreversible=True),
        node("w", "x", **ALL, pause_scope="branch"),
        node("y", may_add_nodes=1),
    )
    s.ok("p").ok("x", output=1).started("y").exhaust("w")
    s.press("RES_BACK", at="w")
    assert s.states["x"] == "NOT_REVERSIBLE"
    appends(s, "y", node("n", "y", "x", inputs={"n": {"$from": "nodes.x.output"}}))
    assert [t.inputs for t in s.sent(node_id="n")] == [{"n": 1}]


def test_a_second_rollback_waits_for_no_undo_that_nobody_makes() -> None:
    s = asked_about(beside(), "x")
    s.press("RES_BACK", at="x")
    appends(s, "y", node("n", "y", "x"))
    asked_about(s, "z").press("RES_PRUNE", at="z")
    s.ok("x", "z", undo=True)
    assert s.state_of("x", "z", "n") == ["SCHEDULED", "COMPENSATED", "PENDING"]
    assert s.ok("x", undo=False).ok("n").status == "COMPLETED_WITH_SKIPS"


def test_a_part_that_grew_while_it_was_rolled_back_is_known_to_another_owner_and_a_cancel_takes_it_over() -> None:
    s = asked_about(beside(), "x")
    s.press("RES_BACK", at="x")
    appends(s, "y", node("n", "y", "x")).owner_changes()
    assert s.state.ending is not None and s.state.ending.again == {"x", "n"}
    s.cancel().ok("z")
    s.ok("x", "y", "z", undo=True).ok("p", undo=True)
    assert s.status == "COMPENSATED"


def grown(*more: dict[str, Any], **fields: Any) -> Saga:
    """`p` (savepoint) → `y`, which has appended `one` → `two` → what failed and asks; `two` has another dependant, `out`."""
    s = Saga(node("p", savepoint=True, **EFFECT), node("y", "p", may_add_nodes=4, **EFFECT, **fields), *more)
    appends(s.ok("p"), "y", one(1), node("two", "one", **ALL, **EFFECT))
    return s.ok("one", output=1).exhaust("two")


def one(n: int, *after: str, **more: Any) -> dict[str, Any]:
    return node("one", *(after or ("y",)), inputs={"n": n}, **EFFECT, **more)


def back(s: Saga) -> Saga:
    """The part is undone, and runs again."""
    s.press("RES_BACK")
    s.ok("one", undo=True).ok("y", undo=True)
    assert s.state_of("y", "one", "two") == ["SCHEDULED", "PENDING", "PENDING"]
    return s


def test_what_a_node_appended_can_be_appended_again_once_it_was_rolled_back() -> None:
    s = appends(back(grown()), "y", one(1), node("two", "one", **ALL, **EFFECT))
    assert s.state_of("y", "one", "two") == ["COMPLETE", "SCHEDULED", "PENDING"]
    assert [(t.attempt, t.effect_key) for t in s.sent(node_id="one")] == [(1, "t/w/one/1"), (2, "t/w/one/2")]
    assert s.ok("one", undo=False).ok("two").status == "COMPLETED"


def test_what_is_appended_again_is_done_as_it_is_written_now() -> None:
    s = appends(back(grown()), "y", node("zero"), one(2, "zero"), node("three", "one"))
    assert s.states == {"p": "COMPLETE", "y": "COMPLETE", "zero": "SCHEDULED"} | {
        "one": "PENDING", "two": "PENDING", "three": "PENDING"
    }  # fmt: skip
    assert [s.witness.view.nodes["one"][k] for k in ("attempt", "depends_on")] == [1, ["zero"]]
    s.owner_changes().ok("zero")
    assert s.sent(node_id="one")[-1].inputs == {"n": 2}
    s.ok("one", undo=False)
    assert s.state_of("two", "three") == ["SKIPPED", "SCHEDULED"]
    assert s.ok("three").status == "COMPLETED_WITH_SKIPS"


def test_edges_that_change_keep_the_plan_in_order_for_snapshots_and_undos() -> None:
    s = appends(back(grown()), "y", node("zero", **EFFECT), one(2, "zero"), node("two", "one", **ALL, **EFFECT))
    assert list(s.state.nodes) == ["p", "y", "zero", "one", "two"]
    assert [n.index for n in s.state.nodes.values()] == [0, 1, 2, 3, 4]
    assert thaw("t", "w", json.loads(json.dumps(freeze(s.state)))).facts() == s.state.facts()
    s.ok("zero").ok("one", undo=False).exhaust("two")
    s.press("RES_ABORT_SAGA")
    announced = next(r for r in s.last if r.type == "WORKFLOW_COMPENSATING").data["nodes"]
    assert [n["node_id"] for n in announced] == ["one", "zero", "y", "p"]


@pytest.mark.parametrize("ends", ["nothing", "skipped"])
def test_what_is_not_appended_again_is_left_out(ends: str) -> None:
    s = back(grown(resolutions=[SKIP]))
    if ends == "skipped":
        s.exhaust("y").press("RES_SKIP")
    else:
        s.ok("y", undo=False)
    assert s.state_of("one", "two") == ["SKIPPED", "SKIPPED"]
    assert (s.status, len(s.sent(node_id="one"))) == ("COMPLETED_WITH_SKIPS", 1)


def test_what_was_left_out_can_come_again_after_another_rollback() -> None:
    s = grown(node("ask", "y", **ALL, **EFFECT)).ok("ask")
    s.press("RES_BACK")
    s.ok("one", "ask", undo=True).ok("y", undo=True)
    s.ok("y", undo=False).exhaust("ask")
    assert s.state_of("one", "two") == ["SKIPPED", "SKIPPED"]
    s.press("RES_BACK")
    appends(s.ok("y", undo=True), "y", one(3))
    assert [t.effect_key for t in s.sent(node_id="one")] == ["t/w/one/1", "t/w/one/3"]
    s.ok("one", undo=False).ok("ask")
    assert s.status == "COMPLETED_WITH_SKIPS"


def test_what_has_begun_beside_its_maker_goes_on_when_it_is_named_again_and_cannot_be_rewritten() -> None:
    s = Saga(
        node("p", savepoint=True, **EFFECT), node("y", "p", may_add_nodes=2, **EFFECT), node("w", "y", **ALL, **EFFECT)
    )
    appends(s.ok("p"), "y", one(1, "p")).ok("one").exhaust("w")
    s.press("RES_BACK")
    s.ok("one", undo=True).ok("y", undo=True)
    assert s.state_of("y", "one") == ["SCHEDULED", "SCHEDULED"]
    appends(s, "y", one(2, "p"))
    assert s["y"].error and "has begun" in s["y"].error["message"]
    appends(s.wait(1), "y", one(1, "p")).ok("one", undo=False).ok("w", undo=False)
    assert s.status == "COMPLETED"


def test_another_step_needs_another_id() -> None:
    for other in ({"agent": "eve"}, {"effect_class": "unsafe"}, {"compensation": "none"}):
        s = appends(back(grown()), "y", one(1) | other)
        assert s["y"].error and "Expected a new id" in s["y"].error["message"], other
        appends(s.wait(1), "y", node("other", **other)).ok("other")
        assert s.status == "COMPLETED_WITH_SKIPS"


@pytest.mark.parametrize("again", [{"agent": "bob"}, {"depends_on": ["y", "news"]}])
def test_what_waits_for_room_and_is_appended_again_as_another_step_waits_as_that(again: dict[str, Any]) -> None:
    s = Saga(
        node("p", savepoint=True, **EFFECT),
        node("y", "p", may_add_nodes=2, **EFFECT),
        node("w", "y", **ALL, **EFFECT),
        node("news"),
    )
    s.limits = {"eve": 0}
    first = node("one", "p", **EFFECT) | {"agent": "eve"}
    appends(s.ok("p"), "y", first).exhaust("w")
    s.press("RES_BACK")
    s.ok("y", undo=True)
    assert s.states["one"] == "PENDING" and s["one"].crowded
    appends(s, "y", first | again).owner_changes()
    assert s.states["one"] == ("SCHEDULED" if "agent" in again else "PENDING") and not s["one"].crowded
    s.limits = {}
    assert s.ok("news", "w").ok("one").status == "COMPLETED"


def test_what_comes_again_may_not_come_after_what_comes_after_it() -> None:
    s = grown(node("z", may_add_nodes=1))
    appends(s, "z", node("far", "z", "one"))
    back(s)
    appends(s, "y", node("new", "far"), one(1, "new"))
    assert s["y"].error and s["y"].error["code"] == "dag-cycle"
    appends(s.wait(1), "y", one(1), node("new", "far"))
    assert s.state_of("one", "far", "new") == ["SCHEDULED", "PENDING", "PENDING"]


@pytest.mark.parametrize("after", ["one", "two"])
def test_decide_refuses_too_what_would_come_after_itself(after: str) -> None:
    s = back(grown())
    first, second = s["one"].spec.compiled, s["two"].spec.compiled
    s.answer("y", Outcome.OK, nodes=[{**first, "depends_on": ["y", after]}, second])
    assert s["y"].error and s["y"].error["code"] == "dag-cycle"
    assert s.state_of("one", "two") == ["PENDING", "PENDING"]


@pytest.mark.parametrize("first", ["far", "one"])
def test_what_comes_again_after_something_that_is_rolled_back_takes_along_what_comes_after_it(first: str) -> None:
    other = (node("q", savepoint=True), node("v", "q", **EFFECT), node("r", "q", **ALL, **EFFECT, pause_scope="branch"))
    s = grown(node("z", may_add_nodes=1), *other)
    appends(s, "z", node("far", "z", "one", inputs={"n": {"$from": "nodes.one.output"}}))
    back(s).ok("q").ok("v").exhaust("r")
    s.press("RES_BACK", at="r")
    rewritten = [one(2, "y", "v"), node("after", "far")]
    appends(s, "y", *(rewritten if first == "one" else reversed(rewritten)))
    later = ("one", "two", "far", "after")
    assert s.state_of(*later) == ["CANCELLED"] * 4, "they wait for what runs again"
    s.panic().press("RES_RESUME")
    assert s.state_of(*later) == ["CANCELLED"] * 4
    s.owner_changes().ok("v", undo=True)
    assert s.state_of("v", "r", *later) == ["SCHEDULED", "SCHEDULED"] + ["PENDING"] * 4
    s.ok("v", "r", undo=False).ok("one", output=2, undo=False)
    assert [t.inputs for t in s.sent(node_id="far")] == [{"n": 2}]
    assert s.ok("far").ok("after").status == "COMPLETED_WITH_SKIPS" and s.states["two"] == "SKIPPED"


def test_content_from_outside_does_not_come_before_others_by_way_of_what_comes_again() -> None:
    s = grown(node("z", may_add_nodes=1))
    appends(s, "z", node("far", "z", "one"))
    back(s)
    appends(s, "y", one(1, untrusted=True))
    assert s["y"].error and "'far'" in s["y"].error["message"]


def test_only_whoever_appended_a_node_appends_it_again() -> None:
    s = grown(node("z", may_add_nodes=1))
    appends(back(s), "z", one(1))
    assert s.states["z"] == "RETRYING"


def test_a_failed_undo_in_a_part_asks_without_offering_to_end_everything() -> None:
    once = {"compensation": {"retry": {"max_attempts": 1}}}
    s = (
        Saga(node("a", savepoint=True), node("b", "a", **EFFECT, **once), node("c", "b", **ALL))
        .ok("a")
        .ok("b")
        .exhaust("c")
    )
    s.press("RES_BACK")
    s.fails("b").wait(2)
    assert s.buttons == ["RES_RETRY", "RES_MARK_UNDONE", "RES_ACCEPT"]
    s.press("RES_ACCEPT")
    assert s.told() == ["HITL_RESOLVED decided", "WORKFLOW_RESUMED", "WORKFLOW_RESUMED", "c PENDING", "c SCHEDULED"]
    s.ok("c")
    assert (s.status, s.states["b"]) == ("COMPLETED_WITH_SKIPS", "COMPENSATION_FAILED")


def test_a_question_about_an_undo_stays_open_when_everything_is_aborted() -> None:
    once = {"compensation": {"retry": {"max_attempts": 1}}}
    s = Saga(node("a", savepoint=True, **EFFECT), node("b", "a", **EFFECT, **once), node("c", "b", **ALL))
    s.ok("a").ok("b").exhaust("c")
    s.press("RES_BACK")
    s.fails("b").wait(2).cancel()
    assert s.status == "PAUSED_HITL"
    s.press("RES_MARK_UNDONE", "done")
    s.ok("a")
    assert s.status == "COMPENSATED"


def test_a_manual_pause_holds_a_partial_rollback_and_what_follows_it() -> None:
    s = trip()
    s.do(DeadLetter(trace_id="w", node_id="quote", reason="odd"))
    s.press("RES_BACK", at="pay")
    assert undone(s) == [], "the pause on quote holds the workflow"
    assert s.status == "PAUSED_HITL"
    s.press("RES_RETRY", at="quote")
    assert undone(s) == ["hotel"]
    s.panic().ok("hotel")
    assert undone(s) == ["hotel"]
    s.press("RES_RESUME")
    assert undone(s) == ["hotel", "flight"]


def test_a_rollback_that_ends_under_a_manual_pause_waits_with_the_dispatch() -> None:
    s = Saga(node("a", savepoint=True), node("b", "a", **EFFECT), node("c", "b", **ALL)).ok("a").ok("b").exhaust("c")
    s.press("RES_BACK")
    s.panic().ok("b")
    assert s.told() == ["b COMPENSATED", "WORKFLOW_RESUMED", "b PENDING", "c PENDING"]
    assert s.status == "PAUSED_HITL"
    s.press("RES_RESUME")
    assert s.told()[-1] == "b SCHEDULED"


def test_a_late_success_under_the_old_key_is_shown_once_it_was_run_again() -> None:
    s = Saga(node("a", savepoint=True), node("b", "a", **EFFECT), node("c", "a", **ALL)).ok("a").started("b")
    s.fails("c", retryable=False)
    s.wait(2).press("RES_BACK")
    s.wait(5)
    assert undone(s) == ["b"], "b fell silent while it was asked to stop"
    s.ok("b")
    assert s.state_of("b", "c") == ["SCHEDULED", "SCHEDULED"]
    s.answer("b", Outcome.OK, attempt=1, key="t/w/b/1", undo=False)
    assert s.told() == ["RESULT_IGNORED b superseded", "TASK_DEAD_LETTERED b"]


@pytest.mark.parametrize("kept", [{"compensation": "none"}, {"irreversible": True}])
def test_what_may_have_happened_and_has_no_undo_is_not_had_a_second_time(kept: dict[str, Any]) -> None:
    s = Saga(
        node("a", savepoint=True),
        node("b", "a", **EFFECT),
        node("c", "a", **ALL, **EFFECT, **kept, timeouts={"schedule_to_start_s": 5}),
        node("d", "c"),
    )
    s.ok("a").ok("b").wait(5).wait(2)
    s.press("RES_BACK")
    assert s.state_of("b", "c") == ["COMPENSATING", "CANCELLED"], "c was taken for never begun"
    s.answer("c", Outcome.IN_DOUBT, undo=False)
    known = "NOT_REVERSIBLE" if "irreversible" in kept else "NOTHING_TO_UNDO"
    assert s.states["c"] == known
    s.owner_changes().ok("b", undo=True).ok("b", undo=False)
    assert s.state_of("b", "c", "d") == ["COMPLETE", known, "SCHEDULED"] and len(s.sent(node_id="c")) == 1
    assert s.ok("d").status == "COMPLETED_WITH_SKIPS"


def test_the_planners_plan_is_no_part_to_roll_back() -> None:
    s = Saga(intent="do it").exhaust("plan")
    s.press("RES_ABORT_SAGA")
    assert s.status == "COMPENSATED"


def test_an_attempt_taken_for_unstarted_whose_key_was_left_behind_is_listed_once() -> None:
    plan = (node("quote", savepoint=True, **EFFECT), node("pay", "quote", **ALL, **EFFECT))
    for signs in (
        (Outcome.IN_DOUBT,),
        (Outcome.STARTED, Outcome.IN_DOUBT),
        (Outcome.STARTED, Outcome.OK),
        (Outcome.OK,),
    ):
        s = Saga(*plan).ok("quote").wait(64)  # it was claimed and its worker was cut off: nobody heard of it
        s.press("RES_BACK")
        assert s.sent()[-1].effect_key == "t/w/pay/2"
        told = [s.answer("pay", sign, attempt=1, key="t/w/pay/1") and s.told() for sign in signs]
        assert told[0] == ["RESULT_IGNORED pay superseded", "TASK_DEAD_LETTERED pay"], signs
        assert told[1:] in ([], [["RESULT_IGNORED pay superseded"]]), signs
        letters = [m for m in s.messages if isinstance(m, DeadLetter)]
        assert [(m.kind, m.task and m.task["effect_key"]) for m in letters] == [("late_effect", "t/w/pay/1")], signs


def test_an_attempt_taken_for_unstarted_of_a_branch_that_was_given_up_is_listed() -> None:
    s = Saga(node("news", timeouts={"schedule_to_start_s": 3600}), node("pay", **ALL, **EFFECT)).wait(64)
    s.press("RES_PRUNE")
    assert s.states["pay"] == "CANCELLED"
    s.answer("pay", Outcome.IN_DOUBT, attempt=1, undo=False)
    assert s.told() == ["RESULT_IGNORED pay late", "TASK_DEAD_LETTERED pay"]
