"""The stream of one workflow, by CONTRACT section 4, on both routes: frames straight to the transport, and by ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from tests.journals import Event, Story, canonical, wire
from tests.notifier_rig import PARTITIONS, Rig, Wire, running, topics_for
from tests.waiting import wait_until

from handrail_contracts import topics
from handrail_contracts.envelope import Envelope, to_headers
from handrail_contracts.live import LiveView
from handrail_contracts.tasks import Progress
from handrail_contracts.view import WorkflowView
from handrail_notifier.adapters.journal import PostgresJournal
from handrail_notifier.adapters.redis_view import RedisView
from handrail_notifier.application.ports import Row
from handrail_runtime.bus_memory import MemoryBus
from handrail_store import connect, migrate


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(postgres_dsn: str) -> AsyncGenerator[Any]:
    await migrate.upgrade(postgres_dsn, PARTITIONS)
    pool = await connect.pool(postgres_dsn, app="test-notifier")
    yield pool
    await pool.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["direct", "asgi"])
async def rig(request: pytest.FixtureRequest, pool: Any, redis_url: str) -> AsyncGenerator[Rig]:
    bus = MemoryBus()
    await topics_for(bus)
    tenant = f"stream-{request.param}"
    # Without the check against the journal, which would repair what these tests look for.
    async with running(
        pool=pool, bus=bus, redis_url=redis_url, route=request.param, tenant=tenant, recheck_s=3600
    ) as rig:
        yield rig


def story(trace_id: str, events: int = 5, *, ended: bool = False) -> Story:
    """A workflow with so many events."""
    story = Story(trace_id)
    story.accepted(input={"text": "grüße\nzwei Zeilen"})
    story.planned({"a": []})
    while len(story.events) < events - ended:
        story.node("a", "PENDING", "SCHEDULED", len(story.events))
    if ended:
        story.ended()
    return story


async def delivered(client: Wire, upto: int) -> None:
    await wait_until(lambda: client.ids and client.ids[-1] >= upto, description=f"the client has event {upto}")


def state_of(events: list[Event]) -> str:
    return canonical(WorkflowView(events[0]["trace_id"]).apply_all(events).state())


async def test_a_new_client_gets_every_event_and_then_the_live_ones(rig: Rig) -> None:
    told = story("new", 5)
    await rig.source.both(told.events)
    client = await rig.events("new")
    await delivered(client, 5)
    told.node("a", "SCHEDULED", "IN_PROGRESS")
    told.node("a", "IN_PROGRESS", "COMPLETE")
    await rig.source.both(told.events[5:])
    await delivered(client, 7)
    assert client.ids == [1, 2, 3, 4, 5, 6, 7]
    assert [frame.event for frame in client.events] == [event["event_type"] for event in told.events]
    assert [frame.json for frame in client.events] == told.events


async def test_the_stream_has_the_headers_of_the_contract_and_says_when_to_come_back(rig: Rig) -> None:
    await rig.source.both(story("headers").events)
    client = await rig.events("headers")
    await delivered(client, 5)
    assert client.status == 200
    assert client.headers["content-type"] == "text/event-stream"
    assert client.headers["cache-control"] == "no-store"
    assert client.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in client.headers
    assert client.retries == [2000]
    assert client.body.startswith((b"retry: 2000\n", b": "))
    assert b"\r" not in client.body


async def test_a_position_by_header_wins_over_one_in_the_query(rig: Rig) -> None:
    await rig.source.both(story("where").events)
    by_query = await rig.open("/workflows/where/events?after=3")
    both = await rig.open("/workflows/where/events?after=1", headers={"last-event-id": "4"})
    await delivered(by_query, 5)
    await delivered(both, 5)
    assert (by_query.ids, both.ids) == ([4, 5], [5])


@pytest.mark.parametrize("position", ["", "-1", "01", "x", "6", "99999999999999999999", "1 "])
async def test_a_position_that_is_none_gets_reset_and_snapshot_and_goes_on_behind_it(rig: Rig, position: str) -> None:
    trace_id = f"reset-{abs(hash(position))}"
    told = story(trace_id, 5)
    await rig.source.both(told.events)
    client = await rig.open(f"/workflows/{trace_id}/events?after={position.replace(' ', '%20')}")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    told.node("a", "SCHEDULED", "COMPLETE")
    await rig.source.both(told.events[5:])
    await delivered(client, 6)
    reset, snapshot, event = client.events
    assert (reset.event, reset.id) == ("reset", None)
    assert reset.json["state"] == f"/workflows/{trace_id}/state"
    assert reset.json["reason"]
    assert (snapshot.event, snapshot.id) == ("snapshot", "5")
    assert canonical(snapshot.json) == state_of(told.events[:5])
    assert "history" not in snapshot.json
    assert event.json == told.events[5]


async def test_more_than_a_thousand_behind_is_a_reset_and_exactly_a_thousand_is_not(rig: Rig) -> None:
    told = story("long", 1005)
    await rig.source.both(told.events)
    near, far = await rig.events("long", 5), await rig.events("long", 4)
    await delivered(near, 1005)
    await delivered(far, 1005)
    assert near.ids == list(range(6, 1006))
    assert [frame.event for frame in far.events] == ["reset", "snapshot"]
    assert canonical(far.events[1].json) == state_of(told.events)


async def test_after_the_terminal_event_comes_the_end_and_then_nothing_is_left(rig: Rig) -> None:
    told = story("over", 5)
    await rig.source.both(told.events)
    client = await rig.events("over")
    await delivered(client, 5)
    told.ended()
    await rig.source.both(told.events[5:])
    await wait_until(lambda: client.closed, description="the stream closes")
    assert not client.cut
    assert [frame.event for frame in client.events][-2:] == ["WORKFLOW_COMPLETED", "end"]
    assert client.events[-1].id is None
    assert [(await rig.events("over", position)).status for position in (6, 7, 10**30)] == [204, 204, 204]
    late = await rig.events("over", 4)
    await wait_until(lambda: late.closed, description="the late stream closes")
    assert [frame.event for frame in late.events] == ["NODE_STATE_CHANGED", "WORKFLOW_COMPLETED", "end"]


async def test_whether_the_connection_may_be_used_again_is_said_beforehand(rig: Rig) -> None:
    """A client that keeps a connection which is about to be closed sends its next request into the void."""
    await rig.source.both(story("kept", ended=True).events)
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    asked = b"GET /workflows/kept/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    writer.write(asked)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readuntil(b"\r\n0\r\n\r\n")
    if b"connection: close" in head:
        assert await asyncio.wait_for(reader.read(), 30) == b""
    else:
        writer.write(asked)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_nonsense_position_on_an_ended_workflow_gets_reset_snapshot_and_end(rig: Rig) -> None:
    told = story("over-nonsense", 1010, ended=True)
    await rig.source.both(told.events)
    for position in ("nonsense", "3"):
        client = await rig.events("over-nonsense", position)
        await wait_until(lambda client=client: client.closed, description="the stream closes")
        assert [frame.event for frame in client.events] == ["reset", "snapshot", "end"]
        assert canonical(client.events[1].json) == state_of(told.events)


async def test_an_unknown_workflow_is_a_problem_before_the_stream(rig: Rig) -> None:
    for trace_id in ("nobody", "not%20an%20id", "a" * 65):
        client = await rig.events(trace_id)
        await wait_until(lambda client=client: client.closed, description="the answer")
        assert client.status == 404
        assert client.headers["content-type"] == "application/problem+json"
        assert json.loads(client.body)["type"] == "/problems/workflow-not-found"


async def test_a_workflow_of_another_tenant_is_unknown(rig: Rig, pool: Any) -> None:
    other = type(rig.source)(pool, rig.source.bus, rig.source.producer, tenant=f"other-{rig.source.tenant}")
    await other.both(story("foreign").events)
    assert (await rig.events("foreign")).status == 404


@pytest.mark.parametrize("form", ["sse", "agui"])
async def test_a_position_that_the_journal_has_goes_on_where_the_bus_is_behind(rig: Rig, form: str) -> None:
    """As with a cursor of `GET /state`, or after a reconnect from another replica, while somebody watches already."""
    told = story(f"behind-{form}", 8)
    await rig.source.both(told.events[:5])
    first = await rig.events(told.trace_id)
    await delivered(first, 5)
    await rig.source.write(told.events[5:])
    second = await rig.open(f"/workflows/{told.trace_id}/events?format={form}&after=8")
    assert second.status == 200
    await delivered(first, 8)
    told.node("a", "SCHEDULED", "IN_PROGRESS")
    await rig.source.both(told.events[8:])
    await delivered(second, 9)
    assert first.ids == list(range(1, 10))
    assert second.ids == [9]
    assert b"reset" not in second.body


async def test_an_accepted_workflow_without_events_opens_and_waits(rig: Rig) -> None:
    await rig.source.accept("waiting", intent="x", input={"a": 1})
    client, lost = await rig.events("waiting"), await rig.events("waiting", 7)
    await wait_until(lambda: lost.named("snapshot"), description="a snapshot")
    assert client.events == []
    snapshot = lost.named("snapshot")[0]
    assert (snapshot.id, snapshot.json["status"], snapshot.json["input"]) == ("0", "ACCEPTED", {"a": 1})
    told = story("waiting", 3)
    await rig.source.both(told.events)
    await delivered(client, 3)
    await delivered(lost, 3)
    assert client.ids == [1, 2, 3]
    assert lost.ids == [0, 1, 2, 3]


async def test_what_begins_while_a_merely_accepted_workflow_is_opened_is_shown_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heads were read before its first event, so where its rows lie is not known by them."""
    heads, read, go_on = PostgresJournal.heads, asyncio.Event(), asyncio.Event()

    async def slow_heads(journal: PostgresJournal, keys: Any) -> Any:
        found = await heads(journal, keys)
        read.set()
        await go_on.wait()
        return found

    await rig.source.accept("begins", intent="x", input={"a": 1})
    monkeypatch.setattr(PostgresJournal, "heads", slow_heads)
    opening = asyncio.create_task(rig.events("begins"))
    await read.wait()
    monkeypatch.setattr(PostgresJournal, "heads", heads)
    await rig.source.both(story("begins", 3).events)
    watched = rig.notifier.rings.find(f"{rig.source.tenant}/begins".encode())
    assert watched is not None
    await wait_until(lambda: watched.seen == 3, description="the bus has spoken of event 3")
    go_on.set()
    client = await opening
    assert watched.head == 3, "Expected the ring to be filled with what the bus spoke of meanwhile."
    await delivered(client, 3)
    assert client.ids == [1, 2, 3]


