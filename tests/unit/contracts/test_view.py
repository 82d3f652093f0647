"""The reducer: its rules one by one, and that a state is the same however it was built.

Mutants planted by hand and killed by this file and by the recordings: `seq` of an unknown type not counted; a
duplicate applied twice; `error` kept after COMPLETE; `undo_error` kept after COMPENSATED; an undo's attempt written to
the first life; `retry_at` kept after the retry; pauses kept after the end; created_at taken from the last event;
claimed_by None not written; RESUMED ignored; COMPENSATING shown over an open pause; the place of an appended node 0.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json
from tests.journals import Story, canonical, random_journal

from handrail_contracts import live
from handrail_contracts.view import Gap, WorkflowView

journals = st.builds(random_journal, st.integers(0, 2**32))


def fold(story: Story) -> WorkflowView:
    return WorkflowView(story.trace_id).apply_all(story.events)


def running(*nodes: str) -> Story:
    story = Story()
    story.accepted()
    story.planned({node: [] for node in nodes})
    return story


def node_of(story: Story, node_id: str = "a") -> dict[str, Any]:
    return fold(story).nodes[node_id]


def test_before_the_first_event_the_state_is_empty_and_accepted() -> None:
    state = WorkflowView("t").state()
    assert (state["status"], state["cursor"], state["nodes"], state["pauses"]) == ("ACCEPTED", "0", [], [])


def test_an_accepted_order_shows_what_was_asked_for_and_yields_to_the_first_event() -> None:
    order = {"intent": "do it", "blueprint": "b", "input": {"x": 1}, "labels": {"k": "v"}, "plan": {"nodes": []}}
    view = WorkflowView.accepted("t", order, "2026-01-01T00:00:00.000Z")
    shown = view.state()
    assert (shown["intent"], shown["blueprint"], shown["input"], shown["cursor"]) == ("do it", "b", {"x": 1}, "0")
    story = Story("t")
    story.accepted()
    assert view.apply_all(story.events).state() == fold(story).state()


def test_an_event_that_was_applied_before_changes_nothing() -> None:
    story = running("a")
    view = fold(story)
    before = canonical(view.state())
    assert view.apply(story.events[0]) is False
    assert view.apply(story.events[-1]) is False
    assert canonical(view.state()) == before


def test_a_missing_event_is_told_and_leaves_the_view_as_it_was() -> None:
    story = running("a")
    view = WorkflowView(story.trace_id)
    view.apply(story.events[0])
    story.node("a", "PENDING", "SCHEDULED")
    with pytest.raises(Gap) as gap:
        view.apply(story.events[2])
    assert (gap.value.expected, gap.value.found, view.cursor) == (2, 3, 1)


def test_a_type_from_the_future_counts_its_seq_and_nothing_else() -> None:
    story = running("a")
    before = fold(story).state()
    story.add("SOMETHING_NEW", node_id="a", state="ODD")
    after = fold(story).state()
    assert after["cursor"] == "3"
    assert {**after, "cursor": before["cursor"], "updated_at": before["updated_at"]} == before


def test_an_event_that_is_not_one_of_ours_does_not_move_the_cursor() -> None:
    view = fold(running("a"))
    with pytest.raises(KeyError):
        view.apply({"event_type": "NODE_STATE_CHANGED", "seq": 3, "at": "x"})
    assert view.cursor == 2


def test_a_new_dispatch_clears_the_times_of_the_attempt_before() -> None:
    story = running("a")
    story.node(
        "a",
        "SCHEDULED",
        "RETRYING",
        1,
        error={"code": "X", "message": ""},
        started_at="s",
        finished_at="f",
        retry_at="r",
    )
    assert node_of(story)["retry_at"] == "r"
    story.node("a", "RETRYING", "SCHEDULED", 2)
    node = node_of(story)
    assert (node["attempt"], node["started_at"], node["finished_at"], "retry_at" in node) == (2, None, None, False)
    assert node["error"]["code"] == "X"


def test_a_node_that_completes_has_no_error_left_and_ends_at_the_event_unless_told_otherwise() -> None:
    story = running("a")
    story.node("a", "IN_PROGRESS", "RETRYING", 1, error={"code": "X", "message": ""})
    done = story.node("a", "IN_PROGRESS", "COMPLETE", 2, output={"ok": 1})
    node = node_of(story)
    assert (node["state"], node["error"], node["output"], node["finished_at"]) == (
        "COMPLETE",
        None,
        {"ok": 1},
        done["at"],
    )


def test_an_undo_keeps_the_first_life_of_the_node_apart() -> None:
    story = running("a")
    story.node("a", "IN_PROGRESS", "COMPLETE", 2, started_at="s1", finished_at="f1", output=1)
    story.node("a", "COMPLETE", "COMPENSATING", 1, started_at="s2")
    story.node("a", "COMPENSATING", "COMPENSATION_FAILED", 1, error={"code": "U", "message": ""}, finished_at="f2")
    node = node_of(story)
    assert (node["attempt"], node["started_at"], node["finished_at"], node["output"]) == (2, "s1", "f1", 1)
    assert (node["undo_attempt"], node["undo_started_at"], node["undo_finished_at"]) == (1, "s2", "f2")
    assert (node["error"], node["undo_error"]["code"]) == (None, "U")
    story.node("a", "COMPENSATION_FAILED", "COMPENSATED", 2)
    assert "undo_error" not in node_of(story)


def test_a_pause_shows_every_field_of_its_event_and_what_came_after() -> None:
    story = running("a")
    opened = story.paused("p1", "a", transcript=[{"role": "user", "text": "hi", "at": "0"}])
    story.add("PAUSE_UPDATED", pause_id="p1", claimed_by="ada", claimed_until="later")
    said = story.add("MESSAGE_ADDED", pause_id="p1", role="operator", text="hello")
    (pause,) = fold(story).state()["pauses"]
    assert pause == {
        **opened,
        "claimed_by": "ada",
        "claimed_until": "later",
        "transcript": [
            {"role": "user", "text": "hi", "at": "0"},
            {"role": "operator", "text": "hello", "at": said["at"]},
        ],
    }
    story.add("PAUSE_UPDATED", pause_id="p1", claimed_by=None, claimed_until=None)
    assert fold(story).pauses["p1"]["claimed_by"] is None


def test_the_status_stays_paused_until_the_workflow_resumes() -> None:
    story = running("a", "b")
    story.paused("p1", "a")
    story.paused("p2", "b")
    story.resolved("p1")
    assert fold(story).status == "PAUSED_HITL"
    assert list(fold(story).pauses) == ["p2"]
    story.resolved("p2")
    story.add("WORKFLOW_RESUMED", status="COMPENSATING")
    assert fold(story).status == "COMPENSATING"


def test_a_rollback_is_not_shown_over_an_open_pause() -> None:
    story = running("a", "b")
    story.paused("p1", "a", "escalation")
    story.add("WORKFLOW_COMPENSATING", scope="workflow", nodes=[])
    assert fold(story).status == "PAUSED_HITL"
    story.resolved("p1", outcome="superseded")
    story.add("WORKFLOW_COMPENSATING", scope="workflow", nodes=[])
    assert fold(story).status == "COMPENSATING"


def test_the_end_closes_what_is_open_and_carries_output_and_reason() -> None:
    story = running("a")
    story.paused("p1", "a")
    story.ended("WORKFLOW_COMPENSATION_INCOMPLETE", "COMPENSATION_INCOMPLETE", reason="left standing")
    view = fold(story)
    assert (view.ended, view.status, view.reason, view.output, view.pauses) == (
        True,
        "COMPENSATION_INCOMPLETE",
        "left standing",
        {"ok": True},
        {},
    )


@given(journals, st.data())
def test_a_view_that_goes_on_from_a_snapshot_equals_the_fold_from_the_start(
    journal: list[dict[str, Any]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(journal)))
    whole = WorkflowView("t").apply_all(journal).state()
    early = WorkflowView("t").apply_all(journal[:cut]).state()
    resumed = WorkflowView.from_state(from_json(canonical(early))).apply_all(journal)
    assert canonical(resumed.state()) == canonical(whole)


@given(journals)
def test_the_hash_written_event_by_event_reads_as_the_state_of_the_fold_at_every_step(
    journal: list[dict[str, Any]],
) -> None:
    lv, view, fields = live.LiveView(WorkflowView("t")), WorkflowView("t"), dict[bytes, bytes]()
    for event in journal:
        view.apply(event)
        delta = lv.apply(event)
        assert delta is not None
        write(fields, delta)
        state = live.state_json(fields)
        assert state is not None
        assert canonical(from_json(state)) == canonical(view.state())
        assert delta.ended == view.ended


@given(journals, st.data())
def test_a_hash_that_was_rebuilt_midway_equals_one_that_was_written_through(
    journal: list[dict[str, Any]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(journal)))
    through, midway = dict[bytes, bytes](), dict[bytes, bytes]()
    lv = live.LiveView(WorkflowView("t"))
    for event in journal:
        delta = lv.apply(event)
        assert delta is not None
        write(through, delta)
    write(midway, live.LiveView(WorkflowView("t").apply_all(journal[:cut])).whole())
    found = live.view_of(midway)
    assert found is not None
    again = live.LiveView(found)
    for event in journal[cut:]:
        delta = again.apply(event)
        assert delta is not None
        write(midway, delta)
    assert midway == through


@given(journals)
def test_an_event_applied_twice_writes_nothing_the_second_time(journal: list[dict[str, Any]]) -> None:
    lv = live.LiveView(WorkflowView("t"))
    for event in journal:
        lv.apply(event)
        assert lv.apply(event) is None


def test_a_hash_without_its_parts_is_no_state() -> None:
    assert live.state_json({}) is None
    assert live.state_json({b"seq": b"3", b"n:a": b"0 {}"}) is None


@given(journals, st.randoms(use_true_random=False))
def test_the_order_of_the_fields_in_the_hash_does_not_matter(journal: list[dict[str, Any]], rng: Random) -> None:
    fields: dict[bytes, bytes] = {}
    write(fields, live.LiveView(WorkflowView("t").apply_all(journal)).whole())
    shuffled = list(fields.items())
    rng.shuffle(shuffled)
    assert live.state_json(dict(shuffled)) == live.state_json(fields)


def test_a_journal_that_begins_with_a_type_from_the_future_has_a_state() -> None:
    story = Story("t")
    story.add("SOMETHING_NEW")
    fields: dict[bytes, bytes] = {}
    delta = live.LiveView(WorkflowView("t")).apply(story.events[0])
    assert delta is not None
    write(fields, delta)
    state = live.state_json(fields)
    assert state is not None
    assert from_json(state)["cursor"] == "1"


def test_history_is_added_to_a_state_and_says_when_it_is_cut() -> None:
    story = running("a")
    lv = live.LiveView(fold(story))
    fields: dict[bytes, bytes] = {}
    write(fields, lv.whole())
    state = live.state_json(fields)
    assert state is not None
    whole = from_json(live.with_history(state, "t", [b'{"seq":1}', b'{"seq":2}'], truncated=False))
    assert whole["history"] == [{"seq": 1}, {"seq": 2}]
    assert "history_truncated" not in whole
    cut = from_json(live.with_history(state, "t", [b'{"seq":2}'], truncated=True))
    assert (cut["history_truncated"], cut["history_next"]) == (True, "/workflows/t/journal?after=0")


def write(fields: dict[bytes, bytes], delta: live.Delta) -> None:
    """What the script does in Redis."""
    fields[b"seq"] = str(delta.seq).encode()
    fields.update({name.encode(): value for name, value in delta.fields.items()})
    for name in delta.removed:
        fields.pop(name.encode(), None)
