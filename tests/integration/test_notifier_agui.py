"""`?format=agui` and `POST /ag-ui` on a real notifier; what is decided there is tried on a whole Handrail elsewhere."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.journals import Story
from tests.notifier_rig import PARTITIONS, Rig, Wire, running, topics_for
from tests.unit.notifier.test_agui import Reader
from tests.waiting import wait_until

from handrail_contracts.view import WorkflowView
from handrail_runtime.bus_memory import MemoryBus
from handrail_store import connect, migrate

TENANT = "agui"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rig(postgres_dsn: str, redis_url: str) -> AsyncGenerator[Rig]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-agui")
    bus = MemoryBus()
    await topics_for(bus)
    settings: dict[str, Any] = {"ping_s": 0.3, "grace_s": 0.0, "gateway_url": "http://127.0.0.1:9"}
    async with running(pool=pool, bus=bus, redis_url=redis_url, tenant=TENANT, **settings) as rig:
        yield rig
    await bus.close()
    await pool.close()


def heard(wire: Wire) -> Reader:
    reader = Reader()
    for frame in wire.frames:
        assert frame.event == "message", "AG-UI's readers take every data line for one of their events"
        reader.read(frame.data.encode())
    return reader


async def asked(rig: Rig, **body: Any) -> Wire:
    order = {"threadId": "t", "runId": "r1", "messages": [], "state": {}, "tools": [], "context": [], **body}
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    return await rig.open("/ag-ui", method="POST", headers=headers, body=json.dumps(order).encode())


def paused(trace_id: str) -> Story:
    story = Story(trace_id)
    story.accepted()
    story.planned({"a": [], "b": ["a"]})
    story.node("a", "PENDING", "SCHEDULED", 0)
    story.node("a", "SCHEDULED", "IN_PROGRESS")
    story.node("a", "IN_PROGRESS", "AWAITING_HUMAN")
    story.paused("p1", "a")
    return story


async def test_a_stream_from_the_first_event_goes_on_live_to_the_end(rig: Rig) -> None:
    story = paused("whole")
    await rig.source.both(story.events[:4])
    wire = await rig.open("/workflows/whole/events?format=agui")
    assert wire.headers["content-type"].startswith("text/event-stream")
    await wait_until(lambda: wire.ids and wire.ids[-1] == 4, description="what is there")
    story.resolved("p1")
    story.add("WORKFLOW_RESUMED", status="RUNNING")
    story.ended()
    await rig.source.both(story.events[4:])
    await wait_until(lambda: wire.closed, description="the end")
    assert wire.ids == list(range(1, len(story.events) + 1))
    assert not wire.cut
    reader = heard(wire)
    assert reader.state == json.loads(json.dumps(WorkflowView("whole").apply_all(story.events).state()))
    assert [e["outcome"]["type"] for e in reader.seen if e["type"] == "RUN_FINISHED"] == ["interrupt", "success"]
    again = await rig.open("/workflows/whole/events?format=agui", headers={"Last-Event-ID": str(len(story.events))})
    assert again.status == 204


async def test_a_position_goes_on_behind_it_and_nonsense_begins_with_the_state(rig: Rig) -> None:
    story = paused("position")
    await rig.source.both(story.events)
    wire = await rig.open("/workflows/position/events?format=agui&after=4")
    await wait_until(lambda: wire.ids == [5, 6], description="the rest")
    lost = await rig.open("/workflows/position/events?format=agui&after=nonsense")
    await wait_until(lambda: lost.ids == [6], description="the state")
    reader = heard(lost)
    assert reader.state["status"] == "PAUSED_HITL"
    assert reader.run is None
    assert [e["value"] for e in reader.seen if e["type"] == "CUSTOM"] == ["malformed-position"]


async def test_a_long_journal_is_told_from_where_the_client_is(rig: Rig) -> None:
    story = Story("long")
    story.accepted()
    story.planned({"a": []})
    while len(story.events) < 1400:
        story.node("a", "SCHEDULED", "IN_PROGRESS" if len(story.events) % 2 else "RETRYING", len(story.events))
    await rig.source.write(story.events)
    wire = await rig.open("/workflows/long/events?format=agui&after=900")
    await wait_until(lambda: wire.ids and wire.ids[-1] == 1400, description="the window")
    assert wire.ids == list(range(901, 1401))
    old = await rig.open("/workflows/long/events?format=agui&after=3")
    await wait_until(lambda: old.ids == [1400], description="a state instead of a hole")
    assert heard(old).state["cursor"] == "1400"


async def test_pings_and_goodbyes_are_comments(rig: Rig) -> None:
    story = paused("quiet")
    await rig.source.both(story.events)
    wire = await rig.open("/workflows/quiet/events?format=agui")
    await wait_until(lambda: b": ping" in wire.body, description="a ping")
    heard(wire)


async def test_a_stream_opened_before_the_first_event_is_told_from_the_journal_later(rig: Rig) -> None:
    await rig.source.accept("early", intent="x")
    plain = await rig.events("early")
    story = paused("early")
    await rig.source.both(story.events)
    await wait_until(lambda: len(plain.ids) == 6, description="the live events")
    wire = await rig.open("/workflows/early/events?format=agui")
    await wait_until(lambda: wire.ids == [1, 2, 3, 4, 5, 6], description="all of them")


async def test_a_run_goes_to_the_next_pause_under_the_name_of_the_caller(rig: Rig) -> None:
    story = paused("run")
    await rig.source.both(story.events[:4])
    wire = await asked(rig, threadId="run", runId="mine")
    await wait_until(lambda: b"RUN_STARTED" in wire.body, description="the beginning")
    await rig.source.both(story.events[4:])
    await wait_until(lambda: wire.closed, description="the pause")
    reader = heard(wire)
    assert (reader.seen[0]["runId"], reader.seen[-1]["runId"]) == ("mine", "mine")
    assert reader.seen[-1]["outcome"]["interrupts"][0]["id"] == "p1"
    waiting = await asked(rig, threadId="run", runId="again")
    await wait_until(lambda: waiting.closed, description="the pause is still there")
    assert [e["type"] for e in heard(waiting).seen] == [
        "RUN_STARTED", "STATE_SNAPSHOT", "STATE_SNAPSHOT", "RUN_FINISHED"
    ]  # fmt: skip


async def test_a_run_of_an_ended_workflow_says_how_it_ended(rig: Rig) -> None:
    story = Story("ended")
    story.accepted()
    story.ended(output={"answer": 42})
    await rig.source.both(story.events)
    wire = await asked(rig, threadId="ended")
    await wait_until(lambda: wire.closed, description="the end")
    assert heard(wire).seen[-1]["result"] == {"answer": 42}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"threadId": "../x"}, 422, "validation"),
        ({"threadId": "nobody"}, 404, "workflow-not-found"),
        ({"threadId": "nobody", "resume": [{"interruptId": "p", "status": "resolved", "payload": "A"}]}, 404, "workflow-not-found"),
        ({"threadId": "nobody", "messages": [{"id": "1", "role": "user", "content": "hi"}]}, 503, "unavailable"),
        ({"threadId": "run", "resume": [{"interruptId": "p1", "status": "resolved"}]}, 422, "invalid-input"),
        ({"threadId": "run", "resume": [{"interruptId": "p1", "status": "resolved", "payload": "RES_SKIP"}]}, 503, "unavailable"),
        ({"messages": 5}, 422, "validation"),
    ],
)  # fmt: skip
async def test_what_cannot_be_run_is_told_before_the_stream(
    rig: Rig, body: dict[str, Any], status: int, code: str
) -> None:
    wire = await asked(rig, **body)
    await wait_until(lambda: wire.closed, description="the problem")
    assert (wire.status, json.loads(wire.body)["type"]) == (status, f"/problems/{code}"), wire.body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"threadId":"run","runId":"a","runId":"b"}', "duplicate-key"),
        (b'{"threadId":"run","runId":"\\ud800"}', "invalid-text"),
        (b'{"state":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too-deep"),
        (b"{", "malformed-json"),
    ],
)
async def test_a_body_that_two_would_read_differently_is_refused(rig: Rig, body: bytes, code: str) -> None:
    wire = await rig.open("/ag-ui", method="POST", headers={"content-type": "application/json"}, body=body)
    await wait_until(lambda: wire.closed, description="the problem")
    assert (wire.status, json.loads(wire.body)["type"]) == (400, f"/problems/{code}"), wire.body


async def test_large_events_do_not_pile_up_for_runs_that_may_come(rig: Rig) -> None:
    story = Story("large")
    story.accepted()
    for n in range(120):
        story.add("RESULT_IGNORED", node_id="a", attempt=n, reason="late", pad="x" * 200_000)
    await rig.source.write(story.events)
    wire = await rig.open("/workflows/large/events?format=agui&after=121")
    await wait_until(lambda: wire.status == 200, description="it is open")
    [track] = [t for t in rig.notifier.tracks._tracks.values() if t.watched.key[1] == "large"]  # pyright: ignore[reportPrivateUsage]
    kept = track.entries_after(track.head - 20)
    assert kept is not None
    assert track.entries_after(0) is None
    await wire.close()


async def test_other_methods_and_forms_are_refused(rig: Rig) -> None:
    get = await rig.open("/ag-ui")
    assert (get.status, get.headers["allow"]) == (405, "POST")
    other = await rig.open("/workflows/run/events?format=morse")
    assert other.status == 406


async def test_runs_and_streams_leave_nothing_behind(rig: Rig) -> None:
    wire = await rig.open("/workflows/run/events?format=agui")
    await wire.close()
    tracks = rig.notifier.tracks._tracks  # pyright: ignore[reportPrivateUsage]  nothing public tells
    for client in list(rig._clients):  # pyright: ignore[reportPrivateUsage]
        await client.close()
    await wait_until(lambda: not tracks, description="no track is kept")