async def test_duplicates_and_gaps_on_the_bus_are_not_seen_by_anybody(rig: Rig) -> None:
    told = story("rough", 60)
    await rig.source.both(told.events[:3])
    client = await rig.events("rough")
    await delivered(client, 3)
    await rig.source.publish(told.events[:3])
    await rig.source.write(told.events[3:])
    await rig.source.publish([told.events[9]])
    await delivered(client, 10)
    await rig.source.publish([*told.events[20:30], *told.events[10:25], told.events[59]])
    await delivered(client, 60)
    assert client.ids == list(range(1, 61))


async def test_an_event_that_the_journal_does_not_have_is_not_shown(rig: Rig) -> None:
    told = story("forged", 9)
    await rig.source.both(told.events[:4])
    client = await rig.events("forged")
    await delivered(client, 4)
    await rig.source.publish([told.events[8]])
    await rig.source.send([rig.source.record("forged", b"{not json"), rig.source.record("forged", b'{"seq": 5}')])
    await rig.source.both(told.events[4:6])
    await delivered(client, 6)
    assert client.ids == [1, 2, 3, 4, 5, 6]
    watched = rig.notifier.rings.find(f"{rig.source.tenant}/forged".encode())
    assert watched is not None
    await wait_until(lambda: watched.seen == 6, description="the ring owes its clients no more than the journal has")


