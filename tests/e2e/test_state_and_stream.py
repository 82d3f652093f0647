"""Contract sections 3 and 4: the snapshot with its cursor, the events without a hole, the stream with its position."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from tests.e2e.strange import ENDS, UTC, Strange, problem, script

NODE_STATES = {
    "PENDING",
    "SCHEDULED",
    "IN_PROGRESS",
    "RETRYING",
    "AWAITING_HUMAN",
    "COMPLETE",
    "DEAD_LETTERED",
    "SKIPPED",
    "CANCELLED",
    "COMPENSATING",
    "COMPENSATED",
    "COMPENSATION_FAILED",
    "NOT_REVERSIBLE",
    "NOTHING_TO_UNDO",
}
WORKFLOW_STATES = {"ACCEPTED", "PLANNING", "RUNNING", "PAUSED_HITL", "COMPENSATING", *ENDS}


def by_hand(history: list[dict[str, Any]]) -> tuple[dict[str, str], list[str]]:
    """Node states and open pauses, folded from the events by what the contract says of them, and by nothing else."""
    nodes: dict[str, str] = {}
    open_: list[str] = []
    for event in history:
        match event["event_type"]:
            case "WORKFLOW_PLANNED" | "NODES_ADDED":
                nodes |= {n["id"]: "PENDING" for n in event["nodes"]}
            case "NODE_STATE_CHANGED":
                assert nodes[event["node_id"]] == event["from"], event
                nodes[event["node_id"]] = event["to"]
            case "WORKFLOW_PAUSED_HITL":
                open_.append(event["pause_id"])
            case "HITL_RESOLVED":
                open_.remove(event["pause_id"])
            case _:
                pass
    return nodes, open_


def test_state_is_the_fold_of_its_history_and_the_cursor_its_last_seq(handrail: Strange) -> None:
    name = handrail.onboard()
    handrail.paused(name)
    state = handrail.state(name, history=True)
    assert set(state) >= {
        "trace_id", "status", "blueprint", "intent", "input", "labels", "cursor", "output", "reason", "created_at",
        "updated_at", "nodes", "pauses", "history",
    }  # fmt: skip
    assert state["status"] in WORKFLOW_STATES
    history = state["history"]
    assert [e["seq"] for e in history] == list(range(1, len(history) + 1))
    assert state["cursor"] == str(history[-1]["seq"])
    assert all(e["trace_id"] == name and UTC.fullmatch(e["at"]) for e in history)
    nodes, open_ = by_hand(history)
    assert {n["id"]: n["state"] for n in state["nodes"]} == nodes
    assert [p["pause_id"] for p in state["pauses"]] == open_
    [failed] = [n for n in state["nodes"] if n["id"] == "hardware_procurement"]
    assert (failed["agent"], failed["action"], failed["depends_on"]) == (
        "hardware_procurement_bot",
        "order_laptop",
        ["hr_record"],
    )
    assert (failed["state"], failed["attempt"], failed["max_attempts"]) == ("AWAITING_HUMAN", 3, 3)
    assert failed["error"]["code"] == "SKU_UNAVAILABLE"
    assert failed["finished_at"] is None or UTC.fullmatch(failed["finished_at"])
    assert {n["state"] for n in state["nodes"]} <= NODE_STATES
    handrail.resume(name, "RES_SKIP")
    after = handrail.ended(name)
    assert handrail.state(name, history=True)["history"][: len(history)] == history, "history was rewritten"
    assert after["pauses"] == []


def test_the_stream_tells_all_from_the_beginning_and_ends(handrail: Strange) -> None:
    name = handrail.onboard("MBP-16")
    frames = list(handrail.stream(f"/workflows/{name}/events"))
    assert frames[0].retry == "2000"
    told = [f for f in frames if f.id is not None]
    assert [f.id for f in told] == [str(n) for n in range(1, len(told) + 1)]
    assert all(f.event == f.data["event_type"] and str(f.data["seq"]) == f.id for f in told)
    assert told[0].event == "WORKFLOW_ACCEPTED"
    assert told[-1].event == "WORKFLOW_COMPLETED"
    assert (frames[-1].event, frames[-1].id) == ("end", None)
    assert [f.data for f in told] == handrail.state(name, history=True)["history"]
    changes = [f.data for f in told if f.event == "NODE_STATE_CHANGED" and f.data["to"] == "COMPLETE"]
    assert all(c["started_at"] and c["finished_at"] for c in changes)


def test_a_stream_goes_on_where_it_broke_by_header_and_by_query(handrail: Strange) -> None:
    name = handrail.onboard()
    handrail.paused(name)
    head = int(handrail.state(name)["cursor"])
    first = [f for f in islice(handrail.stream(f"/workflows/{name}/events"), 6) if f.id]
    last = first[-1].id or "0"
    by_header = islice((f for f in handrail.stream(f"/workflows/{name}/events", Last_Event_ID=last) if f.id), 3)
    by_query = islice((f for f in handrail.stream(f"/workflows/{name}/events?after={last}") if f.id), 3)
    expected = [str(int(last) + n) for n in (1, 2, 3)]
    assert [f.id for f in by_header] == expected
    assert [f.id for f in by_query] == expected
    both = handrail.stream(f"/workflows/{name}/events?after=0", Last_Event_ID=str(head - 1))
    assert next(f.id for f in both if f.id) == str(head), "the header goes before the query"
    handrail.resume(name, "RES_SKIP")
    handrail.ended(name)


def test_the_live_part_of_a_stream_arrives_without_asking_again(handrail: Strange) -> None:
    name = handrail.onboard()
    handrail.at_rest(name)
    cursor = handrail.state(name)["cursor"]
    stream = handrail.stream(f"/workflows/{name}/events?after={cursor}")
    assert next(stream).retry == "2000"
    assert handrail.resume(name, "RES_SKIP").status_code == 202
    frames = list(stream)
    told = [f for f in frames if f.id]
    assert told[0].event == "HITL_RESOLVED"
    assert {"WORKFLOW_RESUMED", "NODE_STATE_CHANGED"} <= {f.event for f in told}
    assert (told[-1].event, told[-1].data["status"]) == ("WORKFLOW_COMPLETED", "COMPLETED_WITH_SKIPS")
    assert frames[-1].event == "end"


@pytest.mark.parametrize("position", ["999999", "-1", "01", "abc", "1.0", "18446744073709551616", "1 2"])
def test_a_position_that_cannot_be_gets_reset_and_snapshot(handrail: Strange, position: str) -> None:
    name = handrail.start(plan={"nodes": [script("a", outcomes=["fatal:NO"])]})
    handrail.paused(name)
    cursor = handrail.state(name)["cursor"]
    all_frames = handrail.stream(f"/workflows/{name}/events", Last_Event_ID=position)
    stream = (f for f in all_frames if f.data is not None and f.event != "ping")
    reset, snapshot = next(stream), next(stream)
    assert (reset.event, reset.id) == ("reset", None)
    assert reset.data["reason"]
    assert reset.data["state"] == f"/workflows/{name}/state"
    assert (snapshot.event, snapshot.id) == ("snapshot", cursor)
    assert "history" not in snapshot.data
    assert snapshot.data["status"] == "PAUSED_HITL"
    handrail.post(f"/workflows/{name}/cancel")
    assert next(stream).id == str(int(cursor) + 1)
    handrail.ended(name)


def test_at_or_past_the_end_there_is_nothing_left(handrail: Strange) -> None:
    name = handrail.start(plan={"nodes": [script("a")]})
    cursor = handrail.ended(name)["cursor"]
    for position in (cursor, str(int(cursor) + 5)):
        assert handrail.get(f"/workflows/{name}/events", Last_Event_ID=position).status_code == 204
    problem(handrail.get("/workflows/nobody/events"), 404, "workflow-not-found")


def test_every_way_through_nodes_and_workflow_is_in_the_events(handrail: Strange) -> None:
    nodes = [script("a"), script("b", "a", outcomes=["error:X", "ok"]), script("c", "a")]
    nodes[1]["retry"] = {"max_attempts": 2, "initial_delay_s": 0.05}
    name = handrail.start(plan={"nodes": nodes}, labels={"team": "it"})
    state = handrail.ended(name)
    history = handrail.state(name, history=True)["history"]
    accepted, planned = history[0], history[1]
    assert (accepted["event_type"], accepted["labels"]) == ("WORKFLOW_ACCEPTED", {"team": "it"})
    assert (planned["event_type"], planned["node_count"], planned["edge_count"]) == ("WORKFLOW_PLANNED", 3, 2)
    assert [n["id"] for n in planned["nodes"]] == ["a", "b", "c"]
    [retrying] = [e for e in history if e.get("to") == "RETRYING"]
    assert retrying["error"]["code"] == "X"
    assert UTC.fullmatch(retrying["retry_at"])
    assert state["output"] is not None
    assert set(state["output"]) == {"b", "c"}, "the outputs of the sinks by node id"


def test_a_large_value_goes_by_reference(handrail: Strange) -> None:
    name = handrail.start(plan={"nodes": [script("a", output={"big": "x" * 300_000})]})
    handrail.ended(name)
    for event in handrail.state(name, history=True)["history"]:
        assert len(str(event)) <= 256 * 1024
    [done] = [
        e
        for e in handrail.state(name, history=True)["history"]
        if e["event_type"] == "NODE_STATE_CHANGED" and e["to"] == "COMPLETE"
    ]
    output = done["output"]
    while "$ref" not in output:
        output = next(v for v in output.values() if isinstance(v, dict))
    assert output["bytes"] >= 300_000
    assert output["preview"]
    assert len(handrail.get(output["$ref"]).content) == output["bytes"]


def test_a_plan_of_more_than_200_nodes_is_told_in_parts(handrail: Strange) -> None:
    small: dict[str, Any] = {"agent": "simulator", "action": "script"}
    names = [f"n{i:03}" for i in range(600)]
    name = handrail.start(plan={"nodes": [{"id": n, **small, "inputs": {}} for n in names]})
    assert handrail.ended(name)["status"] == "COMPLETED"
    journal = handrail.get(f"/workflows/{name}/journal?limit=10").json()["items"]
    parts = [e for e in journal if e["event_type"] in ("WORKFLOW_PLANNED", "NODES_ADDED")]
    assert [len(e["nodes"]) for e in parts] == [200, 200, 200]
    assert [n["id"] for e in parts for n in e["nodes"]] == names
    assert parts[0]["node_count"] == 600
    state = handrail.state(name, history=True)
    assert int(state["cursor"]) > 1000
    assert state["history_truncated"] is True
    assert state["history_next"] == f"/workflows/{name}/journal?after=0"
    assert len(state["history"]) == 1000
    assert state["history"][-1]["seq"] == int(state["cursor"])
    far_behind = handrail.stream(f"/workflows/{name}/events?after=1")
    assert [f.event for f in far_behind if f.data is not None] == ["reset", "snapshot", "end"]