async def test_a_view_in_redis_that_is_ahead_of_the_journal_is_not_believed(rig: Rig) -> None:
    told = story("restored", 6)
    ahead = LiveView(WorkflowView("restored").apply_all(told.events)).whole()
    rows = [Row(event["seq"], event["event_type"], wire(event)) for event in told.events]
    await RedisView(rig.redis).rebuild((rig.source.tenant, "restored"), ahead, rows)
    await rig.source.write(told.events[:3])
    client = await rig.events("restored", "nonsense")
    await wait_until(lambda: client.named("snapshot"), description="a snapshot")
    assert canonical(client.named("snapshot")[0].json) == state_of(told.events[:3])


async def test_a_live_event_that_cannot_be_folded_is_replaced_by_the_journals(rig: Rig) -> None:
    told = story("tainted", 6)
    await rig.source.both(told.events[:4])
    client = await rig.events("tainted")
    await delivered(client, 4)
    await rig.source.write(told.events[4:])
    bad = {"event_type": "NODE_STATE_CHANGED", "trace_id": "tainted", "seq": 5, "at": "x"}
    await rig.source.publish([bad])
    await delivered(client, 6)
    assert [frame.json for frame in client.events] == told.events


async def test_progress_is_shown_without_an_id_and_not_kept(rig: Rig) -> None:
    await rig.source.both(story("busy").events)
    client = await rig.events("busy")
    await delivered(client, 5)
    news = Progress(tenant=rig.source.tenant, trace_id="busy", node_id="a", attempt=1, percent=40, message="half\nway")
    headers = to_headers(Envelope("x", "dev.handrail.progress.v1", "/agent", "busy"))
    await rig.source.send([rig.source.outgoing(topics.PROGRESS, "busy", news.model_dump_json().encode(), headers)])
    await wait_until(lambda: client.named("progress"), description="progress")
    (frame,) = client.named("progress")
    assert frame.id is None
    assert frame.json == {"trace_id": "busy", "node_id": "a", "attempt": 1, "percent": 40.0, "message": "half\nway"}
    later = await rig.events("busy")
    await delivered(later, 5)
    assert later.named("progress") == []


async def test_events_in_structured_mode_are_streamed_as_well(rig: Rig) -> None:
    told = story("structured", 3)
    await rig.source.both(told.events[:2])
    client = await rig.events("structured")
    await delivered(client, 2)
    await rig.source.write(told.events[2:])
    event = {"specversion": "1.0", "id": "x", "type": "t", "source": "s", "data": told.events[2]}
    headers = [("content-type", b"application/cloudevents+json")]
    await rig.source.send(
        [rig.source.outgoing(topics.EVENTS, "structured", json.dumps(event, indent=1).encode(), headers)]
    )
    await delivered(client, 3)
    assert client.events[-1].json == told.events[2]


async def test_what_is_not_a_get_or_not_a_stream_or_not_for_us_is_refused_with_a_problem(rig: Rig) -> None:
    await rig.source.both(story("door").events)
    path = "/workflows/door/events"
    cases = [
        (405, "method-not-allowed", await rig.open(path, method="POST", headers={"content-length": "0"})),
        (405, "method-not-allowed", await rig.open(path, method="DELETE")),
        (406, "not-acceptable", await rig.open(path, headers={"accept": "application/json"})),
        (406, "not-acceptable", await rig.open(path, headers={"accept": "text/event-stream;q=0"})),
        (403, "foreign-host", await rig.open(path, host="evil.example")),
        (403, "foreign-host", await rig.open(path, host="127.0.0.1.evil.example")),
        (403, "foreign-host", await rig.open(path, host="evil@localhost")),
        (403, "foreign-origin", await rig.open(path, headers={"origin": "https://evil.example"})),
        (403, "foreign-origin", await rig.open(path, headers={"origin": "null"})),
        (404, "not-found", await rig.open("/nothing/here")),
    ]
    for status, code, client in cases:
        await wait_until(lambda client=client: client.closed, description="the answer")
        problem = json.loads(client.body)
        assert (client.status, problem["status"], problem["type"]) == (status, status, f"/problems/{code}")
        assert client.headers["content-type"] == "application/problem+json"
        assert ("allow" in client.headers) == (status == 405)


async def test_loopback_names_and_missing_or_general_accepts_come_in(rig: Rig) -> None:
    await rig.source.both(story("welcome").events)
    for host in ("localhost:8080", "LOCALHOST", "127.0.0.1", "[::1]:9"):
        assert (await rig.events("welcome", host=host)).status == 200
    for accept in ("*/*", "text/html, text/*;q=0.1", "text/event-stream; q=1"):
        assert (await rig.open("/workflows/welcome/events", headers={"accept": accept})).status == 200
    assert (await rig.open("/workflows/welcome/events", headers={"origin": "http://localhost:5173"})).status == 200


async def test_a_head_request_gets_the_headers_only(rig: Rig) -> None:
    await rig.source.both(story("head").events)
    client = await rig.open("/workflows/head/events", method="HEAD")
    assert (client.status, client.headers["content-type"]) == (200, "text/event-stream")
    assert (await rig.open("/workflows/nobody/events", method="HEAD")).status == 404


async def test_health_is_answered_under_any_host(rig: Rig) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        client = await rig.open(path, host="10.1.2.3:8082")
        await wait_until(lambda client=client: client.closed, description="the answer")
        assert client.status == 200
    assert b"handrail_sse_clients" in client.body


async def test_a_client_that_left_is_noticed(rig: Rig) -> None:
    await rig.source.both(story("left").events)
    before = len(rig.notifier.hub)
    client = await rig.events("left")
    await delivered(client, 5)
    assert len(rig.notifier.hub) == before + 1
    await client.close()
    await wait_until(lambda: len(rig.notifier.hub) == before, description="the hub has let go of the client")


async def test_what_a_client_says_while_it_is_streamed_to_changes_nothing(rig: Rig) -> None:
    told = story("chatty", 6)
    await rig.source.both(told.events[:5])
    client = await rig.events("chatty")
    await delivered(client, 5)
    assert client.writer is not None
    client.writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    await client.writer.drain()
    await rig.source.both(told.events[5:])
    await delivered(client, 6)
    assert client.ids == [1, 2, 3, 4, 5, 6]
